"""`distill` and `distill_from_model` under Model2Vec's module path; `python -m m2v_core.distill` runs `m2v distill`.

The module is callable: `m2v_core.distill(...)` calls the function.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

if __name__ == "__main__":  # before importing tqdm and huggingface_hub, whose progress bars the command disables
    from m2v_core.cli import main

    sys.argv.insert(1, "distill")
    main()

from m2v_core.distillation.pipeline import distill, distill_from_model

__all__ = ["distill", "distill_from_model"]


class _CallableModule(ModuleType):
    # Importing the module replaces the attribute `m2v_core.distill`, so the module must behave like the function.
    __call__ = staticmethod(distill)
    __wrapped__ = staticmethod(distill)  # for inspect.signature

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _CallableModule
