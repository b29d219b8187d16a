"""The speed measurement: computations with a fake clock, and real encoders."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from m2v_core import cli
from m2v_core.cli import measuring
from m2v_core.errors import Cancelled, InputError, NotFoundError, RemoteCodeError, TeacherError
from m2v_core.evaluation.encoders import (
    EncoderFacts,
    Model2VecEncoder,
    StaticEncoder,
    TeacherEncoder,
    disk_bytes,
    tokenizer_threads,
)
from m2v_core.evaluation.fidelity import rank_correlation
from m2v_core.evaluation.speed import (
    EncoderSpeed,
    SpeedComparison,
    compare_speed,
    rate_text,
    read_texts,
    sample_texts,
    speed_meter,
    split_texts,
    this_machine,
)
from m2v_core.model import StaticModel
from m2v_core.native.cpus import CpuTimes
from m2v_core.progress import ProgressReporter
from m2v_core.studio.jobs.kinds import WorkOrder
from m2v_core.studio.work import measuring as work
from m2v_core.studio.work.measuring import speed
from tests.static_models import static_model

TEXTS = [f"text number {number} of the sea" for number in range(120)]
MANY = [f"text number {number} of the sea" for number in range(1200)]


class Clock:
    """A clock that only advances by the time of encoders."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


class TimedEncoder:
    """Takes `seconds_each` per text times `factors` by round, and records the texts."""

    def __init__(self, clock, name, seconds_each, role="static", factors=(1.0,), warm_ups=3):
        self.facts = EncoderFacts(name, role, 4, "cpu", 1, None)
        self.clock, self.seconds_each, self.factors = clock, seconds_each, factors
        self.warm_ups = warm_ups
        self.calls = []

    def encode(self, texts):
        self.calls.append(list(texts))
        turn = max(0, len(self.calls) - 1 - self.warm_ups)
        self.clock.seconds += len(texts) * self.seconds_each * self.factors[turn % len(self.factors)]
        return np.array([[len(text), sum(map(ord, text)) % 97, 1, 0] for text in texts], dtype=np.float32)


def test_median_spread_and_extrapolation():
    clock = Clock()
    quick = TimedEncoder(clock, "quick", 0.001, factors=(1.0, 2.0, 4.0, 1.0, 0.5), warm_ups=15)
    slow = TimedEncoder(clock, "slow", 0.1, role="teacher")
    compared = compare_speed([quick, slow], TEXTS, rounds=5, seconds=5.0, clock=clock)
    fast, teacher = compared.encoders
    assert compared.texts_per_round == 20 and fast.texts_per_round == 20
    assert not fast.is_extrapolated
    assert fast.round_rates == pytest.approx((1000, 500, 250, 1000, 2000))
    assert (fast.sentences_per_second, fast.slowest, fast.fastest) == pytest.approx((1000, 250, 2000))
    # In one second per round, it can encode ten texts at a tenth of a second each.
    assert teacher.is_extrapolated and teacher.texts_per_round == 10
    assert teacher.sentences_per_second == pytest.approx(10)
    assert compared.teacher is teacher
    assert sum(map(len, slow.calls)) * 0.1 < 2 * 5.0


def test_preparation_is_not_part_of_a_round():
    class Preparing(TimedEncoder):
        def encode(self, texts):
            n_read = sum(len(text) for call in self.calls for text in call)
            self.factors = (20.0,) if n_read < 40_000 else (1.0,)
            return super().encode(texts)

    clock = Clock()
    texts = [f"{text} {'and on it goes ' * 5}" for text in sample_texts()]
    [measured] = compare_speed([Preparing(clock, "a", 0.00001)], texts, rounds=5, seconds=10.0, clock=clock).encoders
    assert measured.round_rates == pytest.approx([100_000] * 5)


def test_a_meter_returns_the_median_of_its_rounds():
    clock = Clock()
    many = [f"text number {number}" for number in range(400)]
    slow = TimedEncoder(clock, "slow", 0.01, factors=(1.0, 1.0, 2.0, 4.0))
    assert speed_meter(many, clock)(slow) == pytest.approx(100.0)
    assert len(slow.calls) == 2 + 3
    quick = TimedEncoder(clock, "quick", 0.00005)
    assert speed_meter(TEXTS[:5] * 400, clock)(quick) == pytest.approx(20_000.0)
    assert not set(TEXTS) & {text for part in quick.calls for text in part}  # five texts are too few
    assert 0.3 <= sum(map(len, quick.calls[2:])) * 0.00005 < 0.5


