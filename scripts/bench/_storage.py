"""The program whose storage adapter is measured, beside the same done without it.

``python _storage.py JOB JSON`` runs one job and prints its result as one line of JSON: a process of its own, so that it
has one SQLite library, and no other work.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

Call = Callable[[int], object]
now = time.perf_counter
#: Seconds that one series of calls takes at most.
LONGEST = 60.0


def _adapter(config: str) -> Any:
    from mirror import get_storage_adapter

    return get_storage_adapter(config=config)


def _until_fresh(adapter: Any) -> None:
    from mirror.storage.reads import READS, Reason

    deadline = time.monotonic() + 60
    while not READS.values().get(("postgres", Reason.FRESH)):
        adapter.memory.count_items()
        if time.monotonic() > deadline:
            raise SystemExit(f"no read was answered from Postgres: {READS.values()}")
        time.sleep(0.01)


def _counts() -> dict[str, int]:
    from mirror.storage.reads import READS

    return {f"{store}, {reason}": number for (store, reason), number in READS.values().items()}


def _in_turns(sides: dict[str, Call], rounds: int, rate: float = 0.0) -> dict[str, list[float]]:
    """Seconds of each call, one of each side in turn, for :data:`LONGEST` at most; ``rate``: such rounds a second.

    Each side comes as often before as after another: who comes second finds the same rows in the caches.
    """
    took: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides.items())
    begun = now()
    for number in range(rounds):
        if now() - begun > LONGEST:
            break
        if rate and (left := begun + number / rate - now()) > 0:
            time.sleep(left)
        for name, call in order:
            start = now()
            call(number)
            took[name].append(now() - start)
        order.reverse()
        if number % 2:
            order.append(order.pop(0))
    return took


def _middles(took: dict[str, list[float]]) -> dict[str, float]:
    return {name: median(times) for name, times in took.items()}


# -- the freshness check ---------------------------------------------------------------------------------


def freshness(config: str, database: str, state_dir: str, rounds: int, rate: float = 0.0) -> dict[str, Any]:
    """Seconds of ``begin`` and ``proves``; ``all``: with the look at the published position that a read takes, too.

    ``rate``: so many a second, each of which waits until it can be proved; 0: one behind the other, without waiting.
    """
    from mirror.storage.freshness import Freshness
    from mirror.storage.proofs import PositionRow

    with _adapter(config) as adapter:
        adapter.memory.count_items()
        one = Freshness(Path(database), Path(state_dir))
        if not one.prepare(30):
            raise SystemExit(f"the mirror does not say what it follows: {one.error}")
        check, whole, proved = [], [], 0
        for _ in range(rounds):
            if rate:
                time.sleep(1 / rate)
            begun = now()
            start = one.begin()
            begin = now() - begun
            begun = now()
            one.at_once(start)
            looks = now() - begun
            if rate:
                one.wait(start, time.monotonic() + 0.02)
            published = one.published()
            if published is None:
                continue
            row = PositionRow(*published[6:10], published.lineage)
            begun = now()
            proved += one.proves(start, row)
            ended = now() - begun
            check.append(begin + ended)
            whole.append(begin + looks + ended)
        return {"check": median(check), "all": median(whole), "proved": proved / rounds}


# -- reads -----------------------------------------------------------------------------------------------


def _configure(conn: Any) -> None:
    """Prepare a connection as the adapter does its own."""
    from mirror.storage.on_postgres import session
    from mirror.storage.on_postgres.values import register

    (schema,) = conn.execute("SELECT current_schema()").fetchone()
    steps, row = session.preparing(schema, conn.info.backend_pid, lambda: None), None
    try:
        while True:
            cursor = conn.execute(*steps.send(row))
            row = cursor.fetchone() if cursor.description else None
    except StopIteration as end:
        register(conn, end.value)


def _plain_reads(
    stack: ExitStack, dsn: str, agent: str, operation: Any, calls: Sequence[tuple[Any, ...]]
) -> dict[str, Call]:
    """The adapter's statement by psycopg alone, on one connection and through a pool; rows are made into values.

    ``by hand``: as one writes it for row security, through a pool: a transaction, the agent named in it, and the read.
    """
    import psycopg
    from psycopg import RawCursor
    from psycopg_pool import ConnectionPool

    from mirror.storage.on_postgres import session, sql
    from mirror.storage.operations.base import Context

    context = Context(agent)
    conn: Any = stack.enter_context(psycopg.connect(dsn, autocommit=True, cursor_factory=RawCursor))
    (source_id,) = conn.execute("SELECT source_id FROM mirror.sources").fetchone()
    _configure(conn)
    statements = [operation.make(context, *arguments).send(None) for arguments in calls]
    reads = [session.single_read(statement, agent, source_id) for statement in statements]
    make = sql.reader(statements[0].table)
    alone = [(sql.query(statement, "$1::text", out := sql.Parameters(agent)), out.values) for statement in statements]
    pool: Any = ConnectionPool(
        dsn, min_size=1, max_size=10, open=True, configure=_configure,
        kwargs={"autocommit": True, "cursor_factory": RawCursor},
    )  # fmt: skip
    named: Any = stack.enter_context(psycopg.connect(dsn, autocommit=True, cursor_factory=RawCursor))
    stack.enter_context(pool)
    _configure(named)
    named.execute("SELECT set_config('app.agent_id', $1, false)", [agent])

    def bare(number: int) -> object:
        read = reads[number % len(reads)]
        return [make(row[7:]) for row in conn.execute(read.text, read.parameters, binary=True).fetchall()]

    def pooled(number: int) -> object:
        read = reads[number % len(reads)]
        with pool.connection() as taken:
            return [make(row[7:]) for row in taken.execute(read.text, read.parameters, binary=True).fetchall()]

    def unproved(number: int) -> object:
        text, parameters = alone[number % len(alone)]
        return [make(row) for row in named.execute(text, parameters, binary=True).fetchall()]

    def by_hand(number: int) -> object:
        text, parameters = alone[number % len(alone)]
        with pool.connection() as taken, taken.transaction():
            taken.execute("SELECT set_config('app.agent_id', $1, true)", [agent])
            return [make(row) for row in taken.execute(text, parameters, binary=True).fetchall()]

    return {"bare": bare, "pooled": pooled, "unproved": unproved, "by hand": by_hand}


def reads(config: str, dsn: str, agent: str, items: int, rounds: int, rate: float = 0.0) -> dict[str, Any]:
    """Middle seconds of ``get_item`` and ``list_items(limit=10)`` by each side, and where the adapter's came from."""
    from mirror.storage.operations import items as operations

    keys = [f"item-{number * 7919 % items}" for number in range(min(items, 500))]
    found: dict[str, Any] = {}
    with _adapter(config) as adapter:
        memory = adapter.memory
        _until_fresh(adapter)
        before = _counts()
        jobs: tuple[tuple[str, Any, list[tuple[Any, ...]], Call], ...] = (
            ("get_item", operations.get_item, [(key,) for key in keys], lambda n: memory.get_item(keys[n % len(keys)])),
            ("list_items", operations.list_items, [(None, None, None, 10)], lambda n: memory.list_items(limit=10)),
        )
        for name, operation, calls, call in jobs:
            with ExitStack() as stack:
                sides = {"adapter": call} | _plain_reads(stack, dsn, agent, operation, calls)
                if rate:
                    sides = {side: sides[side] for side in ("adapter", "bare")}
                _in_turns(sides, 20)
                found[name] = _middles(_in_turns(sides, rounds, rate))
        found["counts"] = {key: number - before.get(key, 0) for key, number in _counts().items()}
    return found


