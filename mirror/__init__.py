"""Keep a Postgres database equal to a live SQLite file, without touching the program that writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirror.core.errors import MirrorError
    from mirror.hook.api import Mirror, as_agent, disable_mirror, enable_mirror
    from mirror.hot.connection import get_async_redis_client, get_redis_client
    from mirror.hot.facade import get_async_hot_state, get_hot_state
    from mirror.storage.factory import get_async_storage_adapter, get_storage_adapter

    __version__: str

__all__ = [
    "Mirror",
    "MirrorError",
    "__version__",
    "as_agent",
    "disable_mirror",
    "enable_mirror",
    "get_async_hot_state",
    "get_async_redis_client",
    "get_async_storage_adapter",
    "get_hot_state",
    "get_redis_client",
    "get_storage_adapter",
]
#: Where the names are, but for the hook's.
_MODULES = {
    "MirrorError": "mirror.core.errors",
    "get_async_hot_state": "mirror.hot.facade",
    "get_async_redis_client": "mirror.hot.connection",
    "get_async_storage_adapter": "mirror.storage.factory",
    "get_hot_state": "mirror.hot.facade",
    "get_redis_client": "mirror.hot.connection",
    "get_storage_adapter": "mirror.storage.factory",
}


def __getattr__(name: str) -> Any:
    """Look a name up when it is asked for: the command line needs no hook, and finding the version takes long."""
    if name == "__version__":
        return _version()
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(_MODULES.get(name, "mirror.hook.api")), name)
    raise AttributeError(name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mirror")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0.0.0"
