"""`m2v distill` and `m2v preflight`."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from m2v_core.cli.console import (
    INTERRUPTED,
    cancelled_by_interrupt,
    check_model_folder,
    clock_text,
    errors_as_lines,
    folder_bytes,
    print_facts,
    progress_bars,
    results,
    say,
    size_text,
)
from m2v_core.errors import Cancelled
from m2v_core.progress import ProgressReporter

DEFAULT_REMOVE_PATTERN = r"\[unused\d+\]"  # as in distill, which is imported late


@errors_as_lines()
def distill(
    model_name: Annotated[str, typer.Option(help="The teacher: a Hub name or a local folder.")],
    save_path: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that is there.")] = False,
    vocabulary_path: Annotated[
        Path | None,
        typer.Option(help="Words to distil, the most frequent first: .txt (one a line), .csv or .tsv."),
    ] = None,
    vocabulary_column: Annotated[
        str | None, typer.Option(help="Column of a .csv or .tsv vocabulary, by name or number.")
    ] = None,
    use_subword: Annotated[
        bool, typer.Option(help="Keep the teacher's subwords beside the words of the vocabulary.")
    ] = True,
    token_remove_pattern: Annotated[
        str, typer.Option(help="Leave out the tokens that this regular expression matches; '' keeps all.")
    ] = DEFAULT_REMOVE_PATTERN,
    pooling: Annotated[
        Literal["auto", "mean", "piece_cls", "piece_half_cls", "last", "first", "pooler"],
        typer.Option(help="How a sequence's hidden states become one vector."),
    ] = "auto",
    pca_dims: Annotated[
        str,
        typer.Option(
            metavar="INT|FLOAT|auto|none",
            help="Dimensions to keep: a number of them, a share of the variance, auto, or none for all.",
        ),
    ] = "256",
    weighting: Annotated[
        Literal["sif", "zipf"], typer.Option(help="Row weights; zipf is that of Model2Vec before 0.4.")
    ] = "sif",
    sif_coefficient: Annotated[float, typer.Option(help="The a in the SIF weight a / (a + p).")] = 1e-4,
    apply_zipf: Annotated[bool, typer.Option(help="Weight rows at all.")] = True,
    quantize_to: Annotated[
        Literal["float32", "float16", "int8"], typer.Option(help="Precision of the table.")
    ] = "float16",
    vocabulary_quantization: Annotated[
        int | None, typer.Option(help="Let all tokens share this many rows (k-means).")
    ] = None,
    recipe: Annotated[
        Literal["model2vec", "fast", "calibrated"],
        typer.Option(
            help="calibrated: the best without any text; fast: the best without more work for the teacher; model2vec: "
            "as published."
        ),
    ] = "calibrated",
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="Sentences like those that the model is for, to fit it to: text (one a line), JSONL, CSV or Parquet."
        ),
    ] = None,
    corpus_column: Annotated[str | None, typer.Option(help="Column of the corpus that holds the texts.")] = None,
    cache_folder: Annotated[
        Path | None,
        typer.Option(help="Keep the teacher's vectors here, to distil again with other settings in a second."),
    ] = None,
    engine: Annotated[
        Literal["ray"] | None,
        typer.Option(
            help="Have a huge vocabulary read on many GPUs or machines that share the cache folder. [default: none]"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Teachers on the cluster. [default: one a GPU, or else one a machine]", min=1)
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster. [default: RAY_ADDRESS, or else this machine]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps or auto. [default: the best there is]")] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the teacher on the Hub. [default: main]")
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run code from the teacher's repository. It can do whatever you can."),
    ] = False,
) -> None:
    """Distil a teacher into a static model and save it.

    A run on an engine that was interrupted goes on where it stopped when the same command is given again.
    """
    check_model_folder(save_path, overwrite)
    parsed_pca_dims = _parse_pca_dims(pca_dims)
    vocabulary = None if vocabulary_path is None else _read_words(vocabulary_path, vocabulary_column)
    sentences = None
    if corpus is not None:
        from m2v_core.bulk.run import read_texts

        sentences = read_texts(corpus, corpus_column)
    started = time.perf_counter()
    try:
        with progress_bars("tokens") as show, cancelled_by_interrupt() as cancel:
            reporter = ProgressReporter(show, cancel)
            reporter.start("start")  # importing torch takes seconds
            from m2v_core.distillation.pipeline import distill as distill_teacher

            model = distill_teacher(
                model_name,
                vocabulary=vocabulary,
                device=device,
                pca_dims=parsed_pca_dims,
                apply_zipf=apply_zipf,
                use_subword=use_subword,
                sif_coefficient=sif_coefficient,
                weighting=weighting,
                token_remove_pattern=token_remove_pattern or None,
                pooling=pooling,
                quantize_to=quantize_to,
                vocabulary_quantization=vocabulary_quantization,
                trust_remote_code=trust_remote_code,
                recipe=recipe,
                corpus=sentences,
                cache_folder=cache_folder,
                engine=engine,
                workers=workers,
                address=address,
                progress=show,
                cancel=cancel,
                revision=revision,
            )
            reporter.start("save")
            model.save_pretrained(save_path)
    except (KeyboardInterrupt, Cancelled):
        if engine is None:
            raise
        say(f"Stopped. What was read stays in {cache_folder}; the same command goes on from there.", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    print_facts(
        rows=f"{len(model.token_embeddings):,}",
        dim=model.dim,
        size=size_text(folder_bytes(save_path)),
        time=f"{time.perf_counter() - started:.1f} s",
        path=save_path,
    )


@errors_as_lines()
def preflight(
    teacher: Annotated[str, typer.Argument(help="A Hub name, or a local folder.")],
    pca_dims: Annotated[str, typer.Option(metavar="INT|FLOAT|auto|none", help="As for distill.")] = "256",
    quantize_to: Annotated[Literal["float32", "float16", "int8"], typer.Option(help="As for distill.")] = "float16",
    vocabulary_path: Annotated[Path | None, typer.Option(help="As for distill.")] = None,
    vocabulary_column: Annotated[str | None, typer.Option(help="As for distill.")] = None,
    use_subword: Annotated[bool, typer.Option(help="As for distill.")] = True,
    recipe: Annotated[Literal["model2vec", "fast", "calibrated"], typer.Option(help="As for distill.")] = "calibrated",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether a teacher can be distilled, what that takes and what it gives; fetches no weights.

    The exit code is 1 for a teacher that can't be distilled.
    """
    from m2v_core.distillation.entry_pieces import entry_pieces
    from m2v_core.distillation.preflight import look_up, plan

    parsed_pca_dims = _parse_pca_dims(pca_dims)
    words = None if vocabulary_path is None else _read_words(vocabulary_path, vocabulary_column)
    facts = look_up(teacher)
    planned = plan(
        facts,
        vocabulary=words,
        use_subword=use_subword,
        token_remove_pattern=DEFAULT_REMOVE_PATTERN,
        pca_dims=parsed_pca_dims,
        quantize_to=quantize_to,
        recipe=recipe,
    )
    pieces = None if words is None else entry_pieces(facts, words, most_words=None)
    if as_json:
        read = {} if words is None else {"vocabulary": None if pieces is None else pieces.to_json()}
        results.print_json(data=facts.to_json() | planned.to_json() | read)
    else:
        bound = "at most " if planned.is_upper_bound else ""
        print_facts(
            teacher=facts.name,
            access=facts.access,
            commit=facts.commit,
            license=facts.license,
            download=size_text(facts.download_bytes) if facts.download_bytes else "nothing",
            parameters=None if facts.n_parameters is None else f"{facts.n_parameters:,}",
            tokenizer=None if facts.family is None else f"{facts.family}, {facts.n_pieces:,} pieces",
            width=facts.teacher_dim,
            max_length=facts.max_length,
            rows=None if planned.n_rows is None else f"{planned.n_rows:,}",
            dim=None if planned.dim is None else f"{bound}{planned.dim}",
            size=None if planned.n_bytes is None else f"{bound}{size_text(planned.n_bytes)}",
            time=None if planned.seconds is None else f"about {clock_text(planned.seconds)} on two cores",
            vocabulary=None if pieces is None else " ".join(pieces.summary(use_subword)),
            examples=(
                "; ".join(f"{entry}: {' '.join(parts)}" for entry, parts in pieces.examples) or None
                if pieces is not None
                else None
            ),
        )
    for problem in facts.problems:
        say(f"Error: {problem}", style="bold red")
    if facts.problems:
        raise typer.Exit(1)


def _parse_pca_dims(text: str) -> int | float | Literal["auto"] | None:
    if text == "none":
        return None
    if text == "auto":
        return "auto"
    try:
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a number of dimensions, a share of the variance, 'auto' nor 'none'.",
            param_hint="--pca-dims",
        ) from None


def _read_words(path: Path, column: str | None) -> list[str]:
    from m2v_core.distillation.vocabulary import clean_vocabulary, open_vocabulary

    vocabulary_file = open_vocabulary(path)
    cleaned = clean_vocabulary(vocabulary_file.entries(column), vocabulary_file.first_line)
    for problem in filter(None, [vocabulary_file.warning(), *cleaned.summary()]):
        warnings.warn(f"{path}: {problem}", stacklevel=1)
    return cleaned.words
