"""`m2v speed`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from m2v_core.cli.console import (
    cancelled_by_interrupt,
    errors_as_lines,
    progress_bars,
    results,
    size_text,
)
from m2v_core.progress import ProgressReporter

if TYPE_CHECKING:
    from m2v_core.speed import SpeedComparison


@errors_as_lines()
def speed(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Model folders, or their Hub names.")],
    teacher: Annotated[
        str | None, typer.Option(help="Measure this Sentence Transformer too, and each model's fidelity to it.")
    ] = None,
    texts_path: Annotated[
        Path | None,
        typer.Option("--texts", help="Text file in UTF-8, one text a line. [default: sentences that come with Python]"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each; no round reads what another has read.")] = 5,
    seconds: Annotated[
        float, typer.Option(help="Time for each; who needs more reads fewer texts, and is marked as extrapolated.")
    ] = 15.0,
    with_peer: Annotated[
        bool, typer.Option("--with-peer", help="Measure each model in the model2vec package too.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="Where the teacher runs: cpu, cuda, mps or auto.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure models side by side: the same texts, the same machine, in turn."""
    with progress_bars("texts") as show, cancelled_by_interrupt() as cancel:
        ProgressReporter(show, cancel).start("start")
        from m2v_core.evaluation.encoders import Encoder, Model2VecEncoder, StaticEncoder, TeacherEncoder
        from m2v_core.evaluation.fidelity import rank_correlation
        from m2v_core.speed import SAMPLE_NAME, compare_speed, read_texts, sample_texts

        texts = sample_texts() if texts_path is None else read_texts(texts_path)
        encoders: list[Encoder] = []
        for model in models:
            encoders.append(StaticEncoder.load(model, model))
            if with_peer:
                encoders.append(Model2VecEncoder(model, f"{model} (model2vec)"))
        if teacher is not None:
            from m2v_core.distillation.teacher import resolve_device, trusted_folder

            encoders.append(TeacherEncoder(trusted_folder(teacher), teacher, resolve_device(device)))
        comparison = compare_speed(
            encoders,
            texts,
            texts_name=SAMPLE_NAME if texts_path is None else str(texts_path),
            rounds=rounds,
            seconds=seconds,
            judge=rank_correlation,
            progress=show,
            cancel=cancel,
        )
    if as_json:
        results.print_json(data=comparison.to_json())
    else:
        _print_speeds(comparison)


def _print_speeds(comparison: SpeedComparison) -> None:
    from m2v_core.speed import rate_text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("encoder", overflow="fold")
    for heading in ("sentences/s", "slowest - fastest", "size", "fidelity", "threads", "device"):
        table.add_column(heading, justify="right", no_wrap=True)
    for encoder in sorted(comparison.encoders, key=lambda encoder: -encoder.sentences_per_second):
        facts = encoder.facts
        table.add_row(
            facts.name,
            f"{rate_text(encoder.sentences_per_second)}{'*' if encoder.is_extrapolated else ''}",
            f"{rate_text(encoder.slowest)} - {rate_text(encoder.fastest)}",
            "-" if facts.size_bytes is None else size_text(facts.size_bytes),
            "-" if encoder.fidelity is None else f"{encoder.fidelity:.3f}",
            str(facts.n_threads),
            facts.device,
        )
    results.print(table)
    machine = comparison.machine
    results.print(
        f"Median of {comparison.rounds} rounds of {comparison.texts_per_round:,} texts ({comparison.texts_name}, "
        f"{comparison.mean_characters:.0f} characters on average), tokenizing included. {machine.processor}, "
        f"{machine.n_cpus} CPUs, {machine.system}, Python {machine.python}.",
        style="dim",
    )
    for encoder in comparison.encoders:
        if encoder.is_extrapolated:
            results.print(
                f"* {encoder.facts.name} is extrapolated: it read {encoder.texts_per_round:,} of the "
                f"{comparison.texts_per_round:,} texts of each round in its {comparison.seconds:g} seconds.",
                style="dim",
            )
    if comparison.judged_texts:
        results.print(
            f"Fidelity: rank correlation with the teacher's similarities of all pairs of {comparison.judged_texts} "
            "texts.",
            style="dim",
        )
