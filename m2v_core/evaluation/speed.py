"""Compares the speed of encoders on the same texts and the same machine, in one run.

Each round uses new texts, the same for every encoder, so that no encoder benefits from cached texts. Within a round
the encoders take turns, and every round starts with another encoder, so that other load on the machine affects all
alike. A round is one call of `encode`, from texts to vectors, including tokenization.

An encoder too slow for its share of time encodes fewer texts of each round. Its rate is computed from those, and
marked as extrapolated.

The time spent on reporting progress is not part of a round.
"""

from __future__ import annotations

import platform
import random
import re
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import InputError
from m2v_core.evaluation.encoders import BatchReporter, Encoder, EncoderFacts
from m2v_core.evaluation.evidence import MIN_FIDELITY_TEXTS, has_enough_batches, has_enough_texts
from m2v_core.native.cpus import CpuTimes, n_usable_cpus, read_cpu_times
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.storage.text_files import log_warnings, read_text

DEFAULT_ROUNDS = 5
DEFAULT_SECONDS = 15.0
METER_TEXTS = 300

Judge = Callable[["NDArray[np.float32]", "NDArray[np.float32]"], float]
"""Similarity of two encoders' embeddings of the same texts: `evaluation.fidelity.rank_correlation`."""

_WARM_UP_TEXTS = 64
_FIRST_TEXTS = 8
_WARM_UPS = 12  # more calls for fast encoders: a static model builds its subword model after some 40,000 characters
_METER_ROUNDS = 3
_METER_SECONDS = 0.3
_SEED = 20
_STEADY = 3.0
_BUSY = 0.2  # of the CPUs; the app and the browser that shows the measurement use less


@dataclass(frozen=True)
class Machine:
    """The machine of a measurement.

    Attributes:
        processor: Name of the processor, as reported by the system.
        n_cpus: Processors that the measuring process could use.
        system: Operating system and architecture.
        python: Version of Python.
    """

    processor: str
    n_cpus: int
    system: str
    python: str


@dataclass(frozen=True)
class EncoderSpeed:
    """Measurements of one encoder.

    Attributes:
        facts: The encoder.
        texts_per_round: Number of encoded texts in each round.
        round_seconds: Duration of each round.
        is_extrapolated: Whether it was too slow to encode all texts of a round.
        fidelity: Rank correlation with the teacher, -1 to 1; None for the teacher itself, or without one.
    """

    facts: EncoderFacts
    texts_per_round: int
    round_seconds: tuple[float, ...]
    is_extrapolated: bool
    fidelity: float | None = None

    @property
    def round_rates(self) -> tuple[float, ...]:
        """Sentences per second in each round."""
        return tuple(self.texts_per_round / seconds for seconds in self.round_seconds)

    @property
    def sentences_per_second(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.round_rates)

    @property
    def n_texts(self) -> int:
        """Number of encoded texts in all rounds."""
        return self.texts_per_round * len(self.round_seconds)

    @property
    def slowest(self) -> float:
        """Sentences per second in the slowest round."""
        return min(self.round_rates)

    @property
    def fastest(self) -> float:
        """Sentences per second in the fastest round."""
        return max(self.round_rates)

    @property
    def is_unsteady(self) -> bool:
        """Whether rounds differ so much that the median is unreliable, because of other load on the machine."""
        return self.fastest > _STEADY * self.slowest

    def times(self, other: EncoderSpeed) -> tuple[float, float]:
        """Lower and upper bound of the speed ratio to another encoder; equal if both are steady.

        If either is not, the bounds compare the slowest round of one with the fastest of the other.
        """
        if self.is_unsteady or other.is_unsteady:
            return self.slowest / other.fastest, self.fastest / other.slowest
        ratio = self.sentences_per_second / other.sentences_per_second
        return ratio, ratio


