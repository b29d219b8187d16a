"""What a folder or repository must have to be a teacher: the only place where this is decided."""

from __future__ import annotations

from collections.abc import Mapping

from m2v_core.distillation.teacher.files import TeacherFiles
from m2v_core.distillation.teacher.source import SLOW_TOKENIZER_FILES
from m2v_core.errors import RemoteCodeError, TeacherError
from m2v_core.storage.teacher_code import own_code

_WEIGHTS = frozenset({"model.safetensors", "model.safetensors.index.json"})
_WITH_WEIGHTS = ("Dense", "LayerNorm", "CNN", "LSTM")


def find_problems(files: TeacherFiles, trust_remote_code: bool = False) -> list[TeacherError]:
    """Why these files are no teacher, found without loading them; empty if they are one.

    Whether the tokenizer can be read is found by `TeacherFiles.tokenizer`.

    Args:
        files: A folder's or a repository's.
        trust_remote_code: Whether code that comes with the teacher may run.

    Returns:
        Errors, the gravest first, each with what to do; a `RemoteCodeError` for code of the teacher's own.
    """
    config = files.json("config.json")
    if not config:
        return [
            TeacherError(
                f"{files.name} has no config.json that can be read, so it is no Sentence Transformer. Choose a "
                "repository or folder with config.json, tokenizer.json and model.safetensors."
            )
        ]
    if config.get("model_type") == "model2vec":
        return [
            TeacherError(
                f"{files.name} is a static model already. Choose the Sentence Transformer that it was made from."
            )
        ]
    found: list[TeacherError] = []
    try:
        modules = files.modules
    except TeacherError as error:
        return [error]
    code = None if trust_remote_code else own_code(config, modules)
    if code is not None:
        found.append(
            RemoteCodeError(
                f"{files.name} needs code of its own ({code}), which could do anything. Choose another teacher; or "
                "read that code and, if you trust it, pass trust_remote_code=True (--trust-remote-code)."
            )
        )
    found += _missing_weights(files)
    if not any(files.has(name) for name in ("tokenizer.json", *SLOW_TOKENIZER_FILES)):
        found.append(
            TeacherError(
                f"{files.name} has no tokenizer (none of tokenizer.json, {', '.join(SLOW_TOKENIZER_FILES)}), so it "
                "can't read text. Choose a model for text."
            )
        )
    return found


def check_requirements(files: TeacherFiles, trust_remote_code: bool = False) -> None:
    """Refuse files that are no teacher.

    Raises:
        TeacherError: The first of `find_problems`.
    """
    for problem in find_problems(files, trust_remote_code):
        raise problem


def _missing_weights(files: TeacherFiles) -> list[TeacherError]:
    """The transformer and other modules that have no weights that can be opened without running code."""
    paths = {"": files.encoder_path}
    paths |= {
        f"{module['path']} of ": module["path"]
        for module in files.modules
        if module["type"].rpartition(".")[2] in _WITH_WEIGHTS
    }
    return [
        TeacherError(
            f"{whose}{files.name} has no weights in model.safetensors. Pickled weights such as pytorch_model.bin can "
            "run code when they are opened and are not loaded. Choose another teacher; or, if you trust this one, "
            'convert it and use the new folder: python -c "from sentence_transformers import SentenceTransformer as S; '
            f"S('{files.name}').save_pretrained('converted-teacher')\""
        )
        for whose, path in paths.items()
        if not _WEIGHTS.intersection(_names_in(files.sizes, path))
    ]


def _names_in(sizes: Mapping[str, int], path: str) -> list[str]:
    """The names of the files in one folder, which is the root where the path is empty."""
    found = (file.rpartition("/") for file in sizes)
    return [name for folder, _, name in found if folder == path.strip("/.")]
