"""The `m2v` command: distil, encode, measure, look at a model, start the app.

Options carry the names of the arguments they become. Results go to standard output; progress, warnings and
errors to standard error. What a command needs of the core is imported inside it, so that `m2v --help` loads
no NumPy, and only what runs a teacher loads torch.
"""

from __future__ import annotations

import json
import logging
import os
import runpy
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from m2v_core import __version__
from m2v_core.errors import Cancelled, M2VError, MissingExtraError, NotFoundError, SaveError
from m2v_core.progress import Progress, ProgressCallback, ProgressReporter

if TYPE_CHECKING:
    from m2v_core.model import StaticModel
    from m2v_core.speed import SpeedComparison

DEFAULT_REMOVE_PATTERN = r"\[unused\d+\]"  # as in distill, which is imported late
INTERRUPTED = 130  # 128 + SIGINT: what a shell expects of a command that Ctrl-C ended
STAGES = {
    "start": "Starting",
    "load": "Loading the teacher",
    "scan": "Reading the columns",
    "encode": "Encoding",
    "read": "Reading sentences",
    "reduce": "Reducing dimensions",
    "calibrate": "Calibrating",
    "finish": "Building the model",
    "save": "Saving",
    "connect": "Asking the Hub",
    "upload": "Uploading",
    "verify": "Checking",
    "warm": "Warming up",
    "measure": "Measuring",
}

_results = Console(highlight=False, soft_wrap=True)
_messages = Console(highlight=False, soft_wrap=True, stderr=True)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # its tables cut long option names off at 80 columns
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


space = typer.Typer(no_args_is_help=True, help="Render and deploy the app as a Space of the Hub.")
app.add_typer(space, name="space")


def main() -> None:
    """Run the `m2v` command."""
    app(prog_name="m2v")


