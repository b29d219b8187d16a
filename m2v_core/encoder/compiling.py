"""The kernels compiled: into an image, in a process of its own, or within this process where images can't be run."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import binding, ir
from numba import cfunc, types
from numba import config as numba_config
from numba.core.compiler_lock import global_compiler_lock

from m2v_core.encoder import image
from m2v_core.encoder.kernels.gram import multiply_by_gram
from m2v_core.encoder.kernels.memory import READS_HALVES
from m2v_core.encoder.kernels.pooling import pool
from m2v_core.encoder.kernels.reading import collect, tokenize
from m2v_core.encoder.kernels.splitting import to_bytes
from m2v_core.encoder.kernels.upkeep import add, copy, fill, rehash
from m2v_core.encoder.linking import linked

config: Any = numba_config
ENTRIES: tuple[Callable[..., Any], ...] = (
    pool,
    tokenize,
    collect,
    to_bytes,
    add,
    fill,
    copy,
    rehash,
    multiply_by_gram,
)

if hasattr(os, "register_at_fork"):
    # A child has no thread that would ever release the lock of a compilation in progress, so none may be.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


def _n_arguments(entry: Callable[..., Any]) -> int:
    return len(inspect.signature(entry).parameters)


def _compiled(entry: Callable[..., Any], is_kept: bool = False) -> Any:
    signature = types.int64(*[types.int64] * _n_arguments(entry))
    return cfunc(signature, cache=is_kept, error_model="numpy")(entry)


def in_this_process() -> image.Loaded:
    """The kernels compiled by numba here, and kept for later processes where a folder can be written to."""
    try:
        # By default numba would keep them beside the package and not notice when a module they import changes.
        folder = image.folder_to_write() / f"numba-{image.version()}"
    except (image.ImageError, OSError):
        kernels = {entry.__name__: _compiled(entry) for entry in ENTRIES}
    else:
        with global_compiler_lock:
            before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
            try:
                kernels = {entry.__name__: _compiled(entry, is_kept=True) for entry in ENTRIES}
            finally:
                config.CACHE_DIR = before
    entries = {entry.__name__: image.Entry(kernels[entry.__name__].address, _n_arguments(entry)) for entry in ENTRIES}
    return image.Loaded(entries, READS_HALVES, kernels)


def object_file() -> bytes:
    """The kernels for this processor, as an object file that refers to nothing of Python's."""
    module = binding.parse_assembly("")
    for entry in ENTRIES:
        compiled = _compiled(entry)
        # numba's own way out for C would report errors to Python; there are none.
        native = compiled.native_name.removeprefix("cfunc.")
        found = binding.parse_assembly(compiled.inspect_llvm())
        found.link_in(binding.parse_assembly(_way_in(entry, native)))
        for function in found.functions:
            if not function.is_declaration and function.name != entry.__name__:
                function.linkage = "internal"
        module.link_in(found)
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="small",
    )
    passes = binding.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, binding.create_pass_builder(machine, binding.create_pipeline_tuning_options()))
    emitted: bytes = machine.emit_object(module)
    return emitted


def _way_in(entry: Callable[..., Any], native: str) -> str:
    """A function of C's kind that calls the one of numba's kind, which returns a status and writes its result."""
    module = ir.Module()
    number, place = ir.IntType(64), ir.IntType(8).as_pointer()
    numbers = [number] * _n_arguments(entry)
    inner = ir.Function(
        module, ir.FunctionType(ir.IntType(32), [number.as_pointer(), place.as_pointer(), *numbers]), native
    )
    outer = ir.Function(module, ir.FunctionType(number, numbers), entry.__name__)
    builder = ir.IRBuilder(outer.append_basic_block())
    result, error = builder.alloca(number), builder.alloca(place)
    builder.call(inner, [result, error, *outer.args])
    builder.ret(builder.load(result, typ=number))
    return str(module)


def build(folder: Path) -> None:
    """Put the image into the folder, unless it is there.

    Raises:
        LinkError: The compiler gave something that isn't understood.
        OSError: It can't be written.
    """
    with image.sole_builder(folder):
        try:
            image.load()
        except image.ImageError:
            made = linked(object_file(), [entry.__name__ for entry in ENTRIES])
            entries = {entry.__name__: (made.symbols[entry.__name__], _n_arguments(entry)) for entry in ENTRIES}
            description = {"entries": entries, "addresses": made.addresses, "reads_halves": bool(READS_HALVES)}
            image.write(folder, description, made.image)


def main() -> None:
    """Build in the folder named on the command line."""
    build(Path(sys.argv[1]))