def test_rounds_that_differ_widely_give_a_range():
    facts = EncoderFacts("a", "static", 8, "cpu", 1, 0)
    steady = EncoderSpeed(facts, 100, (1.0, 2.0, 2.9), False)  # 100, 50 and 34 per second
    wild = EncoderSpeed(facts, 100, (0.01, 0.1, 0.2), False)  # 10,000, 1,000 and 500
    teacher = EncoderSpeed(facts, 100, (10.0, 10.0, 20.0), True)  # 10, 10 and 5
    assert not steady.is_unsteady and wild.is_unsteady
    assert steady.times(teacher) == pytest.approx((5, 5))
    assert wild.times(teacher) == pytest.approx((50, 2000))


def test_an_encoder_that_is_just_fast_enough_encodes_all_texts():
    clock = Clock()
    compared = compare_speed([TimedEncoder(clock, "even", 0.0625)], TEXTS, rounds=5, seconds=6.25, clock=clock)
    assert not compared.encoders[0].is_extrapolated


def test_encoders_take_turns_with_the_same_texts_and_none_twice():
    clock = Clock()
    encoders = [TimedEncoder(clock, name, 0.001) for name in "abc"]
    compare_speed(encoders, TEXTS, rounds=5, seconds=5.0, clock=clock)
    warm_ups, rounds = encoders[0].calls[:-5], encoders[0].calls[-5:]
    assert [encoder.calls for encoder in encoders] == [encoders[0].calls] * 3
    read = [text for part in [warm_ups[2], *rounds] for text in part]
    assert set().union(*warm_ups) == set(warm_ups[2])
    assert len(read) == len(set(read)) == 120


@pytest.mark.parametrize(("n_texts", "rounds"), [(6, 5), (7, 5), (120, 5), (1000, 7), (2, 1)])
def test_parts_have_equal_size_and_are_disjoint(n_texts, rounds):
    texts = [str(number) for number in range(n_texts)]
    warm_up, parts = split_texts(texts, rounds)
    assert warm_up and len(parts) == rounds and len({len(part) for part in parts}) == 1 and parts[0]
    used = [*warm_up, *(text for part in parts for text in part)]
    assert len(used) == len(set(used)) and set(used) <= set(texts)
    assert n_texts - len(used) < rounds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoders": []}, "At least one encoder"),
        ({"encoders": ["a", "a"]}, "names must differ"),
        ({"texts": ["one", "two"]}, "2 texts are too few for 5 rounds"),
        ({"rounds": 0}, "positive"),
        ({"seconds": 0.0}, "positive"),
        ({"seconds": float("nan")}, "positive"),
    ],
)
def test_invalid_arguments(changes, message):
    names = changes.pop("encoders", ["a"])
    arguments = {"texts": TEXTS, "rounds": 5, "seconds": 5.0} | changes
    clock = Clock()
    with pytest.raises(InputError, match=message):
        compare_speed([TimedEncoder(clock, name, 0.001) for name in names], clock=clock, **arguments)


def test_cancelling_between_two_turns():
    clock, cancel, seen = Clock(), threading.Event(), []
    encoder = TimedEncoder(clock, "a", 0.001)

    def show(event):
        seen.append((event.stage, event.done, event.total))
        if event.stage == "measure" and event.done == 2:
            cancel.set()

    with pytest.raises(Cancelled):
        compare_speed([encoder], TEXTS, rounds=5, seconds=5.0, progress=show, cancel=cancel, clock=clock)
    assert seen == [("warm", 0, 1), ("warm", 1, 1), ("measure", 0, 5), ("measure", 1, 5), ("measure", 2, 5)]


