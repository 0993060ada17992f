"""What ``mirror doctor`` says of the servers besides Postgres that the configuration names: whether they answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from mirror.core.checks import Code, Level
from mirror.core.config.settings import Settings
from mirror.core.errors import ConfigError
from mirror.core.web_address import WebAddress
from mirror.sidecar.around import Around
from mirror.sidecar.redis_watch import RedisWatch

#: Seconds in which a webhook's server must take a connection.
CONNECT_SECONDS = 3.0


def reachable_checks(settings: Settings) -> Iterator[tuple[Code, Level, str, str, str]]:
    """Code, level, name, detail and next step of each check. The mirror works without these servers: notes."""
    if settings.storage.redis is not None:
        yield (Code.REDIS, *_redis(settings))
    changes = settings.changes.webhook if settings.changes is not None else None
    for key, address in (("alerts.webhook", settings.alerts.webhook), ("changes.webhook", changes)):
        if address is not None:
            yield (Code.WEBHOOK, *_webhook(key, address))


def _redis(settings: Settings) -> tuple[Level, str, str, str]:
    try:
        watch = RedisWatch(settings.storage, Around())
    except ConfigError as error:
        return "problem", "Redis", error.detail, error.next_step
    try:
        found = watch.look(quiet=True)
    finally:
        watch.stop()
    if found.error is not None:
        step = found.next_step or "start it, or take storage.redis out of the configuration"
        return "note", "Redis", f"{found.place} does not answer: {found.error}", step
    return (
        "note" if found.next_step else "ok",
        "Redis",
        f"{found.place}: {found.server or 'it'} answers",
        found.next_step,
    )


def _webhook(key: str, address: WebAddress) -> tuple[Level, str, str, str]:
    try:
        socket.create_connection((address.host, address.port), CONNECT_SECONDS).close()
    except OSError as error:
        detail = f"{address.place} takes no connection: {error.strerror or error}"
        return "note", key, detail, f"start it, or correct {key}; what is told meanwhile is kept and told later"
    return "ok", key, f"{address.place} takes connections", ""
