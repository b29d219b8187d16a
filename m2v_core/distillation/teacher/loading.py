"""Loading of a teacher's tokenizer, weights and modules, without running untrusted code."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from tokenizers import Tokenizer

from m2v_core.distillation.teacher.source import SENTENCEPIECE_FILES
from m2v_core.errors import NeedsExtra, TeacherError, first_line

with NeedsExtra(None, "distill"):
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForTextEncoding,
        AutoTokenizer,
        PreTrainedModel,
    )

_TO_CONVERT = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}  # package, module
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


def load_tokenizer(folder: Path, model_name: str, trust_remote_code: bool) -> Any:
    """Load the fast tokenizer in a folder, converting it if there is no tokenizer.json.

    Raises:
        TeacherError: the tokenizer can't be loaded.
    """
    has_fast = (folder / "tokenizer.json").is_file()
    if not has_fast and any((folder / name).is_file() for name in SENTENCEPIECE_FILES):
        missing = [package for package, module in _TO_CONVERT.items() if not _is_installed(module)]
        if missing:
            raise TeacherError(
                f"{model_name} has no tokenizer.json, and converting its sentencepiece model requires "
                f"{' and '.join(missing)}. Install the missing packages: pip install {' '.join(missing)}"
            )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code, use_fast=True)
    except LOADING_ERRORS as error:
        raise _no_fast_tokenizer(model_name, first_line(error)) from error
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        raise _no_fast_tokenizer(model_name, f"{type(tokenizer).__name__} is a slow tokenizer")
    return tokenizer


def _no_fast_tokenizer(model_name: str, why: str) -> TeacherError:
    return TeacherError(
        f"The tokenizer of {model_name} can't be loaded as a fast tokenizer ({why}). Ask its authors for a "
        "tokenizer.json, or choose another teacher."
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def load_config(folder: Path, model_name: str, trust_remote_code: bool) -> Any:
    """Load the configuration of the transformer in a folder.

    Raises:
        TeacherError: it can't be loaded.
    """
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    except LOADING_ERRORS as error:
        raise _not_loaded(model_name, error) from error


def load_model(folder: Path, model_name: str, trust_remote_code: bool, config: Any) -> PreTrainedModel:
    """Load the transformer in a folder; for an encoder-decoder such as T5, only the encoder.

    Raises:
        TeacherError: it can't be loaded.
    """
    factory = AutoModelForTextEncoding if getattr(config, "is_encoder_decoder", False) else AutoModel
    try:
        # Safetensors only: loading a pickle can run code.
        model = factory.from_pretrained(
            str(folder), config=config, trust_remote_code=trust_remote_code, use_safetensors=True
        )
    except LOADING_ERRORS as error:
        raise _not_loaded(model_name, error) from error
    return cast(PreTrainedModel, model)


def load_module(folder: Path, path: str, type_name: str, model_name: str, device: str) -> Any:
    """Load a module of a Sentence Transformer, in evaluation mode on a device.

    Args:
        folder: Folder of the teacher.
        path: Folder of the module within it.
        type_name: Class of the module in modules.json.
        model_name: Name of the teacher, for error messages.
        device: Result of `teacher.resolve_device`.

    Raises:
        TeacherError: The module can't be loaded.
    """
    with NeedsExtra(None, "distill"):
        from sentence_transformers.util import import_from_string
    try:
        module_class: Any = import_from_string(type_name)
        module = module_class.load(str(folder), subfolder=path, local_files_only=True)
    except LOADING_ERRORS as error:
        raise TeacherError(
            f"The module {path} of {model_name} can't be loaded ({first_line(error)}). Download the teacher again."
        ) from error
    module.float().eval().to(device)
    return module


def _not_loaded(model_name: str, error: Exception) -> TeacherError:
    return TeacherError(
        f"{model_name} can't be loaded ({first_line(error)}). Check that it is a complete Sentence Transformer; "
        "delete it from the cache to download it again."
    )
