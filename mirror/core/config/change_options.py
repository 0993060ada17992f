"""The section ``changes`` of mirror.json: what is told of the transactions that were applied, and to whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mirror.core.config.argent_json import variable
from mirror.core.errors import ConfigError
from mirror.core.web_address import WebAddress, web_address

#: What signs the posts of the webhook.
SIGNED_WITH = "MIRROR_WEBHOOK_SECRET"
#: Transactions that a stream in Redis keeps, if it is not said otherwise.
KEEP = 10_000


class ChangeOptions(msgspec.Struct, frozen=True):
    """The section."""

    keep: int = KEEP
    """Transactions that the stream of a source in Redis keeps, about."""
    log: int = 0
    """Transactions of a source that are kept in Postgres; 0: there is no log."""
    webhook: WebAddress | None = None
    tables: tuple[str, ...] = ()
    """The tables that the webhook hears of; empty: all."""

    def values(self) -> Iterator[tuple[str, Any]]:
        """Each by its key, as it may be shown."""
        yield from (("keep", self.keep), ("log", self.log))
        yield "webhook.url", self.webhook and self.webhook.shown
        yield "webhook.tables", list(self.tables)


def change_options(file: Any, place: str) -> tuple[ChangeOptions | None, dict[str, str]]:
    """What a file says of the change feed (None: there is none), and where each setting comes from.

    ``file``: None: there is none. ``place``: its path. Raises ``ConfigError`` for an address of another kind.
    """
    section = getattr(file, "changes", None)
    origin = f"{place}: changes" if section else "default: there is no change feed"
    origins = {f"changes.{key}": origin for key, _ in ChangeOptions().values()}
    if not section:  # UNSET counts as false
        return None, origins
    webhook = section.webhook or None
    address = None if webhook is None else web_address(webhook.url.strip(), "changes.webhook.url")
    tables = () if webhook is None else tuple(webhook.tables or ())
    return ChangeOptions(section.keep or KEEP, section.log or 0, address, tables), origins


def secret_of(environment: Mapping[str, str]) -> str:
    """What signs the webhook's posts. Raises ``ConfigError`` if it is not set."""
    found = variable(environment, SIGNED_WITH)
    if found is None:
        detail = "changes.webhook is there, and the variable is not set"
        step = "set it to a long random text, which the receiver has, too"
        raise ConfigError("sign what the webhook gets", SIGNED_WITH, detail, next_step=step)
    return found[1]
