"""One interface for everything that converts text to vectors, so that all are measured in the same way."""

from m2v_core.evaluation.encoders.base import (
    BatchReporter,
    Encoder,
    EncoderFacts,
    Role,
    disk_bytes,
    tokenizer_threads,
)
from m2v_core.evaluation.encoders.opening import SPECS, encoder_kind, encoder_names, open_encoder
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
    "BatchReporter",
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
    "encoder_kind",
    "encoder_names",
    "open_encoder",
    "tokenizer_threads",
]
