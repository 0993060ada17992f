"""Which commits of a file without a WAL are applied as hooks have told of them."""

from __future__ import annotations

import json
import time
from typing import cast

from mirror.capture.spool import SpoolPlace
from mirror.core.positions import Lsn, Salts
from mirror.hook.wire import Commit, FilePlace, Lost
from mirror.postgres.sink import Sink
from mirror.replica.batches import GapFound, Head
from mirror.replica.replica import Replica
from mirror.sidecar.hooktalk.provenance import WriteLog
from mirror.sidecar.hooktalk.receive import HookReceiver, Writer
from mirror.sidecar.hooktalk.replay import Replay, Step


def told(*places: tuple[int, int]) -> Replay:
    """What a hook has told of commits behind these counters and schema cookies; Postgres is at counter 7, cookie 5."""
    hooked = HookReceiver(lambda: None)
    messages: list[Commit | Lost] = [
        Commit(number, None, FilePlace(*place, 9), []) for number, place in enumerate(places)
    ]
    hooked._take(Writer(1, "program"), messages)
    replay = Replay(hooked, WriteLog(), json.dumps)
    replay._counter, replay.cookie, replay._inode = 7, 5, 9
    replay.take()
    return replay


def chain(replay: Replay, until: int | None) -> list[int]:
    return [commit.previous[0] for commit in replay._chain(until) if commit.previous is not None]


def test_those_that_follow_each_other() -> None:
    replay = told((7, 5), (8, 5), (10, 5))
    assert chain(replay, None) == [7], "of the one behind 8 it is not known yet whether it changed the schema"
    assert chain(replay, 9) == [7, 8], "now the file's header tells"
    assert chain(told((7, 5), (8, 6)), 9) == []


def test_a_program_without_a_hook_has_written_behind_one() -> None:
    """Then nobody tells whether that one changed the schema."""
    assert chain(told((7, 5), (8, 5)), 10) == [7]


def test_another_file_with_the_inode_number_of_the_one_before() -> None:
    """A number is given again once its file is closed: then no counter says what Postgres has of the new file.

    What the hook said of the one before says nothing about this one, even if it comes only now.
    """
    replay = told((7, 5), (8, 5), (9, 5))
    replay.reopened()
    found = GapFound(Head(Lsn(2, 0), Salts(0, 0), 0.0, SpoolPlace(0, 0)), "", counter=6, inode=9)
    step = replay.step(cast("Replica", None), cast("Sink", None), found, lambda: b"")
    assert step is Step.NOTHING, "pages are compared"
    page1 = bytearray(100)
    page1[:16] = b"SQLite format 3\0"
    page1[16:18], page1[18:20], page1[24:28], page1[40:44] = b"\x10\0", b"\1\1", b"\0\0\0\7", b"\0\0\0\5"
    replay._hooked._take(Writer(1, "program"), [Commit(3, None, FilePlace(8, 5, 9), [])])
    replay.compared(bytes(page1), 9)
    replay.take()
    assert chain(replay, 8) == [] and not replay._pending
    replay._hooked._take(Writer(1, "program"), [Commit(time.monotonic_ns(), None, FilePlace(7, 5, 9), [])])
    replay.take()
    assert chain(replay, 8) == [7]
