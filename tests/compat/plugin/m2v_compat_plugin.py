"""A pytest plugin that runs model2vec's own tests with `m2v_core.compat`.

Its folder is in the `PYTHONPATH` of the process that runs them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import m2v_core.compat

# Names that model2vec's test modules import and `m2v_core.compat` lacks. Placeholders make the modules importable, and
# fail the tests that use them; `differences.tsv` lists those.
MISSING = {
    "model2vec.distill.inference": ("apply_pca", "compute_weights", "create_embeddings"),
    "model2vec.distill.utils": ("select_optimal_device",),
    "model2vec.modelcards": ("get_metadata_from_readme",),
    "model2vec.onnx": (
        "TorchStaticModel",
        "TorchStaticModelPipeline",
        "_dynamic_shapes",
        "_export_onnx",
        "_resolve_pad_token_id",
        "_save_tokenizer_and_config",
    ),
    "model2vec.persistence.hf": ("maybe_get_cached_model_path",),
    "model2vec.persistence.utils": ("SilentTqdm",),
    "model2vec.quantization": ("quantize_and_reduce_dim", "quantize_embeddings"),
    "model2vec.train.classifier": ("_read_labels",),
    "model2vec.train.dataset": ("ColumnRows", "PairDataset", "TextDataset", "_column_strata", "iter_column"),
    "model2vec.train.similarity": ("_vector_dim",),
    "model2vec.train.trainer": ("_resolve_max_epochs", "run_training_loop"),
    "model2vec.train.utils": ("seed_everything",),
    "model2vec.utils": ("get_package_extras", "importable"),
    "model2vec.vocabulary_quantization": ("quantize_vocabulary",),
}


def placeholder(name: str) -> type:
    """A class for imports and annotations without any behavior."""
    return type(name, (), {})


m2v_core.compat.install()
for module_name, names in MISSING.items():
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError:
        module = sys.modules[module_name] = ModuleType(module_name)
    for name in names:
        assert not hasattr(module, name), f"{module_name}.{name} is there and needs no placeholder"
        setattr(module, name, placeholder(name))
