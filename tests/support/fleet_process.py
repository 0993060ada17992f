"""One program of a fleet on a storage adapter: ``python fleet_process.py CONFIG LOG BOARD NUMBER COUNTER LIBRARY``.

It makes items, confirms them, reads them back and deletes some, and confirms one item that all programs share. Each
call that writes is in LOG before it begins and after it has ended (:mod:`tests.support.fleet_log`), so that another
process knows what was acknowledged, however this one ends. A program that is started again goes on from its log.

It ends with 1 when a call fails, or an answer is older than what was acknowledged before the call began; the log says
which. LIBRARY: sqlite3 or apsw. Calls may wait as long as a test may: how busy the machine is says nothing.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
import traceback
from pathlib import Path

from tests.support.fleet_log import Board, Log, State
from tests.support.waiting import LIMIT

#: Seconds after some calls: a fleet leaves some time for all the others.
PAUSE = 0.3
#: Own items that are kept; from there on one is deleted for each that is made.
MOST_ITEMS = 30


class Wrong(Exception):  # noqa: N818 - an answer, not an error of the program's
    """An answer that must not be."""


class Program:
    """The calls of one program."""

    def __init__(self, memory: object, log: Log, board: Board, number: int, counter: str) -> None:
        from mirror.storage.memory import Memory

        assert isinstance(memory, Memory)
        self.memory, self.log, self.board, self.number, self.counter = memory, log, board, number, counter
        self.random = random.Random(number)
        self.made = 0

    def go_on(self) -> None:
        """Take over what an earlier process of this program has left."""
        state = self.log.read()
        self.made = state.made
        self.items = dict(state.items)
        if state.pending is None:
            return
        kind, name = state.pending
        if kind == "create":
            return  # its id is not known; whether it is there does not matter to this one
        if kind == "count":
            return
        found = self.memory.get_item(name)
        if kind == "delete":
            if found is None:
                self.items.pop(name)
                self.log.resolve(kind, name, 0)
            else:
                self.log.resolve(kind, name, self.items[name])
            return
        if found is None or found.reinforcement_count not in (self.items[name], self.items[name] + 1):
            raise Wrong(
                f"after a start {name} is {found and found.reinforcement_count}, not {self.items[name]} or one more"
            )
        self.items[name] = found.reinforcement_count
        self.log.resolve(kind, name, found.reinforcement_count)

    def turn(self) -> None:
        """Some calls."""
        self.create()
        for _ in range(2):
            self.confirm()
        if len(self.items) > MOST_ITEMS:
            self.delete()
        self.count()
        self.look()

    def create(self) -> None:
        self.made += 1
        summary = f"{self.number}/{self.made}"
        self.log.begin("create", summary)
        item = self.memory.create_item(memory_type="event", summary=summary)
        self.items[item.id] = 1
        self.log.end("create", item.id, 1)
        self.read(item.id)

    def confirm(self) -> None:
        item_id = self.random.choice(list(self.items))
        self.log.begin("confirm", item_id)
        item = self.memory.reinforce_item(item_id)
        if item is None or item.reinforcement_count != self.items[item_id] + 1:
            raise Wrong(f"{item_id} is {item and item.reinforcement_count} after one more than {self.items[item_id]}")
        self.items[item_id] += 1
        self.log.end("confirm", item_id, item.reinforcement_count)
        self.read(item_id)

    def delete(self) -> None:
        item_id = next(iter(self.items))
        self.log.begin("delete", item_id)
        if not self.memory.delete_item(item_id):
            raise Wrong(f"{item_id} is not there to be deleted")
        del self.items[item_id]
        self.log.end("delete", item_id, 0)
        if self.memory.get_item(item_id) is not None:
            raise Wrong(f"{item_id} is there after it was deleted")

    def read(self, item_id: str) -> None:
        """Read an own item back: nobody else writes it."""
        item = self.memory.get_item(item_id)
        if item is None or item.reinforcement_count != self.items[item_id]:
            raise Wrong(f"{item_id} reads {item and item.reinforcement_count}, not {self.items[item_id]}")

    def count(self) -> None:
        """Confirm the item that all share, and tell all the others."""
        self.log.begin("count", self.counter)
        before = self.board.newest()
        item = self.memory.reinforce_item(self.counter)
        if item is None or item.reinforcement_count <= before:
            raise Wrong(f"the counter is {item and item.reinforcement_count}, and was {before} before")
        self.log.end("count", self.counter, item.reinforcement_count)
        self.board.tell(self.number, item.reinforcement_count)

    def look(self) -> None:
        """Read the counter: no less than what anyone was told before."""
        before = self.board.newest()
        item = self.memory.get_item(self.counter)
        if item is None or item.reinforcement_count < before:
            raise Wrong(f"the counter reads {item and item.reinforcement_count}, and {before} was acknowledged before")


def main(config: str, log: str, board: str, number: str, counter: str, library: str) -> int:
    importlib.import_module(library)  # what is loaded is what the adapter uses
    from mirror import get_storage_adapter
    from mirror.storage import routing
    from mirror.storage.on_postgres import attempts
    from mirror.storage.on_sqlite import drivers

    for module in (routing, drivers):
        module.BUSY_SECONDS = LIMIT  # type: ignore[attr-defined]
    attempts.CONNECT_SECONDS = LIMIT
    own, shared = Log(Path(log)), Board(Path(board))
    me = int(number)
    try:
        with get_storage_adapter(config) as storage:
            program = Program(storage.memory, own, shared, me, counter)
            program.go_on()
            while shared.wanted is not State.STOPPED:
                if shared.wanted is State.PAUSED:
                    shared.is_now(me, State.PAUSED)
                else:
                    shared.is_now(me, State.RUNNING)
                    program.turn()
                    shared.count(me)
                time.sleep(PAUSE)
    except BaseException:
        own.fail(traceback.format_exc())
        return 1
    finally:
        shared.is_now(me, State.STOPPED)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
