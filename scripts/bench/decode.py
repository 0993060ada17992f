"""Decode alone: from spooled frames to row changes, one single-row commit at a time.

Databases of several sizes are built and real commits recorded from them: half inserts, the rest updates
and deletes, at random keys, of a table with a TEXT PRIMARY KEY and a secondary index, and of one with an
INTEGER PRIMARY KEY. The frames are spooled one record a commit, as capture does for paced commits, and
go through the engine's replica one by one. Three parts are timed: `read` (cut the batch from the spool,
its checksums tested), `decode` (pages to row changes, all of them read), `advance` (move shadow and page
map). No Postgres, no capture. What must hold: the cost of a commit does not depend on the size of the
database, so each size is set against the smallest. Then single commits of many rows, of both tables: row
changes a second.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from common import Figures, median, parser, scratch, write

from mirror.capture.spool import Cursor, Kind, SpoolPlace, SpoolWriter
from mirror.capture.wal_follower import CHUNK_BYTES
from mirror.core.positions import Lsn
from mirror.replica.batches import Head, PageBatch
from mirror.replica.images import Images
from mirror.replica.replica import Replica
from mirror.replica.spool_reader import SpoolReader
from mirror.sqlite.format.wal import FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader, frame_checksum, verify_frames

WARM_UP = 200


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--size", type=float, nargs="+", default=[10, 100], help="MB of each database, smallest first")
    made.add_argument("--commits", type=int, default=5000, help="single-row commits of each")
    made.add_argument("--rows", type=int, default=100_000, help="rows of the large commits")
    options = made.parse_args()
    figures = Figures("decode")
    for table in ("text", "integer"):
        base: float | None = None
        for size in options.size:
            parts, frames = _single(options, table, size)
            total = sum(parts)
            label = f"{table} key, {size:g} MB"
            smallest = f"{options.size[0]:g} MB" if base else ""
            figures.add(
                f"{label}: a commit of {frames:.1f} frames, read + decode + advance", total, "µs", smallest, base
            )
            figures.add(f"{label}: decode alone", parts[1], "µs", "all three", total)
            base = base or total
    for table in ("text", "integer"):
        for op in ("insert", "update", "delete"):
            speed = _large(options, table, op)
            figures.add(f"{table} key: rows of one commit of {options.rows:,} ({op})", speed, "rows/s")
    figures.finish(options)


def _single(options: argparse.Namespace, table: str, size: float) -> tuple[list[float], float]:
    """Median µs of read, decode and advance; and frames a commit."""
    with scratch() as folder:
        source = folder / "source.db"
        write("build", path=source, table=table, megabytes=size)
        replica, places, spooled = _replica(folder, source, "record", table=table, commits=options.commits + WARM_UP)
        parts: list[list[float]] = [[], [], []]
        clock = time.perf_counter
        for place in places:
            begun = clock()
            found = replica.next(place)
            assert isinstance(found, PageBatch)
            read = clock()
            decoded = replica.decode(found.images)
            for changes in decoded.tables:
                for _ in changes.rows:
                    pass
            done = clock()
            replica.advance(found.head, found.images, found.pages, decoded)
            end = clock()
            for part, seconds in zip(parts, (read - begun, done - read, end - done), strict=True):
                part.append(seconds)
        replica.close()
        return [median(part[WARM_UP:]) * 1e6 for part in parts], spooled / len(places)


def _large(options: argparse.Namespace, table: str, op: str) -> float:
    with scratch() as folder:
        source = folder / "source.db"
        write("build", path=source, table=table, megabytes=max(options.size[-1], options.rows / 3000))
        replica, (place,), _ = _replica(
            folder, source, "bulk", table=table, rows=options.rows, op=op, leave=True
        )  # fmt: skip
        begun = time.perf_counter()
        found = replica.next(place)
        assert isinstance(found, PageBatch)
        decoded = replica.decode(found.images)
        rows = sum(1 for changes in decoded.tables for _ in changes.rows)
        replica.advance(found.head, found.images, found.pages, decoded)
        seconds = time.perf_counter() - begun
        replica.close()
        if rows != options.rows:
            print(f"decoded {rows} rows instead of {options.rows}")
        return rows / seconds


def _replica(folder: Path, source: Path, job: str, **work: object) -> tuple[Replica, list[SpoolPlace], int]:
    """A replica of the database as it stands; then ``job`` is done, and its commits are spooled.

    Returns where each commit ends in the spool, and how many frames there are.
    """
    shutil.copyfile(source, folder / "shadow.db")
    page_size = int.from_bytes(source.read_bytes()[16:18], "big")
    pages = source.stat().st_size // page_size
    write(job, path=source, **work)
    (folder / "spool").mkdir()
    writer = SpoolWriter(folder / "spool")
    for _ in writer.open():
        pass
    wal = Path(f"{source}-wal").read_bytes()
    header = WalHeader.parse(wal[:WAL_HEADER_SIZE])
    cursor = Cursor(1, 0, header.salts, header.checksum, 0, page_size, header.big_endian, 0, "benchmark")
    writer.begin(Kind.GAP, cursor, time.time())
    head = Head(Lsn(1, 0), header.salts, time.time(), writer.place)
    spool = SpoolReader(folder / "spool")
    images = Images(folder, spool)
    replica = Replica.create(folder, spool, images, PageBatch(head, {}, pages, 0, page_size), pages)
    replica.finish(lambda: None)
    places = []
    for payload, count, commit in _records(wal, header):
        last = payload[-FRAME_HEADER_SIZE - page_size :][:FRAME_HEADER_SIZE]
        after = cursor._replace(frame=cursor.frame + count, checksum=frame_checksum(last))
        writer.append(cursor, after, payload, time.time())
        cursor = after
        if commit:
            places.append(writer.place)
    writer.close()
    return replica, places, cursor.frame


def _records(wal: bytes, header: WalHeader) -> Iterator[tuple[bytes, int, bool]]:
    """The WAL as spool payloads: each commit its own, a large one in pieces; (bytes, frames, whole)."""
    size = FRAME_HEADER_SIZE + header.page_size
    chunk = max(1, CHUNK_BYTES // size)
    checksum, begin, at = header.checksum, WAL_HEADER_SIZE, WAL_HEADER_SIZE
    while True:
        run = verify_frames(wal[at : at + chunk * size], header.page_size, header.big_endian, header.salts, checksum)
        for index in run.commits:
            end = at + (index + 1) * size
            while end - begin > chunk * size:
                yield wal[begin : begin + chunk * size], chunk, False
                begin += chunk * size
            yield wal[begin:end], (end - begin) // size, True
            begin = end
        if run.count < chunk:
            return
        at += run.count * size
        checksum = run.checksum(run.count - 1)


if __name__ == "__main__":
    main()
