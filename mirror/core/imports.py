"""Imports that take long: something to do as soon as another has loaded a module, and loading numpy beside the work."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:  # it loads slowly
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class WhenImported:
    """Calls a function with the module. A finder, as the import system has them in ``sys.meta_path``."""

    def __init__(self, name: str, then: Callable[[ModuleType], object]) -> None:
        self._name, self._then = name, then

    def begin(self) -> None:
        """Wait for it, unless that is done already."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Stop waiting."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """Leave the search to the other finders, and wrap the loader that they give."""
        if name != self._name:
            return None
        self.end()
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Loader(spec.loader, self._then))
        return spec


class _Loader:
    """Loads as another loader does, and then calls a function with the module."""

    def __init__(self, loader: Loader, then: Callable[[ModuleType], object]) -> None:
        self._loader, self._then = loader, then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as the wrapped loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Load as the wrapped loader does, and leave no trace of this one in the module."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then(module)


_numpy_loader: threading.Thread | None = None


def has_numpy() -> bool:
    """Whether numpy, which large work is faster with, can be used without waiting for it."""
    return "numpy" in sys.modules and (_numpy_loader is None or not _numpy_loader.is_alive())


def load_numpy() -> None:
    """Begin to load it, unless that was begun; returns at once. A loop that loaded it itself would stand for 0.1 s."""
    global _numpy_loader
    if _numpy_loader is None and "numpy" not in sys.modules:
        _numpy_loader = threading.Thread(target=import_module, args=("numpy",), name="mirror numpy", daemon=True)
        _numpy_loader.start()
