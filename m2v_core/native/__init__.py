"""The compiled kernels of the encoder and of calibration.

They are C11 with vector intrinsics rather than Cython because nearly every line works on bytes and registers, and
sanitizers, fuzzers and profilers work directly on C. `src/module.c` is the only file that includes Python.h, and
uses the stable ABI: one build serves Python 3.11 and later.

If the extension was not built (no C compiler, no wheel for the platform), `kernels` is None and callers use NumPy.
"""

from __future__ import annotations

import logging
from types import ModuleType

logger = logging.getLogger(__name__)

# Without --no-cache-dir, pip would reinstall the wheel that it built without a compiler.
_HOW_TO_GET_KERNELS = (
    "install a C compiler (gcc, clang or Visual Studio Build Tools) and run "
    "`pip install --force-reinstall --no-deps --no-cache-dir m2v-studio`"
)

kernels: ModuleType | None
try:
    from m2v_core.native import extension as kernels
except ImportError as error:
    kernels = None
    logger.warning(
        "Encoding uses the slower NumPy path because the compiled kernels cannot be imported (%s). To get them, %s.",
        error,
        _HOW_TO_GET_KERNELS,
    )


def kernels_in_use() -> str:
    """Return the instruction set that the kernels use, or how to install them."""
    if kernels is None:
        return f"not installed; to encode many times faster, {_HOW_TO_GET_KERNELS}"
    return str(kernels.available_instructions[-1])
