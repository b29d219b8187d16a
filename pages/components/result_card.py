"""What came out of a job: where it was published, four numbers, and what was measured."""

from __future__ import annotations

from html import escape

from m2v_core.evaluation.frontier import FrontierRow
from m2v_core.evaluation.report import fixed, mean_score, small_tasks
from m2v_core.evaluation.run import Evaluation
from m2v_core.evaluation.speed import SpeedComparison
from m2v_core.studio.jobs import Job
from pages.components import format_bytes, format_seconds
from pages.components.evaluation_view import NEAR, smallest_near_best
from pages.components.measurements import speed_facts, times_text
from pages.components.model_facts import links_html


def result_html(job: Job) -> str:
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
    cells = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    links = links_html(job.id) if job.kind == "distill" else ""
    return f'{published_html(job)}<dl class="m2v-facts">{cells}</dl>{_measured(job)}{links}'


def _evaluation_facts(job: Job) -> list[tuple[str, str]]:
    facts = []
    if job.outcome.get("fidelity"):
        first = next(iter(job.outcome["fidelity"].values()))
        facts.append(("Fidelity", f"{float(first['correlation']['value']):.3f}"))
    few: dict[str, str] = {}
    if job.outcome.get("evaluation"):
        evaluation = Evaluation.from_json(job.outcome["evaluation"])
        few = small_tasks(evaluation)
        what = "Score" if len(evaluation.tasks) == 1 else "Mean score"
        rests_on = f" on {', '.join(few.values())}, too few" if few else ""
        facts.append((what + rests_on, fixed(mean_score(evaluation, evaluation.encoders[0].name), 2)))
    if job.outcome.get("frontier") and not few:
        near = smallest_near_best([FrontierRow(**row) for row in job.outcome["frontier"]])
        if near is not None:
            facts.append((f"{100 * NEAR:.0f} % of best quality", format_bytes(near.n_bytes)))
    return [*facts, ("Measured in", format_seconds(job.elapsed_seconds))]


def published_html(job: Job) -> str:
    """Where a job has published its model, and how to load it from there; empty for one that did not."""
    published = job.outcome.get("published")
    if not published:
        return ""
    url = str(published["pr_url"] or published["url"])
    where = "Pull request on" if published["pr_url"] else "Published as"
    checked = "fetched again and compared" if published["verified"] else "not compared, as the Hub didn't answer then"
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
    readers = ", ".join(str(reader) for reader in published["readers"])
    # An address from a job's outcome is ours, but whoever runs the Hub chose its beginning.
    link = escape(url) if url.startswith(("https://", "http://")) else ""
    return (
        f'<div class="m2v-published"><p>{where}</p><a href="{link}" target="_blank" rel="noopener">'
        f"{escape(str(published['repo_id']))}</a><p>Opened in {escape(readers)}; every file {checked}.</p>"
        f'<div class="m2v-code"><pre>{escape(code)}</pre></div></div>'
    )


def _measured(job: Job) -> str:
    measured = job.outcome.get("measured")
    if not measured:
        return ""
    rows = []
    if measured["fidelity"] is not None:
        kept = f"{100 * max(0.0, measured['fidelity']):.0f} % of the teacher's ranking of {measured['fidelity_on']}"
        rows.append(("Keeps", f"{kept} (rank correlation {measured['fidelity']:.3f})"))
    if measured["sentences_per_second"] is not None:
        times, than = measured["times_the_teacher"], ""
        if times is not None:
            how = ", whose speed is extrapolated" if measured["is_teacher_extrapolated"] else ""
            than = f", {times_text(*times)} the teacher's{how}"
        rows.append(
            ("Speed", f"{measured['sentences_per_second']:,.0f} sentences a second{than} ({measured['hardware']})")
        )
    lines = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    return f'<dl class="m2v-lines m2v-measured">{lines}</dl>'
