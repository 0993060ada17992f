"""LangGraph's store at work: fill, write SEED COUNT, look FILE, use, and more: set_up, clean, cross."""

import json
import math
import os
import pickle
import random
import sqlite3
import struct
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from langgraph.store.base import GetOp, MatchCondition, PutOp
from langgraph.store.postgres import PostgresStore
from langgraph.store.sqlite import SqliteStore
from psycopg.conninfo import make_conninfo
from psycopg.errors import ForeignKeyViolation
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

POSTGRES = os.environ["SHOP_STORE"] == "postgres"
SOURCE = "shop.db"
TTL = {"refresh_on_read": True, "default_ttl": None}
WORDS = ["apple", "bread", "cheese", "date", "egg", "fig", "grape", "ham", "ice", "jam"]
#: All that a namespace may look like: a label may have % and _, capitals, other letters.
NAMESPACES = [
    ("users", "ann"), ("users", "bob"), ("users", "bob", "notes"), ("Users", "ann"), ("users", "a%b_c"),
    ("docs",), ("docs", "é ü"), ("memories", "ann", "2026", "long"), ("user",),
]  # fmt: skip


class Connection(sqlite3.Connection):
    """One that has what SqliteStore needs of sqlite-vec, for a Python that is built without extensions of SQLite."""

    def enable_load_extension(self, _enabled):
        """Nothing is loaded."""

    def load_extension(self, *_path, **_more):
        """Make the one function that is asked for."""
        self.create_function("vec_distance_cosine", 2, distance, deterministic=True)


def distance(one, other):
    """Of two vectors, the cosine distance."""
    one, other = numbers(one), numbers(other)
    size = math.sqrt(sum(x * x for x in one) * sum(y * y for y in other))
    return 1 - sum(x * y for x, y in zip(one, other, strict=True)) / size


def numbers(blob):
    """A vector's."""
    return struct.unpack(f"<{len(blob) // 4}f", blob)


def embed(texts):
    """A vector of 16 numbers for each text: how often it has each letter, more or less."""
    return [[0.125 + sum(1 for c in text if ord(c) % 16 == n) / (1 + len(text)) for n in range(16)] for text in texts]


def index():
    """``fields`` is for PostgresStore; SqliteStore 3.1.2 does not read it, and asks for ``text_fields``."""
    return {"dims": 16, "embed": embed, "fields": ["text"], "text_fields": ["text"]}


def of_sqlite(keys=True):
    """The store in SQLite; ``keys``: with foreign keys, so that the vectors of what is deleted go."""
    factory = sqlite3.Connection if hasattr(sqlite3.Connection, "enable_load_extension") else Connection
    conn = sqlite3.connect(SOURCE, check_same_thread=False, isolation_level=None, timeout=60, factory=factory)
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute(f"PRAGMA foreign_keys = {'ON' if keys else 'OFF'}")
    return SqliteStore(conn, index=index(), ttl=TTL)


@contextmanager
def of_postgres():
    """The store in Postgres."""
    dsn = make_conninfo(**json.loads(os.environ["SHOP_PG"]))
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    with ConnectionPool(dsn, kwargs=options, min_size=1, open=True) as pool:
        yield PostgresStore(pool, index=index(), ttl=TTL)


def rows(store, query):
    """What only SQL shows."""
    if isinstance(store, SqliteStore):
        cursor = store.conn.execute(query)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]
    with store.conn.connection() as conn:
        return conn.execute(query).fetchall()


# -------------------------------------------------------------------------------------------------- what it writes


def value(draw, name):
    """An item's value: always a text, and whatever JSON has."""
    return {
        "text": " ".join(draw.sample(WORDS, 3)),
        "name": name,
        "n": draw.choice([0, 1, -7, 2**53, 0.1, 1.0, -2.5, 1e-7, 12345678901234567]),
        "on": draw.choice([True, False, None]),
        "deep": draw.choice(
            [{}, [], {"é": ["ü😀", {"": '\\ " \n'}]}, [1, [2.5, [None]]], "2026-01-02", {"b": 1, "a": 2}]
        ),
    }


def key(draw):
    """One of few, so that items are written over."""
    return draw.choice(["a", "b", "käse", "x.y", "%", "A"]) + str(draw.randrange(12))


