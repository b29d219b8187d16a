"""Files of a head: `head.safetensors` with `head_config`, and `pipeline.skops`; neither can run code when read.

Source: model2vec since 0.9 reads the former, model2vec before it the latter, which is a scikit-learn pipeline.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from m2v_core.classification.head import Head, Layer
from m2v_core.errors import ModelFormatError, NeedsExtra
from m2v_core.storage.formats import HEAD, SKOPS_HEAD
from m2v_core.storage.onnx_graph import OnnxHead

CONFIG_KEY = "head_config"
# Types of a trained MLPClassifier, in addition to the estimators of scikit-learn that skops trusts by default.
TRUSTED_TYPES = frozenset(
    f"sklearn.neural_network._stochastic_optimizers.{name}" for name in ("AdamOptimizer", "SGDOptimizer")
)
# Exceptions of scikit-learn and skops for damaged files, or files of another version.
_UNREADABLE = (zipfile.BadZipFile, OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, ImportError)
_REMEDY = "Download the classifier again, or train it."


def head_config(head: Head) -> dict[str, Any]:
    """The value of `CONFIG_KEY` in `config.json`."""
    of_labels = "sigmoid" if head.is_multi_label else "softmax"
    return {
        "n_layers": len(head.layers),
        "activation": of_labels if head.has_labels else "identity",
        "classes": head.classes.tolist() if head.has_labels else None,
    }


def to_safetensors(head: Head) -> bytes:
    """The content of `head.safetensors`."""
    tensors = {}
    for number, layer in enumerate(head.layers):
        tensors[f"head.{number}.weight"] = np.ascontiguousarray(layer.weight)
        tensors[f"head.{number}.bias"] = np.ascontiguousarray(layer.bias)
    return save(tensors)


def to_skops(head: Head) -> bytes:
    """The content of `pipeline.skops`: a pipeline of one MLPClassifier.

    Raises:
        MissingExtraError: skops or scikit-learn isn't installed.
    """
    io, neural_network = _imported("skops.io"), _imported("sklearn.neural_network")
    pipeline, preprocessing = _imported("sklearn.pipeline"), _imported("sklearn.preprocessing")
    widths = tuple(len(layer.bias) for layer in head.layers[:-1])
    network = neural_network.MLPClassifier(hidden_layer_sizes=widths, activation="relu")
    network.coefs_ = [np.ascontiguousarray(layer.weight.T) for layer in head.layers]
    network.intercepts_ = [layer.bias for layer in head.layers]
    network.n_layers_, network.n_outputs_ = len(head.layers) + 1, len(head.classes)
    network.n_features_in_ = head.dim
    network.out_activation_ = "logistic" if head.is_multi_label else "softmax"
    network.classes_ = head.classes
    binarizer = preprocessing.MultiLabelBinarizer if head.is_multi_label else preprocessing.LabelBinarizer
    network._label_binarizer = binarizer().fit([head.classes] if head.is_multi_label else head.classes)
    dumped: bytes = io.dumps(pipeline.make_pipeline(network))
    return dumped


def for_onnx(head: Head) -> OnnxHead:
    """The head for `storage.export.write_onnx`."""
    layers = [(np.asarray(layer.weight, np.float32), np.asarray(layer.bias, np.float32)) for layer in head.layers]
    return OnnxHead(layers, tuple(map(str, head.classes.tolist())), head.is_multi_label)


def load_head(folder: Path, config: Mapping[str, Any]) -> Head:
    """Load the head of a classifier's folder, `head.safetensors` or `pipeline.skops`, with the folder's `config.json`.

    Raises:
        ModelFormatError: There is no head, it is damaged, or its kind is not supported; untrusted types are named, and
            none of their code is run.
        MissingExtraError: There is only `pipeline.skops`, and skops or scikit-learn isn't installed.
    """
    if (folder / HEAD).is_file():
        return _from_safetensors(folder / HEAD, config.get(CONFIG_KEY))
    if (folder / SKOPS_HEAD).is_file():
        return load_skops(folder / SKOPS_HEAD)
    raise ModelFormatError(
        f"{folder} contains no classifier: neither {HEAD} nor {SKOPS_HEAD} exists. If it is a static model, train a "
        "head on it first (StaticClassifier(model).fit, m2v train)."
    )


def _from_safetensors(path: Path, config: Any) -> Head:
    config = config if isinstance(config, Mapping) else {}
    activation, n_layers, classes = config.get("activation"), config.get("n_layers"), config.get("classes")
    classes = None if activation == "identity" else classes
    is_described = activation == "identity" or (activation in ("softmax", "sigmoid") and isinstance(classes, list))
    if not is_described or type(n_layers) is not int:
        raise ModelFormatError(
            f"{path.parent / 'config.json'} does not describe the head: under {CONFIG_KEY!r} it must have n_layers, "
            f"activation (softmax, sigmoid or identity) and, except for identity, classes. {_REMEDY}"
        )
    try:
        tensors = load_file(path)
        layers = [(tensors[f"head.{number}.weight"], tensors[f"head.{number}.bias"]) for number in range(n_layers)]
    except (SafetensorError, OSError) as error:
        raise ModelFormatError(f"{path} is truncated or damaged ({error}). {_REMEDY}") from error
    except KeyError as error:
        raise ModelFormatError(f"{path} has no tensor {error}, but {', '.join(tensors)}. {_REMEDY}") from error
    return _head(layers, classes, activation == "sigmoid", path)


def load_skops(path: Path) -> Head:
    """Load the head of a `pipeline.skops`; see `load_head`."""
    io = _imported("skops.io")
    _imported("sklearn")
    try:
        foreign = sorted(set(io.get_untrusted_types(file=path)) - TRUSTED_TYPES)
        if not foreign:
            loaded = io.load(path, trusted=sorted(TRUSTED_TYPES))
    # Any exception of skops and scikit-learn for an untrusted file.
    except _UNREADABLE as error:
        raise ModelFormatError(f"{path} can't be read ({type(error).__name__}: {error}). {_REMEDY}") from error
    if foreign:
        raise ModelFormatError(
            f"{path} contains untrusted types, and was not loaded: {', '.join(foreign)}. Only scikit-learn's "
            "StandardScaler, LogisticRegression, MLPClassifier and MLPRegressor are supported. Train it with these."
        )
    steps = [step for _, step in loaded.steps] if type(loaded).__name__ == "Pipeline" else [loaded]
    try:
        return _converted(steps, path)
    except ModelFormatError:
        raise
    except _UNREADABLE as error:
        raise ModelFormatError(f"{path} contains a head that was not trained ({error}). {_REMEDY}") from error


def _converted(steps: list[Any], path: Path) -> Head:
    """Convert the steps of a scikit-learn pipeline to a head."""
    *scalers, last = steps
    kind = type(last).__name__
    if foreign := [type(step).__name__ for step in scalers if type(step).__name__ != "StandardScaler"]:
        raise ModelFormatError(
            f"{path} has the step {foreign[0]}; only StandardScaler is supported before the classifier. {_REMEDY}"
        )
    is_multi_label = False
    if kind == "MLPRegressor" and last.activation == "relu" and not scalers:
        return _head(
            [(weight.T, bias) for weight, bias in zip(last.coefs_, last.intercepts_, strict=True)], None, False, path
        )
    if kind == "LogisticRegression":
        if getattr(last, "multi_class", None) == "ovr" or (last.solver == "liblinear" and len(last.classes_) > 2):
            raise ModelFormatError(f"{path} has one regression for each label, which is not supported. {_REMEDY}")
        layers = [(last.coef_, last.intercept_)]
    elif kind == "MLPClassifier" and (last.activation == "relu" or len(last.coefs_) == 1):
        layers = [(weight.T, bias) for weight, bias in zip(last.coefs_, last.intercepts_, strict=True)]
        # scikit-learn uses a single output for two labels.
        is_multi_label = last.out_activation_ == "logistic" and not (last.n_outputs_ == 1 and len(last.classes_) == 2)
    else:
        raise ModelFormatError(
            f"{path} ends in {kind}, not LogisticRegression, MLPClassifier or MLPRegressor (with relu). {_REMEDY}"
        )
    weight, bias = layers[-1]
    if len(bias) == 1 and len(last.classes_) == 2:
        layers[-1] = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    for scaler in reversed(scalers):
        weight, bias = layers[0]
        weight = weight / scaler.scale_ if scaler.with_std else weight
        layers[0] = weight, bias - weight @ scaler.mean_ if scaler.with_mean else bias
    return _head(layers, np.asarray(last.classes_).tolist(), is_multi_label, path)


def _head(layers: list[tuple[Any, Any]], names: list[Any] | None, is_multi_label: bool, path: Path) -> Head:
    """Create a head from the content of a file; `names` is None if its outputs are numbers."""
    kinds = {type(name) for name in names or ()}
    classes: NDArray[Any] = np.array(names) if kinds in ({str}, {int}) else np.empty(0)
    if names is not None and classes.dtype.kind not in "Ui":
        raise ModelFormatError(f"{path}: the labels are neither text nor whole numbers, but {names!r:.100}. {_REMEDY}")
    plain = tuple(Layer(np.asarray(weight, np.float32), np.asarray(bias, np.float32)) for weight, bias in layers)
    try:
        return Head(plain, classes, is_multi_label)
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from error


def _imported(module: str) -> Any:
    with NeedsExtra("skops" if module.startswith("skops") else "scikit-learn", "train"):
        return importlib.import_module(module)
