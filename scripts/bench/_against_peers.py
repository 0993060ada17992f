"""Our store against its peers: the part of the benchmark ``storage`` that installs and runs them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _environments import installed
from _program import build, configure, run, wait_for_index
from common import Figures, Mirror, Workbench, median

#: What is compared, as it was when the figures in README.md were taken.
PEERS = (
    "langgraph-checkpoint-sqlite==3.1.2", "langgraph-checkpoint-postgres==3.2.0", "mem0ai==2.2.1",
    "psycopg[binary]==3.3.9", "numpy==2.4.6",
    "pysqlite3-binary==0.5.4.post2",  # for a Python whose own sqlite3 loads no extensions
)  # fmt: skip
#: Ours, and which peers it is compared with.
PAIRS = {
    "sqlite": ("SqliteStore", "SqliteStore in WAL mode", "mem0"),
    "postgres": ("PostgresStore",),
    "dual": ("PostgresStore",),
}
_PEERS = ("SqliteStore", "SqliteStore in WAL mode", "PostgresStore", "mem0")


def against_peers(options: argparse.Namespace, figures: Figures, bench: Workbench) -> None:
    """Run them in turns, each round with new stores; what was measured by then is shown if the time is over."""
    if not options.peer_items:
        print("peers: left out, as there are to be no items of them")
        return
    python = installed(Path(options.peers) if options.peers else bench.folder / "peers", PEERS)
    sides = [*PAIRS, *(_PEERS if python else ())]
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    try:
        for number in range(options.peer_rounds):
            _round(options, bench, number, found, python)
    finally:
        _show(figures, found)


def _round(
    options: argparse.Namespace, bench: Workbench, number: int, found: dict[str, list[dict[str, Any]]], python: str
) -> None:
    for side in found:
        job = {
            "side": side, "dims": options.dims, "items": options.peer_items, "singles": options.singles,
            "batch": 100, "searches": options.searches, "seed": 1,
        }  # fmt: skip
        try:
            with _place(bench, side, f"{side.lower().replace(' ', '_')}{number}", options.dims) as place:
                found[side].append(run("_peers.py", python=sys.executable if side in PAIRS else python, **job | place))
        except SystemExit as error:
            print(f"{side}: left out, {error}")


def _show(figures: Figures, found: dict[str, list[dict[str, Any]]]) -> None:
    what = {
        "single": "writes, one item a call", "single, in sight": "the same, until they can be searched",
        "batch": "items written, 100 a call", "batch, in sight": "the same, until they can be searched",
        "search": "searches by embedding",
    }  # fmt: skip
    for side, peers in PAIRS.items():
        for key, name in what.items():
            if not found[side] or ("in sight" in key and side != "dual"):
                continue
            mine = median([one[key] for one in found[side]])
            for peer in peers:
                theirs = median([one[key] for one in found.get(peer, [])])
                if theirs == theirs:
                    figures.add(f"{side}: {name}", mine, "/s", f"{peer}: {theirs:,.1f}/s", theirs)
            if not any(found.get(peer) for peer in peers):
                figures.add(f"{side}: {name}", mine, "/s")
    for side, runs in found.items():
        if runs:
            figures.add(f"{side}: of the ten nearest, found", 100 * median([one["recall"] for one in runs]), "%")


@contextmanager
def _place(bench: Workbench, side: str, name: str, dims: int) -> Iterator[dict[str, Any]]:
    """Files and servers for one run of a side."""
    if side == "PostgresStore":
        yield {"dsn": bench.database(name)}
        return
    source = bench.source(name)
    if side not in PAIRS:
        yield {"path": os.fspath(source)}
        return
    # One item with an embedding, so that the index is there before the first write, as a peer's is.
    build(source, 1, dims)
    if side == "sqlite":
        yield {"config": configure(bench, source, name, backend="sqlite")}
        return
    with Mirror(bench, source, name) as mirror:
        mirror.ready()
        wait_for_index(bench, mirror, name, dims)
        if side == "postgres":
            mirror.stop()
            yield {"config": configure(bench, source, name, name, backend="postgres", readFrom="postgres")}
        else:
            reads = {"maxWaitMs": 1000}
            yield {"config": configure(bench, source, name, name, backend="dual", readFrom="postgres", reads=reads)}
