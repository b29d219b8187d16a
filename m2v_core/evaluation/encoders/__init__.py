"""One face for everything that turns text into vectors, so that all are measured in the same way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from m2v_core.errors import InputError
from m2v_core.evaluation.encoders.base import Encoder, EncoderFacts, Role, disk_bytes, tokenizer_threads
from m2v_core.evaluation.encoders.static import (
    BPEmbEncoder,
    Model2VecEncoder,
    StaticEncoder,
    TfidfEncoder,
    WordLlamaEncoder,
    WordVectorEncoder,
)
from m2v_core.evaluation.encoders.teacher import OnnxTeacherEncoder, TeacherEncoder

__all__ = [
    "SPECS",
    "BPEmbEncoder",
    "Encoder",
    "EncoderFacts",
    "Model2VecEncoder",
    "OnnxTeacherEncoder",
    "Role",
    "StaticEncoder",
    "TeacherEncoder",
    "TfidfEncoder",
    "WordLlamaEncoder",
    "WordVectorEncoder",
    "disk_bytes",
    "encoder_names",
    "open_encoder",
    "tokenizer_threads",
]

SPECS = {
    "teacher:": "a Sentence Transformer, by Hub name or folder",
    "onnx:": "a Sentence Transformer in ONNX Runtime",
    "model2vec:": "a static model in the model2vec package",
    "vectors:": "a file of GloVe or word2vec vectors",
    "bpemb:": "a folder with the two files of BPEmb",
    "wordllama": "the model of the wordllama package",
    "tfidf": "weighted word counts",
}
"""What each form means; anything else is a static model, by folder or Hub name."""


def open_encoder(
    spec: str, name: str | None = None, *, teacher_folder: Callable[[str], Path], device: str = "cpu"
) -> Encoder:
    """The encoder that a few words describe.

    Args:
        spec: One of the forms in `SPECS`, or a static model's folder or Hub name.
        name: What people call it; a name made from `spec` when None.
        teacher_folder: Finds a teacher on this machine or downloads it, and refuses one that can't be trusted:
            `m2v_core.distillation.teacher.teacher.trusted_folder`.
        device: Where a teacher runs.

    Raises:
        InputError: `spec` names nothing.
        M2VError: As the encoders.
    """
    kind, rest = _parts(spec)
    name = name or _label(spec)
    if kind == "teacher":
        return TeacherEncoder(teacher_folder(rest), name, device)
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
    return StaticEncoder.load(spec, name)


def encoder_names(specs: Sequence[str]) -> list[str]:
    """A short name for each description, or the description itself where two would be called alike.

    Raises:
        InputError: The same description twice, or one that names nothing.
    """
    repeated = [spec for spec, count in Counter(specs).items() if count > 1]
    if repeated:
        raise InputError(f"{repeated[0]!r} is there twice; name each encoder once.")
    labels = [_label(spec) for spec in specs]
    return [spec if labels.count(label) > 1 else label for spec, label in zip(specs, labels, strict=True)]


def _parts(spec: str) -> tuple[str, str]:
    """The kind of encoder and what it is made from; no kind for a static model."""
    if spec in SPECS and not spec.endswith(":"):
        return spec, ""
    kind, colon, rest = spec.partition(":")
    if not colon or f"{kind}:" not in SPECS:
        kind, rest = "", spec
    if not rest:
        forms = "; ".join(f"{form} {meaning}" for form, meaning in SPECS.items())
        raise InputError(f"{spec!r} describes no encoder. Give a static model's folder or Hub name, or: {forms}.")
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
