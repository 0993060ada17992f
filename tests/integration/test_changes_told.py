"""The change feed by server-sent events and to a webhook, of ``mirror up`` without Redis, as mirror.json says."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import msgspec
import psycopg
import pytest

from mirror.core.changes import Change
from tests.support.commands import CommandLine, stop
from tests.support.events import EventClient
from tests.support.receiver import Call, Receiver
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

SECRET = {"MIRROR_WEBHOOK_SECRET": "not to be seen"}


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    (folder / "argent").mkdir()
    return CommandLine(folder, dsn)


@pytest.fixture
def notes(writer: Writer) -> Writer:
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "CREATE TABLE others(id INTEGER PRIMARY KEY)")
    return writer


@contextmanager
def up(cli: CommandLine, **changes: Any) -> Iterator[str]:
    """``mirror up`` with this section, until the end of the block; the address of its status page."""
    settings = {"sources": ["../source.db"], "http": "0", "changes": changes}
    (cli.folder / "argent" / "mirror.json").write_text(json.dumps(settings))
    log = cli.folder / "up.out"
    with log.open("w") as out:
        process = cli.start("up", stdout=out, stderr=out, env=SECRET)
    try:
        until(lambda: "Status page: " in log.read_text(), alive=lambda: process.poll() is None)
        assert cli.run("wait").code == 0, log.read_text()
        yield next(line for line in log.read_text().splitlines() if "Status page" in line).partition("Status page: ")[2]
    finally:
        assert stop(process, signal.SIGTERM) == 0, log.read_text()
        assert "s3cret" not in log.read_text() and SECRET["MIRROR_WEBHOOK_SECRET"] not in log.read_text()


def applied(cli: CommandLine, url: str) -> str:
    """The position of all that is committed."""
    assert cli.run("wait").code == 0
    return str(status(url)["applied"])


def status(url: str) -> dict[str, Any]:
    """The source's; by HTTP, which costs less than the command."""
    with urlopen(f"{url}status.json", timeout=LIMIT) as answer:
        (source,) = json.load(answer)["sources"]
    return dict(source)


def webhook_of(url: str) -> dict[str, Any]:
    return dict(status(url)["changes"]["webhook"] or {})


def test_events_come_back_after_a_restart_from_the_log(cli: CommandLine, notes: Writer) -> None:
    with up(cli, log=1000) as url:
        begin = applied(cli, url)
        with EventClient(url, last=begin) as client:
            notes.run("INSERT INTO notes VALUES (1, 'one')")
            (event,) = client.take(1)
            assert event.change is not None and event.change.tables[0].keys == {"inserted": [[1]]}
        first = applied(cli, url)
        notes.run("INSERT INTO notes VALUES (2, 'two')")
        applied(cli, url)
    with up(cli, log=1000) as url:
        notes.run("INSERT INTO notes VALUES (3, 'three')")
        end = applied(cli, url)
        with EventClient(url, f"?source={quote(str(cli.folder.resolve() / 'source.db'))}", last=begin) as client:
            seen = client.take(3)
        assert {event.kind for event in seen} == {"rows"}
        assert [event.id.partition("@")[0] for event in seen][::2] == [first, end]
        with EventClient(url, last=seen[0].id) as client:
            assert client.take(2) == seen[1:]
        other = seen[0].id.replace("@", "@0")
        with EventClient(url, last=other) as client:
            assert [event.kind for event in client.take(1)] == ["gap"], "a position of another copy"
    with up(cli) as url, EventClient(url, last=begin) as client:
        notes.run("INSERT INTO notes VALUES (4, 'four')")
        assert [event.kind for event in client.take(2)] == ["gap", "rows"]


def change(post: Call) -> Change:
    return msgspec.json.decode(post.body, type=Change)


def keys(receiver: Receiver) -> list[int]:
    return [
        key for post in receiver.taken for table in change(post).tables for (key,) in table.keys.get("inserted", ())
    ]


