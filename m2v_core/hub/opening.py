"""Opens a model by its folder or by its repository on the Hub."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from m2v_core.storage import local
from m2v_core.storage.formats import StoredModel


def open_model(
    path: str | PathLike[str],
    *,
    token: str | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
    endpoint: str | None = None,
    load_in_memory: bool = False,
    force_download: bool = False,
) -> tuple[Path, StoredModel]:
    """Return the folder with the model's files, and the parts of the model.

    Args:
        path: A folder, or else a Hub repository.
        token: Hub token, for private and gated repositories.
        revision: Branch, tag or commit of the Hub repository.
        subfolder: Folder of the model inside `path`.
        endpoint: URL of another Hub than huggingface.co or `HF_ENDPOINT`.
        load_in_memory: Copy the table instead of mapping it read-only from its file.
        force_download: Whether to download cached files again.

    Raises:
        NotFoundError: No such folder and no such repository.
        HubError: There is no such folder, and the Hub can't be reached or rejected the request.
        ModelFormatError: The folder contains no static model, or a damaged one.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        from m2v_core.hub import download

        folder = download.download_model(
            str(path),
            token=token,
            revision=revision,
            subfolder=subfolder,
            endpoint=endpoint,
            force_download=force_download,
        )
    if subfolder:
        folder /= subfolder
    return folder, local.load(folder, load_in_memory=load_in_memory)
