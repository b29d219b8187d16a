"""`m2v speed`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from m2v_core.cli.console import (
    AT_LEAST_1,
    PATH,
    cancelled_by_interrupt,
    json_option,
    print_json,
    progress_bars,
    size_text,
    table_text,
    teacher_device,
    teacher_folder,
)
from m2v_core.progress import ProgressReporter

if TYPE_CHECKING:
    from m2v_core.evaluation.speed import SpeedComparison


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, help="Folders or Hub names, as for m2v eval.")
@click.option("--teacher", help="Also measure this Sentence Transformer, and each model's fidelity to it.")
@click.option(
    "--texts",
    "texts_path",
    type=PATH,
    help="Text file in UTF-8, one text per line. [default: sentences that come with Python]",
)
@click.option("--rounds", type=AT_LEAST_1, default=5, help="Rounds per model; no text is used in two rounds.")
@click.option(
    "--seconds", default=15.0, help="Time limit per model; slow models encode fewer texts and are extrapolated."
)
@click.option("--with-peer", is_flag=True, help="Also measure each model in the model2vec package.")
@click.option("--device", help="Device of the teacher: cpu, cuda, mps or auto.")
@json_option
def speed(
    models: tuple[str, ...],
    teacher: str | None,
    texts_path: Path | None,
    with_peer: bool,
    device: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare the speed of models on the same texts on this machine."""
    with progress_bars("texts") as show, cancelled_by_interrupt() as cancel:
        ProgressReporter(show, cancel).start("start")
        from m2v_core.evaluation.encoders import Encoder, Model2VecEncoder, StaticEncoder, open_encoder
        from m2v_core.evaluation.fidelity import rank_correlation
        from m2v_core.evaluation.speed import SAMPLE_NAME, compare_speed, read_texts, sample_texts

        texts = sample_texts() if texts_path is None else read_texts(texts_path)
        encoders: list[Encoder] = []
        for model in models:
            encoders.append(open_encoder(model, model, teacher_folder=teacher_folder, device=teacher_device(device)))
            if with_peer and isinstance(encoders[-1], StaticEncoder):
                encoders.append(Model2VecEncoder(model, f"{model} (model2vec)"))
        if teacher is not None:
            encoders.append(
                open_encoder(
                    f"teacher:{teacher}", teacher, teacher_folder=teacher_folder, device=teacher_device(device)
                )
            )
        comparison = compare_speed(
            encoders,
            texts,
            texts_name=SAMPLE_NAME if texts_path is None else str(texts_path),
            judge=rank_correlation,
            progress=show,
            cancel=cancel,
            **options,
        )
    if as_json:
        print_json(comparison.to_json())
    else:
        _print_speeds(comparison)


def _print_speeds(comparison: SpeedComparison) -> None:
    from m2v_core.evaluation.evidence import MIN_FIDELITY_TEXTS
    from m2v_core.evaluation.report import Sheet
    from m2v_core.evaluation.speed import rate_text

    rows = tuple(
        (
            encoder.facts.name,
            f"{rate_text(encoder.sentences_per_second)}{'*' if encoder.is_extrapolated else ''}",
            f"{rate_text(encoder.slowest)} - {rate_text(encoder.fastest)}",
            "-" if encoder.facts.size_bytes is None else size_text(encoder.facts.size_bytes),
            "-" if encoder.fidelity is None else f"{encoder.fidelity:.3f}",
            str(encoder.facts.n_threads),
            encoder.facts.device,
        )
        for encoder in sorted(comparison.encoders, key=lambda encoder: -encoder.sentences_per_second)
    )
    headings = ("encoder", "sentences/s", "slowest - fastest", "size", "fidelity", "threads", "device")
    click.echo(table_text(Sheet(headings, rows)), nl=False)
    machine = comparison.machine
    notes = [
        f"Median of {comparison.rounds} rounds of {comparison.texts_per_round:,} texts ({comparison.texts_name}, "
        f"{comparison.mean_characters:.0f} characters on average), including tokenization. {machine.processor}, "
        f"{machine.n_cpus} CPUs, {machine.system}, Python {machine.python}."
    ]
    notes += [
        f"* {encoder.facts.name} is extrapolated: it encoded {encoder.texts_per_round:,} of the "
        f"{comparison.texts_per_round:,} texts of each round in its {comparison.seconds:g} seconds."
        for encoder in comparison.encoders
        if encoder.is_extrapolated
    ]
    if comparison.is_busy:
        notes.append(
            f"This machine was busy during the measurement: other programs used {comparison.other_load:.0%} of the "
            "processors, so the rates are too low; the ratio is less affected. Close other programs and measure again."
        )
    if comparison.judged_texts:
        notes.append(
            f"Fidelity: rank correlation with the teacher's similarities of {comparison.judged_texts} texts, each "
            "paired with its nearest neighbors, with more distant texts and with random ones."
        )
    elif comparison.teacher is not None:
        notes.append(
            f"Fidelity: not measured, because it needs {MIN_FIDELITY_TEXTS} texts encoded by all encoders. Use more "
            "texts or more --seconds."
        )
    for note in notes:
        click.secho(note, dim=True)