# -- searches --------------------------------------------------------------------------------------------


def searches(config: str, dsn: str, agent: str, items: int, dims: int, rounds: int) -> dict[str, Any]:
    """Middle seconds of a hybrid search and of one by embedding, and of ``search_memories()`` by psycopg alone.

    ``recall``: of the ten nearest, how many were found. The plain side makes the rows into values, too.
    """
    import numpy as np
    import psycopg
    from _memories import Corpus
    from psycopg import RawCursor

    from mirror.storage.models.memory import ITEMS
    from mirror.storage.on_postgres import sql
    from mirror.storage.tables import Embedding

    corpus = Corpus(items, dims)
    vectors = np.concatenate([block for _, _, block in corpus.blocks()])
    queries, wanted = corpus.queries(rounds)
    embeddings = [Embedding(vector.tolist()) for vector in wanted]
    texts = [embedding.to_text() for embedding in embeddings]
    conn: Any = psycopg.connect(dsn, autocommit=True, cursor_factory=RawCursor)
    _configure(conn)
    conn.execute("SELECT set_config('app.agent_id', $1, false)", [agent])
    columns = ", ".join(f"m.{name}" for name in sql.columns(ITEMS).split(", "))
    plain = (
        f"SELECT {columns}, f.score FROM search_memories($1, $2::vector, 10, 'own', NULL, NULL, 'any') f"
        " JOIN memory_items m USING (agent_id, id) ORDER BY f.score DESC"
    )
    make = sql.reader(ITEMS)

    def bare(number: int, text: str | None) -> list[str]:
        found = conn.execute(plain, [text, texts[number]], binary=True).fetchall()
        return [make(row[:-1]).id for row in found]

    lengths = np.linalg.norm(vectors, axis=1)
    best = [{f"item-{at}" for at in np.argsort(-(vectors @ query) / lengths)[:10]} for query in wanted]

    def recall(search: Callable[[int], list[str]]) -> float:
        return sum(len(one & set(search(number))) for number, one in enumerate(best)) / (10 * rounds)

    found: dict[str, Any] = {}
    with _adapter(config) as adapter:
        memory = adapter.memory
        _until_fresh(adapter)
        before = _counts()

        def hybrid(number: int) -> list[str]:
            return [one.item.id for one in memory.search_items(queries[number], embeddings[number], limit=10)]

        def near(number: int) -> list[str]:
            return [one.item.id for one in memory.search_by_vector(embeddings[number], limit=10)]

        sides: dict[str, Call] = {
            "hybrid": hybrid, "hybrid, bare": lambda number: bare(number, queries[number]),
            "by embedding": near, "by embedding, bare": lambda number: bare(number, None),
        }  # fmt: skip
        _in_turns(sides, min(5, rounds))
        found["middle"] = _middles(_in_turns(sides, rounds))
        found["recall"] = {"adapter": recall(near), "bare": recall(lambda number: bare(number, None))}
        found["counts"] = {key: number - before.get(key, 0) for key, number in _counts().items()}
    return found


