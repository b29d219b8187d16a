"""`m2v eval` and `m2v frontier`."""

from __future__ import annotations

import dataclasses
import datetime
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2v_core.cli.console import (
    AT_LEAST_1,
    PATH,
    cancelled_by_interrupt,
    check_output,
    progress_bars,
    table_text,
    teacher_device,
    teacher_folder,
    write_result,
)
from m2v_core.errors import InputError
from m2v_core.progress import ProgressReporter

if TYPE_CHECKING:
    from m2v_core.evaluation.fidelity import Fidelity
    from m2v_core.evaluation.report import Sheet
    from m2v_core.evaluation.run import Evaluation

_output_option = click.option("--output", type=PATH, help="File to write instead of standard output.")
_FORMATS = click.Choice(["table", "markdown", "csv", "json"])


@click.command("eval")
@click.argument(
    "models",
    metavar="MODEL...",
    nargs=-1,
    required=True,
    help="Static models and Sentence Transformers by folder or Hub name, files of word vectors (GloVe, word2vec), "
    "wordllama or tfidf; static:NAME, teacher:NAME, onnx:NAME, model2vec:NAME, vectors:FILE and bpemb:FOLDER force a "
    "kind.",
)
@click.option(
    "--data",
    type=PATH,
    help="Folder of tasks (sts/, wordsim/, classification/, clustering/, ...) or the same as .zip; or one "
    "of your own tables, CSV, TSV or JSONL: score, text, text or label, text.",
)
@click.option("--tasks", help="Comma-separated tasks or kinds of --data: STS13,wordsim. [default: all]")
@click.option("--mteb", help="Comma-separated tasks of MTEB; their texts are downloaded from the Hub.")
@click.option("--teacher", help="Without labels: measure how well each model keeps this teacher's ranking of --texts.")
@click.option("--texts", type=PATH, help="Your own texts for --teacher, one per line; 512 or more.")
@click.option(
    "--columns",
    type=click.Choice(["tasks", "groups"]),
    default="tasks",
    help="Columns of the table: tasks, or MTEB's kinds of tasks.",
)
@click.option("--published", is_flag=True, help="Add published results of other models, by kinds of tasks.")
@click.option("--intervals", is_flag=True, help="Also show the 95% interval of each score.")
@click.option(
    "--format",
    type=_FORMATS,
    default="table",
    help="csv has one line per score, with its interval; json contains everything.",
)
@_output_option
@click.option("--device", help="Device of teachers: cpu, cuda, mps or auto.")
def evaluate(
    models: tuple[str, ...],
    data: Path | None,
    tasks: str | None,
    mteb: str | None,
    teacher: str | None,
    texts: Path | None,
    columns: str,
    published: bool,
    intervals: bool,
    format: str,
    output: Path | None,
    device: str | None,
) -> None:
    """Compare the quality of models on the same tasks."""
    if (teacher is None) != (texts is None):
        raise click.BadParameter(
            "both are needed: the teacher, and the texts to rank.", param_hint="--teacher, --texts"
        )
    if data is None and mteb is None and teacher is None:
        raise click.BadParameter(
            "pass a folder of tasks, --mteb with names of tasks, or --teacher and --texts.", param_hint="--data"
        )
    if tasks is not None and data is None:
        raise click.BadParameter("it selects tasks of --data, which is missing.", param_hint="--tasks")
    check_output(output)
    with progress_bars("texts") as show, cancelled_by_interrupt() as cancel:
        reporter = ProgressReporter(show, cancel)
        reporter.start("start")
        from m2v_core.evaluation.encoders import encoder_names, open_encoder
        from m2v_core.evaluation.mteb import run_mteb
        from m2v_core.evaluation.packed import read_test_data
        from m2v_core.evaluation.run import Evaluation, evaluate

        chosen = () if data is None else read_test_data(data, _names(tasks))
        names = encoder_names(models)
        reporter.start("open", len(models))
        encoders = []
        for model, name in zip(models, names, strict=True):
            encoders.append(open_encoder(model, name, teacher_folder=teacher_folder, device=teacher_device(device)))
            reporter.advance(1)
        found = Evaluation((), ())
        if data is not None:
            found = found.joined(evaluate(encoders, chosen, progress=show, cancel=cancel))
        if mteb is not None:
            found = found.joined(run_mteb(encoders, _names(mteb), progress=show, cancel=cancel))
        fidelities: dict[str, Fidelity] = {}
        if teacher is not None and texts is not None:
            from m2v_core.evaluation.fidelity import measure_fidelity
            from m2v_core.evaluation.speed import read_texts

            own_texts = read_texts(texts)
            judge = open_encoder(f"teacher:{teacher}", teacher_folder=teacher_folder, device=teacher_device(device))
            judged = measure_fidelity(judge, encoders, own_texts, progress=show, cancel=cancel)
            fidelities = {encoder.facts.name: one for encoder, one in zip(encoders, judged, strict=True)}
    for name, fidelity in fidelities.items():
        if fidelity.warning:
            warnings.warn(f"{name}: {fidelity.warning}", stacklevel=1)
    for score in found.scores:
        for note in score.notes:
            warnings.warn(f"{score.encoder} on {score.task}: {note}", stacklevel=1)
    by_groups = columns == "groups" or published
    write_result(_text(found, fidelities, format, by_groups, published, intervals), output)


