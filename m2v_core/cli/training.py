"""`m2v train` and `m2v predict`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from m2v_core.cli.console import (
    cancelled_by_interrupt,
    check_model_folder,
    errors_as_lines,
    folder_bytes,
    load_model,
    print_facts,
    progress_bars,
    results,
    size_text,
)
from m2v_core.errors import InputError
from m2v_core.progress import ProgressReporter

if TYPE_CHECKING:
    from m2v_core.classification.report import Report

_MOST_ROWS = 20  # of the table of labels


@errors_as_lines()
def train(
    model: Annotated[str, typer.Argument(help="A model folder, or its Hub name.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Labelled texts: .csv, .tsv, .jsonl or .parquet with a column for each; or .tsv lines of label, tab, "
            "text."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write the classifier to.")],
    text_column: Annotated[str | None, typer.Option(help="Column or key of the texts. [default: text]")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column or key of the labels. [default: label]")] = None,
    label_separator: Annotated[
        str | None,
        typer.Option(help="What stands between the labels of a text that has several, such as ';'."),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="More labelled texts, of the same kind, to judge the classifier by.")
    ] = None,
    validation: Annotated[
        float, typer.Option(help="Share of the texts to hold out while training, to choose the settings on.")
    ] = 0.1,
    class_weight: Annotated[
        Literal["auto", "balanced", "none"],
        typer.Option(
            help="balanced: every label counts alike, however rare; none: every text does; auto: balanced where each "
            "text has one label."
        ),
    ] = "auto",
    embeddings_only: Annotated[
        bool,
        typer.Option("--embeddings-only", help="Leave the table as it is: no columns for what single tokens tell."),
    ] = False,
    finetune: Annotated[
        bool,
        typer.Option("--finetune", help="Train the table itself with the head: slower, about as good, needs torch."),
    ] = False,
    max_epochs: Annotated[int, typer.Option(min=1, help="Times to read the texts when fine-tuning, at most.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn at random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the classifier that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a classifier on top of a model, from labelled texts, and save it.

    model2vec opens it too, as a StaticModelPipeline.
    """
    from m2v_core.bulk.labelled import read_labelled

    check_model_folder(output, overwrite)
    columns = (text_column, label_column)
    learned = read_labelled(data, *columns, label_separator=label_separator)
    judged = None if test is None else read_labelled(test, *columns, label_separator=label_separator)
    static_model = load_model(model)
    started = time.perf_counter()
    with progress_bars("texts") as show, cancelled_by_interrupt() as cancel:
        reporter = ProgressReporter(show, cancel)
        reporter.start("start")  # importing scikit-learn takes seconds
        from m2v_core.classification import StaticClassifier

        classifier = StaticClassifier(static_model).fit(
            learned.texts,
            learned.labels,
            validation=validation,
            class_weight=None if class_weight == "none" else class_weight,
            read_tokens=not embeddings_only,
            fine_tune=finetune,
            max_epochs=max_epochs,
            seed=seed,
            progress=show,
            cancel=cancel,
        )
        report = None if judged is None else classifier.evaluate(judged.texts, judged.labels)
        reporter.start("save")
        classifier.save_pretrained(output)
    training = classifier.training
    assert training is not None
    if as_json:
        facts: dict[str, Any] = {
            "classes": classifier.classes_.tolist(),
            "is_multi_label": classifier.is_multi_label,
            "training": training.to_json(),
            "test": None if report is None else report.to_json(),
            "path": str(output),
        }
        results.print_json(data=facts)
        return
    print_facts(
        texts=f"{training.n_texts:,}",
        labels=f"{len(classifier.classes_):,}",
        held_out=None if training.accuracy is None else f"{training.n_held_out:,}, {training.accuracy:.1%} right",
        epochs=training.n_epochs,
        size=size_text(folder_bytes(output)),
        time=f"{time.perf_counter() - started:.1f} s",
        path=output,
    )
    if report is not None:
        _print_report(report)


@errors_as_lines()
def predict(
    classifier: Annotated[str, typer.Argument(help="A classifier's folder, or its Hub name.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.", metavar="[TEXT]...")] = None,
    input_path: Annotated[
        str | None,
        typer.Option(
            "--input", help="File of texts: text (one a line), .jsonl, .csv, .tsv or .parquet; - for standard input."
        ),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help='Column or key of the texts. [default: "text", or the only one there is]')
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Where a text may have several labels: the probability that a label needs.")
    ] = 0.5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each text, with all probabilities.")
    ] = False,
) -> None:
    """Say the label of each text: one line a text, with its probability.

    Fields are separated by tabs: label, probability, text. Where a text may have several labels, each stands with
    its own probability, separated by a space.
    """
    from m2v_core.bulk.run import text_blocks
    from m2v_core.classification import StaticClassifier

    if bool(texts) == (input_path is not None):
        raise InputError("Give either texts or --input, one of the two.")
    loaded = StaticClassifier.from_pretrained(classifier)
    classes = loaded.classes_.tolist()
    for block in [texts] if texts else text_blocks(input_path or "", column):
        probabilities = loaded.predict_proba(block)
        predictions = loaded.predictions(probabilities, threshold)
        for text, shares, prediction in zip(block, probabilities.tolist(), predictions.tolist(), strict=True):
            of_labels = dict(zip(classes, shares, strict=True))
            found = prediction.tolist() if loaded.is_multi_label else [prediction]
            if as_json:
                label = found if loaded.is_multi_label else prediction
                named = {str(name): share for name, share in of_labels.items()}
                line = json.dumps({"text": text, "label": label, "probabilities": named}, ensure_ascii=False)
            else:
                labels, likely = ";".join(map(str, found)), " ".join(f"{of_labels[name]:.3f}" for name in found)
                line = f"{labels}\t{likely}\t{' '.join(text.split())}"
            typer.echo(line)


def _print_report(report: Report) -> None:
    print_facts(tested=f"{report.n_texts:,}", accuracy=f"{report.accuracy:.1%}", macro_f1=f"{report.macro_f1:.3f}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("label", overflow="fold")
    for heading in ("precision", "recall", "F1", "texts"):
        table.add_column(heading, justify="right", no_wrap=True)
    ranked = sorted(report.labels, key=lambda label: -label.n_texts)
    for label in ranked[:_MOST_ROWS]:
        shares = (f"{share:.3f}" for share in (label.precision, label.recall, label.f1))
        table.add_row(Text(str(label.label)), *shares, f"{label.n_texts:,}")
    results.print(table)
    if more := len(ranked[_MOST_ROWS:]):
        results.print(f"and {more:,} more labels; --json has them all", style="dim")