@dataclass(frozen=True)
class SpeedComparison:
    """The result of one run.

    Attributes:
        encoders: In the order given.
        texts_per_round: Texts in a round.
        rounds: Number of rounds.
        seconds: Time limit of each encoder for all its rounds, in seconds.
        mean_characters: Mean length of the texts.
        texts_name: Description of the texts.
        judged_texts: Number of texts for `fidelity`; 0 if it was not measured.
        machine: The machine of the measurement.
        other_load: Mean share of the CPUs that other programs used during the measurement, 0 to 1; None if unknown.
    """

    encoders: tuple[EncoderSpeed, ...]
    texts_per_round: int
    rounds: int
    seconds: float
    mean_characters: float
    texts_name: str
    judged_texts: int
    machine: Machine
    other_load: float | None = None

    @property
    def is_busy(self) -> bool:
        """Whether other programs used so much of the machine that the speeds are too low."""
        return self.other_load is not None and self.other_load > _BUSY

    @property
    def teacher(self) -> EncoderSpeed | None:
        """The teacher, if there was one."""
        return next((speed for speed in self.encoders if speed.facts.role == "teacher"), None)

    def times_the_teacher(self, speed: EncoderSpeed) -> tuple[float, float] | None:
        """`speed.times(teacher)`; None without a teacher, or if it encoded too few texts for a comparison."""
        teacher = self.teacher
        return None if teacher is None or not has_enough_batches(teacher.n_texts) else speed.times(teacher)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, including derived figures; see `from_json`."""
        value = asdict(self)
        for record, speed in zip(value["encoders"], self.encoders, strict=True):
            record["sentences_per_second"] = speed.sentences_per_second
            record["slowest"] = speed.slowest
            record["fastest"] = speed.fastest
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SpeedComparison:
        """Parse the result of `to_json`; KeyError or TypeError for other values.

        Fidelity that an earlier version measured on too few texts is dropped.
        """
        n_judged = value.get("judged_texts", 0)
        is_judged = has_enough_texts(n_judged)
        encoders = tuple(
            EncoderSpeed(
                facts=EncoderFacts(**record["facts"]),
                texts_per_round=record["texts_per_round"],
                round_seconds=tuple(record["round_seconds"]),
                is_extrapolated=record["is_extrapolated"],
                fidelity=record["fidelity"] if is_judged else None,
            )
            for record in value["encoders"]
        )
        kept = {"encoders": encoders, "machine": Machine(**value["machine"]), "judged_texts": is_judged * n_judged}
        return cls(**{**value, **kept})


def compare_speed(
    encoders: Sequence[Encoder],
    texts: Sequence[str],
    *,
    texts_name: str = "",
    rounds: int = DEFAULT_ROUNDS,
    seconds: float = DEFAULT_SECONDS,
    judge: Judge | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    clock: Callable[[], float] = time.perf_counter,
    cpu_times: Callable[[], CpuTimes | None] = read_cpu_times,
) -> SpeedComparison:
    """Measure the speeds of encoders in turn.

    Args:
        encoders: At least one; their names must differ.
        texts: More than the number of rounds. Used in a fixed random order, each at most once per encoder.
        texts_name: Description of the texts, for the record.
        rounds: Number of turns of each encoder.
        seconds: Time limit of each encoder for all its rounds, in seconds. Texts beyond the limit are not encoded.
        judge: Measures fidelity to the teacher from the embeddings of the rounds; None to skip it. It is also skipped
            if the rounds have too few texts in common, see `evidence`.
        progress: Receives the stages `"warm"`, in encoders, and `"measure"`, in turns, with `counters`.
        cancel: Set it to stop between two turns, or two batches of a `BatchReporter`.
        clock: Seconds from any origin.
        cpu_times: Reads the CPU times before and after the rounds, for `SpeedComparison.other_load`.

    Raises:
        InputError: No encoder, duplicate names, too few texts, or a number that is not positive.
        Cancelled: `cancel` was set.
    """
    names = [encoder.facts.name for encoder in encoders]
    if not names or len(set(names)) < len(names):
        raise InputError(f"At least one encoder is needed, and their names must differ, not {names}.")
    if rounds < 1 or not 0 < seconds < float("inf"):
        raise InputError(f"rounds and seconds must be positive, got {rounds} and {seconds}.")
    texts = well_formed(checked_texts(texts))
    if len(texts) <= rounds:
        raise InputError(
            f"{len(texts):,} texts are too few for {rounds} rounds, which never use a text twice. "
            f"Pass at least {rounds + 1}, preferably a few hundred."
        )
    warm_up, parts = split_texts(texts, rounds)
    reporter = ProgressReporter(progress, cancel)
    reporter.start("warm", len(encoders))
    texts_of: list[int] = []
    for encoder in encoders:
        seconds_each = _warm_up(encoder, warm_up, seconds / rounds, clock)
        fits_all = seconds_each * len(parts[0]) <= seconds / rounds
        texts_of.append(len(parts[0]) if fits_all else max(1, int(seconds / rounds / seconds_each)))
        reporter.advance(1)
    turns: list[list[float]] = [[] for _ in encoders]
    embeddings: list[list[NDArray[np.float32]]] = [[] for _ in encoders]
    counters: dict[str, tuple[int, float]] = {}
    reporter.start("measure", rounds * len(encoders))
    load_before = cpu_times()
    for round_number, part in enumerate(parts):
        for place in range(len(encoders)):
            chosen = (round_number + place) % len(encoders)
            vectors, taken = _turn(encoders[chosen], part[: texts_of[chosen]], counters, reporter, clock)
            turns[chosen].append(taken)
            embeddings[chosen].append(vectors)
            reporter.advance(1, counters=counters)
    load_after = cpu_times()
    fidelities, n_judged = _fidelities(encoders, embeddings, judge)
    return SpeedComparison(
        encoders=tuple(
            EncoderSpeed(encoder.facts, n_texts, tuple(taken), n_texts < len(parts[0]), fidelity)
            for encoder, n_texts, taken, fidelity in zip(encoders, texts_of, turns, fidelities, strict=True)
        ),
        texts_per_round=len(parts[0]),
        rounds=rounds,
        seconds=seconds,
        mean_characters=statistics.fmean(map(len, texts)),
        texts_name=texts_name,
        judged_texts=n_judged,
        machine=this_machine(),
        other_load=load_after.other_load(load_before) if load_before is not None and load_after is not None else None,
    )


def _turn(
    encoder: Encoder,
    texts: list[str],
    counters: dict[str, tuple[int, float]],
    reporter: ProgressReporter,
    clock: Callable[[], float],
) -> tuple[NDArray[np.float32], float]:
    """Encode the texts of one round; return the embeddings and the seconds taken, without those for reporting.

    Updates the encoder's entry in `counters`, after each batch if the encoder reports them.
    """
    n_before, seconds_before = counters.get(encoder.facts.name, (0, 0.0))
    n_encoded, reporting = 0, 0.0

    def report(n_texts: int) -> None:
        nonlocal n_encoded, reporting
        paused = clock()
        n_encoded += n_texts
        counters[encoder.facts.name] = n_before + n_encoded, seconds_before + paused - started - reporting
        reporter.advance(0, counters=counters)
        reporting += clock() - paused

    if isinstance(encoder, BatchReporter):
        encoder.on_batch = report
    started = clock()
    try:
        vectors = encoder.encode(texts)
        taken = clock() - started - reporting
    finally:
        if isinstance(encoder, BatchReporter):
            encoder.on_batch = None
    counters[encoder.facts.name] = n_before + len(texts), seconds_before + taken
    return vectors, taken


def speed_meter(texts: Sequence[str], clock: Callable[[], float] = time.perf_counter) -> Callable[[Encoder], float]:
    """Return a function that measures the speed of an encoder: the median of many rounds after a warm-up.

    For many encoders that need not be in memory together; measuring in turn is a fairer comparison. Every round uses
    all of the texts, so their words are cached, like most words in long use.

    Args:
        texts: The texts to encode. Fewer than `METER_TEXTS` distinct ones would be unreliable, and are replaced by
            `sample_texts`.
        clock: Seconds from any origin.

    Raises:
        InputError: There are too few texts, and this Python has no sample texts.
    """
    different = list(dict.fromkeys(well_formed(checked_texts(texts))))
    read = different if len(different) >= METER_TEXTS else sample_texts()

    def rate(encoder: Encoder) -> float:
        encoder.encode(read[:_WARM_UP_TEXTS])
        encoder.encode(read)
        rounds: list[float] = []
        # Fast encoders need many rounds to average out noise, slow ones soon have encoded enough.
        while len(rounds) < _METER_ROUNDS or sum(rounds) < _METER_SECONDS:
            started = clock()
            encoder.encode(read)
            rounds.append(clock() - started)
        return len(read) / statistics.median(rounds)

    return rate


def split_texts(texts: Sequence[str], rounds: int) -> tuple[list[str], list[list[str]]]:
    """Split texts into warm-up texts and equal parts, one per round, without overlap.

    Shuffled, so that the beginning of a part is a fair sample of it.
    """
    shuffled = list(texts)
    random.Random(_SEED).shuffle(shuffled)
    n_warm_up = min(_WARM_UP_TEXTS, len(texts) // (rounds + 1))
    size = (len(texts) - n_warm_up) // rounds
    parts = [shuffled[start : start + size] for start in range(n_warm_up, n_warm_up + rounds * size, size)]
    return shuffled[:n_warm_up], parts


def _warm_up(encoder: Encoder, texts: list[str], budget_seconds: float, clock: Callable[[], float]) -> float:
    """Seconds per text, after a call that is not timed; leaves the encoder in the state of long use."""
    few = texts[:_FIRST_TEXTS]
    encoder.encode(few)
    seconds_each = 0.0
    for sample in (few, texts):
        if seconds_each * len(sample) > budget_seconds:
            break
        started = clock()
        encoder.encode(sample)
        seconds_each = (clock() - started) / len(sample)
    if seconds_each * len(texts) * _WARM_UPS < budget_seconds:
        for _ in range(_WARM_UPS):
            encoder.encode(texts)
    return seconds_each


def _fidelities(
    encoders: Sequence[Encoder], embeddings: list[list[NDArray[np.float32]]], judge: Judge | None
) -> tuple[list[float | None], int]:
    """Each encoder's fidelity to the teacher, and the number of texts for it."""
    nothing: list[float | None] = [None] * len(encoders)
    teacher = next((i for i, encoder in enumerate(encoders) if encoder.facts.role == "teacher"), None)
    if judge is None or teacher is None:
        return nothing, 0
    n_common = min(len(rounds[0]) for rounds in embeddings)  # texts of each round that every encoder has encoded
    common = [np.concatenate([part[:n_common] for part in rounds])[:MIN_FIDELITY_TEXTS] for rounds in embeddings]
    if not has_enough_texts(len(common[teacher])) or len(encoders) == 1:
        return nothing, 0
    judged = [None if i == teacher else judge(common[teacher], own) for i, own in enumerate(common)]
    return judged, len(common[teacher])


