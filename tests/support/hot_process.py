"""Programs that use hot state, for tests that kill or stop them: ``python -m …hot_process WHAT PORT DB …``.

They print one word a line when something has happened, and read a line where they wait for the test.
"""

from __future__ import annotations

import sys

import psycopg

from mirror.core.errors import LateWriteError, LockLostError
from mirror.hot.connection import Address
from mirror.hot.facade import HotState, get_hot_state
from mirror.hot.fenced import fenced_write


def say(*words: object) -> None:
    print(*words, flush=True)


def read(hot: HotState, agent: str, claim_after: str) -> None:
    """Read messages, and acknowledge none."""
    reader = hot.family.reader(agent, claim_after=float(claim_after), tries=1000)
    say("reading", reader.consumer)
    while True:
        for message in reader.read(count=3, wait=60):
            say(message.id)


def work(hot: HotState, agent: str, claim_after: str) -> None:
    """Read messages, say each one's text, acknowledge it."""
    reader = hot.family.reader(agent, claim_after=float(claim_after), tries=1000)
    say("reading")
    while True:
        for message in reader.read(count=5, wait=60):
            say(message.payload)
            reader.acknowledge(message)


def online(hot: HotState, agent: str) -> None:
    """Stay online."""
    with hot.presence.keep(agent):
        say("online")
        sys.stdin.readline()


def hold(hot: HotState, name: str, ttl: str, dsn: str) -> None:
    """Take a lock, look at it, wait for a line, and write with the number that was looked at."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        lock = hot.locks.take(name, float(ttl), on_lost=lambda lost: say("lost", lost.name))
        fence = lock.fence
        say("held", fence)
        sys.stdin.readline()
        try:
            with fenced_write(connection, name, fence) as cursor:
                cursor.execute("UPDATE protected SET value = 'of the stalled holder'")
        except LateWriteError as error:
            say("refused", error.code)
        try:
            lock.check()
        except LockLostError as error:
            say("used", error.code)
        say("released", lock.release())


if __name__ == "__main__":
    what, port, db, *more = sys.argv[1:]
    with get_hot_state(Address(port=int(port), db=int(db))) as state:
        {"read": read, "work": work, "online": online, "hold": hold}[what](state, *more)