# -- writes ----------------------------------------------------------------------------------------------


def writes(config: str, alone: str, database: str, library: str, rounds: int) -> dict[str, Any]:
    """Middle and mean seconds of ``create_item``, and of the same row written by the library alone.

    ``config``: of the side ``dual``; ``alone``: of one with SQLite alone. By the library, to ``database``: ``ready``,
    with the values made before; ``made``, with id, hash, times and JSON a part of it. Each side has a file of its own:
    of two connections to one file, each would find its pages out of date after the other's commit.
    """
    __import__(library)
    from mirror.storage.on_sqlite import sql
    from mirror.storage.on_sqlite.drivers import _PRAGMAS
    from mirror.storage.operations import items
    from mirror.storage.operations.base import Context
    from mirror.storage.statements import Insert

    if library == "apsw":
        import apsw

        plain: Any = apsw.Connection(database, statementcachesize=512)
        plain.set_busy_timeout(5000)
    else:
        import sqlite3

        plain = sqlite3.connect(database, isolation_level=None, timeout=5, cached_statements=512)
    for pragma in _PRAGMAS:
        plain.execute(pragma)
    context = Context("argent")
    texts = [f"what was said in session {number % 97} about the matter {number}" for number in range(rounds)]

    def insert(text: str) -> Insert:
        statement = items.create_item.make(context, "fact", text).send(None)
        assert isinstance(statement, Insert)
        return statement

    rows = [sql.insert(insert(text)) for text in texts]
    statement = rows[0][0]

    def made(number: int) -> None:
        text = texts[number]
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        digest = hashlib.sha256(text.strip().lower().encode()).hexdigest()
        row = dict.fromkeys(names) | {
            "id": str(uuid.uuid4()), "memory_type": "fact", "summary": text, "content_hash": digest,
            "reinforcement_count": 1, "last_reinforced_at": stamp, "extra": json.dumps({}), "created_at": stamp,
            "updated_at": stamp, "emotional_valence": 0.0, "emotional_arousal": 0.0, "significance": "routine",
        }  # fmt: skip
        plain.execute(statement, list(row.values()))

    names = list(insert("text").values)
    with _adapter(config) as adapter, _adapter(alone) as other:
        dual, without = adapter.memory.create_item, other.memory.create_item
        took: dict[str, list[float]] = {}
        for kind, call in (("ready", lambda number: plain.execute(*rows[number])), ("made", made)):
            sides: dict[str, Call] = {
                "dual": lambda number: dual("fact", texts[number]),
                "alone": lambda number: without("fact", texts[number]),
                kind: call,
            }
            took |= _in_turns(sides, rounds)
        which = type(adapter._files.stores["memory"]._idle[0].connection).__name__
    mean = {name: sum(times) / len(times) for name, times in took.items()}
    return {"middle": _middles(took), "mean": mean, "library": which}


if __name__ == "__main__":
    jobs = {job.__name__: job for job in (freshness, reads, searches, writes)}
    print(json.dumps(jobs[sys.argv[1]](**json.loads(sys.argv[2]))), flush=True)
