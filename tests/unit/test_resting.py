"""Sources that rest in the capture process: woken by an event, and, without one, by a look."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mirror.capture.file_events import FileEvents
from mirror.capture.resting import ROUND_PARTS, ROUND_SECONDS, Resting
from tests.support.waiting import until

#: inotify is Linux'.
pytestmark = pytest.mark.linux


class Source:
    """One with a file; ``changed``: what a look finds."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"")
        self.descriptor = os.open(path, os.O_RDWR)
        self.settled, self.changed, self.woken = True, False, 0

    def watched(self) -> list[int]:
        return [self.descriptor]

    def lie_down(self) -> bool:
        return self.settled

    def is_still(self) -> bool:
        return not self.changed

    def wake(self) -> None:
        self.woken += 1


def test_a_write_wakes_it(tmp_path: Path) -> None:
    resting, source, other = Resting[Source](), Source(tmp_path / "one"), Source(tmp_path / "other")
    assert resting.lay_down(source) and resting.lay_down(other) and len(resting) == 2
    assert resting.take_events() == []
    os.write(source.descriptor, b"x")
    assert until(resting.take_events) == [source] and (source.woken, other.woken) == (1, 0)
    os.write(source.descriptor, b"x")
    assert resting.take_events() == [], "it does not rest"


def test_a_write_between_the_two_looks_of_lying_down_is_not_lost(tmp_path: Path) -> None:
    resting, source = Resting[Source](), Source(tmp_path / "one")
    lie_down = source.lie_down

    def writes() -> bool:
        os.write(source.descriptor, b"x")
        return lie_down()

    source.lie_down = writes  # type: ignore[method-assign]
    assert resting.lay_down(source)
    assert until(resting.take_events) == [source]


def test_without_an_event_a_look_wakes_it(tmp_path: Path) -> None:
    """As for what is written through mapped memory. Each is looked at once in a round."""
    resting = Resting[Source]()
    sources = [Source(tmp_path / str(number)) for number in range(25)]
    for source in sources:
        assert resting.lay_down(source)
    sources[17].changed = True
    now, found = time.monotonic(), list[Source]()
    for part in range(ROUND_PARTS):
        assert resting.seconds(now) is not None
        found += resting.look(now + part * 1000.0)
    assert found == [sources[17]] and len(resting) == 24 and sources[17].woken == 1


def test_one_is_looked_at_once_in_a_round(tmp_path: Path) -> None:
    """And nobody is woken for the parts of the others that there are not."""
    resting, source = Resting[Source](), Source(tmp_path / "one")
    assert resting.lay_down(source)
    now = time.monotonic()
    assert resting.look(now) == [] and resting.seconds(now) == ROUND_SECONDS


def test_what_is_not_settled_or_cannot_be_watched_does_not_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting, source = Resting[Source](), Source(tmp_path / "one")
    source.settled = False
    assert not resting.lay_down(source)
    source.settled = True
    monkeypatch.setattr(FileEvents, "watch", lambda events, descriptor: None)
    assert not resting.lay_down(source) and not resting.rouse(source)