def test_counters_are_those_of_the_measurement_and_reporting_takes_no_time_of_it():
    clock, events = Clock(), []

    class Reporting(TimedEncoder):
        on_batch = None

        def encode(self, texts):
            parts = []
            for start in range(0, len(texts), 4):
                parts.append(super().encode(texts[start : start + 4]))
                if self.on_batch is not None:
                    self.on_batch(len(parts[-1]))
            return np.concatenate(parts)

    def show(event):
        events.append(event)
        clock.seconds += 100.0  # a slow reader

    encoders = [TimedEncoder(clock, "quick", 0.001), Reporting(clock, "slow", 0.01, role="teacher")]
    compared = compare_speed(encoders, TEXTS, rounds=2, seconds=5.0, progress=show, clock=clock)
    assert [speed.sentences_per_second for speed in compared.encoders] == pytest.approx([1000, 100])
    assert encoders[1].on_batch is None

    measured = [event.counters for event in events if event.stage == "measure"]
    assert not measured[0] and not any(event.counters for event in events if event.stage == "warm")
    n_slow = [counters.get("slow", (0, 0.0))[0] for counters in measured]
    size = compared.texts_per_round
    assert n_slow == sorted(n_slow) and {0, 4, 8, size, size + 4, 2 * size} <= set(n_slow)
    for counters in measured:
        for name, (n_texts, seconds) in counters.items():
            assert n_texts / seconds == pytest.approx({"quick": 1000, "slow": 100}[name])
    for each in compared.encoders:
        assert measured[-1][each.facts.name] == pytest.approx((each.n_texts, sum(each.round_seconds)))


def test_a_teacher_reports_each_batch_and_can_be_cancelled_between_two(teacher):
    encoder, cancel = TeacherEncoder(teacher, "tiny"), threading.Event()
    counts = []

    def show(event):
        counts.append(event.counters.get("tiny", (0, 0.0))[0])
        if counts[-1] >= 64:
            cancel.set()

    with pytest.raises(Cancelled):
        compare_speed([encoder], MANY, rounds=3, seconds=1000.0, progress=show, cancel=cancel)
    assert [n for n in counts if n] == [32, 64]
    assert encoder.on_batch is None and len(encoder.encode(TEXTS)) == len(TEXTS)


@pytest.mark.parametrize(("others", "is_busy"), [(0.0, False), (0.15, False), (0.5, True), (None, False)])
def test_a_busy_machine_is_recorded(others, is_busy):
    clock = Clock()
    encoders = [TimedEncoder(clock, "a", 0.001), TimedEncoder(clock, "t", 0.01, role="teacher")]

    def cpu_times():  # on two processors, of which this process uses one
        at = clock.seconds
        return None if others is None else CpuTimes(at, at + 2 * others * at, at, 2)

    compared = compare_speed(encoders, TEXTS, clock=clock, cpu_times=cpu_times)
    assert compared.other_load == (None if others is None else pytest.approx(others)) and compared.is_busy is is_busy
    written = json.loads(json.dumps(compared.to_json()))
    assert SpeedComparison.from_json(written).is_busy is is_busy
    del written["other_load"]  # as measured by an earlier version
    assert SpeedComparison.from_json(written).other_load is None


def test_json_round_trips():
    clock = Clock()
    encoders = [TimedEncoder(clock, "a", 0.001), TimedEncoder(clock, "t", 0.01, role="teacher")]
    compared = compare_speed(encoders, MANY, texts_name="mine", judge=rank_correlation, clock=clock)
    written = json.loads(json.dumps(compared.to_json()))
    assert SpeedComparison.from_json(written) == compared
    assert written["encoders"][0]["sentences_per_second"] == pytest.approx(1000)
    # Both encoders return the same vectors.
    assert compared.encoders[0].fidelity == pytest.approx(1.0) and compared.judged_texts == 512
    assert compared.encoders[1].fidelity is None
    few = SpeedComparison.from_json(written | {"judged_texts": 9})  # as measured by an earlier version
    assert few.judged_texts == 0 and few.encoders[0].fidelity is None
    assert written["machine"]["n_cpus"] >= 1 and written["machine"]["processor"]


def test_fidelity_needs_a_teacher_and_enough_texts():
    clock = Clock()
    alone = [TimedEncoder(clock, "a", 0.001), TimedEncoder(clock, "b", 0.001)]
    assert compare_speed(alone, TEXTS, judge=rank_correlation, clock=clock).judged_texts == 0
    for seconds_each, n_read in ((50.0, 5), (0.0299, 500), (0.029, 515)):
        slow = [TimedEncoder(clock, "a", 0.001), TimedEncoder(clock, "t", seconds_each, role="teacher")]
        compared = compare_speed(slow, MANY, judge=rank_correlation, clock=clock)
        assert compared.encoders[1].n_texts == n_read
        assert (compared.judged_texts == 512) is (compared.encoders[0].fidelity is not None) is (n_read >= 512)


