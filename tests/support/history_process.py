"""A program that uses the storage adapters and writes down all that it asked and was answered.

``python history_process.py CONFIG FOLDER NUMBER LIBRARY``: one of several that use the same data, with an SQLite
library (``apsw`` or ``sqlite3``). It has synchronous and asynchronous adapters. Its history is ``FOLDER/NUMBER.jsonl``,
an :class:`~tests.support.history.Event` a line. ``python history_process.py CONFIG FOLDER tokens``: reads at the tokens
that the others have written down, with a configuration that has no files.

Either prints ``ready``, and ends when its stdin does, with ``done``.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.history import GONE, Event, State

#: What the items are for: changed by all, changed by one session, made and deleted.
SHARED, OWN, BRIEF = "knowledge", "profile", "event"
#: More than there ever are.
ALL = 100_000
#: Sessions of each process: threads with an adapter each, and tasks that share one.
THREADS, TASKS = 2, 2
#: Seconds between two operations of a session, at most.
PAUSE = 0.03
#: Items of one session that are to be deleted again.
MOST_BRIEF = 4
#: Seconds between two readings of the others' histories.
LOOK = 0.02

Answered = tuple[str, str]
_answered: ContextVar[Answered] = ContextVar("answered", default=("", ""))


class Call(NamedTuple):
    """A method of ``adapter.memory``, or ``token``."""

    method: str
    arguments: dict[str, Any]


Actor = Generator[Call, Any, None]


class Recorder:
    """The history of one process. Thread: any."""

    def __init__(self, path: Path, process: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        self._process = process

    def add(self, event: Event) -> None:
        line = json.dumps(replace(event, process=self._process).to_json()) + "\n"
        assert os.write(self._file, line.encode()) == len(line)

    def call(self, session: str, call: Call, begin: int, answer: Any, error: BaseException | None) -> Event:
        """Write down one call that ends now."""
        end = time.monotonic_ns()
        store, reason = _answered.get()
        event = Event(
            session,
            call.method,
            begin,
            end,
            wall=time.time() - (time.monotonic_ns() - begin) / 1e9,
            arguments=[*call.arguments.values()],
            store=store,
            reason=reason,
            kind=str(call.arguments.get("memory_type", "")),
            **({"error": f"{type(error).__name__}: {error}"} if error is not None else meaning(call, answer)),
        )
        self.add(event)
        return event


def meaning(call: Call, answer: Any) -> dict[str, Any]:
    """What an answer says, as the fields of an event."""
    item = str(call.arguments.get("item_id", ""))
    match call.method:
        case "create_item":
            return {"wrote": {answer.id: state(answer)}}
        case "update_item_summary" | "reinforce_item" if answer is not None:
            return {"wrote": {item: state(answer)}}
        case "delete_item" if answer:
            return {"wrote": {item: State(GONE, "")}}
        case "list_items":
            return {"saw": {one.id: state(one) for one in answer}, "complete": True}
        case "count_items":
            return {"count": answer}
        case "token":
            return {"token": answer or ""}
    return {"saw": {item: state(answer) if answer else None}}


def state(item: Any) -> State:
    """An item's version: each change of it adds one to one of two numbers."""
    digest = hashlib.sha256(repr(item).encode()).hexdigest()[:12]
    return State(item.reinforcement_count + number_of(item), digest)


def number_of(item: Any) -> int:
    return int(item.summary.rsplit(" ", 1)[1])


def watch_reads() -> None:
    """Have it known in each thread and task where its last read was answered."""
    reads = importlib.import_module("mirror.storage.reads").READS
    count = reads.count

    def counted(store: str, reason: str, source: str = "") -> None:
        count(store, reason, source)
        _answered.set((store, str(reason)))

    reads.count = counted


# -- what a session does -------------------------------------------------------------------------------


