"""What the mirror says of the configured Redis: what is so, and no password; its sources do not wait for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from loguru import logger
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import make_conninfo

from mirror.core.config.settings import StorageSettings
from mirror.core.status import RedisReport
from mirror.hot.connection import Address
from mirror.hot.facade import HotState
from mirror.sidecar import redis_watch
from mirror.sidecar.around import Around
from mirror.sidecar.redis_watch import RedisWatch, next_step
from mirror.sidecar.webhook import SECRET
from tests.integration.test_status_page import serving
from tests.support.commands import CommandLine
from tests.support.receiver import Receiver
from tests.support.source import Writer
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

PASSWORD = "not-to-be-seen"
HERE = "127.0.0.1"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_watch, "ANSWER_SECONDS", 30.0)


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, level="INFO", format="{message}")
    yield lines
    logger.remove(sink)


def settings(port: int, db: int = 0) -> StorageSettings:
    return StorageSettings(redis=(HERE, port), redis_db=db)


def test_figures(hot: HotState, valkey: Address, log: list[str]) -> None:
    for agent in ("ada", "bob"):
        hot.presence.beat(agent)
    around = Around()
    watch = RedisWatch(settings(valkey.port, valkey.db), around)
    assert around.redis == RedisReport(place=valkey.place)
    found = watch.look()
    watch.stop()
    assert around.redis is found and found.error is None and found.write_error is None and found.hidden is None
    assert found.place == valkey.place and (found.server or "").split()[0] in ("Valkey", "Redis")
    assert found.ping_seconds is not None and 0 < found.ping_seconds < 30
    assert found.used_bytes is not None and found.used_bytes > 100_000 and found.max_bytes == 0
    assert (found.policy, found.append_only, found.agents) == ("noeviction", False, 2)
    assert found.clients is not None and found.clients >= 1
    assert "appendonly" in found.next_step and log == []


def test_it_goes_and_comes_back(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, frozen, started again: each is said once."""
    with ValkeyServer() as server:
        watch = RedisWatch(settings(server.port), Around())
        assert watch.look().error is None
        server.kill()
        away = watch.look()
        again = watch.look()
        assert away.error and again.error and away.away_since == again.away_since and "runs there" in away.next_step
        assert away.used_bytes is None
        server.start()
        assert watch.look().error is None
        server.freeze()
        monkeypatch.setattr(redis_watch, "ANSWER_SECONDS", 0.1)
        impatient = RedisWatch(settings(server.port), Around())
        assert impatient.look().error is not None
        server.thaw()
        for each in (watch, impatient):
            each.stop()
    assert [word for line in log for word in ("does not answer", "answers again") if word in line] == [
        "does not answer", "answers again", "does not answer",
    ]  # fmt: skip


def test_what_its_user_may_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    with ValkeyServer() as server:
        with server.client() as client:
            client.acl_setuser(
                "few", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+ping", "+client", "+select"]
            )
        monkeypatch.setenv("MIRROR_REDIS_USERNAME", "few")
        monkeypatch.setenv("MIRROR_REDIS_PASSWORD", PASSWORD)
        watch = RedisWatch(settings(server.port), Around())
        found = watch.look()
        assert found.error is None and found.ping_seconds is not None
        assert found.used_bytes is found.agents is found.policy is None
        assert found.hidden is not None and "INFO: " in found.hidden and "ZCOUNT: " in found.hidden
        assert "ACL SETUSER" in found.next_step
        watch.stop()
        monkeypatch.setenv("MIRROR_REDIS_PASSWORD", f"{PASSWORD} wrong")
        watch = RedisWatch(settings(server.port), Around())
        found = watch.look()
        watch.stop()
        assert found.error is not None and "MIRROR_REDIS_PASSWORD" in found.next_step and PASSWORD not in str(found)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"append_only": True, "max_bytes": 0, "policy": "allkeys-lru"}, ""),
        ({"append_only": True, "max_bytes": 100, "used_bytes": 50, "policy": "allkeys-lru"}, "noeviction"),
        ({"append_only": True, "max_bytes": 100, "used_bytes": 95, "policy": "noeviction"}, "free memory"),
        ({"append_only": True, "write_error": "the dump"}, "disk"),
        ({"append_only": False}, "appendonly yes"),
        ({}, ""),
    ],
)
def test_what_to_do(given: dict[str, object], expected: str) -> None:
    found = next_step(RedisReport(place="redis h:1/0", **given))  # type: ignore[arg-type]
    assert expected in found if expected else found == ""


def test_all_that_shows_it(folder: Path, dsn: str, database: Path, writer: Writer) -> None:
    """Away it is degraded, and alerts are sent; there again it is well. No password is shown, and nobody waits."""
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY)")
    with ValkeyServer() as server, Receiver() as receiver:
        with server.client() as client:
            client.acl_setuser("all", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+@all"], keys=["*"])
        server.freeze()
        (folder / "argent").mkdir()
        (folder / "argent" / "mirror.json").write_text(
            json.dumps({
                "sources": [str(database)], "http": "0", "storage": {"redis": {"port": server.port}},
                "alerts": {"holdSeconds": 0, "freeBytes": 0},
            })
        )  # fmt: skip
        secrets = {"MIRROR_REDIS_USERNAME": "all", "MIRROR_REDIS_PASSWORD": PASSWORD}
        secrets |= {"MIRROR_ALERTS_WEBHOOK": receiver.url, SECRET: PASSWORD}
        cli = Environment(folder, make_conninfo(dsn, password=PASSWORD), secrets)
        with serving(cli) as page:

            def ready() -> dict[str, str]:
                checks = json.loads(page.ask("/readyz").body)["checks"]
                return {check["name"]: check["state"] for check in checks}

            until(lambda: ready().get("redis") == "degraded" and page.ask("/readyz").code == 200)
            (call,) = until(lambda: receiver.calls)
            assert [(each["kind"], each["state"]) for each in call.value["changes"]] == [("redis", "began")]
            shown = {path: page.ask(path).body for path in ("/status.json", "/metrics", "/readyz")}
            document = json.loads(shown["/status.json"])
            assert document["redis"]["error"] and document["alerts"]["place"] == receiver.url.partition("/hook")[0]
            found = {family.name: family for family in text_string_to_metric_families(shown["/metrics"])}
            assert found["mirror_redis_up"].samples[0].value == 0 and "mirror_redis_clients" not in found
            until(lambda: json.loads(page.ask("/status.json").body)["alerts"]["delivered"] == 1)
            there = json.loads(cli.run("status", "--json").out)
            assert there["redis"]["error"] and there["alerts"]["delivered"] == 1
            said = cli.run("status")
            assert f"redis {HERE}:{server.port}/0: it does not answer since" in said.out
            assert "1 messages delivered" in said.out
            texts = [*shown.values(), json.dumps(there), said.out, said.err, call.body.decode()]
            server.thaw()
            until(lambda: ready()["redis"] == "ok")
            texts += [page.ask("/metrics").body, cli.run("status").out]
            assert "it answers in" in texts[-1] and "mirror_redis_up 1.0" in texts[-2]
        texts.append((folder / "up.out").read_text())
        assert not any(PASSWORD in text or "s3cret" in text for text in texts)


class Environment(CommandLine):
    """A shell in which some variables are set."""

    def __init__(self, folder: Path, dsn: str, variables: dict[str, str]) -> None:
        super().__init__(folder, dsn)
        self._variables = variables

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """All of them."""
        return super().environment({**self._variables, **(more or {})})
