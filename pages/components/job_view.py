"""HTML view of a run: title, progress bar, numbers and stages."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from m2v_core.evaluation.speed import rate_text
from m2v_core.progress import Progress
from m2v_core.studio.jobs import Job, Stage
from m2v_core.studio.work.measuring import speed_encoders
from pages.components import ASK_FOR_HELP, format_bytes, format_seconds, notice
from pages.figures import plain_name
from pages.html import Markup, render


@dataclass(frozen=True)
class _Look:
    """The display of a kind of job.

    Attributes:
        stages: Label and typical share of the total time of each stage.
        counted: The stage whose units are shown.
        unit: Name of these units.
        loss: The consequence of a failure.
    """

    stages: Mapping[str, tuple[str, float]]
    counted: str
    unit: str
    loss: str


_PUBLISHING = {
    "check": ("Check in other libraries", 0.30),
    "connect": ("Connect to the Hub", 0.10),
    "upload": ("Upload", 0.40),
    "verify": ("Verify the upload", 0.15),
}
_LOOKS: Mapping[str, _Look] = {
    "distill": _Look(
        {
            "start": ("Start up", 0.005),
            "download": ("Download the teacher", 0.005),
            "load": ("Load the teacher", 0.005),
            "encode": ("Embed the vocabulary", 0.855),
            "reduce": ("Reduce dimensions", 0.06),
            "finish": ("Weight and quantize", 0.02),
            "save": ("Save the model", 0.02),
            "check": ("Check the saved model", 0.03),
        },
        "encode",
        "tokens",
        "Nothing was saved.",
    ),
    "speed": _Look(
        {
            "start": ("Start up", 0.05),
            "load": ("Load the encoders", 0.30),
            "warm": ("Warm up", 0.10),
            "measure": ("Measure the speed", 0.55),
        },
        "measure",
        "measurements",
        "Nothing was measured.",
    ),
    "evaluate": _Look(
        {
            "start": ("Start up", 0.05),
            "load": ("Load the encoders", 0.20),
            "fidelity": ("Compare with the teacher", 0.35),
            "tasks": ("Score on the test data", 0.20),
            "frontier": ("Evaluate smaller versions", 0.20),
        },
        "fidelity",
        "texts",
        "Nothing was measured.",
    ),
    "publish": _Look(
        {"start": ("Start up", 0.05), **_PUBLISHING}, "upload", "bytes", "The model is still in your library."
    ),
}
_MIN_ESTIMATE_SECONDS = 1.5
_MIN_BAR = 0.006  # two pixels: a teacher is often a thousand times slower, and its bar must remain visible
_AGAIN = f"{{{{ loss }}}} Fix the problem and run it again. {ASK_FOR_HELP}"
_RETRY = f"“Retry upload” uploads it without distilling again. {ASK_FOR_HELP}"
ONE_CLICK = "one click"
"""The kind of a panel that shows a distillation with its upload, and retries of the upload."""
_CALIBRATING = {"read": ("Embed texts", 4.5), "calibrate": ("Calibrate", 0.20)}
"""Stages between `reduce` and `finish`."""
_ROWS = {
    "pooling": "encode",
    "bags": "read",
    "dictionary": "read",
    "corpus": "read",
    "prepare": "calibrate",
    "descend": "calibrate",
}
"""Stages of a distillation that share a row with others."""
_UNITS = {"bags": "word bags", "dictionary": "dictionary lines", "corpus": "sentences"}
_MEASURE = {"measure": ("Measure", 0.15)}


def _idle_look(kind: str) -> _Look:
    """The default stages of a run of this kind; on Home they include the measurement."""
    look = _LOOKS["distill" if kind == ONE_CLICK else kind]
    if kind in ("distill", ONE_CLICK):
        look = _calibrating(look)
    return replace(look, stages={**look.stages, **_MEASURE}) if kind == ONE_CLICK else look


def _calibrating(look: _Look) -> _Look:
    *before, finish, save, check = look.stages.items()
    stages = dict([*before, *_CALIBRATING.items(), finish, save, check])
    whole = sum(share for _, share in stages.values())
    return replace(look, stages={name: (label, share / whole) for name, (label, share) in stages.items()})


def _look_of(job: Job) -> _Look:
    """The display of a job, including optional measurement and publishing."""
    look = _LOOKS[job.kind]
    if job.kind == "evaluate":
        return _evaluation_look(look, job)
    reached = {stage.name for stage in job.stages}
    if job.kind == "distill" and (job.parameters.get("recipe") == "calibrated" or reached & _UNITS.keys()):
        look = _calibrating(look)
        if not job.is_finished and job.stages and job.stages[-1].name in _UNITS:
            look = replace(look, counted="read", unit=_UNITS[job.stages[-1].name])
    if job.stages and job.stages[-1].name == "download" and not job.is_finished:
        look = replace(look, counted="download", unit="bytes")
    more = {
        **(_MEASURE if job.parameters.get("measure") else {}),
        **(_PUBLISHING if job.kind == "distill" and job.parameters.get("publish") else {}),
    }
    if not more:
        return look
    # The check of a published model replaces that of a saved model.
    is_checked = not job.parameters.get("publish")
    shares = {
        name: (label, 0.6 * share) for name, (label, share) in look.stages.items() if is_checked or name != "check"
    }
    scale = 0.4 / sum(share for _, share in more.values())
    shares |= {name: (label, scale * share) for name, (label, share) in more.items()}
    # Show tokens until the upload, then bytes.
    if "upload" in reached:
        return replace(look, stages=shares, counted="upload", unit="bytes")
    return replace(look, stages=shares)


def _evaluation_look(look: _Look, job: Job) -> _Look:
    """The requested stages of an evaluation, and the count of the current one."""
    skipped = {
        stage
        for stage, is_requested in (
            ("fidelity", job.parameters.get("with_fidelity")),
            ("tasks", job.parameters.get("with_tasks")),
            ("frontier", job.parameters.get("with_frontier")),
        )
        if not is_requested
    }
    stages = {name: entry for name, entry in look.stages.items() if name not in skipped}
    whole = sum(share for _, share in stages.values())
    counted = job.stages[-1].name if job.stages and job.stages[-1].total else look.counted
    return replace(
        look,
        stages={name: (label, share / whole) for name, (label, share) in stages.items()},
        counted=counted,
        unit="versions" if counted == "frontier" else "texts",
    )


def is_unpublished(job: Job) -> bool:
    """Whether a model was distilled but its upload failed."""
    return job.state == "done" and bool(job.parameters.get("publish")) and "published" not in job.outcome


def job_html(job: Job | None, kind: str = "distill") -> Markup:
    """Render a run with title, progress bar, numbers and stages, at the same height in every state."""
    if job is None:
        return _panel(
            _idle_look(kind),
            "idle",
            "Ready",
            "No run yet",
            (),
            _Numbers("Steps"),
            race=_idle_race(kind),
        )
    look = _look_of(job)
    stages = _all_stages(job)
    if job.state == "queued":
        place = "Next in the queue" if job.queue_position == 1 else f"Number {job.queue_position} in the queue"
        return _panel(look, "queued", place, _title(job), (), _Numbers("Waiting for other runs"), race=_race(job))
    numbers = _numbers(look, job, stages)
    if job.state == "failed":
        return _panel(look, "failed", "Failed", _title(job), stages, numbers, job.progress, _race(job)) + _failure(
            look, job, stages
        )
    if kind == ONE_CLICK and is_unpublished(job):
        stages = (*stages[:-1], replace(stages[-1], is_finished=False))
        return _panel(
            look, "failed", "Distilled, but not published", _title(job), stages, numbers, job.progress
        ) + _unpublished(job)
    if job.is_finished:
        return _panel(look, job.state, job.state.capitalize(), _title(job), stages, numbers, job.progress, _race(job))
    headline = "Cancelling" if job.state == "cancelling" else _label(look, stages[-1])
    return _panel(look, "running", headline, _title(job), stages, numbers, job.progress, _race(job))


@dataclass(frozen=True)
class _Racer:
    """One encoder of a speed comparison.

    Attributes:
        name: Display name.
        is_teacher: Whether it is the teacher.
        count: Sentences encoded so far; empty before the first.
        rate: Mean number of sentences per second so far; empty before the first.
        share: Length of the bar, the rate as a share of the highest rate, 0 to 1.
    """

    name: str
    is_teacher: bool
    count: str = ""
    rate: str = ""
    share: float = 0.0


def _idle_race(kind: str) -> Sequence[_Racer]:
    """The rows of a comparison of one model with its teacher, so that the panel has the same height before a run."""
    return (_Racer("Model", False), _Racer("Teacher", True)) if kind == "speed" else ()


def _race(job: Job) -> Sequence[_Racer]:
    """The encoders of a speed comparison with the counters of its latest event, in the order of measurement."""
    if job.kind != "speed":
        return ()
    counters = job.progress.counters if job.progress is not None else {}
    if job.state == "done" and not counters:  # measured by an earlier version
        return ()
    rates = {name: n_texts / seconds for name, (n_texts, seconds) in counters.items() if seconds > 0}
    racers = []
    for name in speed_encoders(job.parameters):
        is_teacher = name == job.parameters.get("teacher")
        racer = _Racer(plain_name(name, "teacher" if is_teacher else "static"), is_teacher)
        if name in rates:
            count, rate = f"{counters[name][0]:,}", rate_text(rates[name])
            share = max(rates[name] / max(rates.values()), _MIN_BAR)
            racer = replace(racer, count=count, rate=rate, share=share)
        racers.append(racer)
    return racers


@dataclass(frozen=True)
class _Numbers:
    elapsed: str = ""
    time_left: str = ""
    count: str = ""
    rate: str = ""


def _numbers(look: _Look, job: Job, stages: Sequence[Stage]) -> _Numbers:
    counted = next((stage for stage in stages if stage.name == look.counted and stage.total), None)
    if counted is not stages[-1] and not job.is_finished:
        counted = None  # the counted stage is finished
    count = rate = ""
    if counted is not None:
        count = f"{counted.done:,} of {counted.total:,} {look.unit}"
        if look.unit == "bytes":
            count = f"{format_bytes(counted.done)} of {format_bytes(counted.total)}"
    if counted is not None and look.unit in ("tokens", *_UNITS.values()):  # rates of other units are not useful
        per_second = counted.done / counted.seconds if counted.seconds else 0.0
        if not counted.is_finished and job.progress is not None:
            per_second = job.progress.rate  # of the last batch, as the mean rate drops between batches
        rate = f"{per_second:,.0f}/s" if per_second else ""
    elapsed, time_left = format_seconds(job.elapsed_seconds), ""
    if job.is_finished:
        return _Numbers(f"{elapsed} in total", "", count, rate)
    left = seconds_left(job)
    if left:
        time_left = _time_left(left)
    elif job.progress is not None and job.progress.stage == "download" and job.progress.eta_seconds:
        time_left = _time_left(job.progress.eta_seconds, "to download")
    return _Numbers(f"{elapsed} elapsed", time_left, count, rate)


def _label(look: _Look, stage: Stage) -> str:
    return look.stages[stage.name][0] if stage.name in look.stages else stage.name.capitalize()


def _all_stages(job: Job) -> tuple[Stage, ...]:
    """Return a stage for each row, preceded by the start of the process, which the job can't measure itself."""
    begun: list[Stage] = []
    for stage in job.stages:
        row = replace(stage, name=_ROWS.get(stage.name, stage.name))
        if begun and begun[-1].name == row.name:
            row = replace(row, seconds=row.seconds + begun.pop().seconds)
        if row.name != "start":
            begun.append(row)
    start_seconds = max(0.0, job.elapsed_seconds - sum(stage.seconds for stage in begun))
    return (Stage("start", 0, 0, start_seconds, bool(begun) or job.state == "done"), *begun)


