"""Keep a Postgres database equal to a live SQLite file, without touching the program that writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirror.hook.api import Mirror, as_agent, disable_mirror, enable_mirror

    __version__: str

__all__ = ["Mirror", "__version__", "as_agent", "disable_mirror", "enable_mirror"]


def __getattr__(name: str) -> Any:
    """Look a name up when it is asked for: the command line needs no hook, and finding the version takes long."""
    if name == "__version__":
        return _version()
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("mirror.hook.api"), name)
    raise AttributeError(name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mirror")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0.0.0"
