"""Turn any Sentence Transformer into a small, fast static embedding model.

    from m2v_core import StaticModel, distill

    model = distill("sentence-transformers/all-MiniLM-L6-v2")
    model.save_pretrained("my-model")
    embeddings = StaticModel.from_pretrained("my-model").encode(["a sentence"])

Names are resolved on first use, so that `import m2v_core` loads neither torch nor NumPy nor Gradio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from m2v_core._version import __version__ as __version__

if TYPE_CHECKING:
    from m2v_core.distillation.pipeline import distill, distill_from_model
    from m2v_core.errors import M2VError
    from m2v_core.model import StaticModel
    from m2v_core.progress import Progress

__all__ = ["M2VError", "Progress", "StaticModel", "distill", "distill_from_model"]

_ROOMS = {
    "M2VError": "m2v_core.errors",
    "Progress": "m2v_core.progress",
    "StaticModel": "m2v_core.model",
    "distill": "m2v_core.distill",
    "distill_from_model": "m2v_core.distillation.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'm2v_core' has no attribute {name!r}")
    module = import_module(_ROOMS[name])
    return module if name == "distill" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
