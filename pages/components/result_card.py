"""The result of a job: where it was published, its main numbers, and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from m2v_core.distillation.reduction import dims_note
from m2v_core.evaluation.evidence import NOT_ENOUGH_DATA, NOT_MEASURED, has_enough_texts
from m2v_core.evaluation.fidelity import with_interval
from m2v_core.evaluation.frontier import FrontierRow
from m2v_core.evaluation.report import fixed, mean_score, small_tasks
from m2v_core.evaluation.run import Evaluation
from m2v_core.evaluation.speed import SpeedComparison, rate_text
from m2v_core.evaluation.statistics import Estimate
from m2v_core.studio.jobs import Job
from pages.components import format_bytes, format_seconds, rows_html
from pages.components.evaluation_view import NEAR, enough_fidelity, smallest_near_best
from pages.components.measurements import speed_facts, times_text
from pages.components.model_facts import links_html
from pages.html import Markup, render


def result_html(job: Job) -> Markup:
    """Show the main numbers of a finished job."""
    if job.kind == "publish":
        published = job.outcome["published"]
        facts = [
            ("Size", format_bytes(int(published["n_bytes"]))),
            ("Commit", str(published["commit"])[:7]),
            ("Visible to", "only you" if published["private"] else "everyone"),
            ("Published in", format_seconds(job.elapsed_seconds)),
        ]
    elif job.kind == "speed":
        facts = [
            *speed_facts(SpeedComparison.from_json(job.outcome)),
            ("Measured in", format_seconds(job.elapsed_seconds)),
        ]
    elif job.kind == "evaluate":
        facts = _evaluation_facts(job)
    else:
        return _distilled_html(job)
    return published_html(job) + rows_html(facts, "m2v-facts")


def _distilled_html(job: Job) -> Markup:
    outcome = job.outcome
    facts = [
        ("Tokens", f"{int(outcome['n_tokens']):,}"),
        ("Dimensions", f"{int(outcome['dim']):,}"),
        ("Distilled in", format_seconds(job.elapsed_seconds)),
    ]
    if outcome.get("measured"):
        strip = render("strip.html", parts=comparisons(outcome, job.id))
    else:
        strip = Markup()
        facts.insert(0, ("Size", format_bytes(int(outcome["n_bytes"]))))
    note = dims_note(job.parameters.get("pca_dims"), int(outcome["dim"]))
    lines = rows_html([("Dimensions", note)], "m2v-lines") if note else Markup()
    return published_html(job) + strip + rows_html(facts, "m2v-facts") + lines + links_html(job.id)


def _evaluation_facts(job: Job) -> list[tuple[str, str]]:
    facts = []
    if job.outcome.get("fidelity"):
        fidelity = enough_fidelity(job.outcome)
        first = None if fidelity is None else next(iter(fidelity.values()))
        facts.append(("Fidelity", f"{float(first['correlation']['value']):.3f}" if first else NOT_MEASURED))
    few: dict[str, str] = {}
    if job.outcome.get("evaluation"):
        evaluation = Evaluation.from_json(job.outcome["evaluation"])
        few = small_tasks(evaluation)
        what = "Score" if len(evaluation.tasks) == 1 else "Mean score"
        basis = f" on {', '.join(few.values())}" if few else ""
        score = NOT_ENOUGH_DATA if few else fixed(mean_score(evaluation, evaluation.encoders[0].name), 2)
        facts.append((what + basis, score))
    if job.outcome.get("frontier"):
        near = None if few else smallest_near_best([FrontierRow(**row) for row in job.outcome["frontier"]])
        size = NOT_ENOUGH_DATA if near is None else format_bytes(near.n_bytes)
        facts.append((f"{100 * NEAR:.0f}% of best quality", size))
    return [*facts, ("Measured in", format_seconds(job.elapsed_seconds))]


def published_html(job: Job) -> Markup:
    """Show where a job published its model, and how to load it; empty if it did not publish."""
    published = job.outcome.get("published")
    if not published:
        return Markup()
    url = str(published["pr_url"] or published["url"])
    branch = "" if published["revision"] == "main" else f", revision={published['revision']!r}"
    code = (
        "from model2vec import StaticModel\n\n"
        f"model = StaticModel.from_pretrained({published['repo_id']!r})\n"
        'embeddings = model.encode(["a sentence"])'
    )
    if branch:
        code = (
            "from m2v_core import StaticModel\n\n"
            f"model = StaticModel.from_pretrained({published['repo_id']!r}{branch})\n"
            'embeddings = model.encode(["a sentence"])'
        )
    return render(
        "published.html",
        is_pull_request=bool(published["pr_url"]),
        # The base of the URL is from the configured Hub endpoint, so its scheme is checked.
        link=url if url.startswith(("https://", "http://")) else "",
        repo_id=published["repo_id"],
        readers=published["readers"],
        is_verified=published["verified"],
        code=code,
    )


@dataclass(frozen=True)
class Comparison:
    """One quantity of a teacher and of its static model.

    Attributes:
        title: Name of the quantity.
        teacher: Value of the teacher; empty if unknown.
        model: Value of the model.
        summary: Meaning of the value in a few words; empty for a missing one.
        note: Summary with conditions and interval, or a link to the page that measures a missing value.
    """

    title: str
    teacher: str
    model: str
    summary: str
    note: str | Markup


def comparisons(outcome: Mapping[str, Any], model_id: str) -> list[Comparison]:
    """Compare size, speed and quality of a distilled model with its teacher, as far as its run measured them.

    Args:
        outcome: Outcome of the job.
        model_id: Id of the model.
    """
    measured, n_bytes = outcome.get("measured") or {}, int(outcome["n_bytes"])
    teacher_bytes, smaller = measured.get("teacher_bytes"), ""
    if teacher_bytes:
        ratio = teacher_bytes / n_bytes
        smaller = f"{times_text(ratio, ratio)} smaller than the teacher" if ratio > 1 else "larger than the teacher"
    of_teacher = format_bytes(teacher_bytes) if teacher_bytes else ""
    rows = [Comparison("Size", of_teacher, format_bytes(n_bytes), smaller, smaller)]
    if (own_rate := measured_speed(outcome)) is not None:
        # In earlier versions the number of texts that the teacher encoded is unknown.
        times = measured["times_the_teacher"] if "n_fidelity_texts" in measured else None
        faster = "" if times is None else f"{times_text(*times)} as fast as the teacher"
        how = ", whose speed is extrapolated" if measured["is_teacher_extrapolated"] else ""
        note = f"{faster}{how}; {measured['hardware']}" if faster else measured["hardware"]
        rate = measured.get("teacher_sentences_per_second")
        speed = f"{rate_text(own_rate)} sentences/s"
        rows.append(Comparison("Speed", rate_text(rate) if rate else "", speed, faster or note, note))
    if (found := measured_quality(outcome)) is not None:
        note = f"Matches the teacher's similarity ranking: {with_interval(found)}, {measured['fidelity_on']}"
        summary = "match with the teacher's similarity ranking"
        return [*rows, Comparison("Quality", "", f"{found.value:.2f}", summary, note)]
    link = render('<a href="evaluate?model={{ model_id }}">Measure on Evaluate</a>', model_id=model_id)
    return [*rows, Comparison("Quality", "", NOT_MEASURED, "", link)]


def measured_speed(outcome: Mapping[str, Any]) -> float | None:
    """Return the sentences per second that a model's run measured; None if it did not."""
    rate = (outcome.get("measured") or {}).get("sentences_per_second")
    return None if rate is None else float(rate)


def measured_quality(outcome: Mapping[str, Any]) -> Estimate | None:
    """Return the fidelity that a model's run measured; None if it did not, or on too few texts."""
    measured = outcome.get("measured") or {}
    # Earlier versions measured fidelity on other pairs or fewer texts, under other keys.
    if not has_enough_texts(measured.get("n_fidelity_texts", 0)):
        return None
    return Estimate(measured["fidelity"], *measured["fidelity_interval"])
