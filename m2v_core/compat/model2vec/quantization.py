"""The number formats of a table."""

from __future__ import annotations

from enum import Enum


class DType(str, Enum):  # noqa: UP042  # model2vec's own, whose str() is that of an Enum
    """A number format; float64 is accepted and converted to float32."""

    Float16 = "float16"
    Float32 = "float32"
    Float64 = "float64"
    Int8 = "int8"


def offered(dtype: DType | str) -> str:
    """Return the name of a number format, float32 for float64.

    Raises:
        ValueError: The format is not supported.
    """
    name = DType(dtype).value
    return "float32" if name == "float64" else name
