"""Loads a model from a folder in any published layout, and saves it atomically."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from m2v_core.errors import InputError, ModelFormatError, NotFoundError
from m2v_core.storage.formats import (
    CARD,
    DEFAULT_MAX_LENGTH,
    LAYOUTS,
    MODULES,
    PROMPTS,
    STATIC_MODULES,
    Form,
    Layout,
    StoredModel,
)
from m2v_core.storage.front_matter import FrontMatter
from m2v_core.storage.mapped_file import MappedFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2v_core.storage import card

_REMEDY = "Download or distill the model again."
_MAX_PROMPT_CHARS = 10_000  # copied into every text, so a longer one could exhaust memory
_TABLE_DTYPES = {"F64": np.float32, "F32": np.float32, "F16": np.float16, "I8": np.int8}


def load(folder: Path, *, load_in_memory: bool = False) -> StoredModel:
    """Load the parts of the model in `folder`.

    If `normalize` is not stated, it is False, as in Model2Vec; a missing `max_length` is 512. Sentence Transformers
    stores the limit only in the tokenizer: without truncation there, all tokens are used.

    Args:
        folder: A folder with a model in any of `formats.LAYOUTS`.
        load_in_memory: Copy the table instead of mapping it read-only from its file (see `mapped_file`). Tables of
            float64, which are converted, and unaligned tables are always copied.

    Raises:
        NotFoundError: No such folder.
        ModelFormatError: A file is missing or damaged, or this is another kind of model; the message names the
            cause.
    """
    if not folder.is_dir():
        raise NotFoundError(f"Folder not found: {folder}. Pass a model folder or a Hub repository such as 'org/name'.")
    layout = _find_layout(folder)
    normalizes = _normalizes(folder / MODULES)
    table, weights, mapping = _read_tensors(folder / layout.tensors, layout, load_in_memory)
    tokenizer = _read_tokenizer(folder / layout.tokenizer)
    prompts, default_prompt_name = _prompts(folder / PROMPTS)
    # Sentence Transformers stores prompts and versions in its file, and nothing that belongs in ours.
    config = _read_config(folder / layout.config) if layout.config == "config.json" else {}
    normalize = config.get("normalize")
    if layout.config == "config.json":
        max_length = _checked_max_length(config.get("max_length", DEFAULT_MAX_LENGTH), folder / layout.config)
    else:
        max_length = _checked_max_length((tokenizer.truncation or {}).get("max_length"), folder / layout.tokenizer)
    return StoredModel(
        token_embeddings=table,
        tokenizer=tokenizer,
        weights=weights,
        token_mapping=mapping,
        normalize=normalizes if normalize is None else normalize,
        max_length=max_length,
        config=config,
        prompts=prompts,
        default_prompt_name=default_prompt_name,
        front_matter=FrontMatter.of(folder / CARD),
    )


def save(
    folder: Path,
    stored: StoredModel,
    *,
    unk_token_id: int | None,
    model_name: str | None = None,
    license: str | None = None,
    measured: card.Measured | None = None,
    classifier: card.Classifier | None = None,
    extra_files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a model that model2vec, Sentence Transformers and this library load with the same results.

    Args:
        folder: The folder to write; created if missing.
        stored: The parts.
        unk_token_id: Token whose row is written as zeros if the model normalizes: readers that keep unknown tokens
            then agree with those that drop them.
        model_name: Name in the card; None for the name of the folder.
        license: SPDX id for the card; None states no license.
        measured: Measurements of the model, for the card.
        classifier: The classification head on top of the model, for the card; None without one.
        extra_files: Other files to write in the same step, by name.

    Raises:
        SaveError: Writing failed; existing files in `folder` are unchanged.
        InputError: `stored.config` contains a value that JSON can't represent.
    """
    from m2v_core.storage import card
    from m2v_core.storage.atomic import replacing

    tensors = _tensors(stored, unk_token_id)
    table = tensors["embeddings"]
    form = replace(Form.of(stored), has_weights="weights" in tensors)
    n_shared_rows = None if stored.token_mapping is None else len(table)
    texts = {
        "config.json": _json(_config(stored, table)),
        MODULES: _json(_modules(stored.normalize)),
        "tokenizer.json": _tokenizer_json(stored),
        # Without prompts, the file is only needed to overwrite that of another model.
        **({PROMPTS: _prompts_json(stored)} if stored.prompts or (folder / PROMPTS).exists() else {}),
        CARD: card.model_card(
            model_name=model_name or folder.absolute().name,
            dim=table.shape[1],
            n_tokens=stored.tokenizer.get_vocab_size(with_added_tokens=True),
            form=form,
            base_model_name=stored.base_model_name,
            language=stored.language,
            license=license,
            n_bytes=sum(array.nbytes for array in tensors.values()),
            recipe=card.Recipe.of(stored.config, form.dtype, n_shared_rows),
            default_prompt=stored.prompts.get(stored.default_prompt_name or "") or None,
            measured=measured,
            classifier=classifier,
        ),
    }
    others = dict(extra_files or {})
    n_bytes = sum(array.nbytes for array in tensors.values()) + sum(len(text.encode()) for text in texts.values())
    n_bytes += sum(map(len, others.values()))
    with replacing(folder, n_bytes) as staging:
        save_file(tensors, staging / "model.safetensors")
        for name, text in texts.items():
            (staging / name).write_text(text, encoding="utf-8")
        for name, content in others.items():
            (staging / name).write_bytes(content)