def fill():
    """What is there before the mirror comes. Foreign keys are off, as they are where nobody thinks of them."""
    draw, store = random.Random(99), of_sqlite(keys=False)
    for number in range(150):
        ttl = draw.choice([None, None, 60, 1.5, 2.5, 100_000])
        store.put(
            draw.choice(NAMESPACES), key(draw), value(draw, f"f{number}"), ttl=ttl, index=draw.choice([None, False])
        )
    store.put(("docs",), "left behind", {"text": "egg"})
    store.delete(("docs",), "left behind")


def write(seed, count):
    """Transactions as programs have them, each told on stdout when it is done."""
    draw, store = random.Random(seed), of_sqlite()
    for number in range(1, count + 1):
        draw.choice(TRANSACTIONS)(draw, store, f"{seed}-{number}")
        print(number, flush=True)


def puts(draw, store, name):
    """An item, or one in place of another."""
    store.put(draw.choice(NAMESPACES), key(draw), value(draw, name), ttl=draw.choice([None, 5, 0.75, 10.0]))


def puts_many(draw, store, name):
    """Some at once, one of them gone, one without a vector, one with vectors of several fields."""
    namespace = draw.choice(NAMESPACES)
    ops = [PutOp(namespace, key(draw), value(draw, f"{name}.{number}")) for number in range(4)]
    ops += [PutOp(namespace, key(draw), None), PutOp(namespace, key(draw), value(draw, name), index=False)]
    store.batch([*ops, PutOp(namespace, f"fields {name}", value(draw, name), index=["text", "name"])])


def deletes(draw, store, name):
    """Items of a search."""
    for item in store.search(draw.choice(NAMESPACES)[:1], limit=2, refresh_ttl=False):
        store.delete(item.namespace, item.key)


def refreshes(draw, store, name):
    """A read that prolongs lives: DATETIME() writes times as nothing else does."""
    store.get(draw.choice(NAMESPACES), key(draw))
    store.search(draw.choice(NAMESPACES)[:1], filter={"on": True}, limit=3)


def expires(draw, store, name):
    """Something ends at once, and is swept."""
    store.put(("short",), name, value(draw, name), ttl=-1)
    store.sweep_ttl()


TRANSACTIONS = [puts, puts, puts_many, deletes, refreshes, expires]


def clean():
    """What the report of ``mirror adopt`` says of vectors that are left behind."""
    store = of_sqlite()
    store.conn.execute(
        "DELETE FROM store_vectors WHERE NOT EXISTS"
        " (SELECT 1 FROM store s WHERE s.prefix = store_vectors.prefix AND s.key = store_vectors.key)"
    )


# -------------------------------------------------------------------------------------------------- what it sees


