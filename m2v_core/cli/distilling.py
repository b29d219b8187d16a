"""`m2v distill` and `m2v preflight`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from m2v_core.cli.console import (
    AT_LEAST_1,
    PATH,
    cancelled_by_interrupt,
    check_model_folder,
    clock_text,
    folder_bytes,
    json_option,
    print_facts,
    print_json,
    print_message,
    progress_bars,
    size_text,
    stop,
)
from m2v_core.distillation.settings import CHOICES, DEFAULTS, PCADims, is_automatic
from m2v_core.distillation.timing import RunClock, Timings
from m2v_core.errors import Cancelled, InputError
from m2v_core.progress import ProgressCallback, ProgressReporter

if TYPE_CHECKING:
    from m2v_core.distributed.vocabulary import ClusterReader

F = TypeVar("F", bound=Callable[..., Any])


def _parse_pca_dims(text: str | int) -> PCADims:
    text = str(text)
    if text == "none":
        return None
    if text == "auto":
        return "auto"
    try:
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a number of dimensions, a share of the variance, 'auto' or 'none'."
        ) from None


def _parse_size(text: str | int) -> int | str:
    return int(text) if str(text).isdecimal() else str(text)


def _setting(name: str, help: str, **attributes: Any) -> dict[str, dict[str, Any]]:
    """Return the option of one of `DistillSettings`, with its choices and default."""
    flag, default = f"--{name.replace('_', '-')}", getattr(DEFAULTS, name)
    if isinstance(default, bool):
        flag = f"{flag}/--no-{name.replace('_', '-')}"
    elif name in CHOICES:
        attributes["type"] = click.Choice(CHOICES[name])
    return {flag: {"default": default, "help": help, **attributes}}


# The options of distillation, in the order of the help.
_SETTINGS: dict[str, dict[str, Any]] = {
    "--vocabulary": {
        "metavar": "auto|auto:LANGUAGE|auto:corpus",
        "help": "Automatic vocabulary: the most frequent words of the teacher's or another language, such as auto:en, "
        "or words and phrases of the corpus.",
    },
    **_setting(
        "vocabulary_size",
        "Maximum number of words of --vocabulary, or the model size, such as 40MB.",
        type=_parse_size,
        metavar="INT|MB",
    ),
    "--vocabulary-path": {
        "type": PATH,
        "help": "Vocabulary file, most frequent words first or with a column of counts: .txt (one word per line, or "
        "word<TAB>count), .csv or .tsv.",
    },
    "--vocabulary-column": {"help": "Column of a .csv or .tsv vocabulary, by name or number."},
    **_setting("use_subword", "Add the words to the teacher's tokens, or use only the words."),
    **_setting("token_remove_pattern", "Drop tokens that match this regular expression; '' keeps all.", type=str),
    **_setting("pooling", "Pooling of a vocabulary entry's hidden states."),
    **_setting(
        "pca_dims",
        "Dimensions to keep: a number, a share of the variance, auto to rotate without reducing, or none for no PCA.",
        type=_parse_pca_dims,
        metavar="INT|FLOAT|auto|none",
    ),
    **_setting("weighting", "Row weights; zipf is the weighting of Model2Vec before 0.4."),
    **_setting("sif_coefficient", "Coefficient a of the SIF weight a / (a + p).", type=float),
    **_setting("apply_zipf", "Weight rows by rank."),
    **_setting("quantize_to", "Precision of the table."),
    **_setting("vocabulary_quantization", "Share this many rows between all tokens (k-means).", type=int),
    **_setting("prompt_name", "The teacher's prompt to prepend to each sentence. [default: the teacher's default]"),
    **_setting(
        "recipe",
        "calibrated: fit to the teacher's embeddings of texts, best quality; fast: no calibration; model2vec: the "
        "published method.",
    ),
    **_setting("dictionary", "Also fit the model to WordNet definitions and examples; auto: for English teachers."),
    **_setting("effort", "How many texts the recipe calibrated uses. [default: best]"),
    "--corpus": {
        "type": PATH,
        "help": "Sentences from your domain to fit the model to: text (one per line), JSONL, CSV or Parquet.",
    },
    "--corpus-column": {"help": "Column of the corpus that contains the texts."},
    "--cache-folder": {
        "type": PATH,
        "help": "Cache teacher outputs here, so that distilling with other settings takes a second.",
    },
    "--engine": {
        "type": click.Choice(["ray"]),
        "help": "Embed a huge vocabulary on many GPUs or machines that share the cache folder. [default: none]",
    },
    "--workers": {
        "type": AT_LEAST_1,
        "help": "Number of teachers on the cluster. [default: one per GPU, or one per machine without GPUs]",
    },
    "--address": {"help": "Address of a Ray cluster. [default: RAY_ADDRESS, or this machine]"},
    "--device": {"help": "cpu, cuda, mps or auto. [default: auto]"},
    "--revision": {"help": "Branch, tag or commit of the teacher on the Hub. [default: main]"},
    "--trust-remote-code": {
        "is_flag": True,
        "help": "Run code from the teacher's repository. It has all of your permissions.",
    },
}


def _settings(*names: str, **replaced: Any) -> Callable[[F], F]:
    """Decorate a command with the named options of distillation (default: all), replacing some attributes."""

    def decorate(command: F) -> F:
        for name in reversed(names or tuple(_SETTINGS)):
            command = click.option(name, **_SETTINGS[name] | replaced)(command)
        return command

    return decorate


@click.command()
@click.option("--model-name", required=True, help="The teacher: a Hub name or a local folder.")
@click.option("--save-path", type=PATH, required=True, help="Folder to write the model to.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@_settings()
def distill(
    model_name: str,
    save_path: Path,
    overwrite: bool,
    vocabulary: str | None,
    vocabulary_path: Path | None,
    vocabulary_column: str | None,
    token_remove_pattern: str,
    corpus: Path | None,
    corpus_column: str | None,
    cache_folder: Path | None,
    engine: str | None,
    workers: int | None,
    address: str | None,
    **settings: Any,
) -> None:
    """Distill a teacher into a static model and save it.

    With --engine, rerun the same command to resume an interrupted run.
    """
    check_model_folder(save_path, overwrite)
    words = _words(vocabulary, vocabulary_path, vocabulary_column)
    sentences = _read_corpus(corpus, corpus_column)
    reader = _reader(engine, cache_folder, workers, address)
    started = time.perf_counter()
    try:
        with progress_bars("tokens") as show, cancelled_by_interrupt() as cancel:
            clock = _clock(show, model_name, cache_folder, {**settings, "vocabulary": words, "corpus": sentences})
            reporter = ProgressReporter(clock, cancel)
            reporter.start("start")  # importing torch takes seconds
            from m2v_core.distillation.pipeline import distill as distill_teacher
            from m2v_core.distillation.reduction import dims_note

            model = distill_teacher(
                model_name,
                vocabulary=words,
                token_remove_pattern=token_remove_pattern or None,
                corpus=sentences,
                cache_folder=cache_folder,
                reader=reader,
                progress=clock,
                cancel=cancel,
                **settings,
            )
            reporter.start("save")
            model.save_pretrained(save_path)
            clock.finish()
    except (KeyboardInterrupt, Cancelled):
        if reader is None:
            raise
        stop(f"Stopped. Completed vectors are cached in {cache_folder}; rerun the same command to resume.")
    config = model.config["m2v"]
    note = dims_note(settings["pca_dims"], model.dim)
    vocabulary_rows = ""
    if "n_entries" in config:
        vocabulary_rows = f"{config['n_entries']:,} entries, {config['n_entry_rows']:,} rows"
    if "vocabulary_summary" in config:
        vocabulary_rows = f"{config['vocabulary_summary']}; {vocabulary_rows}"
    print_facts(
        **({"vocabulary": vocabulary_rows} if vocabulary_rows else {}),
        rows=f"{len(model.token_embeddings):,}",
        dim=model.dim,
        **({"note": note} if note else {}),
        size=size_text(folder_bytes(save_path)),
        time=f"{time.perf_counter() - started:.1f} s",
        path=save_path,
    )


@click.command()
@click.argument("teacher", help="A Hub name or a local folder.")
@_settings(
    "--pca-dims",
    "--quantize-to",
    "--vocabulary",
    "--vocabulary-size",
    "--vocabulary-path",
    "--vocabulary-column",
    "--use-subword/--no-use-subword",
    "--recipe",
    "--prompt-name",
    "--dictionary",
    "--effort",
    "--corpus",
    "--corpus-column",
    "--pooling",
    "--cache-folder",
    help="As for distill.",
)
@json_option
def preflight(
    teacher: str,
    vocabulary: str | None,
    vocabulary_path: Path | None,
    vocabulary_column: str | None,
    use_subword: bool,
    corpus: Path | None,
    corpus_column: str | None,
    cache_folder: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Check whether a teacher can be distilled, and predict the result, without downloading weights.

    The exit code is 1 if it can't be distilled.
    """
    from m2v_core.distillation.cache import VectorCache
    from m2v_core.distillation.entry_pieces import entry_pieces
    from m2v_core.distillation.preflight import look_up, plan
    from m2v_core.distillation.reduction import dims_note

    words = _words(vocabulary, vocabulary_path, vocabulary_column)
    facts = look_up(teacher)
    planned = plan(
        facts,
        vocabulary=words,
        use_subword=use_subword,
        corpus=_read_corpus(corpus, corpus_column),
        cache=None if cache_folder is None else VectorCache(cache_folder),
        **settings,
    )
    # All words of an automatic vocabulary have several tokens.
    pieces = None if words is None or vocabulary else entry_pieces(facts, list(words), most_words=None)
    note = None if planned.is_upper_bound else dims_note(settings["pca_dims"], planned.dim)
    if as_json:
        read = {} if words is None or vocabulary else {"vocabulary": None if pieces is None else pieces.to_json()}
        print_json(facts.to_json() | planned.to_json() | {"note": note} | read)
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
            prompts="; ".join(
                f"{name}{' (default)' if name == facts.default_prompt_name else ''}: {prompt!r}"
                for name, prompt in facts.prompts.items()
            )
            or None,
            not_applied=", ".join(facts.modules.not_applied) or None,
            max_length=facts.max_length,
            rows=None if planned.n_rows is None else f"{planned.n_rows:,}",
            cached=f"{planned.n_cached:,} rows" if planned.n_cached else None,
            dim=None if planned.dim is None else f"{bound}{planned.dim}",
            **({"note": note} if note else {}),
            size=None if planned.n_bytes is None else f"{bound}{size_text(planned.n_bytes)}",
            dictionary=f"{planned.n_dictionary_lines:,} lines" if planned.n_dictionary_lines else None,
            **({"corpus": planned.corpus_note or f"{planned.n_corpus_texts:,} texts"} if corpus is not None else {}),
            time=None if planned.seconds is None else f"about {clock_text(planned.seconds)} on two cores",
            vocabulary=planned.vocabulary_summary if pieces is None else " ".join(pieces.summary(use_subword)),
            entries=None if planned.entries is None else planned.entries.summary(),
            examples=(
                "; ".join(f"{entry}: {' '.join(parts)}" for entry, parts in pieces.examples) or None
                if pieces is not None
                else None
            ),
        )
    if planned.corpus_warning:
        warnings.warn(planned.corpus_warning, stacklevel=1)
    for problem in facts.problems:
        print_message(f"Error: {problem}", fg="red", bold=True)
    if facts.problems:
        raise click.exceptions.Exit(1)