def act(name: str, rng: random.Random) -> Actor:
    """One session: it knows only what it was answered."""
    own = yield Call("create_item", {"memory_type": OWN, "summary": f"{name} 0"})
    mine: list[str] = []
    others: list[str] = []
    gone: list[str] = []
    shared = [item.id for item in (yield Call("list_items", {"memory_type": SHARED, "limit": ALL}))]
    while True:
        match rng.choices(range(9), (20, 12, 20, 12, 12, 10, 6, 6, 3))[0]:
            case 0:
                yield Call("get_item", {"item_id": rng.choice(shared)})
            case 1:
                yield Call("reinforce_item", {"item_id": rng.choice(shared)})
            case 2:  # what a stale read would make a lost update
                found = yield Call("get_item", {"item_id": own.id})
                summary = f"{name} {number_of(found) + 1}"
                yield Call("update_item_summary", {"item_id": own.id, "summary": summary})
            case 3:
                made = yield Call("create_item", {"memory_type": BRIEF, "summary": f"{name} 0"})
                mine.append(made.id)
                yield Call("get_item", {"item_id": made.id})
            case 4 if len(mine) >= MOST_BRIEF or others:
                item = mine.pop(0) if len(mine) >= MOST_BRIEF else rng.choice(others)
                yield Call("delete_item", {"item_id": item})
                gone = [*gone, item][-20:]
                yield Call("get_item", {"item_id": item})
            case 5:
                yield Call("count_items", {"memory_type": BRIEF})
            case 6:
                yield Call("list_items", {"memory_type": SHARED, "limit": ALL})
            case 7:
                others = [item.id for item in (yield Call("list_items", {"memory_type": BRIEF, "limit": ALL}))]
            case 8:
                item = rng.choice(others + gone + mine or shared)
                yield Call(rng.choice(["get_item", "reinforce_item"]), {"item_id": item})
        if rng.random() < 0.05:
            yield Call("token", {})


