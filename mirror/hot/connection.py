"""Connections, as ``storage.redis`` of the configuration says: two kinds of client, for two kinds of question.

- **asking**: each command has five seconds; redis-py repeats nothing. It would repeat an XADD whose answer was lost,
  which then is there twice. :mod:`.runners` repeats what may be repeated.
- **waiting**: for commands that block. Reading has no time limit: redis-py's five seconds would cut a longer wait, and
  its ten retries would make a minute of it.

RESP2: answers have one form on every server, and nothing is asked at connect that older servers do not know. Texts that
are no UTF-8 are kept, as surrogates.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from mirror.core.config.argent_json import variable
from mirror.core.config.settings import StorageSettings, load_settings
from mirror.core.errors import ConfigError
from mirror.core.redaction import remember_secret
from mirror.hot.pools import InterruptiblePool

#: Seconds for one answer, and for a connection.
ANSWER_SECONDS = 5.0
#: Where Redis is if the configuration does not mention it.
DEFAULT = ("127.0.0.1", 6380)
#: How text becomes bytes and back.
ENCODING, ENCODING_ERRORS = "utf-8", "surrogateescape"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and who we are there."""

    host: str = DEFAULT[0]
    """A path, if it begins with a slash: of a Unix socket."""
    port: int = DEFAULT[1]
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    answer_seconds: float = ANSWER_SECONDS

    @property
    def place(self) -> str:
        """For errors; never the password."""
        where = self.host if self.host.startswith("/") else f"{self.host}:{self.port}"
        return f"redis {where}/{self.db}"

    def __post_init__(self) -> None:
        if self.password:
            remember_secret(self.password)

    def options(self, *, waiting: bool) -> dict[str, Any]:
        """What clients are made with, but for ``retry``."""
        at = {"unix_socket_path": self.host} if self.host.startswith("/") else {"host": self.host, "port": self.port}
        return at | {
            "db": self.db,
            "username": self.username,
            "password": self.password,
            "protocol": 2,
            "socket_timeout": None if waiting else self.answer_seconds,
            "socket_connect_timeout": self.answer_seconds,
            "socket_keepalive": True,
            "decode_responses": True,
            "encoding": ENCODING,
            "encoding_errors": ENCODING_ERRORS,
            "client_name": "mirror",
        }


def address(config: str | Path | None = None, environment: Mapping[str, str] = os.environ) -> Address:
    """Where the configuration says that Redis is.

    ``config``: the path of mirror.json; None: in the usual places. A user and a password come from
    ``MIRROR_REDIS_USERNAME`` and ``MIRROR_REDIS_PASSWORD``, so that no file has them. Raises ``ConfigError``,
    ``StateError``.
    """
    settings = load_settings((), None, None, None, None if config is None else str(config), environment)
    return address_in(settings.storage, environment)


def address_in(storage: StorageSettings, environment: Mapping[str, str] = os.environ) -> Address:
    """:func:`address`, of settings that have been read. Raises ``ConfigError``."""
    host, port = storage.redis or DEFAULT
    user, password = (variable(environment, f"MIRROR_REDIS_{name}") for name in ("USERNAME", "PASSWORD"))
    if user and not password:
        step = "set both, or neither"
        raise ConfigError(
            "connect to Redis", "MIRROR_REDIS_USERNAME", "there is no MIRROR_REDIS_PASSWORD", next_step=step
        )
    return Address(host, port, storage.redis_db, user and user[1], password and password[1])


def get_redis_client(config: str | Path | Address | None = None, *, waiting: bool = False) -> redis.Redis:
    """A client of redis-py for the configured server, which is not connected before its first command.

    Each command is sent once: what is lost with a connection raises, because redis-py cannot know whether sending it
    again does it twice. A connection that the server closed while it was idle is noticed and made anew; one whose use
    was interrupted, as by Ctrl-C, is not used again. ``waiting``: for commands that block: no time limit for reading.
    Close it with ``close()``. Raises ``ConfigError``.
    """
    at = config if isinstance(config, Address) else address(config)
    options = at.options(waiting=waiting)
    kind: type[redis.Connection | redis.UnixDomainSocketConnection] = redis.Connection
    if path := options.pop("unix_socket_path", None):
        kind = redis.UnixDomainSocketConnection
        options["path"] = path
        del options["socket_keepalive"]
    return redis.Redis.from_pool(InterruptiblePool(kind, **options, retry=Retry(NoBackoff(), 0)))


def get_async_redis_client(config: str | Path | Address | None = None, *, waiting: bool = False) -> redis.asyncio.Redis:
    """:func:`get_redis_client` for an event loop. Close it with ``await aclose()``."""
    at = config if isinstance(config, Address) else address(config)
    return redis.asyncio.Redis(**at.options(waiting=waiting), retry=AsyncRetry(NoBackoff(), 0))
