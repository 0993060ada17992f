"""Keep a Postgres database equal to a live SQLite file, without touching the program that writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirror.hook.api import Mirror, as_agent, disable_mirror, enable_mirror
    from mirror.storage.factory import get_async_storage_adapter, get_storage_adapter

    __version__: str

__all__ = [
    "Mirror",
    "__version__",
    "as_agent",
    "disable_mirror",
    "enable_mirror",
    "get_async_storage_adapter",
    "get_storage_adapter",
]
#: Where the names are, but for the hook's.
_STORAGE = ("get_async_storage_adapter", "get_storage_adapter")


def __getattr__(name: str) -> Any:
    """Look a name up when it is asked for: the command line needs no hook, and finding the version takes long."""
    if name == "__version__":
        return _version()
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("mirror.storage.factory" if name in _STORAGE else "mirror.hook.api"), name)
    raise AttributeError(name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mirror")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0.0.0"