class Claims:
    """The last versions that one session has seen, which a token of it stands for."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def note(self, event: Event) -> None:
        for item, seen in (event.wrote | event.saw).items():
            version = GONE if seen is None else seen.version
            self._known.pop(item, None)
            self._known[item] = version

    def newest(self) -> dict[str, int]:
        return dict([*self._known.items()][-3:])


def run_thread(config: str, session: str, record: Recorder, stop: threading.Event, ready: Callable[[], object]) -> None:
    import mirror

    rng = random.Random(session)
    actor, claims = act(session, rng), Claims()
    with mirror.get_storage_adapter(config=config) as adapter:
        ready()
        call = next(actor)
        while not stop.is_set():
            answer, error = None, None
            _answered.set(("", ""))
            begin = time.monotonic_ns()
            try:
                if call.method == "token":
                    answer = token_of(adapter)
                else:
                    answer = getattr(adapter.memory, call.method)(**call.arguments)
            except Exception as caught:
                error = caught
            if call.method == "token" and answer:
                given = Event(session, "token", begin, time.monotonic_ns(), token=answer, claims=claims.newest())
                record.add(given)
            else:
                event = record.call(session, call, begin, answer, error)
                claims.note(event)
            call = actor.send(answer) if error is None else next(actor := act(session, rng))
            stop.wait(rng.random() * PAUSE)


def token_of(adapter: Any) -> str | None:
    """A token; None while the mirror, which has to be asked, does not answer."""
    from mirror.core.errors import ControlError

    try:
        return str(adapter.token())
    except ControlError as error:
        if not error.retryable:
            raise
        return None


async def run_tasks(
    config: str, process: int, record: Recorder, stop: threading.Event, ready: Callable[[], object]
) -> None:
    import mirror

    async with await mirror.get_async_storage_adapter(config=config) as adapter:
        ready()

        async def task(number: int) -> None:
            session = f"{process}.async"
            rng = random.Random(f"{session} {number}")
            actor = act(f"{session} {number}", rng)
            call = next(actor)
            while not stop.is_set():
                answer, error = None, None
                _answered.set(("", ""))
                begin = time.monotonic_ns()
                try:
                    if call.method != "token":
                        answer = await getattr(adapter.memory, call.method)(**call.arguments)
                except Exception as caught:
                    error = caught
                record.call(session, call, begin, answer, error)
                call = actor.send(answer) if error is None else next(actor := act(f"{session} {number}", rng))
                await asyncio.sleep(rng.random() * PAUSE)

        await asyncio.gather(*(task(number) for number in range(TASKS)))


# -- the two kinds of processes ------------------------------------------------------------------------


def main() -> int:
    config, folder, number, *library = sys.argv[1:]
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    if number == "tokens":
        read_at_tokens(config, Path(folder), stop)
    else:
        use(config, Path(folder), int(number), library[0], stop)
    print("done", flush=True)
    return 0


def use(config: str, folder: Path, process: int, library: str, stop: threading.Event) -> None:
    importlib.import_module(library)
    from mirror.storage.factory import get_storage_adapter
    from mirror.storage.on_sqlite import drivers

    watch_reads()
    record = Recorder(folder / f"{process}.jsonl", process)
    with get_storage_adapter(config=config) as adapter:
        assert drivers._is_standard() == (library == "sqlite3"), "it has another library"

        def changed(settings: Any) -> None:
            now = time.monotonic_ns()
            record.add(Event("settings", "setting", now, now, arguments=[settings.storage.read_from]))

        adapter._backing.live.listen(changed)
        ready = threading.Semaphore(0)
        threads = [
            threading.Thread(target=run_thread, args=(config, f"{process}.{name}", record, stop, ready.release))
            for name in range(THREADS)
        ]
        threads.append(
            threading.Thread(
                target=lambda: asyncio.run(run_tasks(config, process, record, stop, ready.release)), name="tasks"
            )
        )
        for thread in threads:
            thread.start()
        for _ in threads:
            ready.acquire()
        print("ready", flush=True)
        for thread in threads:
            thread.join()


def read_at_tokens(config: str, folder: Path, stop: threading.Event) -> None:
    """Read at each token that is written down, until the others have ended and all are read."""
    from mirror.core.errors import MirrorError
    from mirror.storage.adapters import PostgresAdapter

    record = Recorder(folder / "tokens.jsonl", -1)
    with PostgresAdapter(config) as adapter:
        adapter.init()
        print("ready", flush=True)
        for given in tokens_in(folder, stop):
            for item in given.claims:
                call = Call("get_item", {"item_id": item})
                while True:
                    begin = time.monotonic_ns()
                    try:
                        answer = adapter.read(at=given.token).memory.get_item(item)
                    except MirrorError as error:
                        if error.retryable:  # Postgres is away, or the mirror
                            time.sleep(LOOK)
                            continue
                        record.call("reader", call, begin, None, error)
                        break
                    found = {item: state(answer) if answer else None}
                    end = time.monotonic_ns()
                    claim = {item: given.claims[item]}
                    record.add(
                        Event(
                            "reader", "get_item", begin, end, arguments=[item], saw=found, at=True, token=given.token,
                            claims=claim,
                        )
                    )  # fmt: skip
                    break


def tokens_in(folder: Path, stop: threading.Event) -> Iterator[Event]:
    """The tokens in the histories, as they grow; of those that came together the newest of each session."""
    at: dict[Path, int] = {}
    while True:
        last = stop.is_set()
        found: dict[str, Event] = {}
        for path in folder.glob("[0-9]*.jsonl"):
            with path.open("rb") as file:
                file.seek(at.get(path, 0))
                lines = file.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            at[path] = at.get(path, 0) + len(whole)
            for line in whole.splitlines():
                if b'"token": "' in line:
                    event = Event.of_json(json.loads(line))
                    found[event.session] = event
        yield from found.values()
        if last:
            return
        stop.wait(LOOK)


if __name__ == "__main__":
    sys.exit(main())
