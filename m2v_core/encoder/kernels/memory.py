"""Memory by its address."""

# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import platform
from typing import Any, TypeVar

import numba
import numba.extending
from llvmlite import binding, ir

intrinsic: Any = numba.extending.intrinsic
njit: Any = numba.njit
types: Any = numba.types

# Every processor with vector instructions since 2013 reads half precision by itself.
READS_HALVES = platform.machine() not in ("x86_64", "AMD64") or bool(binding.get_host_cpu_features().get("f16c"))

_Function = TypeVar("_Function")


def helper(function: _Function) -> _Function:
    """A function that entry points call; dividing by zero as the processor does, it has nothing left to raise."""
    compiled: _Function = njit(nogil=True, error_model="numpy")(function)
    return compiled


def adding_in_any_order(function: _Function) -> _Function:
    """As `helper`, for a sum that may be taken in parts."""
    compiled: _Function = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})(function)
    return compiled


def _pointer_to(kind: Any) -> Any:
    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


bytes_at = _pointer_to(types.uint8)
int8s_at = _pointer_to(types.int8)
int32s_at = _pointer_to(types.int32)
int64s_at = _pointer_to(types.int64)
uint64s_at = _pointer_to(types.uint64)
halves_at = _pointer_to(types.uint16)
float32s_at = _pointer_to(types.float32)
float64s_at = _pointer_to(types.float64)


@intrinsic
def load(typing_context: Any, address: Any) -> Any:
    """Eight bytes from any address, the first one lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        value = builder.load(builder.inttoptr(arguments[0], word.as_pointer()), typ=word)
        value.align = 1
        return value

    return types.uint64(types.int64), generate


@intrinsic
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """How many of the lowest bits are zero; some are not."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@intrinsic
def as_float32(typing_context: Any, value: Any) -> Any:
    """A cell of the model's rows as float32; 16 bits are a number in half precision."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if value == types.uint16:
            return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())
        if value == types.int8:
            return builder.sitofp(arguments[0], ir.FloatType())
        return arguments[0]

    return types.float32(value), generate
