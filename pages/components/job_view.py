"""How a run looks: its title, bar, numbers and stages, as HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from m2v_core.studio.jobs import Job, Stage
from pages.components import ASK_FOR_HELP, format_bytes, format_seconds, notice
from pages.html import Markup, render


@dataclass(frozen=True)
class _Look:
    """How one kind of job is shown.

    Attributes:
        stages: Every stage, what people call it, and its usual share of the whole time.
        counted: The stage whose units are shown.
        unit: What these units are.
        loss: What a failure means.
    """

    stages: Mapping[str, tuple[str, float]]
    counted: str
    unit: str
    loss: str


_PUBLISHING = {
    "check": ("Open it as others will", 0.30),
    "connect": ("Find the repository", 0.10),
    "upload": ("Upload", 0.40),
    "verify": ("Fetch it again to compare", 0.15),
}
_LOOKS: Mapping[str, _Look] = {
    "distill": _Look(
        {
            "start": ("Start up", 0.05),
            "download": ("Fetch the teacher", 0.10),
            "load": ("Load the teacher", 0.15),
            "encode": ("Read the vocabulary", 0.57),
            "reduce": ("Reduce dimensions", 0.06),
            "finish": ("Weight and quantize", 0.02),
            "save": ("Save the model", 0.02),
            "check": ("Open it again", 0.03),
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
            "measure": ("Measure in turn", 0.55),
        },
        "measure",
        "turns",
        "Nothing was measured.",
    ),
    "evaluate": _Look(
        {
            "start": ("Start up", 0.05),
            "load": ("Load the encoders", 0.20),
            "fidelity": ("Compare with the teacher", 0.35),
            "tasks": ("Score on the test data", 0.20),
            "frontier": ("Try smaller versions", 0.20),
        },
        "fidelity",
        "texts",
        "Nothing was measured.",
    ),
    "publish": _Look(
        {"start": ("Start up", 0.05), **_PUBLISHING}, "upload", "bytes", "The model is still in your library."
    ),
}
_SECONDS_TO_TELL = 1.5
_AGAIN = f"{{{{ loss }}}} Change what is needed and run it again. {ASK_FOR_HELP}"
_RETRY = f"“Retry upload” sends it again without making it anew. {ASK_FOR_HELP}"
ONE_CLICK = "one click"
"""The kind of a panel that follows a distillation, the upload that belongs to it, and a second try of that."""
_CALIBRATING = {"read": ("Read sentences", 4.5), "calibrate": ("Calibrate", 0.20)}
"""Comes between `reduce` and `finish`; the sentences take eight times as long as the vocabulary."""
_MEASURE = {"measure": ("Measure", 0.15)}


def _idle_look(kind: str) -> _Look:
    """What a run of this kind goes through as a rule: on Home the quick recipe, on Distill the best one."""
    if kind == ONE_CLICK:
        return replace(_LOOKS["distill"], stages={**_LOOKS["distill"].stages, **_MEASURE})
    return _calibrating(_LOOKS["distill"]) if kind == "distill" else _LOOKS[kind]


def _calibrating(look: _Look) -> _Look:
    *before, finish, save, check = look.stages.items()
    stages = dict([*before, *_CALIBRATING.items(), finish, save, check])
    whole = sum(share for _, share in stages.values())
    return replace(look, stages={name: (label, share / whole) for name, (label, share) in stages.items()})


def _look_of(job: Job) -> _Look:
    """How this very job is shown: a distillation may go on to measure and to publish."""
    look = _LOOKS[job.kind]
    if job.kind == "evaluate":
        return _evaluation_look(look, job)
    reached = {stage.name for stage in job.stages}
    if job.kind == "distill" and (job.parameters.get("recipe") == "calibrated" or "read" in reached):
        look = _calibrating(look)
        if not job.is_finished and "read" in reached:
            look = replace(look, counted="read", unit="sentences")
    if job.stages and job.stages[-1].name == "download" and not job.is_finished:
        look = replace(look, counted="download", unit="bytes")
    more = {
        **(_MEASURE if job.parameters.get("measure") else {}),
        **(_PUBLISHING if job.kind == "distill" and job.parameters.get("publish") else {}),
    }
    if not more:
        return look
    # What is published is opened as others will, instead.
    is_checked = not job.parameters.get("publish")
    shares = {
        name: (label, 0.6 * share) for name, (label, share) in look.stages.items() if is_checked or name != "check"
    }
    scale = 0.4 / sum(share for _, share in more.values())
    shares |= {name: (label, scale * share) for name, (label, share) in more.items()}
    # The tokens are what there is to count until there are bytes.
    if "upload" in reached:
        return replace(look, stages=shares, counted="upload", unit="bytes")
    return replace(look, stages=shares)


def _evaluation_look(look: _Look, job: Job) -> _Look:
    """An evaluation with the stages that were asked for, and the count of the one that is going on."""
    left_out = {
        stage
        for stage, asked in (
            ("fidelity", job.parameters.get("with_fidelity")),
            ("tasks", job.parameters.get("with_tasks")),
            ("frontier", job.parameters.get("with_frontier")),
        )
        if not asked
    }
    kept = {name: entry for name, entry in look.stages.items() if name not in left_out}
    whole = sum(share for _, share in kept.values())
    counted = job.stages[-1].name if job.stages and job.stages[-1].total else look.counted
    return replace(
        look,
        stages={name: (label, share / whole) for name, (label, share) in kept.items()},
        counted=counted,
        unit="versions" if counted == "frontier" else "texts",
    )


def is_unpublished(job: Job) -> bool:
    """Whether a model was made that should have been published too, and was not."""
    return job.state == "done" and bool(job.parameters.get("publish")) and "published" not in job.outcome


def job_html(job: Job | None, kind: str = "distill") -> Markup:
    """The run as HTML: title, bar, numbers, stages; as high in every state, so that nothing jumps."""
    if job is None:
        return _panel(
            _idle_look(kind),
            "idle",
            "Ready",
            "No run yet",
            (),
            _Numbers("Press the button, and this follows:"),
        )
    look = _look_of(job)
    stages = _all_stages(job)
    if job.state == "queued":
        place = "Next in the queue" if job.queue_position == 1 else f"Number {job.queue_position} in the queue"
        return _panel(look, "queued", place, job.title, (), _Numbers("Waiting for a free place"))
    numbers = _numbers(look, job, stages)
    if job.state == "failed":
        return _panel(look, "failed", "Failed", job.title, stages, numbers) + _failure(look, job, stages)
    if kind == ONE_CLICK and is_unpublished(job):
        stages = (*stages[:-1], replace(stages[-1], is_finished=False))
        return _panel(look, "failed", "Made, but not published", job.title, stages, numbers) + _unpublished(job)
    if job.is_finished:
        return _panel(look, job.state, job.state.capitalize(), job.title, stages, numbers)
    headline = "Cancelling" if job.state == "cancelling" else _label(look, stages[-1])
    return _panel(look, "running", headline, job.title, stages, numbers)


@dataclass(frozen=True)
class _Numbers:
    elapsed: str = ""
    time_left: str = ""
    count: str = ""
    rate: str = ""


def _numbers(look: _Look, job: Job, stages: Sequence[Stage]) -> _Numbers:
    counted = next((stage for stage in stages if stage.name == look.counted and stage.total), None)
    if counted is not stages[-1] and not job.is_finished:
        counted = None  # what was counted is over
    count = rate = ""
    if counted is not None:
        count = f"{counted.done:,} of {counted.total:,} {look.unit}"
        if look.unit == "bytes":
            count = f"{format_bytes(counted.done)} of {format_bytes(counted.total)}"
    if counted is not None and look.unit in ("tokens", "sentences"):  # nobody cares how many turns a second there are
        per_second = counted.done / counted.seconds if counted.seconds else 0.0
        if not counted.is_finished and job.progress is not None and job.progress.stage == look.counted:
            per_second = job.progress.rate  # that of the last batch: it does not sink while the next is under way
        rate = f"{per_second:,.0f} a second" if per_second else ""
    elapsed, time_left = format_seconds(job.elapsed_seconds), ""
    if job.is_finished:
        return _Numbers(f"{elapsed} in all", "", count, rate)
    left = _seconds_left(look, job, stages)
    if left:
        time_left = _time_left(left)
    elif job.progress is not None and job.progress.stage == "download" and job.progress.eta_seconds:
        time_left = _time_left(job.progress.eta_seconds, "to fetch")
    return _Numbers(f"{elapsed} so far", time_left, count, rate)


def _label(look: _Look, stage: Stage) -> str:
    return look.stages[stage.name][0] if stage.name in look.stages else stage.name.capitalize()


def _all_stages(job: Job) -> tuple[Stage, ...]:
    """The job's stages, with the start of its process, which the job itself can't time, before them."""
    begun = [stage for stage in job.stages if stage.name != "start"]
    start_seconds = max(0.0, job.elapsed_seconds - sum(stage.seconds for stage in begun))
    return (Stage("start", 0, 0, start_seconds, bool(begun) or job.state == "done"), *begun)


def _fraction(shares: Mapping[str, tuple[str, float]], stages: Sequence[Stage]) -> float:
    """How much of a run is behind it, 0 to 1, what was kept from an earlier one included."""
    known = [stage for stage in stages if stage.name in shares]
    if not known:
        return 0.0
    stage, names = known[-1], list(shares)
    here = 1.0 if stage.is_finished else min(1.0, stage.done / stage.total) if stage.total else 0.0
    before = sum(shares[name][1] for name in names[: names.index(stage.name)])
    return min(before + here * shares[stage.name][1], 0.99)


def seconds_left(job: Job) -> float | None:
    """Seconds until the whole run ends, as far as its stages take their usual shares of it; None while unknown."""
    return None if job.is_finished else _seconds_left(_look_of(job), job, _all_stages(job))


def _seconds_left(look: _Look, job: Job, stages: Sequence[Stage]) -> float | None:
    shares, names, stage = look.stages, list(look.stages), stages[-1]
    eta = None if job.progress is None else job.progress.eta_seconds
    if stage.seconds < _SECONDS_TO_TELL:
        eta = None  # the first units take longer, as all is new
    if stage.name not in shares or stage.name in ("start", "download"):  # which say nothing of the others
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
    return f"about {math.ceil(seconds / 60)} min {what}"


def _panel(look: _Look, state: str, headline: str, title: str, stages: Sequence[Stage], numbers: _Numbers) -> Markup:
    fraction = 1.0 if state == "done" else _fraction(look.stages, stages)
    percent = math.floor(100 * fraction)
    return render(
        "job.html",
        state=state,
        title=title,
        headline=headline,
        percent=percent,
        fraction=fraction,
        # A stage that can't be counted shows that it is alive, and claims no more.
        is_counted=state != "running" or (stages and stages[-1].done > 0),
        numbers=numbers,
        stages=_stage_list(look, stages, state),
    )


def _stage_list(look: _Look, stages: Sequence[Stage], state: str) -> list[tuple[str, str, str, str]]:
    """Each stage's name, mark, label and time."""
    reached = {stage.name: stage for stage in stages}
    ended = {"failed": "failed here", "cancelled": "stopped here"}.get(state, "going on")
    rows, names = [], list(look.stages)
    n_begun = 1 + max((names.index(name) for name in reached if name in look.stages), default=-1)
    for place, (name, (label, _)) in enumerate(look.stages.items()):
        stage = reached.get(name)
        if stage is not None:
            mark, seconds = "finished" if stage.is_finished else ended, format_seconds(stage.seconds)
        else:  # what the teacher has read once is taken from where it is kept
            mark, seconds = ("finished", "kept") if place < n_begun else ("not begun", "")
        rows.append((name, mark, label, seconds))
    return rows


def _failure(look: _Look, job: Job, stages: Sequence[Stage]) -> Markup:
    where = next((f" at “{_label(look, stage)}”" for stage in stages if not stage.is_finished), "")
    return notice("error", f"It stopped{where}", [job.message, render(_AGAIN, loss=look.loss, id=job.id)])


def _unpublished(job: Job) -> Markup:
    return notice("error", "The model is in your library", [job.message, render(_RETRY, id=job.id)])
