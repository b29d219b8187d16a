"""Loading a teacher's tokenizer and weights, without running what comes with them unless it is trusted."""

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
    """The fast tokenizer in a folder, converted where there is no tokenizer.json.

    Raises:
        TeacherError: there is none that can be loaded.
    """
    has_fast = (folder / "tokenizer.json").is_file()
    if not has_fast and any((folder / name).is_file() for name in SENTENCEPIECE_FILES):
        missing = [package for package, module in _TO_CONVERT.items() if not _is_installed(module)]
        if missing:
            raise TeacherError(
                f"{model_name} has no tokenizer.json, and converting its sentencepiece model takes "
                f"{' and '.join(missing)}. Install what is missing: pip install {' '.join(missing)}"
            )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code, use_fast=True)
    except LOADING_ERRORS as error:
        raise _no_fast_tokenizer(model_name, first_line(error)) from error
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        raise _no_fast_tokenizer(model_name, f"a {type(tokenizer).__name__} runs in Python only")
    return tokenizer


def _no_fast_tokenizer(model_name: str, why: str) -> TeacherError:
    return TeacherError(
        f"The tokenizer of {model_name} can't be loaded as a fast one ({why}). Ask its authors for a tokenizer.json, "
        "or choose another teacher."
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


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


def load_module(folder: Path, path: str, type_name: str, model_name: str, device: str) -> Any:
    """A module of a Sentence Transformer beside its transformer, in evaluation mode on a device.

    Args:
        folder: The teacher's.
        path: The module's folder within it.
        type_name: Its class in sentence-transformers, as modules.json has it.
        model_name: The teacher's, for the error.
        device: As `teacher.resolve_device` returns it.

    Raises:
        TeacherError: It can't be loaded.
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
        f"{model_name} can't be loaded ({first_line(error)}). Is it a Sentence Transformer, and is it complete? "
        "Delete it from the cache and download it again."
    )