def _clock(show: ProgressCallback, teacher: str, cache_folder: Path | None, settings: Mapping[str, Any]) -> RunClock:
    """Build the progress callback that adds the remaining time, with timings of earlier runs in the cache folder."""

    def defaults() -> Mapping[str, float]:
        from m2v_core.distillation.preflight import run_seconds

        return run_seconds(teacher, settings, stages=["save"])

    return RunClock(show, Timings(cache_folder), teacher, defaults)


def _reader(engine: str | None, folder: Path | None, workers: int | None, address: str | None) -> ClusterReader | None:
    if engine is None:
        if workers is not None or address is not None:
            raise InputError("--workers and --address require a Ray cluster. Add --engine ray, or omit them.")
        return None
    if folder is None:
        raise InputError(
            "--engine ray collects the vectors on disk. Pass a --cache-folder that all machines share, with space for "
            "8 bytes x rows x the teacher's width."
        )
    from m2v_core.distributed.vocabulary import ClusterReader

    return ClusterReader(folder, workers, address)


def _words(automatic: str | None, path: Path | None, column: str | None) -> str | list[str] | dict[str, float] | None:
    """Return the vocabulary in the form that `distill` accepts."""
    if automatic is not None and not is_automatic(automatic):
        raise InputError(
            f"--vocabulary is {automatic!r}; use auto, auto:corpus, or a language such as auto:en. For a file of "
            "words, use --vocabulary-path."
        )
    if automatic is not None and path is not None:
        raise InputError(
            f"--vocabulary is {automatic!r} and --vocabulary-path is {str(path)!r}, but a model has one vocabulary. "
            "Omit one of them."
        )
    return automatic if path is None else _read_words(path, column)


def _read_corpus(path: Path | None, column: str | None) -> list[str] | None:
    if path is None:
        return None
    from m2v_core.bulk.run import read_texts

    return read_texts(path, column)


def _read_words(path: Path, column: str | None) -> list[str] | dict[str, float]:
    from m2v_core.distillation.vocabulary import open_vocabulary

    vocabulary_file = open_vocabulary(path)
    cleaned = vocabulary_file.cleaned(column)
    for problem in filter(None, [vocabulary_file.warning(), *cleaned.summary()]):
        warnings.warn(f"{path}: {problem}", stacklevel=1)
    return cleaned.vocabulary