def _find_layout(folder: Path) -> Layout:
    complete = [layout for layout in LAYOUTS if layout.is_in(folder)]
    if not complete:
        nearest = max(LAYOUTS, key=lambda layout: sum((folder / file).is_file() for file in layout.files))
        missing = [file for file in nearest.files if not (folder / file).is_file()]
        raise ModelFormatError(
            f"{folder} contains no static model: {', '.join(missing)} missing (layout of {nearest.name}). {_REMEDY}"
        )
    for layout in complete:
        if layout.table in _tensor_names(folder / layout.tensors):
            return layout
    names = ", ".join(_tensor_names(folder / complete[0].tensors)[:3])
    raise ModelFormatError(
        f"{folder / complete[0].tensors} contains no table of token embeddings, but {names}, ... "
        "If this is a Sentence Transformer, distill it first."
    )


def _tensor_names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ModelFormatError(f"{path} is truncated or damaged ({error}). {_REMEDY}") from error


def _read_tensors(
    path: Path, layout: Layout, load_in_memory: bool
) -> tuple[NDArray[Any], NDArray[np.float32] | None, NDArray[np.int32] | None]:
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            dtype = file.get_slice(layout.table).get_dtype()
            if dtype not in _TABLE_DTYPES:
                raise ModelFormatError(
                    f"{path}: the table's dtype is {dtype}; it must be one of {', '.join(_TABLE_DTYPES)}. "
                    "Convert it first."
                )
            table = None if load_in_memory or dtype == "F64" else _mapped_table(path, layout.table)
            if table is None:
                table = file.get_tensor(layout.table).astype(_TABLE_DTYPES[dtype], copy=False)
            weights = file.get_tensor("weights").astype(np.float32, copy=False) if "weights" in names else None
            mapping = file.get_tensor("mapping") if "mapping" in names else None
    except (SafetensorError, OSError) as error:
        raise ModelFormatError(f"{path} is truncated or damaged ({error}). {_REMEDY}") from error
    if table.ndim != 2 or not table.size:
        raise ModelFormatError(f"{path}: the table must be of shape (n_rows, dim), not {table.shape}. {_REMEDY}")
    if mapping is not None:
        if not np.issubdtype(mapping.dtype, np.integer):
            raise ModelFormatError(f"{path}: `mapping` must contain integers, not {mapping.dtype}. {_REMEDY}")
        mapping = mapping.astype(np.int32, copy=False)
    return table, weights, mapping


def _mapped_table(path: Path, name: str) -> NDArray[Any] | None:
    """Map one tensor of a safetensors file that `safe_open` has validated; None if it is not aligned.

    Source: https://github.com/huggingface/safetensors#format.
    """
    try:
        file = MappedFile(path)
        (n_header_bytes,) = struct.unpack_from("<Q", file)
        entry = json.loads(file[8 : 8 + n_header_bytes])[name]
        dtype = np.dtype(_TABLE_DTYPES[entry["dtype"]])
        offset = 8 + n_header_bytes + entry["data_offsets"][0]
        return None if offset % dtype.itemsize else file.array(offset, tuple(entry["shape"]), dtype)
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise ModelFormatError(f"{path} changed while it was being opened. Load the model again.") from error


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFormatError(f"{path} can't be read ({error}). {_REMEDY}") from error
    try:
        return Tokenizer.from_str(text)
    # The bindings raise a bare Exception for anything they can't parse.
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ModelFormatError(f"{path} is not a readable tokenizer ({error}). {_REMEDY}") from error


def _read_config(path: Path) -> dict[str, Any]:
    config = _read_json(path)
    if not isinstance(config, dict):
        raise ModelFormatError(f"{path} must contain a JSON object, not {type(config).__name__}. {_REMEDY}")
    normalize = config.get("normalize")
    if not isinstance(normalize, (bool, NoneType)):
        raise ModelFormatError(f"{path}: normalize is {normalize!r}; it must be true or false. Correct the file.")
    return config


def _checked_max_length(max_length: Any, path: Path) -> int | None:
    if max_length is None or (type(max_length) is int and max_length >= 1):
        return max_length
    raise ModelFormatError(
        f"{path}: max_length is {max_length!r}; it must be a number of tokens, 1 or more, or null. Correct the file."
    )


