"""How fast encoders are, side by side: the same texts, the same machine, in one run.

Each round reads texts that no round before it has read, the same for every encoder, so none gets by with what it
remembers. Within a round the encoders take turns, and every round begins with another one: whatever else the machine
does falls on all alike. A round is one call of `encode`, from texts to vectors, so tokenizing is included.

An encoder too slow for its share of time reads fewer texts of each round. Its rate is then that of the texts it did
read, and it is marked as extrapolated.
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
from m2v_core.evaluation.encoders import Encoder, EncoderFacts
from m2v_core.evaluation.evidence import MIN_FIDELITY_TEXTS, has_enough_batches, has_enough_texts
from m2v_core.native.cpus import n_usable_cpus
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.storage.text_files import log_warnings, read_text

DEFAULT_ROUNDS = 5
DEFAULT_SECONDS = 15.0
METER_TEXTS = 300

Judge = Callable[["NDArray[np.float32]", "NDArray[np.float32]"], float]
"""How alike two encoders' embeddings of the same texts are: `evaluation.fidelity.rank_correlation`."""

_WARM_UP_TEXTS = 64
_FIRST_TEXTS = 8
_WARM_UPS = (
    12  # more readings for fast encoders: a static model prepares its subword model after some 40,000 characters
)
_METER_ROUNDS = 3
_METER_SECONDS = 0.3
_SEED = 20
_STEADY = 3.0


@dataclass(frozen=True)
class Machine:
    """Where it was measured.

    Attributes:
        processor: Its name, as the system gives it.
        n_cpus: Processors the measuring process could use.
        system: Operating system and architecture.
        python: Version of Python.
    """

    processor: str
    n_cpus: int
    system: str
    python: str


@dataclass(frozen=True)
class EncoderSpeed:
    """What was measured of one encoder.

    Attributes:
        facts: The encoder.
        texts_per_round: How many texts it read in each round.
        round_seconds: How long each round took.
        is_extrapolated: Whether it was too slow to read all texts of a round.
        fidelity: Rank correlation with the teacher, -1 to 1; None for the teacher itself, or without one.
    """

    facts: EncoderFacts
    texts_per_round: int
    round_seconds: tuple[float, ...]
    is_extrapolated: bool
    fidelity: float | None = None

    @property
    def round_rates(self) -> tuple[float, ...]:
        """Sentences a second in each round."""
        return tuple(self.texts_per_round / seconds for seconds in self.round_seconds)

    @property
    def sentences_per_second(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.round_rates)

    @property
    def n_texts(self) -> int:
        """How many texts it read in all rounds."""
        return self.texts_per_round * len(self.round_seconds)

    @property
    def slowest(self) -> float:
        """Sentences a second in the slowest round."""
        return min(self.round_rates)

    @property
    def fastest(self) -> float:
        """Sentences a second in the fastest round."""
        return max(self.round_rates)

    @property
    def is_unsteady(self) -> bool:
        """Whether its rounds differ so much that their median says little: something else ran meanwhile."""
        return self.fastest > _STEADY * self.slowest

    def times(self, other: EncoderSpeed) -> tuple[float, float]:
        """How many times as fast as the other it is, at the least and at the most: the same number if both are steady.

        Where either is not, the slowest round of the one stands against the fastest of the other.
        """
        if self.is_unsteady or other.is_unsteady:
            return self.slowest / other.fastest, self.fastest / other.slowest
        ratio = self.sentences_per_second / other.sentences_per_second
        return ratio, ratio


