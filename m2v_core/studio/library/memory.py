"""The models that stay in memory: the few that were used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from m2v_core.model import StaticModel


class LoadedModels:
    """Models by their folder; whoever asks for the same folder gets the same object. Threads may share it.

    Args:
        max_loaded: How many are kept.
    """

    def __init__(self, max_loaded: int) -> None:
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[Path, StaticModel] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path) -> StaticModel | None:
        """The model of a folder, which counts as used; None if it is not in memory."""
        with self._lock:
            model = self._loaded.get(path)
            if model is not None:
                self._loaded.move_to_end(path)
            return model

    def keep(self, path: Path, model: StaticModel) -> StaticModel:
        """The model of a folder: this one, unless another thread was faster."""
        with self._lock:
            model = self._loaded.setdefault(path, model)
            self._loaded.move_to_end(path)
            while len(self._loaded) > self._max_loaded:
                self._loaded.popitem(last=False)
        return model

    def forget(self, path: Path) -> None:
        """Drop the model of a folder."""
        with self._lock:
            self._loaded.pop(path, None)
