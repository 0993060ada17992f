"""One store of memories with a vector index: ours, or a peer's. The same loop, texts and embeddings for each.

``python _peers.py JSON`` writes the items, ``singles`` of them one a call and the others ``batch`` a call, then
searches, and prints its figures as one line of JSON. Each peer is used as its documentation says; its embedding
function is a look-up in a table, and no model is asked for anything.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from _memories import Corpus

#: Results of a search.
LIMIT = 10
now = time.perf_counter
Found = list[str]


class Store(Protocol):
    """What is measured."""

    def put(self, texts: list[str]) -> object:
        """Write items: one call."""

    def search(self, text: str) -> Found:
        """The texts of the items that are most similar, the best first."""

    def settle(self) -> object:
        """Wait until all that was written is where it is searched."""


Embeddings = dict[str, list[float]]


def _index(spec: dict[str, Any], known: Embeddings) -> Any:
    return {"dims": spec["dims"], "embed": lambda texts: [known[text] for text in texts], "fields": ["text"]}


@contextmanager
def _sqlite_store(spec: dict[str, Any], known: Embeddings) -> Iterator[Store]:
    import sqlite3

    library: Any = sqlite3
    if not hasattr(sqlite3.Connection, "enable_load_extension"):  # a Python that was built without
        import pysqlite3

        library = pysqlite3
    from langgraph.store.sqlite import SqliteStore

    # As its from_conn_string() opens it, where each call waits for the disk; or with the pragmas that our side has.
    conn = library.connect(spec["path"], check_same_thread=False, isolation_level=None)
    if spec["side"] == "SqliteStore in WAL mode":
        conn.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
    index = _index(spec, known) | {"text_fields": ["text"]}  # the name that it has here
    store = SqliteStore(conn, index=index)
    store.setup()
    yield _LangGraph(store)
    conn.close()


@contextmanager
def _postgres_store(spec: dict[str, Any], known: Embeddings) -> Iterator[Store]:
    from langgraph.store.postgres import PostgresStore

    with PostgresStore.from_conn_string(spec["dsn"], index=_index(spec, known)) as store:
        store.setup()
        yield _LangGraph(store)


class _LangGraph:
    def __init__(self, store: Any) -> None:
        from langgraph.store.base import PutOp

        self._store, self._made, self._op = store, 0, PutOp

    def put(self, texts: list[str]) -> object:
        first, self._made = self._made, self._made + len(texts)
        if len(texts) == 1:
            return self._store.put(("memories",), f"item-{first}", {"text": texts[0]})
        made = [self._op(("memories",), f"item-{first + at}", {"text": text}) for at, text in enumerate(texts)]
        return self._store.batch(made)

    def search(self, text: str) -> Found:
        return [found.value["text"] for found in self._store.search(("memories",), query=text, limit=LIMIT)]

    def settle(self) -> None:
        pass


@contextmanager
def _mem0(spec: dict[str, Any], known: Embeddings) -> Iterator[Store]:
    folder = Path(spec["path"])
    folder.mkdir()
    os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": str(folder), "OPENAI_API_KEY": "none is asked"}
    from mem0 import Memory

    memory = Memory.from_config({
        "vector_store": {
            "provider": "qdrant", "config": {"path": str(folder / "qdrant"), "embedding_model_dims": spec["dims"]},
        },
        "history_db_path": str(folder / "history.db"),
    })  # fmt: skip

    class Known:
        def embed(self, text: str, memory_action: str | None = None) -> list[float]:
            return known[text]

    memory.embedding_model = Known()
    yield _Mem0(memory)


class _Mem0:
    def __init__(self, memory: Any) -> None:
        self._memory = memory

    def put(self, texts: list[str]) -> object:
        return self._memory.add([{"role": "user", "content": text} for text in texts], user_id="user", infer=False)

    def search(self, text: str) -> Found:
        answer = self._memory.search(text, top_k=LIMIT, filters={"user_id": "user"}, threshold=0.0)
        return [found["memory"] for found in answer["results"]]

    def settle(self) -> None:
        pass


@contextmanager
def _ours(spec: dict[str, Any], known: Embeddings) -> Iterator[Store]:
    import sqlite3  # noqa: F401 - the library that the peers have

    from mirror import get_storage_adapter

    with get_storage_adapter(config=spec["config"]) as adapter:
        yield _Ours(adapter, known, spec["side"] == "dual")


class _Ours:
    def __init__(self, adapter: Any, known: Embeddings, mirrored: bool) -> None:
        self._memory, self._known = adapter.memory, known
        self._freshness = adapter._files.freshness["memory"] if mirrored else None
        if self._freshness is not None and not self._freshness.prepare(30):
            raise SystemExit("the mirror does not say what it follows")

    def put(self, texts: list[str]) -> object:
        known = self._known
        made = [{"memory_type": "fact", "summary": text, "embedding": known[text]} for text in texts]
        return self._memory.create_items(made)

    def search(self, text: str) -> Found:
        found = self._memory.search_by_vector(self._known[text], limit=LIMIT)
        return [one.item.summary for one in found]

    def settle(self) -> None:
        if self._freshness is None:
            return
        deadline = time.monotonic() + 120
        while (reason := self._freshness.wait(self._freshness.begin(), deadline)) is not None:
            if time.monotonic() > deadline:
                raise SystemExit(f"not everything is in Postgres: {reason}")
            time.sleep(0.001)


SIDES: dict[str, Callable[[dict[str, Any], Embeddings], Any]] = {
    "SqliteStore": _sqlite_store, "SqliteStore in WAL mode": _sqlite_store,
    "PostgresStore": _postgres_store, "mem0": _mem0,
    "sqlite": _ours, "postgres": _ours, "dual": _ours,
}  # fmt: skip


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Calls a second, and the share of the ten nearest that searches found."""
    corpus = Corpus(spec["items"], spec["dims"], spec["seed"])
    texts: list[str] = []
    blocks = []
    for first, made, block in corpus.blocks():
        texts += [f"{text} {first + at}" for at, text in enumerate(made)]
        blocks.append(block)
    vectors = np.concatenate(blocks)
    queries, wanted = corpus.queries(spec["searches"])
    queries = [f"{text} {at}?" for at, text in enumerate(queries)]
    known = dict(zip([*texts, *queries], [*vectors.tolist(), *wanted.tolist()], strict=True))
    lengths = np.linalg.norm(vectors, axis=1)
    singles, batch = spec["singles"], spec["batch"]
    found: dict[str, Any] = {}
    with SIDES[spec["side"]](spec, known) as store:
        begun = now()
        for text in texts[:singles]:
            store.put([text])
        found["single"] = singles / (now() - begun)
        store.settle()
        found["single, in sight"] = singles / (now() - begun)
        begun = now()
        for at in range(singles, len(texts), batch):
            store.put(texts[at : at + batch])
        found["batch"] = (len(texts) - singles) / (now() - begun)
        store.settle()
        found["batch, in sight"] = (len(texts) - singles) / (now() - begun)
        store.search(queries[0])
        begun = now()
        answers = [store.search(query) for query in queries]
        found["search"] = len(queries) / (now() - begun)
    hits = 0
    for at, answer in enumerate(answers):
        best = np.argsort(-(vectors @ wanted[at]) / lengths)[:LIMIT]
        hits += len({texts[one] for one in best} & set(answer))
    found["recall"] = hits / (LIMIT * len(queries))
    return found


if __name__ == "__main__":
    result = measure(json.loads(sys.argv[1]))
    print(json.dumps(result), flush=True)
    os._exit(0)  # some peers' threads go on