def _fraction(shares: Mapping[str, tuple[str, float]], stages: Sequence[Stage], progress: Progress | None) -> float:
    """Completed share of a run, 0 to 1, including cached stages."""
    if progress is not None and progress.left_seconds is not None:
        return min(progress.share, 0.99)
    known = [stage for stage in stages if stage.name in shares]
    if not known:
        return 0.0
    stage, names = known[-1], list(shares)
    here = 1.0 if stage.is_finished else min(1.0, stage.done / stage.total) if stage.total else 0.0
    before = sum(shares[name][1] for name in names[: names.index(stage.name)])
    return min(before + here * shares[stage.name][1], 0.99)


def seconds_left(job: Job) -> float | None:
    """Remaining seconds of the run; None while unknown.

    Distillations estimate them; for other jobs they follow from the typical shares of the stages.
    """
    if job.is_finished:
        return None
    if job.kind == "distill":
        return None if job.progress is None else job.progress.left_seconds
    return _seconds_left(_look_of(job), job, _all_stages(job))


def _seconds_left(look: _Look, job: Job, stages: Sequence[Stage]) -> float | None:
    shares, names, stage = look.stages, list(look.stages), stages[-1]
    eta = None if job.progress is None else job.progress.eta_seconds
    if stage.seconds < _MIN_ESTIMATE_SECONDS:
        eta = None  # the first units take longer
    if stage.name not in shares or stage.name in ("start", "download"):  # unrelated to the speed of other stages
        return None
    counted = [ended for ended in stages[:-1] if ended.total and ended.name in shares and ended.name != "download"]
    if eta is not None:
        seconds_of_all = (stage.seconds + eta) / shares[stage.name][1]
    elif counted:
        longest = max(counted, key=lambda ended: ended.seconds)
        seconds_of_all = longest.seconds / shares[longest.name][1]
        eta = max(0.0, seconds_of_all * shares[stage.name][1] - stage.seconds)
    else:
        return None
    return eta + seconds_of_all * sum(shares[name][1] for name in names[names.index(stage.name) + 1 :])


