"""Which commits of a file without a WAL are applied as hooks have told of them."""

from __future__ import annotations

import json

from mirror.hook.wire import Commit, FilePlace, Lost
from mirror.sidecar.hooktalk.provenance import WriteLog
from mirror.sidecar.hooktalk.receive import HookReceiver, Writer
from mirror.sidecar.hooktalk.replay import Replay


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
    return [commit.behind[0] for commit in replay._chain(until) if commit.behind is not None]


def test_those_that_follow_each_other() -> None:
    replay = told((7, 5), (8, 5), (10, 5))
    assert chain(replay, None) == [7], "of the one behind 8 it is not known yet whether it changed the schema"
    assert chain(replay, 9) == [7, 8], "now the file's header tells"
    assert chain(told((7, 5), (8, 6)), 9) == []


def test_a_program_without_a_hook_has_written_behind_one() -> None:
    """Then nobody tells whether that one changed the schema."""
    assert chain(told((7, 5), (8, 5)), 10) == [7]
