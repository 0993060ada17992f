"""What a mirror that runs takes over when its configuration is read again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loguru import logger

from mirror.core.config.settings import Settings, SourceSettings, load_settings
from mirror.core.errors import MirrorError
from mirror.core.files import Stamp
from mirror.core.messages import Add
from mirror.sidecar.supervisor import Supervisor

#: Seconds between two looks at the files.
LOOK_SECONDS = 1.0

#: What a running mirror goes by, by the names that people know it by.
_LASTING: dict[str, Callable[[Settings], object]] = {
    "Postgres": lambda settings: settings.dsn,
    "the state directory": lambda settings: settings.state_dir,
    "alerts": lambda settings: settings.alerts,
    "Redis": lambda settings: (settings.storage.redis, settings.storage.redis_db),
    "rules for columns and tables": lambda settings: settings.rules,
    "the form of the log": lambda settings: settings.log,
}


def _said(source: SourceSettings) -> tuple[str | None, ...]:
    return source.agent, source.schema, source.profile


class Rereading:
    """Reads the configuration again, when that is asked for or a file has changed. Thread: the command's."""

    def __init__(self, settings: Settings, given: Mapping[str, Any], mirror: Supervisor) -> None:
        """``settings``: what the mirror began with. ``given``: the parameters of its command."""
        self._settings, self._mirror = settings, mirror
        self._flags = [given[name] for name in ("sources", "postgres", "state_dir", "schema", "config")]
        self._listed = set(settings.sources) if not given["sources"] and _lists_sources(settings) else None
        """The sources that mirror.json lists, where the mirror goes by that; None: it does not."""
        self._seen = self._looked = self._stamps()
        self._next_look = 0.0
        self._said: list[str] = []

    def _stamps(self) -> list[Stamp | None]:
        return [_stamp(file.path) for file in self._settings.files]

    def is_due(self) -> bool:
        """Whether a file has changed, and is written no more; looks once a second."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_SECONDS
        before, self._looked = self._looked, self._stamps()
        return self._looked != self._seen and self._looked == before

    def read(self, *, asked: bool) -> None:
        """Add and remove sources as mirror.json lists them now, and log what else is new: a mirror that runs keeps what
        it began with.

        ``asked``: somebody waits to be told also that nothing is new. Files that cannot be used are logged, too, and
        change nothing.
        """
        self._seen = self._stamps()  # before they are read: a later change is read again
        try:
            now = load_settings(*self._flags)
        except MirrorError as error:
            words = "the configuration was read again, and cannot be used: {error}; the mirror goes on as before"
            logger.error(words, error=error)
            return
        moved = self._follow_list(now)
        changed = [name for name, of in _LASTING.items() if of(now) != of(self._settings)]
        before = {each.path: _said(each) for each in self._settings.configured}
        if any(before.get(each.path, _said(each)) != _said(each) for each in now.configured):
            changed.append("what is said of single sources")
        if changed and (asked or changed != self._said):
            logger.warning(
                "the configuration was read again: {} changed, which takes effect when the mirror is started again",
                ", ".join(changed),
            )
        elif asked and not moved:
            logger.info("the configuration was read again: nothing changed that a running mirror goes by")
        self._said = changed

    def _follow_list(self, now: Settings) -> bool:
        """Add and remove sources; returns whether there were any."""
        if self._listed is None:
            return False
        if not _lists_sources(now):
            logger.warning("the configuration was read again: it lists no source; those that are mirrored go on")
            return True
        listed = set(now.sources)
        added, gone = listed - self._listed, self._listed - listed
        entries = {each.path: each for each in now.configured}
        if added or gone:
            names = [f"{each.name} is listed" for each in sorted(added)]
            names += [f"{each.name} is not listed any more" for each in sorted(gone)]
            logger.info("the configuration was read again: {}", ", ".join(names))
        for source in sorted(added | gone):
            try:
                if source in gone:
                    if source in self._mirror.sources:
                        self._mirror.remove(source, 0.0)
                    self._listed.discard(source)
                else:
                    entry = entries[source]
                    self._mirror.add(Add(str(source), entry.agent, entry.schema, entry.profile))
                    self._listed.add(source)
            except MirrorError as error:
                logger.error("{}: mirror.json lists it otherwise now: {error}", source.name, error=error)
        return bool(added or gone)


def _lists_sources(settings: Settings) -> bool:
    """Whether the sources are those that mirror.json lists."""
    return bool(settings.sources) and settings.origins.get("sources") not in ("arguments", "default")


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path)
    except OSError:
        return None
