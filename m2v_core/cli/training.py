"""`m2v train` and `m2v predict`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from m2v_core.cli.console import (
    AT_LEAST_1,
    PATH,
    cancelled_by_interrupt,
    check_model_folder,
    folder_bytes,
    json_option,
    load_model,
    print_facts,
    print_json,
    progress_bars,
    size_text,
    table_text,
)
from m2v_core.errors import InputError
from m2v_core.progress import ProgressReporter

if TYPE_CHECKING:
    from m2v_core.classification.report import Report

_MAX_ROWS = 20  # in the table of labels


@click.command()
@click.argument("model", help="A model folder, or its Hub name.")
@click.option(
    "--data",
    type=PATH,
    required=True,
    help="Labeled texts: .csv, .tsv, .jsonl or .parquet with a column for each; or .tsv lines of label, tab, text.",
)
@click.option("--output", type=PATH, required=True, help="Folder to write the classifier to.")
@click.option("--text-column", help="Column or key of the texts. [default: text]")
@click.option("--label-column", help="Column or key of the labels. [default: label]")
@click.option("--label-separator", help="Separator of several labels of one text, such as ';'.")
@click.option("--test", type=PATH, help="More labeled texts in the same format, to evaluate the classifier.")
@click.option("--validation", default=0.1, help="Share of the texts to hold out for choosing the settings.")
@click.option(
    "--class-weight",
    type=click.Choice(["auto", "balanced", "none"]),
    default="auto",
    help="balanced: every label has the same weight, however rare; none: every text has; auto: balanced if each "
    "text has one label.",
)
@click.option(
    "--embeddings-only", is_flag=True, help="Don't change the table: no columns for the scores of single tokens."
)
@click.option(
    "--finetune", is_flag=True, help="Train the table with the head: slower, about as accurate, requires torch."
)
@click.option("--max-epochs", type=AT_LEAST_1, default=50, help="Maximum number of epochs when fine-tuning.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Random seed.")
@click.option("--overwrite", is_flag=True, help="Replace an existing classifier.")
@json_option
def train(
    model: str,
    data: Path,
    output: Path,
    text_column: str | None,
    label_column: str | None,
    label_separator: str | None,
    test: Path | None,
    class_weight: Literal["auto", "balanced", "none"],
    embeddings_only: bool,
    finetune: bool,
    overwrite: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a classifier on top of a model with labeled texts, and save it.

    model2vec can load it as a StaticModelPipeline.
    """
    from m2v_core.bulk.labeled import read_labeled

    check_model_folder(output, overwrite)
    columns = (text_column, label_column)
    learned = read_labeled(data, *columns, label_separator=label_separator)
    judged = None if test is None else read_labeled(test, *columns, label_separator=label_separator)
    static_model = load_model(model)
    started = time.perf_counter()
    with progress_bars("texts") as show, cancelled_by_interrupt() as cancel:
        reporter = ProgressReporter(show, cancel)
        reporter.start("start")  # importing scikit-learn takes seconds
        from m2v_core.classification import StaticClassifier

        classifier = StaticClassifier(static_model).fit(
            learned.texts,
            learned.labels,
            class_weight=None if class_weight == "none" else class_weight,
            read_tokens=not embeddings_only,
            fine_tune=finetune,
            progress=show,
            cancel=cancel,
            **settings,
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
        print_json(facts)
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


@click.command()
@click.argument("classifier", help="A classifier's folder, or its Hub name.")
@click.argument("texts", metavar="[TEXT]...", nargs=-1, help="Texts to classify.")
@click.option(
    "--input",
    "input_path",
    help="File of texts: text (one per line), .jsonl, .csv, .tsv or .parquet; - for standard input.",
)
@click.option("--column", help='Column or key of the texts. [default: "text", or the only candidate]')
@click.option("--threshold", default=0.5, help="Minimum probability of a label, if texts can have several.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each text, with all probabilities.")
def predict(
    classifier: str, texts: tuple[str, ...], input_path: str | None, column: str | None, threshold: float, as_json: bool
) -> None:
    """Predict the label of each text: one line per text, with its probability.

    Fields are separated by tabs: label, probability, text. If texts can have several labels, labels are separated by
    semicolons, and their probabilities by spaces.
    """
    from m2v_core.bulk.run import text_blocks
    from m2v_core.classification import StaticClassifier

    if bool(texts) == (input_path is not None):
        raise InputError("Pass either texts or --input.")
    loaded = StaticClassifier.from_pretrained(classifier)
    classes = loaded.classes_.tolist()
    for block in [list(texts)] if texts else text_blocks(input_path or "", column):
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
            click.echo(line)


def _print_report(report: Report) -> None:
    from m2v_core.evaluation.report import Sheet

    print_facts(tested=f"{report.n_texts:,}", accuracy=f"{report.accuracy:.1%}", macro_f1=f"{report.macro_f1:.3f}")
    ranked = sorted(report.labels, key=lambda label: -label.n_texts)
    rows = tuple(
        (
            " ".join(str(label.label).split()),
            *(f"{share:.3f}" for share in (label.precision, label.recall, label.f1)),
            f"{label.n_texts:,}",
        )
        for label in ranked[:_MAX_ROWS]
    )
    click.echo(table_text(Sheet(("label", "precision", "recall", "F1", "texts"), rows)), nl=False)
    if more := len(ranked[_MAX_ROWS:]):
        click.secho(f"and {more:,} more labels; use --json for all of them", dim=True)
