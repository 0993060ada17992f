"""Hot state whose calls are interrupted, as by Ctrl-C: whatever is asked next gets its own answer, in its database."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis

import mirror.hot
from mirror.core.errors import HotAwayError
from mirror.hot.connection import Address, get_redis_client
from mirror.hot.facade import HotState, get_hot_state
from tests.support.valkey import ValkeyServer
from tests.support.waiting import LIMIT, until

#: Where interruptions come: whatever there is between the caller and the socket.
_FOLDERS = tuple(str(Path(str(module.__file__)).parent) for module in (redis, mirror.hot))
#: Each line takes a minute; of some hundred lines, each kind of fault is met, too.
STEPS = pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])


class Interruption(BaseException):
    """What a handler of a signal raises, in these tests."""


def _finalising(frame: FrameType | None) -> bool:
    """Whether it is called by a ``__del__``, out of which nothing is raised."""
    while frame is not None and frame.f_code.co_filename != __file__:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


class _AtLine:
    """Raises at one line of redis-py or of hot state: the number ``place`` of those that are run."""

    def __init__(self, place: int) -> None:
        self._left = place

    def __call__(self, frame: FrameType, event: str, value: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_FOLDERS) or _finalising(frame):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                raise Interruption
        return self


def _interrupted(action: Callable[[], object], place: int) -> bool:
    """Whether the action was interrupted; not: it has fewer lines than that."""
    before = sys.gettrace()
    sys.settrace(_AtLine(place))
    try:
        action()
    except Interruption:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.fixture
def filled(hot: HotState) -> HotState:
    for agent in ("ada", "bob"):
        hot.agents.set(agent, current_mood=f"of {agent}")
    return hot


def _mood(hot: HotState, agent: str) -> str | None:
    state = hot.agents.get(agent)
    return state and state.current_mood


@STEPS
def test_a_connect_is_interrupted_at_each_line(
    filled: HotState, valkey: Address, valkey_server: ValkeyServer, step: int
) -> None:
    place, hit = 0, True
    while hit:
        place += step
        with get_hot_state(valkey) as hot:
            hit = _interrupted(lambda hot=hot: hot.agents.get("ada"), place)  # type: ignore[misc]
            assert [_mood(hot, "bob"), _mood(hot, "ada"), _mood(hot, "eve")] == ["of bob", "of ada", None], place
    assert place > 300
    with valkey_server.client() as zero:
        assert not zero.exists("agent:state:ada", "agent:state:bob", "agent:state:eve")


@STEPS
@pytest.mark.parametrize("what", ["command", "transaction", "script"])
def test_a_call_is_interrupted_at_each_line(filled: HotState, what: str, step: int) -> None:
    actions: dict[str, Callable[[], object]] = {
        "command": lambda: filled.agents.get("ada"),
        "transaction": lambda: filled.presence.leave("ada"),
        "script": lambda: filled.agents.set("ada", current_mood="of ada"),
    }
    place, hit = 0, True
    while hit:
        place += step
        hit = _interrupted(actions[what], place)
        assert [_mood(filled, "bob"), _mood(filled, "ada"), _mood(filled, "eve")] == ["of bob", "of ada", None], place
    assert place > 50


def test_a_call_with_a_user_is_interrupted_at_each_line(valkey_server: ValkeyServer, valkey: Address) -> None:
    """Who is not let in without a password is let in after an interruption, too."""
    with valkey_server.client(valkey) as admin:
        admin.acl_setuser("fay", enabled=True, passwords=["+secret of fay"], keys=["*"], categories=["+@all"])
        try:
            place, hit = 0, True
            while hit:
                place += 13
                at = Address(port=valkey.port, db=valkey.db, username="fay", password="secret of fay")
                with get_hot_state(at) as hot:
                    hit = _interrupted(lambda hot=hot: hot.agents.get("ada"), place)  # type: ignore[misc]
                    hot.agents.set("ada", session_key=str(place))
                    assert admin.hget("agent:state:ada", "sessionKey") == str(place)
                    assert "user=fay" in str(hot._runner.asking.execute_command("CLIENT", "INFO"))
        finally:
            admin.acl_deluser("fay")


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Raises :class:`Interruption` after some seconds; 0: not any more. Afterwards the timer is as it was before."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interruption

    before, left = signal.signal(signal.SIGALRM, interrupt), signal.getitimer(signal.ITIMER_REAL)

    def set_alarm(after: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, after)

    yield set_alarm
    set_alarm(0)
    signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, *left)


def test_interruptions_by_a_signal(filled: HotState, valkey: Address, alarm: Callable[[float], None]) -> None:
    """At any moment, not at lines alone."""
    for number in range(150):
        with get_hot_state(valkey) as hot:
            if number % 2:
                hot.agents.get("bob")
            try:
                alarm(random.uniform(0.0001, 0.003))
                hot.agents.get("ada")
                alarm(0)
            except Interruption:
                pass
            alarm(0)
            assert [_mood(hot, "bob"), _mood(hot, "ada")] == ["of bob", "of ada"]


def test_what_the_caller_handles_is_no_interruption(valkey: Address) -> None:
    """A call within ``except`` keeps its connection; so does one that the server refuses."""
    with get_redis_client(valkey) as client:
        first = client.client_id()
        try:
            raise ValueError
        except ValueError:
            assert client.client_id() == first
        client.set("text", "x")
        with pytest.raises(redis.ResponseError):
            client.hgetall("text")
        assert client.client_id() == first


def test_a_listener_that_was_interrupted(hot: HotState) -> None:
    """It may have read half an event: it says so instead of hearing nothing for ever."""
    with hot.dashboard.listen() as listener:
        hot.dashboard.publish("mood_change", "ada", {"mood": "calm"})
        assert _interrupted(lambda: listener.get(LIMIT), 60)
        with pytest.raises(HotAwayError, match="closed"):
            listener.get(0)
    with hot.dashboard.listen() as listener:
        hot.dashboard.publish("mood_change", "ada", {"mood": "calm"})
        assert until(lambda: listener.get(0.1)).agent == "ada"
