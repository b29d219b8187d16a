"""`m2v eval`."""

from __future__ import annotations

import dataclasses
import datetime
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from m2v_core.cli.console import cancelled_by_interrupt, errors_as_lines, progress_bars, results
from m2v_core.errors import SaveError
from m2v_core.progress import ProgressReporter

if TYPE_CHECKING:
    from m2v_core.evaluation.fidelity import Fidelity
    from m2v_core.evaluation.report import Sheet
    from m2v_core.evaluation.run import Evaluation


@errors_as_lines()
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Static models by folder or Hub name, and others as teacher:NAME, onnx:NAME, model2vec:NAME, "
            "vectors:FILE (GloVe, word2vec), bpemb:FOLDER, wordllama or tfidf.",
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of tasks: sts/, wordsim/, classification/, clustering/, ...")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Some of its tasks or kinds, between commas: STS13,wordsim. [default: all]")
    ] = None,
    mteb: Annotated[
        str | None, typer.Option(help="Tasks of MTEB, between commas; their texts come from the Hub.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Without labels: say how much of this teacher's ranking of --texts each model keeps."),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Texts of your own for --teacher, in UTF-8, one a line; some hundreds.")
    ] = None,
    columns: Annotated[
        Literal["tasks", "groups"], typer.Option(help="Columns of the table: each task, or MTEB's kinds of tasks.")
    ] = "tasks",
    published: Annotated[
        bool, typer.Option("--published", help="Add what others have published of their models, by kinds of tasks.")
    ] = False,
    intervals: Annotated[bool, typer.Option("--intervals", help="Show the 95 % interval of each score too.")] = False,
    format: Annotated[
        Literal["table", "markdown", "csv", "json"],
        typer.Option(help="csv has a line for each score, with its interval; json holds everything."),
    ] = "table",
    output: Annotated[Path | None, typer.Option(help="File to write, instead of standard output.")] = None,
    device: Annotated[str | None, typer.Option(help="Where teachers run: cpu, cuda, mps or auto.")] = None,
) -> None:
    """Measure how good models are, side by side on the same tasks."""
    if (teacher is None) != (texts is None):
        raise typer.BadParameter(
            "one needs the other: whose ranking, and of which texts.", param_hint="--teacher, --texts"
        )
    if data is None and mteb is None and teacher is None:
        raise typer.BadParameter(
            "give a folder of tasks, --mteb with names of tasks, or --teacher and --texts.", param_hint="--data"
        )
    if tasks is not None and data is None:
        raise typer.BadParameter("it chooses among the tasks of --data, which is missing.", param_hint="--tasks")
    if output is not None and not output.absolute().parent.is_dir():
        raise SaveError(f"{output} can't be written: there is no folder {output.absolute().parent}. Make it first.")
    with progress_bars("texts") as show, cancelled_by_interrupt() as cancel:
        reporter = ProgressReporter(show, cancel)
        reporter.start("start")
        from m2v_core.evaluation.data import read_tasks
        from m2v_core.evaluation.encoders import encoder_names, open_encoder
        from m2v_core.evaluation.mteb import run_mteb
        from m2v_core.evaluation.run import Evaluation, evaluate

        chosen = () if data is None else read_tasks(data, _names(tasks))
        names = encoder_names(models)
        reporter.start("open", len(models))
        encoders = []
        for model, name in zip(models, names, strict=True):
            encoders.append(open_encoder(model, name, teacher_folder=_teacher_folder, device=_device(model, device)))
            reporter.advance(1)
        found = Evaluation((), ())
        if data is not None:
            found = found.joined(evaluate(encoders, chosen, progress=show, cancel=cancel))
        if mteb is not None:
            found = found.joined(run_mteb(encoders, _names(mteb), progress=show, cancel=cancel))
        fidelities: dict[str, Fidelity] = {}
        if teacher is not None and texts is not None:
            from m2v_core.evaluation.fidelity import measure_fidelity
            from m2v_core.speed import read_texts

            own_texts = read_texts(texts)
            judge = open_encoder(
                f"teacher:{teacher}", teacher_folder=_teacher_folder, device=_device("teacher:", device)
            )
            judged = measure_fidelity(judge, encoders, own_texts, progress=show, cancel=cancel)
            fidelities = {encoder.facts.name: one for encoder, one in zip(encoders, judged, strict=True)}
    for name, fidelity in fidelities.items():
        if fidelity.warning:
            warnings.warn(f"{name}: {fidelity.warning}", stacklevel=1)
    for score in found.scores:
        for note in score.notes:
            warnings.warn(f"{score.encoder} on {score.task}: {note}", stacklevel=1)
    by_groups = columns == "groups" or published
    text = _text(found, fidelities, format, by_groups, published, intervals)
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SaveError(f"{output} can't be written: {error.strerror or error}.") from error
    else:
        results.out(text, end="", highlight=False)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _teacher_folder(name: str) -> Path:
    from m2v_core.distillation.teacher import trusted_folder

    return trusted_folder(name)


def _device(model: str, device: str | None) -> str:
    if not model.startswith("teacher:"):
        return "cpu"
    from m2v_core.distillation.teacher import resolve_device

    return resolve_device(device)


def _sheet(found: Evaluation, by_groups: bool, published: bool, intervals: bool) -> Sheet:
    from m2v_core.evaluation import report

    if by_groups:
        return report.leaderboard_sheet(report.leaderboard(found, with_published=published))
    return report.score_sheet(found, with_intervals=intervals)


def _text(
    found: Evaluation,
    fidelities: dict[str, Fidelity],
    format: str,
    by_groups: bool,
    published: bool,
    intervals: bool,
) -> str:
    from m2v_core.evaluation import report
    from m2v_core.speed import this_machine

    if format == "json":
        rows = [row.to_json() for row in report.leaderboard(found, with_published=published)]
        facts = {"date": _today(), "machine": dataclasses.asdict(this_machine())}
        fidelity = {name: judged.to_json() for name, judged in fidelities.items()}
        return json.dumps(found.to_json() | {"leaderboard": rows, "fidelity": fidelity} | facts, indent=2) + "\n"
    if format == "csv":
        sheet = _sheet(found, by_groups, published, intervals) if by_groups else report.long_sheet(found)
        return sheet.to_csv()
    sheet = _sheet(found, by_groups, published, intervals)
    table = sheet.to_text() if format == "table" else sheet.to_markdown()
    verdicts = [f"{name}: {fidelity.verdict}" for name, fidelity in fidelities.items()]
    if not found.scores and not published:
        return "".join(f"{line}\n" for line in verdicts)
    return table + "".join(f"\n{line}\n" for line in [*_footnotes(found, published), *verdicts])


def _footnotes(found: Evaluation, published: bool) -> list[str]:
    from m2v_core.evaluation.report import PUBLISHED_NOTE
    from m2v_core.speed import this_machine

    machine = this_machine()
    metrics = {score.metric: score.task for score in found.scores}
    by_metric = {
        metric: ", ".join(dict.fromkeys(score.task for score in found.scores if score.metric == metric))
        for metric in metrics
    }
    lines = ["; ".join(f"{names}: {metric}" for metric, names in by_metric.items()) + "."]
    if published:
        lines.append(PUBLISHED_NOTE)
    lines.append(
        f"Measured on {_today()}: {machine.processor}, {machine.n_cpus} CPUs, {machine.system}, "
        f"Python {machine.python}."
    )
    return lines


def _today() -> str:
    return datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