def _normalizes(path: Path) -> bool:
    """Whether a Sentence Transformer's modules include normalization; False if they aren't listed."""
    if not path.is_file():
        return False
    modules = _read_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelFormatError(f"{path} must contain a list of modules. {_REMEDY}")
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    if others := [kind for kind in kinds if kind not in STATIC_MODULES]:
        raise ModelFormatError(
            f"{path} lists {', '.join(others)}: a static model only has StaticEmbedding and optionally Normalize. "
            "A Sentence Transformer must be distilled first."
        )
    return "Normalize" in kinds


def _prompts(path: Path) -> tuple[dict[str, str], str | None]:
    """The prompts in Sentence Transformers' file, by name, and the name of the default prompt."""
    config = _read_json(path) if path.is_file() else {}
    prompts = (config.get("prompts") or {}) if isinstance(config, dict) else None
    if not isinstance(prompts, dict) or not all(isinstance(prompt, (str, NoneType)) for prompt in prompts.values()):
        raise ModelFormatError(f"{path} must contain a JSON object whose `prompts` are texts by name. {_REMEDY}")
    if too_long := [name for name, prompt in prompts.items() if len(prompt or "") > _MAX_PROMPT_CHARS]:
        raise ModelFormatError(
            f"{path}: the prompt {too_long[0]!r} has more than {_MAX_PROMPT_CHARS:,} characters. {_REMEDY}"
        )
    default = config.get("default_prompt_name")
    if default is not None and default not in {"query", "document", *prompts}:
        names = ", ".join(prompts) or "none"
        raise ModelFormatError(f"{path}: default_prompt_name is {default!r}; prompts: {names}. Correct the file.")
    return {name: prompt or "" for name, prompt in prompts.items()}, default


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} is not valid JSON ({error}). {_REMEDY}") from error


def _tensors(stored: StoredModel, unk_token_id: int | None) -> dict[str, NDArray[Any]]:
    """The tensors to write; `weights` only if they change an embedding.

    Weights of ones would slow model2vec 0.10 down by up to 1.6 times. Their only benefit would be that newer releases
    of Sentence Transformers convert a float16 table to float32 to apply them, which keeps Normalize from returning NaN
    (see `Form.is_converted`). A row shared with the unknown token can't be set to zero, so its weight is; model2vec is
    not slowed down, because shared rows are already on the slower path.
    """
    table, weights, mapping = stored.token_embeddings, stored.weights, stored.token_mapping
    is_idle = weights is None or bool(np.all(np.delete(weights, [] if unk_token_id is None else unk_token_id) == 1.0))
    if stored.normalize and unk_token_id is not None:
        if mapping is None:
            if table[unk_token_id].any():
                table = table.copy()
                table[unk_token_id] = 0
        else:
            is_idle = False
            weights = np.ones(len(mapping), dtype=np.float32) if weights is None else weights
        if weights is not None:
            weights = weights.copy()
            weights[unk_token_id] = 0.0
    tensors: dict[str, NDArray[Any]] = {"embeddings": np.ascontiguousarray(table)}
    if weights is not None and not is_idle:
        tensors["weights"] = np.ascontiguousarray(weights, dtype=np.float32)
    if mapping is not None:
        tensors["mapping"] = np.ascontiguousarray(mapping, dtype=np.int32)
    return tensors


def _config(stored: StoredModel, table: NDArray[Any]) -> dict[str, Any]:
    from m2v_core.storage.card import hub_id

    named = {"tokenizer_name": stored.base_model_name} if hub_id(stored.base_model_name) else {}
    config = {
        **named,
        # Same as Model2Vec: the assumed length of the teacher's input.
        "seq_length": 1_000_000,
        **stored.config,
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "hidden_dim": table.shape[1],
        "normalize": stored.normalize,
        "max_length": stored.max_length,
        "embedding_dtype": str(table.dtype),
        "vocabulary_quantization": len(table),
    }
    if stored.token_mapping is None:
        del config["vocabulary_quantization"]
    return config


def _modules(normalize: bool) -> list[dict[str, Any]]:
    package = "sentence_transformers.models"
    modules = [{"idx": 0, "name": "0", "path": ".", "type": f"{package}.StaticEmbedding"}]
    if normalize:
        modules.append({"idx": 1, "name": "1", "path": "1_Normalize", "type": f"{package}.Normalize"})
    return modules


def _prompts_json(stored: StoredModel) -> str:
    return _json({"prompts": stored.prompts, "default_prompt_name": stored.default_prompt_name})


def _tokenizer_json(stored: StoredModel) -> str:
    """The tokenizer with the model's maximum length, for readers that only use that."""
    tokenizer = Tokenizer.from_str(stored.tokenizer.to_str())
    tokenizer.no_padding()
    if stored.max_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(stored.max_length)
    return str(tokenizer.to_str())


def _json(value: Any) -> str:
    try:
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"The model's config can't be written as JSON: {error}.") from error