@contextmanager
def _errors_as_lines() -> Iterator[None]:
    """The one place where an error becomes a line and an exit code, and a warning a line."""
    logger = logging.getLogger("m2v_core")
    handler = _LogLines(logging.WARNING)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: _say(f"Warning: {message}", style="yellow")
            yield
    except (KeyboardInterrupt, Cancelled):
        _say("Cancelled; nothing was written.", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    except M2VError as error:
        if os.environ.get("M2V_DEBUG") == "1":
            raise
        _say(f"Error: {error}", style="bold red")
        raise typer.Exit(1) from None
    finally:
        logger.removeHandler(handler)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        _results.print(f"m2v {__version__}")
        raise typer.Exit


@app.callback()
def _m2v(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Turn any Sentence Transformer into a small, fast static embedding model.

    An error is one line; set M2V_DEBUG=1 to see where it came from.
    """


@app.command()
@_errors_as_lines()
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
    ] = "fast",
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
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps or auto. [default: the best there is]")] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run code from the teacher's repository. It can do whatever you can."),
    ] = False,
) -> None:
    """Distil a teacher into a static model and save it."""
    _check_save_path(save_path, overwrite)
    parsed_pca_dims = _parse_pca_dims(pca_dims)
    vocabulary = None if vocabulary_path is None else _read_words(vocabulary_path, vocabulary_column)
    sentences = None
    if corpus is not None:
        from m2v_core.bulk.run import read_texts

        sentences = read_texts(corpus, corpus_column)
    started = time.perf_counter()
    with _bars("tokens") as show, _cancelled_by_interrupt() as cancel:
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
            progress=show,
            cancel=cancel,
        )
        reporter.start("save")
        model.save_pretrained(save_path)
    _print_facts(
        rows=f"{len(model.token_embeddings):,}",
        dim=model.dim,
        size=_size(_folder_bytes(save_path)),
        time=f"{time.perf_counter() - started:.1f} s",
        path=save_path,
    )


@app.command()
@_errors_as_lines()
def preflight(
    teacher: Annotated[str, typer.Argument(help="A Hub name, or a local folder.")],
    pca_dims: Annotated[str, typer.Option(metavar="INT|FLOAT|auto|none", help="As for distill.")] = "256",
    quantize_to: Annotated[Literal["float32", "float16", "int8"], typer.Option(help="As for distill.")] = "float16",
    vocabulary_path: Annotated[Path | None, typer.Option(help="As for distill.")] = None,
    vocabulary_column: Annotated[str | None, typer.Option(help="As for distill.")] = None,
    use_subword: Annotated[bool, typer.Option(help="As for distill.")] = True,
    recipe: Annotated[Literal["model2vec", "fast", "calibrated"], typer.Option(help="As for distill.")] = "fast",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether a teacher can be distilled, what that takes and what it gives; fetches no weights.

    The exit code is 1 for a teacher that can't be distilled.
    """
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
    if as_json:
        _results.print_json(data=facts.to_json() | planned.to_json())
    else:
        bound = "at most " if planned.is_upper_bound else ""
        _print_facts(
            teacher=facts.name,
            access=facts.access,
            commit=facts.commit,
            license=facts.license,
            download=_size(facts.download_bytes) if facts.download_bytes else "nothing",
            parameters=None if facts.n_parameters is None else f"{facts.n_parameters:,}",
            tokenizer=None if facts.family is None else f"{facts.family}, {facts.n_pieces:,} pieces",
            width=facts.teacher_dim,
            max_length=facts.max_length,
            rows=None if planned.n_rows is None else f"{planned.n_rows:,}",
            dim=None if planned.dim is None else f"{bound}{planned.dim}",
            size=None if planned.n_bytes is None else f"{bound}{_size(planned.n_bytes)}",
            time=None if planned.seconds is None else f"about {_clock(planned.seconds)} on two cores",
        )
    for problem in facts.problems:
        _say(f"Error: {problem}", style="bold red")
    if facts.problems:
        raise typer.Exit(1)


@app.command()
@_errors_as_lines()
def encode(
    model: Annotated[str, typer.Option(help="A model folder, or its Hub name.")],
    input_path: Annotated[
        str,
        typer.Option(
            "--input", help="File of texts: text (one a line), .jsonl, .csv, .tsv or .parquet; - for standard input."
        ),
    ],
    output_path: Annotated[Path, typer.Option("--output", help="File to write: .npy, .parquet or .jsonl.")],
    column: Annotated[
        str | None,
        typer.Option(help='Column or key that holds the texts. [default: "text", or the only one there is]'),
    ] = None,
    input_format: Annotated[
        Literal["text", "jsonl", "csv", "tsv", "parquet"] | None,
        typer.Option(help="Where the input's ending doesn't say it. [default: by the ending, or else text]"),
    ] = None,
    keep_columns: Annotated[
        bool, typer.Option(help="Write the columns of the input too, to .parquet and .jsonl.")
    ] = True,
    embedding_column: Annotated[
        str, typer.Option(help="Name of the column of embeddings, in .parquet and .jsonl.")
    ] = "embedding",
    dtype: Annotated[Literal["float32", "float16"], typer.Option(help="Precision of the embeddings.")] = "float32",
    max_length: Annotated[
        int | None, typer.Option(help="Tokens to read of each text. [default: the model's own limit]")
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--no-normalize", help="Overrule the model on whether rows get unit length."),
    ] = None,
    on_error: Annotated[
        Literal["fail", "skip"],
        typer.Option(help="What to do at a row that is malformed or has no text; skip leaves it out, but not of .npy."),
    ] = "fail",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output that is there.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew where an interrupted run could be gone on with.")
    ] = False,
) -> None:
    """Encode a file of texts, of any size.

    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    from m2v_core.bulk.checkpoint import Checkpoint
    from m2v_core.bulk.run import encode_file

    static_model = _load(model)
    started = time.perf_counter()
    try:
        with _bars("texts") as show, _cancelled_by_interrupt() as cancel:
            encoded = encode_file(
                static_model,
                input_path,
                output_path,
                column=column,
                input_format=input_format,
                keep_columns=keep_columns,
                embedding_column=embedding_column,
                dtype=dtype,
                max_length=... if max_length is None else max_length,
                normalize=normalize,
                on_error=on_error,
                overwrite=overwrite,
                restart=restart,
                progress=show,
                cancel=cancel,
            )
    except (KeyboardInterrupt, Cancelled):
        n_texts = Checkpoint(output_path).n_texts
        if n_texts is None:
            raise
        _say(f"Stopped after {n_texts:,} texts; the same command goes on from there.", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    seconds = time.perf_counter() - started
    if encoded.n_skipped:
        examples = " ".join(encoded.problems)
        warnings.warn(f"{encoded.n_skipped:,} rows were left out. The first: {examples}", stacklevel=1)
    if encoded.n_texts == 0:
        warnings.warn(f"{input_path} holds no texts, so {output_path} has no rows.", stacklevel=1)
    facts = {"rows": f"{encoded.n_texts:,}", "dim": static_model.dim}
    if encoded.n_resumed:
        facts["resumed"] = f"after {encoded.n_resumed:,}"
    speed = f"{(encoded.n_texts - encoded.n_resumed) / seconds:,.0f} texts/s"
    _print_facts(**facts, speed=speed, path=output_path)


@app.command()
@_errors_as_lines()
def info(
    model: Annotated[str, typer.Argument(help="A model folder, or its Hub name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a model is: its teacher, size, precision, tokenizer, recipe."""
    static_model = _load(model)
    path = Path(model)
    is_local = path.is_dir()
    n_bytes = _folder_bytes(path) if is_local else static_model.n_bytes
    settings = static_model.config.get("m2v")
    facts = {
        "name": path.resolve().name if is_local else model,
        "teacher": static_model.base_model_name,
        "recipe": settings.get("recipe") if isinstance(settings, dict) else None,
        "rows": len(static_model.token_embeddings),
        "dim": static_model.dim,
        "precision": str(static_model.token_embeddings.dtype),
        "tokenizer": json.loads(static_model.tokenizer.to_str())["model"]["type"],
        "normalize": static_model.normalize,
        "max_length": static_model.max_length,
        "encoder": static_model.encoder_path,
    }
    if as_json:
        _results.print_json(data=facts | {"size_bytes": n_bytes})
    else:
        _print_facts(**facts, size=_size(n_bytes))


@app.command()
@_errors_as_lines()
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
    with _bars("texts") as show, _cancelled_by_interrupt() as cancel:
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
        _results.print_json(data=comparison.to_json())
    else:
        _print_speeds(comparison)


@app.command()
@_errors_as_lines()
def push(
    model: Annotated[str, typer.Argument(help="A model folder.")],
    repo_id: Annotated[str, typer.Argument(help="owner/name, or a name under your own account.")],
    public: Annotated[bool, typer.Option("--public", help="Let everyone see it; a new repository is private.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch to commit to, made when missing. [default: main]")
    ] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose it as a pull request.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that is there.")] = False,
    message: Annotated[str | None, typer.Option(help="What the commit is called.")] = None,
    license: Annotated[str | None, typer.Option(help="SPDX id for the model card. [default: that of its card]")] = None,
) -> None:
    """Publish a model on the Hub, and check what arrived.

    The token is that of `hf auth login` or of HF_TOKEN.
    """
    from m2v_core.persistence.card import as_list, read_metadata

    static_model = _load(model)
    stated = as_list(read_metadata(Path(model) / "README.md").get("license"))
    with _bars("bytes") as show, _cancelled_by_interrupt() as cancel:
        done = static_model.push_to_hub(
            repo_id,
            private=not public,
            revision=revision,
            create_pr=create_pr,
            commit_message=message,
            overwrite=overwrite,
            license=license or next(iter(stated), None),
            progress=show,
            cancel=cancel,
        )
    if not done.verified:
        warnings.warn("It is on the Hub, but could not be fetched again to check it.", stacklevel=1)
    _print_facts(url=done.pr_url or done.url, commit=done.commit, revision=done.revision, verified=done.verified)


@app.command()
@_errors_as_lines()
def export(
    model: Annotated[str, typer.Argument(help="A model folder, or its Hub name.")],
    format: Annotated[
        Literal["onnx", "word2vec", "zip"],
        typer.Option(
            help="onnx: a folder for transformers.js and onnxruntime; word2vec: a text file of its whole words for "
            "gensim and spaCy; zip: the model's own files."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder (onnx) or file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write a model in a form that other programs read."""
    _check_output(output, is_folder=format == "onnx", overwrite=overwrite)
    static_model = _load(model)
    if format == "zip":
        from m2v_core.persistence import hub
        from m2v_core.persistence.export import write_zip

        folder = Path(model).expanduser()
        write_zip(folder if folder.exists() else hub.download_model(model), output)
    else:
        static_model.export(output, format)
    _print_facts(format=format, size=_size(_folder_bytes(output) or output.stat().st_size), path=output)


@space.command("build")
@_errors_as_lines()
def build_space(
    folder: Annotated[Path, typer.Argument(help="Folder to write; it must not hold anything else.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the Space that is there.")] = False,
) -> None:
    """Render a deployable Space from this checkout and its spaces.yaml."""
    from m2v_core.space.build import build_space

    files = build_space(folder, overwrite=overwrite)
    _print_facts(files=len(files), size=_size(_folder_bytes(folder)), path=folder)


@space.command("push")
@_errors_as_lines()
def push_space(
    repo_id: Annotated[str, typer.Argument(help="owner/name of the Space.")],
    public: Annotated[bool, typer.Option("--public", help="Let everyone see it; a new Space is private.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace all that is in the Space.")] = False,
) -> None:
    """Render the Space and deploy it on the Hub.

    The token is that of `hf auth login` or of HF_TOKEN.
    """
    from m2v_core.persistence import hub_space
    from m2v_core.space.build import build_space
    from m2v_core.space.settings import load_settings

    with tempfile.TemporaryDirectory(prefix="m2v-space-") as folder:
        build_space(Path(folder))
        sdk = load_settings().sdk
        done = hub_space.push_space(Path(folder), repo_id, sdk=sdk, private=not public, overwrite=overwrite)
    _print_facts(url=done.url, commit=done.commit)


@app.command("app")
@_errors_as_lines()
def start_app() -> None:
    """Start the app on http://127.0.0.1:7860.

    GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change the address.
    """
    checkout = Path(__file__).parent.parent
    script = checkout / "app.py"
    if not script.is_file():
        raise NotFoundError("The app is not part of the installed package. Run `m2v app` or `make app` in a checkout.")
    if find_spec("gradio") is None:
        raise MissingExtraError("gradio", "app")
    sys.path.insert(0, str(checkout))
    runpy.run_path(str(script), run_name="__main__")


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


def _check_save_path(path: Path, overwrite: bool) -> None:
    """Refuse before the work what can't be written after it.

    Raises:
        SaveError: Something stands at `path` that must stay, or nothing can be written there.
    """
    from m2v_core.persistence.formats import is_model_folder

    if path.is_file():
        raise SaveError(f"{path} is a file. Name a folder that doesn't exist yet.")
    if path.is_dir() and any(path.iterdir()):
        if not is_model_folder(path):
            raise SaveError(f"{path} is a folder that holds no model. Name one that doesn't exist yet.")
        if not overwrite:
            raise SaveError(f"{path} holds a model already. Name another folder, or add --overwrite.")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise SaveError(f"{path} can't be made: {parent} is no folder that you may write to.")


def _check_output(path: Path, *, is_folder: bool, overwrite: bool) -> None:
    """Refuse before the work what can't be written after it.

    Raises:
        SaveError: Something stands at `path` that must stay, or nothing can be written there.
    """
    is_taken = any(path.iterdir()) if path.is_dir() else path.exists()
    if path.exists() and path.is_dir() != is_folder:
        raise SaveError(f"{path} is a {'folder' if path.is_dir() else 'file'}. Name another place.")
    if is_taken and not overwrite:
        raise SaveError(f"{path} exists already. Name another place, or add --overwrite.")
    if not path.absolute().parent.is_dir():
        raise SaveError(f"{path} can't be written: there is no folder {path.absolute().parent}. Make it first.")


def _read_words(path: Path, column: str | None) -> list[str]:
    from m2v_core.distillation.vocabulary import clean_vocabulary, open_vocabulary

    vocabulary_file = open_vocabulary(path)
    cleaned = clean_vocabulary(vocabulary_file.entries(column), vocabulary_file.first_line)
    for problem in filter(None, [vocabulary_file.warning(), *cleaned.summary()]):
        warnings.warn(f"{path}: {problem}", stacklevel=1)
    return cleaned.words


def _load(model: str) -> StaticModel:
    from m2v_core.model import StaticModel

    return StaticModel.from_pretrained(model)


@contextmanager
def _cancelled_by_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, beside raising KeyboardInterrupt.

    The exception ends an import or a download at once; the event ends the work where a library swallowed it.
    """
    cancel = threading.Event()

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        cancel.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bars(unit: str) -> Iterator[ProgressCallback]:
    """A bar for each stage; `unit` is what the stage "encode" counts."""
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[speed]}  {task.fields[left]}"),
    )
    with Bars(*columns, console=_messages) as bars:
        tasks: dict[str, TaskID] = {}

        def finish() -> None:
            for task in bars.tasks:
                bars.update(task.id, total=1, completed=1, left="")

        def show(event: Progress) -> None:
            if event.stage not in tasks:
                finish()
                tasks[event.stage] = bars.add_task(STAGES.get(event.stage, event.stage), speed="", left="")
            is_counted = event.stage == "encode" and event.rate > 0
            bars.update(
                tasks[event.stage],
                total=event.total or None,
                completed=event.done,
                speed=f"{event.rate:,.0f} {unit}/s" if is_counted else "",
                left="" if event.eta_seconds is None else f"{_clock(event.eta_seconds)} left",
            )

        yield show
        finish()


def _clock(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"


def _say(message: str, style: str) -> None:
    _messages.print(Text(" ".join(message.splitlines()), style=style))


class _LogLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _say(f"Warning: {record.getMessage()}", style="yellow")


def _print_facts(**facts: object) -> None:
    for name, value in facts.items():
        _results.print(Text.assemble((f"{name:<10}", "dim"), f" {'-' if value is None else value}"))


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
            "-" if facts.size_bytes is None else _size(facts.size_bytes),
            "-" if encoder.fidelity is None else f"{encoder.fidelity:.3f}",
            str(facts.n_threads),
            facts.device,
        )
    _results.print(table)
    machine = comparison.machine
    _results.print(
        f"Median of {comparison.rounds} rounds of {comparison.texts_per_round:,} texts ({comparison.texts_name}, "
        f"{comparison.mean_characters:.0f} characters on average), tokenizing included. {machine.processor}, "
        f"{machine.n_cpus} CPUs, {machine.system}, Python {machine.python}.",
        style="dim",
    )
    for encoder in comparison.encoders:
        if encoder.is_extrapolated:
            _results.print(
                f"* {encoder.facts.name} is extrapolated: it read {encoder.texts_per_round:,} of the "
                f"{comparison.texts_per_round:,} texts of each round in its {comparison.seconds:g} seconds.",
                style="dim",
            )
    if comparison.judged_texts:
        _results.print(
            f"Fidelity: rank correlation with the teacher's similarities of all pairs of {comparison.judged_texts} "
            "texts.",
            style="dim",
        )


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.1f} kB"
