"""Loading a teacher's tokenizer and weights, without running what comes with them unless it is trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError

from m2v_core.errors import NeedsExtra, TeacherError, first_line
from m2v_core.storage.teacher_code import own_code, read_modules, refuse_own_code

with NeedsExtra(None, "distill"):
    from transformers import (
        CONFIG_MAPPING,
        AutoConfig,
        AutoModel,
        AutoModelForTextEncoding,
        AutoTokenizer,
        PreTrainedModel,
    )

_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
LOADING_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    SafetensorError,
)


def encoder_folder(folder: Path) -> Path:
    """The folder of the transformer within a Sentence Transformer.

    Raises:
        TeacherError: its list of modules is damaged.
    """
    modules = read_modules(folder, folder.name)
    paths = [module["path"] for module in modules if module["type"].endswith(".Transformer")]
    return folder / paths[0] if paths else folder


def refuse_remote_code(folder: Path, model_name: str, trust_remote_code: bool) -> None:
    """Holds a transformer to what needs no code of its own, unless that is trusted.

    Raises:
        TeacherError: it has no configuration, or a damaged one.
        RemoteCodeError: it needs code of its own.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise TeacherError(
            f"{model_name} has no config.json; it is no Sentence Transformer. Choose a repository or folder with "
            "config.json, tokenizer.json and model.safetensors."
        )
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no JSON object")
    except ValueError as error:
        raise TeacherError(f"{config_file} is damaged ({error}); download the teacher again.") from error
    if not trust_remote_code:
        remedy = "Read that code and, if you trust it, pass trust_remote_code=True; or choose another teacher."
        refuse_own_code(model_name, own_code(config, CONFIG_MAPPING), remedy)


def load_tokenizer(folder: Path, model_name: str, trust_remote_code: bool) -> Any:
    """The tokenizer in a folder, the fast one where there is one.

    Raises:
        TeacherError: there is none that can be loaded.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise TeacherError(
            f"{model_name} has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}); a teacher must read text. "
            "Is it a model for images or sound?"
        )
    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code, use_fast=True)
    except LOADING_ERRORS as error:
        raise TeacherError(
            f"The tokenizer of {model_name} can't be loaded ({first_line(error)}). A fast tokenizer is needed: ask "
            "its authors for a tokenizer.json, or make one with transformers' convert_slow_tokenizer."
        ) from error


def load_config(folder: Path, model_name: str, trust_remote_code: bool) -> Any:
    """The configuration of the transformer in a folder.

    Raises:
        TeacherError: it can't be loaded.
    """
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except LOADING_ERRORS as error:
        raise _not_loaded(model_name, error) from error


def load_model(folder: Path, model_name: str, trust_remote_code: bool, config: Any) -> PreTrainedModel:
    """The transformer in a folder; of an encoder-decoder such as T5, the encoder alone.

    Raises:
        TeacherError: it can't be loaded.
    """
    factory = AutoModelForTextEncoding if getattr(config, "is_encoder_decoder", False) else AutoModel
    try:
        # Safetensors alone: a pickle can run code when it is opened.
        model = factory.from_pretrained(
            str(folder), config=config, trust_remote_code=trust_remote_code, use_safetensors=True
        )
    except LOADING_ERRORS as error:
        raise _not_loaded(model_name, error) from error
    return cast(PreTrainedModel, model)


def _not_loaded(model_name: str, error: Exception) -> TeacherError:
    return TeacherError(
        f"{model_name} can't be loaded ({first_line(error)}). Is it a Sentence Transformer, and is it complete? "
        "Delete it from the cache and download it again."
    )