def _time_left(seconds: float, what: str = "left") -> str:
    if seconds < 60:
        return f"about {math.ceil(seconds)} s {what}"
    tens = math.ceil(seconds / 10)
    if tens % 6 and seconds < 300:
        return f"about {tens // 6} min {tens % 6}0 s {what}"
    return f"about {round(tens / 6)} min {what}"


def _title(job: Job) -> str:
    """The job's title; for a distillation with its teacher, as the form may already show another one."""
    if job.kind != "distill" or "model_name" not in job.parameters:
        return job.title
    teacher = re.split(r"[/\\]", str(job.parameters["model_name"]).rstrip("/\\"))[-1]
    return f"{job.title} from {teacher}"


def _panel(
    look: _Look,
    state: str,
    headline: str,
    title: str,
    stages: Sequence[Stage],
    numbers: _Numbers,
    progress: Progress | None = None,
    race: Sequence[_Racer] = (),
) -> Markup:
    fraction = 1.0 if state == "done" else _fraction(look.stages, stages, progress)
    percent = math.floor(100 * fraction)
    return render(
        "job.html",
        state=state,
        title=title,
        headline=headline,
        percent=percent,
        fraction=fraction,
        # A stage without a count has an indeterminate progress bar.
        is_counted=state != "running" or (stages and stages[-1].done > 0),
        numbers=numbers,
        race=race,
        stages=_stage_list(look, stages, state),
    )