@dataclass(frozen=True)
class SpeedComparison:
    """The outcome of one run.

    Attributes:
        encoders: In the order given.
        texts_per_round: Texts in a round.
        rounds: Number of rounds.
        seconds: The time each encoder had for all its rounds, in seconds.
        mean_characters: Mean length of the texts.
        texts_name: What the texts are.
        judged_texts: How many texts `fidelity` rests on; 0 where it was not measured.
        machine: Where it was measured.
    """

    encoders: tuple[EncoderSpeed, ...]
    texts_per_round: int
    rounds: int
    seconds: float
    mean_characters: float
    texts_name: str
    judged_texts: int
    machine: Machine

    @property
    def teacher(self) -> EncoderSpeed | None:
        """The teacher, if there was one."""
        return next((speed for speed in self.encoders if speed.facts.role == "teacher"), None)

    def times_the_teacher(self, speed: EncoderSpeed) -> tuple[float, float] | None:
        """`speed.times(teacher)`; None without a teacher, or where it has read too few texts to tell its speed."""
        teacher = self.teacher
        return None if teacher is None or not has_enough_batches(teacher.n_texts) else speed.times(teacher)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the figures that follow from them; `from_json` reads it."""
        value = asdict(self)
        for record, speed in zip(value["encoders"], self.encoders, strict=True):
            record["sentences_per_second"] = speed.sentences_per_second
            record["slowest"] = speed.slowest
            record["fastest"] = speed.fastest
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SpeedComparison:
        """The comparison that `to_json` wrote; KeyError or TypeError for anything else.

        Fidelity that an earlier version measured on too few texts is left out.
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
) -> SpeedComparison:
    """The encoders' speeds, measured in turn.

    Args:
        encoders: At least one; their names must differ.
        texts: More than there are rounds. Read in a random but fixed order, each by every encoder at most once.
        texts_name: What the texts are, for the record.
        rounds: How often each encoder has its turn.
        seconds: How long each encoder may take for all its rounds, in seconds. What doesn't fit is not read.
        judge: Measures fidelity to the teacher from the embeddings that the rounds made; None to leave it out. It is
            left out too where the rounds have too few texts in common, see `evidence`.
        progress: Receives the stages `"warm"`, in encoders, and `"measure"`, in turns.
        cancel: Set it to stop between two turns.
        clock: Seconds from any origin.

    Raises:
        InputError: No encoder, two of one name, too few texts, or a number that is not positive.
        Cancelled: `cancel` was set.
    """
    names = [encoder.facts.name for encoder in encoders]
    if not names or len(set(names)) < len(names):
        raise InputError(f"Speeds are compared between encoders of different names, at least one; got {names}.")
    if rounds < 1 or not 0 < seconds < float("inf"):
        raise InputError(f"rounds and seconds must be positive, got {rounds} and {seconds}.")
    texts = well_formed(checked_texts(texts))
    if len(texts) <= rounds:
        raise InputError(
            f"{len(texts):,} texts are too few for {rounds} rounds, which never read a text twice. "
            f"Give at least {rounds + 1}, better some hundreds."
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
    reporter.start("measure", rounds * len(encoders))
    for round_number, part in enumerate(parts):
        for place in range(len(encoders)):
            chosen = (round_number + place) % len(encoders)
            own_part = part[: texts_of[chosen]]
            started = clock()
            vectors = encoders[chosen].encode(own_part)
            turns[chosen].append(clock() - started)
            embeddings[chosen].append(vectors)
            reporter.advance(1)
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
    )


def speed_meter(texts: Sequence[str], clock: Callable[[], float] = time.perf_counter) -> Callable[[Encoder], float]:
    """Tells how many sentences a second any one encoder reads here: the median of many rounds after a warm-up.

    For many encoders of which no two need to be in memory at once; those that take turns compare more fairly. Every
    round reads all of the texts, so their words have been met before, as most words have in long use.

    Args:
        texts: What each of them reads. Fewer than `METER_TEXTS` different ones would tell little; `sample_texts` then
            takes their place.
        clock: Seconds from any origin.

    Raises:
        InputError: There are too few texts, and this Python has no sample.
    """
    different = list(dict.fromkeys(well_formed(checked_texts(texts))))
    read = different if len(different) >= METER_TEXTS else sample_texts()

    def rate(encoder: Encoder) -> float:
        encoder.encode(read[:_WARM_UP_TEXTS])
        encoder.encode(read)
        rounds: list[float] = []
        # A quick one needs many rounds before chance evens out, a slow one soon has read enough.
        while len(rounds) < _METER_ROUNDS or sum(rounds) < _METER_SECONDS:
            started = clock()
            encoder.encode(read)
            rounds.append(clock() - started)
        return len(read) / statistics.median(rounds)

    return rate


