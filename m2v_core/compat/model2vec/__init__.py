"""model2vec 0.10's public names, implemented by this library."""

from m2v_core.compat.model2vec.model import StaticModel, quantize_model
from m2v_core.compat.model2vec.version import __version__

__all__ = ["StaticModel", "__version__", "quantize_model"]