def instant(at):
    """A time in UTC: SqliteStore leaves the zone out."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return at if at is None else at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def items_of(store):
    """All of them, by namespace."""
    namespaces = store.list_namespaces(limit=10_000)
    found = [item for each in namespaces for item in store.search(each, limit=10_000, refresh_ttl=False)]
    return {(item.namespace, item.key): item for item in found}


def seen(store):
    """All items as the store shows them, and what only SQL shows of them."""
    items = {
        (".".join(namespace), name): {
            "namespace": item.namespace,
            "value": item.value,
            "created_at": instant(item.created_at),
            "updated_at": instant(item.updated_at),
        }
        for (namespace, name), item in items_of(store).items()
    }
    for row in rows(store, "SELECT prefix, key, expires_at, ttl_minutes FROM store"):
        ttl = row["ttl_minutes"]
        items[row["prefix"], row["key"]] |= {
            "expires_at": instant(row["expires_at"]),
            "ttl_minutes": ttl if ttl is None else float(ttl),
        }
        one = store.get(tuple(row["prefix"].split(".")), row["key"], refresh_ttl=False)
        assert one is not None and one.value == items[row["prefix"], row["key"]]["value"]
    vectors = {}
    for row in rows(store, "SELECT prefix, key, field_name, embedding, created_at, updated_at FROM store_vectors"):
        blob = row["embedding"]
        if isinstance(blob, str):
            blob = struct.pack("<16f", *json.loads(blob))
        vectors[row["prefix"], row["key"], row["field_name"]] = {
            "embedding": blob,
            "created_at": instant(row["created_at"]),
            "updated_at": instant(row["updated_at"]),
        }
    return {"store": items, "store_vectors": vectors}


def answers(store):
    """Questions of which both stores must have one answer."""

    def listed(**more):
        return [".".join(each) for each in sorted(store.list_namespaces(limit=1000, **more))]

    def found(*namespace, **more):
        items = store.search(namespace, limit=10_000, refresh_ttl=False, **more)
        return sorted(".".join((*item.namespace, item.key)) for item in items)

    def like(text):
        """By meaning, with the score; how many, and the best of them."""
        items = store.search(("users",), query=text, limit=10_000, refresh_ttl=False)
        scores = sorted(((round(item.score, 4), ".".join((*item.namespace, item.key))) for item in items), reverse=True)
        return len(scores), scores[:5]

    asked = {
        "namespaces": listed(),
        "namespaces of two labels": listed(max_depth=2),
        "namespaces of users": listed(prefix=("users",)),
        "namespaces of any user": listed(prefix=("*", "ann")),
        "namespaces that end": listed(suffix=("notes",)),
        "items of users": found("users"),
        "items of a%b_c": found("users", "a%b_c"),
        "items of Users": found("Users"),
        "on": found("users", filter={"on": True}),
        "off": found("users", filter={"on": False}),
        "by a name": found("docs", filter={"deep": "2026-01-02"}),
        "more than nothing": found("memories", filter={"n": {"$gt": 0}}),
        "with vectors like apples": like("apple fig jam"),
        "with vectors like ham": like("ham"),
        "expiring": rows(store, "SELECT count(*) AS n FROM store WHERE expires_at IS NOT NULL")[0]["n"],
    }
    return {question: str(answer) for question, answer in asked.items()}


# ------------------------------------------------------------------------------------------------ over the move


def cross():
    """Write and read a counter by the read router, until it has been in Postgres for a while; tell how it went."""
    from mirror.core.errors import SourceError
    from mirror.storage.reads import READS
    from mirror.storage.routers.langgraph import RoutedStore

    def say(now, **more):
        print(json.dumps({"now": now, **more}), flush=True)

    def reads_in_postgres():
        return sum(count for (store, _), count in READS.values().items() if store == "postgres")

    number, wrong, pause, told, after = 0, [], 0.0, set(), 0
    with of_postgres() as postgres:
        store = RoutedStore(of_sqlite(), postgres, os.environ["SHOP_STATE"], os.environ["SHOP_CONFIG"])
        last = time.monotonic()
        while after < 60:
            number += 1
            while True:
                try:
                    store.put(("crossing", str(number % 7)), f"k{number}", {"text": "ham", "number": number}, ttl=90)
                    break
                except SourceError as error:
                    if not error.retryable:
                        raise
            now = time.monotonic()
            pause, last = max(pause, now - last), now
            item = store.get(("crossing", str(number % 7)), f"k{number}", refresh_ttl=False)
            if item is None or item.value["number"] != number or item.created_at.tzinfo is None:
                wrong.append(f"after {number} it read {item}")
            namespaces = store.list_namespaces(prefix=("crossing",))
            if ("crossing", str(number % 7)) not in namespaces:
                wrong.append(f"after {number}: {namespaces}")
            after += moved_to(postgres, number)
            if number == 20:
                say("writes")
            if reads_in_postgres() >= 20 and "reads" not in told:
                told.add("reads")
                say("reads in Postgres")
        there = {item.value["number"] for item in postgres.search(("crossing",), limit=10**6, refresh_ttl=False)}
        wrong += [f"{each} is not in Postgres" for each in range(1, number + 1) if each not in there]
        wrote = {"writes": number, "reads in Postgres": reads_in_postgres()}
        say("has ended", pause=pause, wrong=wrong, wrote=wrote)


def moved_to(postgres, number):
    """Whether the item was written in Postgres: there times have a fraction, but for one in a million."""
    item = postgres.get(("crossing", str(number % 7)), f"k{number}", refresh_ttl=False)
    return item is not None and item.created_at.microsecond > 0


# ------------------------------------------------------------------------------------- its own calls in Postgres


def use():
    """What programs do, each as one line of JSON: what, and the error."""
    assert POSTGRES
    with of_postgres() as store:
        for step in STEPS:
            error = ""
            try:
                step(store)
            except BaseException as found:
                error = f"{type(found).__name__}: {found}"
            print(json.dumps({"step": step.__doc__.rstrip("."), "error": error}), flush=True)


def sets_up_again(store):
    """setup() finds its migrations done."""
    before = rows(store, "SELECT v FROM store_migrations ORDER BY v")
    store.setup()
    assert before == rows(store, "SELECT v FROM store_migrations ORDER BY v") != []


def puts_over(store):
    """An item that came from SQLite is written over: it keeps its first time, and its vector is the new text's."""
    item = next(item for item in items_of(store).values() if item.namespace == ("users", "bob"))
    store.put(item.namespace, item.key, {**item.value, "text": "grape"})
    again = store.get(item.namespace, item.key)
    assert again.value["text"] == "grape" and again.created_at == item.created_at < again.updated_at
    first = store.search(("users", "bob"), query="grape", limit=1)[0]
    assert first.key == item.key and first.score > 0.999, first
    prefix = ".".join(item.namespace)
    listed = rows(store, "SELECT prefix, key, field_name FROM store_vectors WHERE field_name = 'text'")
    assert sum((row["prefix"], row["key"]) == (prefix, item.key) for row in listed) == 1


