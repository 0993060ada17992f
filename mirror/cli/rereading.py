"""What a mirror that runs takes over when its configuration is read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from loguru import logger

from mirror.core.config.settings import Settings, SourceSettings, load_settings
from mirror.core.errors import MirrorError

#: What a running mirror goes by, by the names that people know it by.
_LASTING: dict[str, Callable[[Settings], object]] = {
    "the sources": lambda settings: settings.sources,
    "what is said of single sources": lambda settings: [
        said for each in settings.configured if any(said := _said(each))
    ],
    "Postgres": lambda settings: settings.dsn,
    "the state directory": lambda settings: settings.state_dir,
    "alerts": lambda settings: settings.alerts,
    "Redis": lambda settings: (settings.storage.redis, settings.storage.redis_db),
    "rules for columns and tables": lambda settings: settings.rules,
    "the form of the log": lambda settings: settings.log,
}


def _said(source: SourceSettings) -> tuple[str | None, ...]:
    return source.agent, source.schema, source.profile


def reread(settings: Settings, given: Mapping[str, Any]) -> list[str]:
    """Read the configuration again, and log what of it is new: a mirror that runs keeps what it began with.

    ``settings``: what it began with. ``given``: the parameters of its command. Returns what has changed. Files that
    cannot be used are logged, too, and change nothing.
    """
    flags = (given[name] for name in ("sources", "postgres", "state_dir", "schema", "config"))
    try:
        now = load_settings(*flags)
    except MirrorError as error:
        words = "the configuration was read again, and cannot be used: {error}; the mirror goes on as before"
        logger.error(words, error=error)
        return []
    changed = [name for name, of in _LASTING.items() if of(now) != of(settings)]
    if changed:
        logger.warning(
            "the configuration was read again: {} changed, which takes effect when the mirror is started again",
            ", ".join(changed),
        )
    else:
        logger.info("the configuration was read again: nothing changed that a running mirror goes by")
    return changed
