"""Publishing a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2v_core.hub.push import Pushed


def push_folder_to_hub(
    folder_path: Path, subfolder: str | None, repo_id: str, private: bool, token: str | None
) -> Pushed:
    """Publish a model's folder on the Hub, replacing an existing model; see `hub.push.push_folder`."""
    from m2v_core.hub import push

    return push.push_folder(folder_path, repo_id, token=token, private=private, subfolder=subfolder, overwrite=True)