def puts_new(store):
    """New items, with a life and without, one without a vector."""
    store.batch([
        PutOp(("new", "é"), "one", {"text": "apple", "n": 1.5}, ttl=5),
        PutOp(("new", "é"), "two", {"text": "bread"}, index=False),
        PutOp(("new",), "three", {"a": None}),
    ])  # fmt: skip
    [one, two, none] = store.batch([GetOp(("new", "é"), "one"), GetOp(("new", "é"), "two"), GetOp(("new",), "four")])
    assert one.value == {"text": "apple", "n": 1.5} and two.value == {"text": "bread"} and none is None
    assert [item.key for item in store.search(("new",), query="apple")] == ["one"]


def lists_namespaces(store):
    """Namespaces are listed, also by patterns and to a depth."""
    listed = store.list_namespaces(prefix=("new",))
    assert sorted(listed) == [("new",), ("new", "é")], listed
    assert ("memories", "ann") in store.list_namespaces(max_depth=2)
    assert MatchCondition(match_type="prefix", path=("new",)).path == ("new",)


def refreshes_lives(store):
    """A read prolongs the life of an item that came from SQLite; those that have ended are swept."""
    at = next(row for row in rows(store, "SELECT prefix, key, expires_at FROM store WHERE ttl_minutes = 60"))
    store.get(tuple(at["prefix"].split(".")), at["key"])
    again = {(row["prefix"], row["key"]): row["expires_at"] for row in rows(store, "SELECT * FROM store")}
    later = again[at["prefix"], at["key"]]
    assert later >= at["expires_at"] and later - datetime.now(UTC) > timedelta(minutes=59)
    store.put(("ended",), "k", {}, ttl=-1)
    assert store.sweep_ttl() >= 1 and store.get(("ended",), "k") is None


def deletes_with_vectors(store):
    """What is deleted goes with its vectors."""
    vectors = rows(store, "SELECT prefix, key FROM store_vectors WHERE prefix = 'docs'")
    for row in vectors:
        store.delete(("docs",), row["key"])
    assert vectors and rows(store, "SELECT prefix, key FROM store_vectors WHERE prefix = 'docs'") == []


def orphans_are_refused(store):
    """A vector of no item is refused."""
    try:
        with store.conn.connection() as conn:
            conn.execute("INSERT INTO store_vectors (prefix, key, field_name) VALUES ('no', 'no', 'no')")
    except ForeignKeyViolation:
        return
    raise AssertionError("it was not refused")


STEPS = [
    sets_up_again, puts_over, puts_new, lists_namespaces, refreshes_lives, deletes_with_vectors, orphans_are_refused,
]  # fmt: skip


def set_up():
    """Both stores' own migrations."""
    if not POSTGRES:
        of_sqlite().setup()
        return
    with of_postgres() as store:
        store.setup()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", given_seed, given_count]:
            write(int(given_seed), int(given_count))
        case ["look", given_path] if POSTGRES:
            with open(given_path, "wb") as file, of_postgres() as opened:
                pickle.dump((seen(opened), answers(opened)), file)
        case ["look", given_path]:
            with open(given_path, "wb") as file:
                opened = of_sqlite()
                pickle.dump((seen(opened), answers(opened)), file)
        case [("set_up" | "fill" | "clean" | "cross" | "use") as given]:
            {"set_up": set_up, "fill": fill, "clean": clean, "cross": cross, "use": use}[given]()