@pytest.mark.parametrize(("n_read", "is_told"), [(9, False), (95, False), (96, True)])
def test_a_ratio_needs_three_batches_of_the_teacher(n_read, is_told):
    facts = EncoderFacts("a", "static", 8, "cpu", 1, 0)
    static = EncoderSpeed(facts, 500, (1.0,), False)
    teacher = EncoderSpeed(replace(facts, name="t", role="teacher"), n_read, (1.0,), True)
    compared = SpeedComparison((static, teacher), 500, 1, 3.0, 9.0, "", 0, this_machine())
    assert compared.times_the_teacher(static) == (pytest.approx((500 / n_read, 500 / n_read)) if is_told else None)


def test_rank_correlation_equals_spearmans():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(6, 8)).astype(np.float32), rng.normal(size=(6, 5)).astype(np.float32)
    student[:3] = student[0]  # ties
    above = np.triu_indices(6, k=1)  # so few texts are compared in all pairs
    unit = [table / np.linalg.norm(table, axis=1, keepdims=True) for table in (teacher, student)]
    expected = stats.spearmanr(*[(table @ table.T)[above].round(5) for table in unit]).statistic
    assert rank_correlation(teacher, student) == pytest.approx(expected, abs=2e-3)
    assert rank_correlation(teacher, teacher) == pytest.approx(1.0)
    assert rank_correlation(teacher, np.ones_like(student)) == 0.0


def test_sample_texts_are_prose():
    texts = sample_texts()
    assert len(texts) > 1000 and len(set(texts)) == len(texts)
    assert all(text[0].isupper() and 5 <= len(text.split()) <= 60 for text in texts)


