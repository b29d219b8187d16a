"""Runs code for model2vec with this library: `install()` makes `import model2vec` return this implementation.

    import m2v_core.compat

    m2v_core.compat.install()
    from model2vec import StaticModel

`python -m m2v_core.compat script.py` does the same for a script. Both affect only one process; a process started with
the method "spawn" must call `install()` itself. Everything else in this library works without it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import ModuleType

from m2v_core.errors import InputError

_NAME = "model2vec"
_OURS = f"{__name__}.{_NAME}"


def install() -> None:
    """Make `import model2vec` and its submodules return the modules in `m2v_core.compat.model2vec`.

    Calling it again has no effect.

    Raises:
        InputError: The package model2vec was imported before.
    """
    found = sys.modules.get(_NAME)
    if found is not None and found is not sys.modules.get(_OURS):
        raise InputError(
            f"model2vec was imported before install(), from {getattr(found, '__file__', None)}. Call "
            "m2v_core.compat.install() before the first import of model2vec, or of a library that imports it."
        )
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder, Loader):
    """Finds `model2vec` and its submodules in `m2v_core.compat`; the loaded modules are the same objects."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of `model2vec` or one of its submodules; None for every other module."""
        spec = find_spec(f"{__name__}.{fullname}") if fullname.partition(".")[0] == _NAME else None
        if spec is None:
            return None
        is_package = spec.submodule_search_locations is not None
        return spec_from_loader(fullname, self, origin=spec.origin, is_package=is_package)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module in `m2v_core.compat`, loaded under its own name."""
        module = import_module(f"{__name__}.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec, which the import system has replaced."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state