def split_texts(texts: Sequence[str], rounds: int) -> tuple[list[str], list[list[str]]]:
    """Texts to warm up with, and as many parts of one size as there are rounds; no text is in two of them.

    Shuffled, so that the beginning of a part is a fair sample of it.
    """
    shuffled = list(texts)
    random.Random(_SEED).shuffle(shuffled)
    n_warm_up = min(_WARM_UP_TEXTS, len(texts) // (rounds + 1))
    size = (len(texts) - n_warm_up) // rounds
    parts = [shuffled[start : start + size] for start in range(n_warm_up, n_warm_up + rounds * size, size)]
    return shuffled[:n_warm_up], parts


def _warm_up(encoder: Encoder, texts: list[str], budget_seconds: float, clock: Callable[[], float]) -> float:
    """Seconds a text, after a first call that is not timed; at the end the encoder is as in long use."""
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
    """Each encoder's fidelity to the teacher, and the number of texts it rests on."""
    nothing: list[float | None] = [None] * len(encoders)
    teacher = next((i for i, encoder in enumerate(encoders) if encoder.facts.role == "teacher"), None)
    if judge is None or teacher is None:
        return nothing, 0
    n_common = min(len(rounds[0]) for rounds in embeddings)  # what every encoder has read of each round
    common = [np.concatenate([part[:n_common] for part in rounds])[:MIN_FIDELITY_TEXTS] for rounds in embeddings]
    if not has_enough_texts(len(common[teacher])) or len(encoders) == 1:
        return nothing, 0
    judged = [None if i == teacher else judge(common[teacher], own) for i, own in enumerate(common)]
    return judged, len(common[teacher])


def rate_text(rate: float) -> str:
    """A rate as people read it: "5,388", "19", "4.2"."""
    return f"{rate:,.0f}" if rate >= 9.95 else f"{rate:.1f}"


def read_texts(path: str | Path) -> list[str]:
    """The texts of a file, one a line, without the blank ones.

    Raises:
        NotFoundError: There is no such file.
        InputError: It can't be read, or holds no text.
    """
    decoded = read_text(path)
    log_warnings(decoded.warning)
    texts = [line.strip() for line in decoded.text.splitlines() if line.strip()]
    if not texts:
        raise InputError(f"{path} holds no text. Give a text file in UTF-8, one text a line.")
    return texts


SAMPLE_NAME = "sentences of Python's language reference"
"""What `sample_texts` returns."""


def sample_texts() -> list[str]:
    """Some 1,700 English sentences that come with every Python: those of its language reference.

    Source: the `pydoc_data` package, from which `help()` takes what it says of a keyword.

    Raises:
        InputError: This Python was installed without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError("This Python comes without its language reference; give texts of your own.") from error
    sentences = []
    for paragraph in re.split(r"\n\s*\n", "\n\n".join(topics[name] for name in sorted(topics))):
        plain = re.sub(r"[*\"`]|\[\w+\]", "", " ".join(paragraph.split()))
        sentences += [
            sentence
            for sentence in re.split(r"(?<=[.!?:])\s+(?=[A-Z])", plain)
            # Prose: tables and code have other characters.
            if re.fullmatch(r"[A-Z][^|=>{}\\_]*[.!?:]", sentence) and 5 <= len(sentence.split()) <= 60
        ]
    return list(dict.fromkeys(sentences))


def this_machine() -> Machine:
    """The machine this runs on."""
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
