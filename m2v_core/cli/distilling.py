"""`m2v distill` and `m2v preflight`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
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
    progress_bars,
    say,
    size_text,
    stop,
)
from m2v_core.distillation.settings import CHOICES, DEFAULTS, PCADims
from m2v_core.errors import Cancelled, InputError
from m2v_core.progress import ProgressReporter

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
            f"{text!r} is neither a number of dimensions, a share of the variance, 'auto' nor 'none'."
        ) from None


def _setting(name: str, help: str, **attributes: Any) -> dict[str, dict[str, Any]]:
    """The option of one of `DistillSettings`, with its choices and its default."""
    flag, default = f"--{name.replace('_', '-')}", getattr(DEFAULTS, name)
    if isinstance(default, bool):
        flag = f"{flag}/--no-{name.replace('_', '-')}"
    elif name in CHOICES:
        attributes["type"] = click.Choice(CHOICES[name])
    return {flag: {"default": default, "help": help, **attributes}}


# The options of distillation, in the order of the help.
_SETTINGS: dict[str, dict[str, Any]] = {
    "--vocabulary-path": {
        "type": PATH,
        "help": "Words to distil, the most frequent first: .txt (one a line), .csv or .tsv.",
    },
    "--vocabulary-column": {"help": "Column of a .csv or .tsv vocabulary, by name or number."},
    **_setting("use_subword", "Keep the teacher's subwords beside the words of the vocabulary."),
    **_setting(
        "token_remove_pattern", "Leave out the tokens that this regular expression matches; '' keeps all.", type=str
    ),
    **_setting("pooling", "How a sequence's hidden states become one vector."),
    **_setting(
        "pca_dims",
        "Dimensions to keep: a number of them, a share of the variance, auto, or none for all.",
        type=_parse_pca_dims,
        metavar="INT|FLOAT|auto|none",
    ),
    **_setting("weighting", "Row weights; zipf is that of Model2Vec before 0.4."),
    **_setting("sif_coefficient", "The a in the SIF weight a / (a + p).", type=float),
    **_setting("apply_zipf", "Weight rows at all."),
    **_setting("quantize_to", "Precision of the table."),
    **_setting("vocabulary_quantization", "Let all tokens share this many rows (k-means).", type=int),
    **_setting("prompt_name", "The teacher's prompt to put before each sentence. [default: the teacher's own]"),
    **_setting(
        "recipe",
        "calibrated: the best without any text; fast: the best without more work for the teacher; model2vec: as "
        "published.",
    ),
    **_setting("dictionary", "Fit the model to definitions and examples of WordNet too; auto: for English teachers."),
    "--corpus": {
        "type": PATH,
        "help": "Sentences like those that the model is for, to fit it to: text (one a line), JSONL, CSV or Parquet.",
    },
    "--corpus-column": {"help": "Column of the corpus that holds the texts."},
    "--cache-folder": {
        "type": PATH,
        "help": "Keep the teacher's vectors here, to distil again with other settings in a second.",
    },
    "--engine": {
        "type": click.Choice(["ray"]),
        "help": "Have a huge vocabulary read on many GPUs or machines that share the cache folder. [default: none]",
    },
    "--workers": {"type": AT_LEAST_1, "help": "Teachers on the cluster. [default: one a GPU, or else one a machine]"},
    "--address": {"help": "Of a Ray cluster. [default: RAY_ADDRESS, or else this machine]"},
    "--device": {"help": "cpu, cuda, mps or auto. [default: the best there is]"},
    "--revision": {"help": "Branch, tag or commit of the teacher on the Hub. [default: main]"},
    "--trust-remote-code": {
        "is_flag": True,
        "help": "Run code from the teacher's repository. It can do whatever you can.",
    },
}


def _settings(*names: str, **replaced: Any) -> Callable[[F], F]:
    """Decorate a command with all options of distillation, or with some of them and other attributes."""

    def decorate(command: F) -> F:
        for name in reversed(names or tuple(_SETTINGS)):
            command = click.option(name, **_SETTINGS[name] | replaced)(command)
        return command

    return decorate


@click.command()
@click.option("--model-name", required=True, help="The teacher: a Hub name or a local folder.")
@click.option("--save-path", type=PATH, required=True, help="Folder to write the model to.")
@click.option("--overwrite", is_flag=True, help="Replace the model that is there.")
@_settings()
def distill(
    model_name: str,
    save_path: Path,
    overwrite: bool,
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
    """Distil a teacher into a static model and save it.

    A run on an engine that was interrupted goes on where it stopped when the same command is given again.
    """
    check_model_folder(save_path, overwrite)
    vocabulary = None if vocabulary_path is None else _read_words(vocabulary_path, vocabulary_column)
    sentences = None
    if corpus is not None:
        from m2v_core.bulk.run import read_texts

        sentences = read_texts(corpus, corpus_column)
    reader = _reader(engine, cache_folder, workers, address)
    started = time.perf_counter()
    try:
        with progress_bars("tokens") as show, cancelled_by_interrupt() as cancel:
            reporter = ProgressReporter(show, cancel)
            reporter.start("start")  # importing torch takes seconds
            from m2v_core.distillation.pipeline import distill as distill_teacher
            from m2v_core.distillation.reduction import dims_note

            model = distill_teacher(
                model_name,
                vocabulary=vocabulary,
                token_remove_pattern=token_remove_pattern or None,
                corpus=sentences,
                cache_folder=cache_folder,
                reader=reader,
                progress=show,
                cancel=cancel,
                **settings,
            )
            reporter.start("save")
            model.save_pretrained(save_path)
    except (KeyboardInterrupt, Cancelled):
        if reader is None:
            raise
        stop(f"Stopped. What was read stays in {cache_folder}; the same command goes on from there.")
    noted = model.config["m2v"]
    note = dims_note(settings["pca_dims"], model.dim)
    vocabulary_rows = f"{noted['n_entries']:,} entries, {noted['n_entry_rows']:,} rows" if "n_entries" in noted else ""
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
@click.argument("teacher", help="A Hub name, or a local folder.")
@_settings(
    "--pca-dims",
    "--quantize-to",
    "--vocabulary-path",
    "--vocabulary-column",
    "--use-subword/--no-use-subword",
    "--recipe",
    "--prompt-name",
    "--dictionary",
    help="As for distill.",
)
@json_option
def preflight(
    teacher: str,
    vocabulary_path: Path | None,
    vocabulary_column: str | None,
    use_subword: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Say whether a teacher can be distilled, what that takes and what it gives; fetches no weights.

    The exit code is 1 for a teacher that can't be distilled.
    """
    from m2v_core.distillation.entry_pieces import entry_pieces
    from m2v_core.distillation.preflight import look_up, plan
    from m2v_core.distillation.reduction import dims_note

    words = None if vocabulary_path is None else _read_words(vocabulary_path, vocabulary_column)
    facts = look_up(teacher)
    planned = plan(
        facts,
        vocabulary=words,
        use_subword=use_subword,
        **settings,
    )
    pieces = None if words is None else entry_pieces(facts, words, most_words=None)
    note = None if planned.is_upper_bound else dims_note(settings["pca_dims"], planned.dim)
    if as_json:
        read = {} if words is None else {"vocabulary": None if pieces is None else pieces.to_json()}
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
            dim=None if planned.dim is None else f"{bound}{planned.dim}",
            **({"note": note} if note else {}),
            size=None if planned.n_bytes is None else f"{bound}{size_text(planned.n_bytes)}",
            dictionary=f"{planned.n_dictionary_lines:,} lines" if planned.n_dictionary_lines else None,
            time=None if planned.seconds is None else f"about {clock_text(planned.seconds)} on two cores",
            vocabulary=None if pieces is None else " ".join(pieces.summary(use_subword)),
            entries=None if planned.entries is None else planned.entries.summary(),
            examples=(
                "; ".join(f"{entry}: {' '.join(parts)}" for entry, parts in pieces.examples) or None
                if pieces is not None
                else None
            ),
        )
    for problem in facts.problems:
        say(f"Error: {problem}", fg="red", bold=True)
    if facts.problems:
        raise click.exceptions.Exit(1)


def _reader(engine: str | None, folder: Path | None, workers: int | None, address: str | None) -> ClusterReader | None:
    if engine is None:
        if workers is not None or address is not None:
            raise InputError("--workers and --address are for a Ray cluster. Add --engine ray, or leave them out.")
        return None
    if folder is None:
        raise InputError(
            "--engine ray gathers the vectors on disk. Name a --cache-folder that all machines share, with room for "
            "twice 4 bytes x rows x the teacher's width."
        )
    from m2v_core.distributed.vocabulary import ClusterReader

    return ClusterReader(folder, workers, address)


def _read_words(path: Path, column: str | None) -> list[str]:
    from m2v_core.distillation.vocabulary import clean_vocabulary, open_vocabulary

    vocabulary_file = open_vocabulary(path)
    cleaned = clean_vocabulary(vocabulary_file.entries(column), vocabulary_file.first_line)
    for problem in filter(None, [vocabulary_file.warning(), *cleaned.summary()]):
        warnings.warn(f"{path}: {problem}", stacklevel=1)
    return cleaned.words
