"""A model of the library as a ZIP to fetch, and its end."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from m2v_core.storage.export import ExportFormat, write_zip
from m2v_core.studio.library import ModelRecord
from pages.components.model_picker import model_library
from pages.components.served_files import is_served, remove_old_files, served_folder, served_key


def archive_of(owner: str, model_id: str, format: ExportFormat | None = None) -> Path:
    """The model's archive in a place the app serves from, under an address nobody can guess.

    Args:
        owner: Whose model.
        model_id: Which.
        format: What `StaticModel.export` writes; None for the model's own files.

    Raises:
        NotFoundError: Not this owner's model.
        InputError: The model doesn't fit into this format.
        MissingExtraError: `"onnx"` without the package onnx.
        SaveError: The archive can't be written.
    """
    record = model_library().get(model_id, owner)
    folder = served_folder() / served_key(model_id)
    zip_path = folder / f"{file_name(record)}{f'-{format}' if format else ''}.zip"
    if not is_served(zip_path):
        remove_old_files(served_folder())
        folder.mkdir(parents=True, exist_ok=True)
        if format is None:
            write_zip(model_library().folder(model_id, owner), zip_path)
        else:
            with tempfile.TemporaryDirectory(dir=folder) as work:
                exported = Path(work) / zip_path.stem
                exported.mkdir()
                target = exported / "vectors.txt" if format == "word2vec" else exported
                model_library().load(model_id, owner).export(target, format)
                write_zip(exported, zip_path)
    return zip_path


def delete_model(owner: str, model_id: str) -> str:
    """Delete a model for good, with its archive and the job that made it; returns its name.

    Raises:
        NotFoundError: Not this owner's model.
        SaveError: It can't be removed.
    """
    name = model_library().get(model_id, owner).name
    model_library().delete(model_id, owner)
    shutil.rmtree(served_folder() / served_key(model_id), ignore_errors=True)
    return name


def file_name(record: ModelRecord) -> str:
    """What the model's files are called: its name, without what some file systems refuse."""
    safe = "".join(character if character.isalnum() or character in "._-" else "-" for character in record.name)
    return safe.strip("-.") or "model"
