"""``changes`` in mirror.json: what is told of the transactions that were applied, and to whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mirror.core.config.argent_json import variable
from mirror.core.errors import ConfigError

#: What signs the posts of the webhook.
SIGNED_WITH = "MIRROR_WEBHOOK_SECRET"
#: Transactions that a stream in Redis keeps, if it is not said otherwise.
KEEP = 10_000


@dataclass(frozen=True, slots=True)
class ChangeOptions:
    """The section."""

    keep: int = KEEP
    """Transactions that the stream of a source in Redis keeps, about."""
    log: int = 0
    """Transactions of a source that are kept in Postgres; 0: there is no log."""
    webhook: str | None = None
    """Its URL."""
    tables: tuple[str, ...] = ()
    """The tables that the webhook hears of; empty: all."""

    def values(self) -> Iterator[tuple[str, Any]]:
        """Each by its key."""
        yield from (("keep", self.keep), ("log", self.log))
        yield "webhook.url", None if self.webhook is None else shown(self.webhook)
        yield "webhook.tables", list(self.tables)


def options_of(section: Any) -> ChangeOptions | None:
    """The options of a section of mirror.json, None if there is none."""
    if not section:
        return None
    webhook = section.webhook or None
    tables = tuple(webhook.tables or ()) if webhook is not None else ()
    return ChangeOptions(section.keep or KEEP, section.log or 0, webhook and webhook.url.strip(), tables)


def shown(url: str) -> str:
    """A URL without what may be a password: a user, a query."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return "no URL"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def require_url(text: str, place: str) -> str:
    """The URL of a webhook. Raises ``ConfigError``, which repeats nothing of it: there may be a password in it."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        step = "give a URL that begins with https:// or http://"
        raise ConfigError("read the configuration", place, "it is no URL of a web server", next_step=step)
    if parts.username is not None or parts.password is not None:
        step = f"leave them out: posts are signed with {SIGNED_WITH}"
        raise ConfigError("read the configuration", place, "it has a user or a password", next_step=step)
    return text


def secret_of(environment: Mapping[str, str]) -> str:
    """What signs the webhook's posts. Raises ``ConfigError`` if it is not set."""
    found = variable(environment, SIGNED_WITH)
    if found is None:
        detail = "changes.webhook is there, and the variable is not set"
        step = "set it to a long random text, which the receiver has, too"
        raise ConfigError("sign what the webhook gets", SIGNED_WITH, detail, next_step=step)
    return found[1]
