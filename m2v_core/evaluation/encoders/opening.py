"""Creates encoders from descriptions on the command line."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2v_core.errors import HubError, InputError, NotFoundError
from m2v_core.evaluation.encoders.base import Encoder
from m2v_core.evaluation.encoders.static import (
    BPEmbEncoder,
    Model2VecEncoder,
    StaticEncoder,
    TfidfEncoder,
    WordLlamaEncoder,
    WordVectorEncoder,
)
from m2v_core.evaluation.encoders.teacher import OnnxTeacherEncoder, TeacherEncoder

SPECS = {
    "static:": "a static model, by folder or Hub name",
    "teacher:": "a Sentence Transformer, by Hub name or folder",
    "onnx:": "a Sentence Transformer in ONNX Runtime",
    "model2vec:": "a static model in the model2vec package",
    "vectors:": "a file of GloVe or word2vec vectors, or an .npy table next to a .parquet file of its words",
    "bpemb:": "a folder with the two files of BPEmb, from https://bpemb.h-its.org",
    "wordllama": "the model of the wordllama package",
    "tfidf": "weighted word counts",
}
"""The meaning of each form; the kind of an encoder without a form depends on its files: see `encoder_kind`."""

_TELLING = ("modules.json", "config.json")


def open_encoder(
    spec: str,
    name: str | None = None,
    *,
    teacher_folder: Callable[[str], Path],
    device: str | Callable[[], str] = "cpu",
) -> Encoder:
    """Create the encoder for a description.

    Args:
        spec: One of the forms in `SPECS`, or a folder, a file of word vectors or a Hub name; see `encoder_kind`.
        name: Display name; None for a name derived from `spec`.
        teacher_folder: Finds or downloads a teacher, and rejects untrusted ones:
            `m2v_core.distillation.teacher.teacher.trusted_folder`.
        device: Device of teachers; a function is only called if there is a teacher.

    Raises:
        InputError: `spec` is not a valid description.
        M2VError: The encoder can't be created.
    """
    _, rest = _parts(spec)
    name = name or _label(spec)
    teacher_folder = functools.cache(teacher_folder)
    kind = encoder_kind(spec, teacher_folder=teacher_folder)
    if kind == "teacher":
        return TeacherEncoder(teacher_folder(rest), name, device if isinstance(device, str) else device())
    if kind == "onnx":
        return OnnxTeacherEncoder(teacher_folder(rest), name)
    if kind == "wordllama":
        return WordLlamaEncoder(name)
    if kind == "tfidf":
        return TfidfEncoder(name)
    if kind == "model2vec":
        return Model2VecEncoder(rest, name)
    if kind == "vectors":
        return WordVectorEncoder(rest, name)
    if kind == "bpemb":
        return BPEmbEncoder(rest, name)
    return StaticEncoder.load(rest, name)


def encoder_kind(spec: str, *, teacher_folder: Callable[[str], Path]) -> str:
    """The kind of encoder of a description: a form in `SPECS` without its colon.

    A form is used as is. Otherwise the kind depends on the files of the folder or of the Hub repository:
    `modules.json` and `config.json` contain the modules. Any single file counts as word vectors. Missing files count as
    a static model, so that loading it reports what is missing.

    Args:
        spec: As for `open_encoder`.
        teacher_folder: As for `open_encoder`; used without the Hub, to find bundled or cached teachers.

    Raises:
        InputError: `spec` is not a valid description.
        HubError: The Hub can't be reached, and the files aren't on this machine.
    """
    kind, rest = _parts(spec)
    if kind:
        return kind
    path = Path(rest).expanduser()
    if path.is_file():
        return "vectors"
    if path.is_dir():
        return _kind_of_folder(path)
    from m2v_core.hub import download, info

    if not download.is_repo_id(rest):
        return "static"
    try:
        facts = info.repo_facts(rest)
        contents = info.read_files(facts, _TELLING)
    except NotFoundError:
        return "static"
    except HubError as error:
        try:
            return _kind_of_folder(download.download_model(rest))
        except HubError:
            pass  # not cached as a static model
        try:
            return _kind_of_folder(teacher_folder(rest))
        except HubError:
            raise error from None
    return _kind_of_files(contents or {})


def _kind_of_folder(folder: Path) -> str:
    contents = {name: (folder / name).read_bytes() for name in _TELLING if (folder / name).is_file()}
    is_bpemb = not contents and any(folder.glob("*.model")) and any(folder.glob("*.bin"))
    return "bpemb" if is_bpemb else _kind_of_files(contents)


def _kind_of_files(contents: Mapping[str, bytes]) -> str:
    """The kind of encoder, given the existing files of `_TELLING`."""
    modules, config = (_json(contents.get(name, b"")) for name in _TELLING)
    types = [str(module.get("type")) for module in modules if isinstance(module, dict)] if modules else []
    if any(module.endswith("StaticEmbedding") for module in types):
        return "static"
    # The first releases of static models wrote a configuration without a type.
    model_type = config.get("model_type", "model2vec") if isinstance(config, dict) else "model2vec"
    return "teacher" if types or model_type != "model2vec" else "static"


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:  # missing or damaged: opening the encoder reports which
        return None


def encoder_names(specs: Sequence[str]) -> list[str]:
    """A short name for each description, or the description itself if short names would be equal.

    Raises:
        InputError: A duplicate or invalid description.
    """
    repeated = [spec for spec, count in Counter(specs).items() if count > 1]
    if repeated:
        raise InputError(f"Duplicate encoder: {repeated[0]!r}. Pass each encoder once.")
    labels = [_label(spec) for spec in specs]
    return [spec if labels.count(label) > 1 else label for spec, label in zip(specs, labels, strict=True)]


def _parts(spec: str) -> tuple[str, str]:
    """The kind of encoder and the rest of the description; an empty kind for a static model."""
    if spec in SPECS and not spec.endswith(":"):
        return spec, ""
    kind, colon, rest = spec.partition(":")
    if not colon or f"{kind}:" not in SPECS:
        kind, rest = "", spec
    if not rest:
        forms = "; ".join(f"{form} {meaning}" for form, meaning in SPECS.items())
        raise InputError(f"{spec!r} is not an encoder. Pass a static model's folder or Hub name, or: {forms}.")
    return kind, rest


def _label(spec: str) -> str:
    kind, rest = _parts(spec)
    last = Path(rest).expanduser().resolve().name if Path(rest).expanduser().exists() else rest.split("/")[-1]
    labels = {
        "wordllama": "WL256",
        "tfidf": "TF-IDF",
        "onnx": f"{last} (ONNX)",
        "model2vec": f"{last} (model2vec)",
        "vectors": last.removesuffix(".gz"),
    }
    return labels.get(kind, last)