def test_texts_of_a_file(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\n\r\n  two \n")
    assert read_texts(file) == ["one", "two"]
    for content, message in [(b"\xff\xfea", "damaged in line 1"), (b"\n \n", "no text")]:
        file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_texts(file)
    with pytest.raises(NotFoundError, match=r"File not found: .*absent\.txt"):
        read_texts(tmp_path / "absent.txt")


@pytest.mark.parametrize(("rate", "text"), [(4.21, "4.2"), (9.96, "10"), (19.4, "19"), (5387.6, "5,388")])
def test_rates_are_readable(rate, text):
    assert rate_text(rate) == text


@pytest.mark.parametrize(
    ("parallelism", "rayon", "threads"), [("false", "7", 1), ("0", "", 1), ("true", "7", 7), ("true", "x", None)]
)
def test_threads_of_the_tokenizer(parallelism, rayon, threads, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallelism)
    monkeypatch.setenv("RAYON_NUM_THREADS", rayon)
    assert tokenizer_threads() == threads if threads else tokenizer_threads() >= 1


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    static_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(build_teacher_once):
    return build_teacher_once("wordpiece")


def test_the_static_encoder_equals_that_of_model2vec(model_folder):
    encoder = StaticEncoder.load(model_folder)
    assert encoder.facts.name == "small" and encoder.facts.size_bytes == disk_bytes(model_folder) > 1000
    pytest.importorskip("model2vec")
    peer = Model2VecEncoder(model_folder)
    assert (peer.facts.role, peer.facts.name, peer.facts.dim) == ("peer", "small (model2vec)", encoder.facts.dim)
    np.testing.assert_allclose(peer.encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)


def test_a_removed_model(tmp_path):
    with pytest.raises(NotFoundError, match="removed"):
        StaticEncoder.load(tmp_path / "gone")


def test_teacher_encoder_runs_every_module(teacher):
    encoder = TeacherEncoder(teacher, "tiny")
    assert (encoder.facts.name, encoder.facts.role, encoder.facts.device) == ("tiny", "teacher", "cpu")
    assert encoder.facts.n_threads >= 1 and encoder.facts.size_bytes > 1000
    assert encoder.encode(TEXTS[:3]).shape == (3, encoder.facts.dim)


def test_teachers_that_are_rejected(broken_teacher, tmp_path):
    folder = broken_teacher("custom-module")
    with pytest.raises(RemoteCodeError, match=r"marked_pooling\.MarkedPooling"):
        TeacherEncoder(folder, "tiny")
    assert not (folder / "EXECUTED").exists()
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(TeacherError, match="damaged"):
        TeacherEncoder(tmp_path, "tiny")


def test_the_job_measures_models_and_teacher(model_folder, teacher, tmp_path):
    staging = tmp_path / "staging"
    staging.mkdir()
    stages = []
    parameters = {
        "models": [{"name": "my model", "path": str(model_folder)}],
        "teacher": str(teacher),
        "device": "cpu",
        "rounds": 3,
        "seconds": 3.0,
    }
    order = WorkOrder(
        parameters=parameters,
        texts={"texts": MANY},
        secrets={},
        staging=staging,
        private_cache=tmp_path / "cache",
        shared_cache=tmp_path / "shared_cache",
        progress=lambda event: stages.append(event.stage),
        cancel=threading.Event(),
    )
    outcome = speed(order)
    assert json.loads((staging / "speed.json").read_text()) == json.loads(json.dumps(outcome))
    compared = SpeedComparison.from_json(outcome)
    assert [encoder.facts.role for encoder in compared.encoders] == ["static", "teacher"]
    assert all(len(encoder.round_seconds) == 3 and min(encoder.round_seconds) > 0 for encoder in compared.encoders)
    assert -1 <= compared.encoders[0].fidelity <= 1 and compared.texts_name == "own texts"
    assert list(dict.fromkeys(stages)) == ["load", "warm", "measure"]


def test_fidelity_is_measured_on_512_texts_or_not_at_all(model_folder, teacher, monkeypatch):
    """Regardless of the time limit for speed; if a teacher is too slow, fidelity is omitted, and the card states so."""
    monkeypatch.setattr(work, "_SECONDS", 0.003)
    model = StaticModel.from_pretrained(model_folder)
    measured, outcome = work.measure(model, str(teacher), "cpu", ProgressReporter(None, None))
    assert (
        outcome["n_fidelity_texts"] == 512 and outcome["times_the_teacher"] is None
    )  # it read a few texts in that time
    assert measured.fidelity_interval[0] < measured.fidelity < measured.fidelity_interval[1]
    assert "pairs of 512 English sentences; 95% confidence interval" in measured.lines()[0]
    monkeypatch.setattr(work, "_FIDELITY_SECONDS", 0.0)
    measured, outcome = work.measure(model, str(teacher), "cpu", ProgressReporter(None, None))
    assert (measured.fidelity, outcome["n_fidelity_texts"]) == (None, 0)
    assert measured.lines()[0] == "Fidelity: not measured" and measured.sentences_per_second > 0
    measured, outcome = work.measure(model, str(teacher / "none"), "cpu", ProgressReporter(None, None))
    assert measured.lines() == ["Fidelity: not measured"] and outcome["sentences_per_second"] is None


def m2v(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_command(model_folder, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    options = ("--texts", tmp_path / "texts.txt", "--rounds", 3, "--seconds", 1)
    done = m2v("speed", model_folder, *options, "--json")
    assert done.exit_code == 0, done.stderr
    (encoder,) = SpeedComparison.from_json(json.loads(done.stdout)).encoders
    assert len(encoder.round_seconds) == 3 and encoder.facts.name == str(model_folder)
    shown = m2v("speed", model_folder, *options)
    assert shown.exit_code == 0, shown.stderr
    assert "sentences/s" in shown.stdout and "Median of 3 rounds of" in shown.stdout and "CPUs" in shown.stdout
    assert "extrapolated" not in shown.stdout


def test_table_marks_what_is_extrapolated(capsys):
    clock = Clock()
    encoders = [TimedEncoder(clock, "a", 0.001), TimedEncoder(clock, "t", 0.1, role="teacher")]
    compared = compare_speed(encoders, TEXTS, rounds=5, seconds=5.0, judge=rank_correlation, clock=clock)
    measuring._print_speeds(compared)
    shown = capsys.readouterr().out
    assert "10*" in shown and "* t is extrapolated: it encoded 10 of the 20 texts" in shown
    assert "Fidelity: not measured, because it needs 512 texts encoded by all encoders" in shown
    encoders = [TimedEncoder(clock, "a", 0.001), TimedEncoder(clock, "t", 0.01, role="teacher")]
    measuring._print_speeds(compare_speed(encoders, MANY, judge=rank_correlation, clock=clock))
    assert "512 texts, each paired" in capsys.readouterr().out
    for other_load, is_shown in ((0.62, True), (0.1, False)):
        measuring._print_speeds(replace(compared, other_load=other_load))
        assert ("other programs used 62% of the processors" in capsys.readouterr().out) is is_shown


def test_errors_of_the_command(model_folder, tmp_path):
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    done = m2v("speed", model_folder, "--texts", tmp_path / "texts.txt")
    assert done.exit_code == 1 and "too few for 5 rounds" in done.stderr