def _stage_list(look: _Look, stages: Sequence[Stage], state: str) -> list[tuple[str, str, str, str]]:
    """Return each stage's name, mark, label and time."""
    reached = {stage.name: stage for stage in stages}
    ended = {"failed": "failed", "cancelled": "cancelled"}.get(state, "running")
    rows, names = [], list(look.stages)
    n_begun = 1 + max((names.index(name) for name in reached if name in look.stages), default=-1)
    for place, (name, (label, _)) in enumerate(look.stages.items()):
        stage = reached.get(name)
        if stage is not None:
            mark, seconds = "finished" if stage.is_finished else ended, format_seconds(stage.seconds)
        else:  # earlier stages without an event used the cache
            mark, seconds = ("finished", "cached") if place < n_begun else ("not started", "")
        rows.append((name, mark, label, seconds))
    return rows


def _failure(look: _Look, job: Job, stages: Sequence[Stage]) -> Markup:
    where = next((f" at “{_label(look, stage)}”" for stage in stages if not stage.is_finished), "")
    return notice("error", f"The run stopped{where}", [job.message, render(_AGAIN, loss=look.loss, id=job.id)])


def _unpublished(job: Job) -> Markup:
    return notice("error", "The model is in your library", [job.message, render(_RETRY, id=job.id)])
