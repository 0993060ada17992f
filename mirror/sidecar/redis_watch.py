"""A look at the configured Redis or Valkey now and then: whether it answers, how fast, and how full it is.

A thread of its own asks; no source waits for it, and the mirror needs no Redis. What the server does not say, because
it is too old or its user may not ask (ACL), is not known, and the rest is.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import redis
from loguru import logger
from msgspec import structs

from mirror.core.config.settings import StorageSettings
from mirror.core.status import RedisReport
from mirror.hot.connection import address_in, get_redis_client
from mirror.hot.failures import hot_error
from mirror.hot.names import Names
from mirror.sidecar.around import Around

#: Seconds between two looks, and for one answer.
EVERY, ANSWER_SECONDS = 5.0, 2.0
#: Seconds that stopping waits for a look.
_STOP_SECONDS = 0.5
#: The share of its memory from which on a server counts as nearly full.
FULL_SHARE = 0.9
_NOT_ALLOWED = "give its user the right for it (ACL SETUSER)"


class RedisWatch:
    """Looks at one server until :meth:`stop`."""

    def __init__(self, storage: StorageSettings, around: Around) -> None:
        """``storage``: names the server. ``around``: where what was found is put. Raises ``ConfigError``."""
        self._address = replace(address_in(storage), answer_seconds=ANSWER_SECONDS)
        self._client = get_redis_client(self._address)
        self._around = around
        self._around.redis = RedisReport(place=self._address.place)
        self._bug = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redis watch", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        self._client.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception as error:  # a bug, which must not end it, and is logged once
                if repr(error) != self._bug:
                    logger.exception("{} could not be looked at", self._address.place)
                self._bug = repr(error)
            self._stopping.wait(EVERY)

    def look(self, *, quiet: bool = False) -> RedisReport:
        """Look now. What has changed since the last look, it is away or there again, is logged unless ``quiet``."""
        before = self._around.redis
        try:
            found = self._found()
        except redis.RedisError as error:
            problem = hot_error(error, "look at Redis", self._address.place)
            since = before.away_since if before is not None and before.error is not None else time.time()
            found = RedisReport(
                place=self._address.place,
                seen_at=time.time(),
                error=problem.detail,
                away_since=since,
                next_step=problem.next_step,
            )
        if quiet:
            pass
        elif found.error is not None and (before is None or before.error is None):
            logger.warning("{} does not answer, and is asked again and again: {}", found.place, found.error)
        elif found.error is None and before is not None and before.error is not None:
            logger.info("{} answers again", found.place)
        self._around.redis = found
        return found

    def _found(self) -> RedisReport:
        self._client.ping()  # this one may have to connect
        begun = time.perf_counter()
        self._client.ping()
        seconds = time.perf_counter() - begun
        hidden: list[str] = []
        info = self._asked(hidden, "INFO", self._client.info) or {}
        now = info.get("server_time_usec", time.time() * 1e6) / 1000  # in its own time: clocks may differ
        online = self._asked(hidden, "ZCOUNT", lambda: self._client.zcount(Names().online, f"{now:.0f}", "+inf"))
        report = RedisReport(
            place=self._address.place,
            seen_at=time.time(),
            ping_seconds=seconds,
            server=_server(info),
            used_bytes=info.get("used_memory"),
            max_bytes=info.get("maxmemory"),
            policy=info.get("maxmemory_policy"),
            append_only=bool(info["aof_enabled"]) if "aof_enabled" in info else None,
            write_error=_write_error(info),
            clients=info.get("connected_clients"),
            agents=online,
            hidden=", ".join(hidden) or None,
        )
        return structs.replace(report, next_step=next_step(report))

    def _asked(self, hidden: list[str], command: str, ask: Any) -> Any:
        """The answer to a command; None, and it is added to ``hidden``, if the server refuses it."""
        try:
            return ask()
        except redis.ResponseError as error:
            detail = hot_error(error, "look at Redis", self._address.place).detail
            hidden.append(f"{command}: {detail}")
            return None


def _server(info: dict[str, Any]) -> str | None:
    for name, key in (("Valkey", "valkey_version"), ("Redis", "redis_version")):
        if key in info:
            return f"{name} {info[key]}"
    return None


def _write_error(info: dict[str, Any]) -> str | None:
    failed = [
        name
        for name, key in (("the append-only file", "aof_last_write_status"), ("the dump", "rdb_last_bgsave_status"))
        if info.get(key, "ok") != "ok"
    ]
    return " and ".join(failed) or None


def next_step(report: RedisReport) -> str:
    """What a person can do about a server that answers; empty: nothing."""
    if report.write_error is not None:
        return "see the server's log, and free disk space: it cannot write its files"
    if report.max_bytes and report.used_bytes is not None and report.used_bytes > FULL_SHARE * report.max_bytes:
        return "free memory there, or raise maxmemory: it is nearly full"
    if report.max_bytes and report.policy not in (None, "noeviction"):
        return "set maxmemory-policy noeviction there: it drops messages and locks when memory is full"
    if report.append_only is False:
        return "set appendonly yes there: messages and locks are gone when it is started again"
    return _NOT_ALLOWED if report.hidden is not None else ""
