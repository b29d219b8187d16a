"""Requirements for teachers, checked from their configuration files."""

from __future__ import annotations

from collections.abc import Mapping

from m2v_core.distillation.teacher.files import TeacherFiles
from m2v_core.distillation.teacher.source import SLOW_TOKENIZER_FILES
from m2v_core.errors import RemoteCodeError, TeacherError
from m2v_core.storage.teacher_code import find_custom_code

_WEIGHTS = frozenset({"model.safetensors", "model.safetensors.index.json"})
_WITH_WEIGHTS = ("Dense", "LayerNorm", "CNN", "LSTM")


def find_problems(files: TeacherFiles, trust_remote_code: bool = False) -> list[TeacherError]:
    """Check the requirements without loading weights; `TeacherFiles` checks that the tokenizer can be loaded.

    Args:
        files: Files of a folder or repository.
        trust_remote_code: Whether code from the teacher's repository may run.

    Returns:
        Errors, most severe first, each with a suggested fix; empty if the teacher is supported. Custom code is a
        `RemoteCodeError`.
    """
    config = files.json("config.json")
    if not config:
        return [
            TeacherError(
                f"{files.name} has no valid config.json, so it is not a Sentence Transformer. Choose a repository or "
                "folder with config.json, tokenizer.json and model.safetensors."
            )
        ]
    if config.get("model_type") == "model2vec":
        return [
            TeacherError(
                f"{files.name} is already a static model. Choose the Sentence Transformer that it was distilled from."
            )
        ]
    found: list[TeacherError] = []
    try:
        modules = files.modules
    except TeacherError as error:
        return [error]
    code = None if trust_remote_code else find_custom_code(config, modules)
    if code is not None:
        found.append(
            RemoteCodeError(
                f"{files.name} requires custom code ({code}), which can execute arbitrary commands. Choose another "
                "teacher; or review the code and, if you trust it, pass trust_remote_code=True (--trust-remote-code)."
            )
        )
    found += _missing_weights(files)
    if not any(files.has(name) for name in ("tokenizer.json", *SLOW_TOKENIZER_FILES)):
        found.append(
            TeacherError(
                f"{files.name} has no tokenizer (none of tokenizer.json, {', '.join(SLOW_TOKENIZER_FILES)}). Choose a "
                "text model."
            )
        )
    return found


def check_requirements(files: TeacherFiles, trust_remote_code: bool = False) -> None:
    """Raise the first problem of a teacher, if any.

    Raises:
        TeacherError: The first of `find_problems`.
    """
    for problem in find_problems(files, trust_remote_code):
        raise problem


def _missing_weights(files: TeacherFiles) -> list[TeacherError]:
    """Find the transformer and modules without safetensors weights."""
    paths = {"": files.encoder_path}
    paths |= {
        f"{module['path']} of ": module["path"]
        for module in files.modules
        if module["type"].rpartition(".")[2] in _WITH_WEIGHTS
    }
    return [
        TeacherError(
            f"{whose}{files.name} has no model.safetensors. Pickled weights such as pytorch_model.bin can run code "
            "when loaded, so they are not supported. Choose another teacher; or, if you trust this one, "
            'convert it and use the new folder: python -c "from sentence_transformers import SentenceTransformer as S; '
            f"S('{files.name}').save_pretrained('converted-teacher')\""
        )
        for whose, path in paths.items()
        if not _WEIGHTS.intersection(_names_in(files.sizes, path))
    ]


def _names_in(sizes: Mapping[str, int], path: str) -> list[str]:
    """Names of the files in one folder; an empty path is the root."""
    found = (file.rpartition("/") for file in sizes)
    return [name for folder, _, name in found if folder == path.strip("/.")]