def rate_text(rate: float) -> str:
    """Format a rate: "5,388", "19", "4.2"."""
    return f"{rate:,.0f}" if rate >= 9.95 else f"{rate:.1f}"


def read_texts(path: str | Path) -> list[str]:
    """Read the texts of a file, one per line, without blank lines.

    Raises:
        NotFoundError: The file does not exist.
        InputError: The file can't be read, or contains no text.
    """
    decoded = read_text(path)
    log_warnings(decoded.warning)
    texts = [line.strip() for line in decoded.text.splitlines() if line.strip()]
    if not texts:
        raise InputError(f"{path} contains no text. Pass a text file in UTF-8, one text per line.")
    return texts


SAMPLE_NAME = "sentences of Python's language reference"
"""Description of the texts of `sample_texts`."""


def sample_texts() -> list[str]:
    """About 1,700 English sentences that are part of every Python: those of its language reference.

    Source: the `pydoc_data` package, which `help()` uses for keywords.

    Raises:
        InputError: This Python was installed without the reference.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError("This Python was installed without its language reference; pass your own texts.") from error
    sentences = []
    for paragraph in re.split(r"\n\s*\n", "\n\n".join(topics[name] for name in sorted(topics))):
        plain = re.sub(r"[*\"`]|\[\w+\]", "", " ".join(paragraph.split()))
        sentences += [
            sentence
            for sentence in re.split(r"(?<=[.!?:])\s+(?=[A-Z])", plain)
            # Only prose: tables and code contain other characters.
            if re.fullmatch(r"[A-Z][^|=>{}\\_]*[.!?:]", sentence) and 5 <= len(sentence.split()) <= 60
        ]
    return list(dict.fromkeys(sentences))


def this_machine() -> Machine:
    """The current machine."""
    return Machine(
        processor=_processor(),
        n_cpus=n_usable_cpus(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine() or "unknown processor"
