"""What came out of a job: where it was published, four numbers, and what was measured."""

from __future__ import annotations

from m2v_core.distillation.reduction import dims_note
from m2v_core.evaluation.evidence import NOT_ENOUGH_DATA, NOT_MEASURED, has_enough_texts
from m2v_core.evaluation.frontier import FrontierRow
from m2v_core.evaluation.report import fixed, mean_score, small_tasks
from m2v_core.evaluation.run import Evaluation
from m2v_core.evaluation.speed import SpeedComparison
from m2v_core.studio.jobs import Job
from pages.components import format_bytes, format_seconds, rows_html
from pages.components.evaluation_view import NEAR, enough_fidelity, smallest_near_best
from pages.components.measurements import speed_facts, times_text
from pages.components.model_facts import links_html
from pages.html import Markup, render


def result_html(job: Job) -> Markup:
    """The finished model, or the measurement, in four numbers."""
    if job.kind == "publish":
        published = job.outcome["published"]
        facts = [
            ("Size", format_bytes(int(published["n_bytes"]))),
            ("Commit", str(published["commit"])[:7]),
            ("Visible to", "you alone" if published["private"] else "everyone"),
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
        facts = [
            ("Size", format_bytes(int(job.outcome["n_bytes"]))),
            ("Tokens", f"{int(job.outcome['n_tokens']):,}"),
            ("Dimensions", f"{int(job.outcome['dim']):,}"),
            ("Made in", format_seconds(job.elapsed_seconds)),
        ]
    links = links_html(job.id) if job.kind == "distill" else Markup()
    return published_html(job) + rows_html(facts, "m2v-facts") + _lines(job) + links


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
        rests_on = f" on {', '.join(few.values())}" if few else ""
        score = NOT_ENOUGH_DATA if few else fixed(mean_score(evaluation, evaluation.encoders[0].name), 2)
        facts.append((what + rests_on, score))
    if job.outcome.get("frontier"):
        near = None if few else smallest_near_best([FrontierRow(**row) for row in job.outcome["frontier"]])
        size = NOT_ENOUGH_DATA if near is None else format_bytes(near.n_bytes)
        facts.append((f"{100 * NEAR:.0f} % of best quality", size))
    return [*facts, ("Measured in", format_seconds(job.elapsed_seconds))]


def published_html(job: Job) -> Markup:
    """Where a job has published its model, and how to load it from there; empty for one that did not."""
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
        # An address from a job's outcome is ours, but whoever runs the Hub chose its beginning.
        link=url if url.startswith(("https://", "http://")) else "",
        repo_id=published["repo_id"],
        readers=published["readers"],
        is_verified=published["verified"],
        code=code,
    )


def _lines(job: Job) -> Markup:
    """Why a new model has other dimensions than asked for, and what was measured of it."""
    rows = _measured(job)
    if job.kind == "distill" and (note := dims_note(job.parameters.get("pca_dims"), int(job.outcome["dim"]))):
        rows = [("Dimensions", note), *rows]
    return rows_html(rows, "m2v-lines m2v-measured") if rows else Markup()


def _measured(job: Job) -> list[tuple[str, str]]:
    measured = job.outcome.get("measured")
    if not measured:
        return []
    # A run of an earlier version may have measured less than is enough now.
    if has_enough_texts(measured.get("fidelity_texts", 0)):
        low, high = (100 * max(0.0, end) for end in measured["fidelity_interval"])
        kept = f"{100 * max(0.0, measured['fidelity']):.0f} % (95 % interval {low:.0f} to {high:.0f} %)"
        of = f"the teacher's ranking of {measured['fidelity_on']}"
        rows = [("Keeps", f"{kept} of {of} (rank correlation {measured['fidelity']:.3f})")]
    else:
        link = '{{ said }}. <a href="evaluate?model={{ job_id }}">Measure on Evaluate</a>'
        rows = [("Quality", render(link, said=NOT_MEASURED, job_id=job.id))]
    if measured["sentences_per_second"] is not None:
        # As above: without the number of texts nothing says how many the teacher read.
        times, than = measured["times_the_teacher"] if "fidelity_texts" in measured else None, ""
        if times is not None:
            how = ", whose speed is extrapolated" if measured["is_teacher_extrapolated"] else ""
            than = f", {times_text(*times)} the teacher's{how}"
        rows.append(
            ("Speed", f"{measured['sentences_per_second']:,.0f} sentences a second{than} ({measured['hardware']})")
        )
    return rows
