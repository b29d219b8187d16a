"""`m2v push`, `m2v export` and `m2v space`."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from m2v_core.cli.console import (
    PATH,
    cancelled_by_interrupt,
    check_output,
    folder_bytes,
    load_model,
    print_facts,
    progress_bars,
    size_text,
)
from m2v_core.errors import SaveError

if TYPE_CHECKING:
    from m2v_core.classification import StaticClassifier
    from m2v_core.model import StaticModel


@click.command()
@click.argument("model", help="A model's or classifier's folder.")
@click.argument("repo_id", help="owner/name, or a name under your own account.")
@click.option("--public", is_flag=True, help="Make a new repository public. [default: private]")
@click.option("--revision", help="Branch to commit to, created if missing. [default: main]")
@click.option("--create-pr", is_flag=True, help="Open a pull request.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@click.option("--message", help="Title of the commit.")
@click.option("--license", help="SPDX id for the model card. [default: the license in its card]")
def push(model: str, repo_id: str, public: bool, message: str | None, license: str | None, **options: Any) -> None:
    """Publish a model or a classifier on the Hub, and verify the upload.

    Uses the token of `hf auth login` or HF_TOKEN.
    """
    from m2v_core.storage.front_matter import FrontMatter, as_list

    to_push = _load_model_or_classifier(model)
    stated = as_list(FrontMatter.of(Path(model) / "README.md").fields().get("license"))
    with progress_bars("bytes") as show, cancelled_by_interrupt() as cancel:
        done = to_push.push_to_hub(
            repo_id,
            private=not public,
            commit_message=message,
            license=license or next(iter(stated), None),
            progress=show,
            cancel=cancel,
            **options,
        )
    if not done.verified:
        warnings.warn("The model is on the Hub, but could not be downloaded again to verify it.", stacklevel=1)
    print_facts(url=done.pr_url or done.url, commit=done.commit, revision=done.revision, verified=done.verified)


@click.command()
@click.argument("model", help="A model's or classifier's folder, or a model's Hub name.")
@click.option(
    "--format",
    type=click.Choice(["onnx", "word2vec", "zip"]),
    required=True,
    help="onnx: a folder for transformers.js and onnxruntime; word2vec: a text file of its whole words for "
    "gensim and spaCy; zip: the model's own files.",
)
@click.option("--output", type=PATH, required=True, help="Folder (onnx) or file to write.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def export(model: str, format: Literal["onnx", "word2vec", "zip"], output: Path, overwrite: bool) -> None:
    """Write a model in a format for other programs."""
    _check_output(output, is_folder=format == "onnx", overwrite=overwrite)
    loaded = _load_model_or_classifier(model) if format == "onnx" else load_model(model)
    if format == "zip":
        from m2v_core.hub import download
        from m2v_core.storage.export import write_zip

        folder = Path(model).expanduser()
        write_zip(folder if folder.exists() else download.download_model(model), output)
    else:
        loaded.export(output, format)
    print_facts(format=format, size=size_text(folder_bytes(output) or output.stat().st_size), path=output)


@click.group()
def space() -> None:
    """Render and deploy the app as a Space of the Hub."""


_extra_index_url_option = click.option(
    "--extra-index-url",
    help="Package index to write into requirements.txt, such as the one of PyTorch's smaller CPU builds.",
)


@space.command("build")
@click.argument("folder", type=PATH, help="Folder to write; it must not contain other files.")
@click.option("--overwrite", is_flag=True, help="Replace an existing Space.")
@_extra_index_url_option
def build_space(folder: Path, overwrite: bool, extra_index_url: str | None) -> None:
    """Render a deployable Space from this checkout and its spaces.yaml."""
    from m2v_core.studio.space.build import build_space

    files = build_space(folder, overwrite=overwrite, extra_index_url=extra_index_url)
    print_facts(files=len(files), size=size_text(folder_bytes(folder)), path=folder)


@space.command("push")
@click.argument("repo_id", help="owner/name of the Space.")
@click.option("--public", is_flag=True, help="Make a new Space public. [default: private]")
@click.option("--overwrite", is_flag=True, help="Replace all files of the Space.")
@_extra_index_url_option
def push_space(repo_id: str, public: bool, overwrite: bool, extra_index_url: str | None) -> None:
    """Render the Space and deploy it on the Hub.

    Uses the token of `hf auth login` or HF_TOKEN.
    """
    from m2v_core.hub import spaces
    from m2v_core.studio.space.build import build_space
    from m2v_core.studio.space.settings import load_settings

    with tempfile.TemporaryDirectory(prefix="m2v-space-") as folder:
        build_space(Path(folder), extra_index_url=extra_index_url)
        sdk = load_settings().sdk
        done = spaces.push_space(Path(folder), repo_id, sdk=sdk, private=not public, overwrite=overwrite)
    print_facts(url=done.url, commit=done.commit)


def _load_model_or_classifier(model: str) -> StaticModel | StaticClassifier:
    from m2v_core.storage.formats import is_classifier_folder

    if not is_classifier_folder(Path(model).expanduser()):
        return load_model(model)
    from m2v_core.classification import StaticClassifier

    return StaticClassifier.from_pretrained(model)


def _check_output(path: Path, *, is_folder: bool, overwrite: bool) -> None:
    """Check before the work that the result can be written.

    Raises:
        SaveError: `path` exists and must not be replaced, or is not writable.
    """
    is_taken = any(path.iterdir()) if path.is_dir() else path.exists()
    if path.exists() and path.is_dir() != is_folder:
        raise SaveError(f"{path} is a {'folder' if path.is_dir() else 'file'}. Choose another path.")
    if is_taken and not overwrite:
        raise SaveError(f"{path} already exists. Choose another path, or add --overwrite.")
    check_output(path)