@click.command()
@click.argument(
    "models",
    metavar="MODEL...",
    nargs=-1,
    required=True,
    help="Folders of static models, or their Hub names; preferably in float32.",
)
@click.option("--data", type=PATH, required=True, help="Test data: a folder of tasks, the same as .zip, or one table.")
@click.option("--tasks", help="Comma-separated tasks or kinds of --data.")
@click.option(
    "--shared-rows", type=AT_LEAST_1, help="Also try this many rows shared by all tokens; takes a minute or more."
)
@click.option("--format", type=_FORMATS, default="table", help="Format of the result.")
@_output_option
def frontier(
    models: tuple[str, ...], data: Path, tasks: str | None, shared_rows: int | None, format: str, output: Path | None
) -> None:
    """Measure smaller versions of models: fewer dimensions, lower precision, shared rows.

    Several models are compared in one table, such as one with a vocabulary of words and one without.
    """
    check_output(output)
    with progress_bars("versions") as show, cancelled_by_interrupt() as cancel:
        ProgressReporter(show, cancel).start("start")
        from m2v_core.evaluation.encoders import encoder_kind, encoder_names
        from m2v_core.evaluation.evidence import NOT_ENOUGH_DATA
        from m2v_core.evaluation.frontier import frontier as measured
        from m2v_core.evaluation.packed import read_test_data
        from m2v_core.evaluation.report import frontier_sheet
        from m2v_core.evaluation.speed import METER_TEXTS, SAMPLE_NAME, speed_meter
        from m2v_core.model import StaticModel

        for model in models:
            if (kind := encoder_kind(model, teacher_folder=teacher_folder)) != "static":
                what = "a Sentence Transformer" if kind in ("teacher", "onnx") else "not a static model"
                raise InputError(
                    f"{model} is {what}, but smaller versions are made from static models. Distill one first: "
                    "m2v distill"
                )
        opened = [StaticModel.from_pretrained(model) for model in models]
        chosen = read_test_data(data, _names(tasks))
        texts = {text for task in chosen for text in task.texts}
        rows = measured(
            opened[0] if len(opened) == 1 else dict(zip(encoder_names(models), opened, strict=True)),
            chosen,
            vocabulary_quantizations=(None,) if shared_rows is None else (None, shared_rows),
            measure_speed=speed_meter(sorted(texts)),
            progress=show,
            cancel=cancel,
        )
    if format == "json":
        record = {
            "model": ", ".join(models),
            "tasks": [task.name for task in chosen],
            "versions": [row.to_json() for row in rows],
        }
        write_result(json.dumps(record | _conditions(), indent=2) + "\n", output)
        return
    sheet = frontier_sheet(rows)
    if format == "csv":
        write_result(sheet.to_csv(), output)
        return
    best = "Best: better than every version of at most its size, with disjoint intervals."
    if not any(row.is_best for row in rows):
        best = f"{NOT_ENOUGH_DATA} which version is the best of its size: their intervals overlap."
    read = "these texts" if len(texts) >= METER_TEXTS else SAMPLE_NAME
    notes = [
        f"Score: mean over {', '.join(task.name for task in chosen)}, with its 95% interval. {best}",
        f"Sentences/s: measured one by one, median of many rounds on {read}. {_measured()}",
    ]
    table = table_text(sheet) if format == "table" else sheet.to_markdown()
    write_result(table + "".join(f"\n{note}\n" for note in notes), output)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


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

    if format == "json":
        rows = [row.to_json() for row in report.leaderboard(found, with_published=published)]
        fidelity = {name: judged.to_json() for name, judged in fidelities.items()}
        return (
            json.dumps(found.to_json() | {"leaderboard": rows, "fidelity": fidelity} | _conditions(), indent=2) + "\n"
        )
    if format == "csv":
        sheet = _sheet(found, by_groups, published, intervals) if by_groups else report.long_sheet(found)
        return sheet.to_csv()
    sheet = _sheet(found, by_groups, published, intervals)
    table = table_text(sheet) if format == "table" else sheet.to_markdown()
    verdicts = [f"{name}: {fidelity.verdict}" for name, fidelity in fidelities.items()]
    if not found.scores and not published:
        return "".join(f"{line}\n" for line in verdicts)
    return table + "".join(f"\n{line}\n" for line in [*_footnotes(found, published), *verdicts])


def _footnotes(found: Evaluation, published: bool) -> list[str]:
    from m2v_core.evaluation.report import PUBLISHED_NOTE

    metrics = {score.metric: score.task for score in found.scores}
    by_metric = {
        metric: ", ".join(dict.fromkeys(score.task for score in found.scores if score.metric == metric))
        for metric in metrics
    }
    lines = ["; ".join(f"{names}: {metric}" for metric, names in by_metric.items()) + "."]
    if published:
        lines.append(PUBLISHED_NOTE)
    return [*lines, _measured()]


def _conditions() -> dict[str, Any]:
    """Date and machine of the measurement, for a JSON file."""
    from m2v_core.evaluation.speed import this_machine

    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return {"date": today, "machine": dataclasses.asdict(this_machine())}


def _measured() -> str:
    """The date and machine as a sentence."""
    conditions = _conditions()
    machine = conditions["machine"]
    return (
        f"Measured on {conditions['date']}: {machine['processor']}, {machine['n_cpus']} CPUs, {machine['system']}, "
        f"Python {machine['python']}."
    )