def test_a_webhook_gets_each_in_order(cli: CommandLine, notes: Writer) -> None:
    """Whatever it answers, and whether the mirror is started again; what it does not take comes again."""
    with Receiver() as receiver:
        webhook = {"url": receiver.url, "tables": ["notes"]}
        with up(cli, log=1000, webhook=webhook) as url:
            (begin,) = until(lambda: receiver.taken)
            assert change(begin).kind == "copy"
            receiver.codes = [0, 500, 429]
            notes.run("INSERT INTO notes VALUES (1, 'one')", "INSERT INTO others VALUES (1)")
            notes.run("INSERT INTO notes VALUES (2, 'two')")
            until(lambda: keys(receiver) == [1, 2])
            first = receiver.calls[1:5]  # both transactions may have come as one
            assert len({(post.headers["Idempotency-Key"], post.body) for post in first}) == 1
            assert receiver.taken[1] is first[-1] and receiver.taken[2:] == receiver.calls[5:]
            end = applied(cli, url)
            until(lambda: webhook_of(url)["position"] == end)
            receiver.codes = [503] * 1000
            notes.run("INSERT INTO notes VALUES (3, 'three')")
            found = until(lambda: (told := webhook_of(url))["error"] and told)
            assert "it answered 503" in found["error"] and "s3cret" not in found["error"] and found["waiting"]
        receiver.codes = []
        with up(cli, log=1000, webhook=webhook):
            notes.run("INSERT INTO notes VALUES (4, 'four')")
            until(lambda: keys(receiver)[-1:] == [4])
        assert list(dict.fromkeys(keys(receiver))) == [1, 2, 3, 4] and keys(receiver) == sorted(keys(receiver))
        for post in receiver.calls:
            signed = hmac.new(SECRET["MIRROR_WEBHOOK_SECRET"].encode(), post.body, hashlib.sha256).hexdigest()
            assert post.headers["Mirror-Signature"] == f"sha256={signed}"
            assert post.headers["Mirror-Lsn"] == change(post).lsn
            assert post.headers["Idempotency-Key"] == f"{quote(change(post).source)}@{change(post).mark}"
            assert {table.table for table in change(post).tables} <= {"notes"}


def test_a_webhook_that_was_away_without_a_log_gets_a_gap(cli: CommandLine, notes: Writer) -> None:
    with Receiver() as receiver:
        webhook = {"url": receiver.url}
        with up(cli, webhook=webhook) as url:
            until(lambda: receiver.taken)
            receiver.codes = [503] * 1000
            notes.run("INSERT INTO notes VALUES (1, 'one')")
            until(lambda: webhook_of(url)["error"])
        receiver.codes = []
        with up(cli, webhook=webhook):
            notes.run("INSERT INTO notes VALUES (2, 'two')")
            until(lambda: keys(receiver) == [2])
        assert [change(post).kind for post in receiver.taken] == ["copy", "gap", "rows"]


def test_a_webhook_learns_that_all_was_lost_and_copied_anew(cli: CommandLine, notes: Writer, dsn: str) -> None:
    """Positions begin again, and so do the keys of posts: no two entries have the same."""
    with Receiver() as receiver:
        webhook = {"url": receiver.url}
        with up(cli, webhook=webhook):
            notes.run("INSERT INTO notes VALUES (1, 'one')")
            until(lambda: keys(receiver) == [1] or len(receiver.taken) > 1)
        seen = len(receiver.taken)
        shutil.rmtree(cli.state_dir)
        with psycopg.connect(dsn, autocommit=True) as postgres:
            postgres.execute("DROP SCHEMA mirror CASCADE; DROP TABLE notes, others")
        with up(cli, webhook=webhook):
            notes.run("INSERT INTO notes VALUES (2, 'two')")
            until(lambda: 2 in keys(receiver))
        assert [change(post).kind for post in receiver.taken[seen:]] == ["copy", "rows"]
        assert len({post.headers["Idempotency-Key"] for post in receiver.taken}) == len(receiver.taken)
