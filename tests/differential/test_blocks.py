"""Leaves compared in blocks: the same changes as page by page, and as SQLite says, wherever cells moved to."""

from __future__ import annotations

from collections.abc import Callable

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.core.errors import FormatError, MirrorError
from mirror.core.tables import Column, Table
from mirror.core.values import BadText, Value
from mirror.sqlite.decode import blocks, rows
from mirror.sqlite.decode.diff import build_pagemap, decode
from mirror.sqlite.decode.rows import RowFormat
from mirror.sqlite.decode.schema import read_schema
from mirror.sqlite.format.record import decode_record
from tests.differential.test_decode import Copy, Setting
from tests.support.damage import KINDS, Damage, damaged, sound_database
from tests.support.sqlite import Pages, runs, same_row

ROWS = 400
#: After so many records with a header what follows from it is kept.
_TIMES = rows._TIMES_MET + 2


@pytest.fixture(params=[1, 10_000], ids=["in blocks", "page by page"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of comparing leaves; blocks of few pages."""
    monkeypatch.setattr(rows, "MANY_PAGES", request.param)
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 5000)


def step(
    work: Callable[[apsw.Connection], object],
    page_size: int = 1024,
    value: Callable[[int], object] = lambda at: "v" * (at % 90),
) -> tuple[int, Pages, Pages]:
    """The decoder over a transaction, judged by SQLite: how many rows changed, and the states."""
    connection = Setting(page_size=page_size).connect()
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b REAL)")
    connection.executemany("INSERT INTO t VALUES (?, ?, ?)", ((at, value(at), at) for at in range(1, ROWS + 1)))
    before = Pages.take(connection)
    copy = Copy(connection, before.read, before.count, before.layout)
    connection.execute("BEGIN")
    work(connection)
    connection.execute("COMMIT")
    after = Pages.take(connection)
    copy.step(after.read, after.differing(before), after.count)
    connection.close()
    return copy.changes, before, after


def free_block(page: bytes) -> int:
    """The first freeblock of a page, 0 for none."""
    return int.from_bytes(page[1:3], "big")


@pytest.mark.usefixtures("way")
def test_freeblocks() -> None:
    """A row that goes leaves a block that is free, in the place of its bytes."""
    changes, before, after = step(lambda db: db.execute("DELETE FROM t WHERE id % 5 = 0"))
    assert changes == ROWS // 5
    blocks_before, blocks_after = (
        sum(free_block(state.read(pgno)) > 0 for pgno in range(3, state.count + 1)) for state in (before, after)
    )
    assert blocks_after > 5 > blocks_before


@pytest.mark.usefixtures("way")
def test_pages_that_are_defragmented() -> None:
    """Rows come where others went, as often as pages have to be put in order: those that stay move."""

    def work(db: apsw.Connection) -> None:
        db.execute("UPDATE t SET a = 'short' WHERE id % 3 = 0")
        db.execute("UPDATE t SET a = a || 'longer' WHERE id % 4 = 1")

    changes, before, after = step(work)
    assert changes == len({at for at in range(1, ROWS + 1) if at % 3 == 0 or at % 4 == 1})
    assert before.count <= after.count


@pytest.mark.usefixtures("way")
def test_cells_that_move_without_changing() -> None:
    """Each row is made longer and then as it was: nothing has changed, though every cell is elsewhere."""

    def work(db: apsw.Connection) -> None:
        for at in range(1, ROWS + 1):
            (old,) = db.execute("SELECT a FROM t WHERE id = ?", (at,)).fetchone()
            db.execute("UPDATE t SET a = a || 'xxxxxxxxxxxx' WHERE id = ?", (at,))
            db.execute("UPDATE t SET a = ? WHERE id = ?", (old, at))

    changes, before, after = step(work)
    assert changes == 0
    assert len(after.differing(before)) > 10


@pytest.mark.usefixtures("way")
def test_a_cell_that_changes_its_size() -> None:
    """One row on each of many pages, and the varints before the payload get longer with it."""
    changes, *_ = step(lambda db: db.execute("UPDATE t SET a = zeroblob(130) WHERE id % 25 = 7"))
    assert changes == ROWS // 25


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [700, 5000])
def test_rows_with_overflow_pages(size: int) -> None:
    """Changed at the front, which is on the leaf, and at the end, which is not; and moved, and not changed at all."""

    def work(db: apsw.Connection) -> None:
        db.execute("UPDATE t SET a = replace(a, 'end', 'END') WHERE id % 7 = 0")
        db.execute("UPDATE t SET a = 'F' || substr(a, 2) WHERE id % 11 = 0")
        db.execute("UPDATE t SET id = id + 1000 WHERE id % 13 = 0")
        db.execute("DELETE FROM t WHERE id % 17 = 0")

    step(work, 512, lambda at: "f" + "x" * size + "end" if at % 2 else at)


@pytest.mark.usefixtures("way")
def test_a_blob_written_where_it_is() -> None:
    """Only an overflow page is logged: the leaf is the same to the byte."""

    def work(db: apsw.Connection) -> None:
        for at in range(3, ROWS, 3):
            with db.blob_open("main", "t", "a", at, True) as blob:
                blob.seek(2500)
                blob.write(b"here")

    changes, *_ = step(work, 512, lambda _: bytes(3000))
    assert changes == len(range(3, ROWS, 3))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("step_of", [1, 1 << 20, 1 << 40, 1 << 53])
def test_rowids_of_every_length(step_of: int) -> None:
    """One to nine bytes, below zero as well: rows go, come and move from page to page."""

    connection = Setting(page_size=512).connect()
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b REAL)")
    connection.executemany("INSERT INTO t VALUES (?, ?, ?)", (((at - 200) * step_of, "v", at) for at in range(ROWS)))
    before = Pages.take(connection)
    copy = Copy(connection, before.read, before.count, before.layout)
    for statement in (
        "DELETE FROM t WHERE a = 'v' AND abs(id) % 3 = 1",
        "INSERT INTO t VALUES (9223372036854775807, 'last', 1), (-9223372036854775808, 'first', 1)",
        "INSERT INTO t(a) SELECT 'at random ' || b FROM t WHERE b % 5 = 0 AND id < 0",
        "UPDATE t SET a = a || 'longer' WHERE b % 2 = 0",
        "UPDATE t SET id = id - 1 WHERE id < 0 AND id > -9223372036854775808",
    ):
        connection.execute(statement)
        after = Pages.take(connection)
        copy.step(after.read, after.differing(before), after.count)
        before = after
    connection.close()


# -- damaged states ------------------------------------------------------------------------------------

SOUND = {str(size): sound_database(size) for size in (512, 4096)}
damages = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**20 - 1)),
    min_size=1,
    max_size=3,
)


def changes_between(old: Pages, new: Pages, many: int) -> list[str] | None:
    """All changes, in one order; None if a page is damaged."""
    try:
        schema = read_schema(old.read, old.layout.geometry, old.layout.encoding)
        pagemap = build_pagemap(runs(old.read), old.count, schema, old.layout)
    except MirrorError:
        return []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "MANY_PAGES", many)
        try:
            decoded = decode(old.read, new.read, new.differing(old), schema, pagemap, old.layout)
            return sorted(repr((part.table.name, change)) for part in decoded.tables for change in part.rows)
        except MirrorError:
            return None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(SOUND)), damages, damages)
def test_damaged_states_both_ways(name: str, damage: list[Damage], more: list[Damage]) -> None:
    """From one damaged state to another that has the damage of the first, too."""
    sound = SOUND[name]
    good = sound.pages
    one = Pages(damaged(sound, damage), good.header, good.layout)
    two = Pages(damaged(sound, damage + more), good.header, good.layout)
    for old, new in ((good, one), (one, two)):
        assert changes_between(old, new, 1) == changes_between(old, new, 10_000)


# -- records -------------------------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.sampled_from((0, 1, -1)),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([sign * 2**bits for bits in (7, 8, 15, 16, 23, 24, 31, 32, 47, 48, 62) for sign in (1, -1)]),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.text("é\U0001f600", min_size=60, max_size=70),
    st.binary(max_size=20),
    st.binary(max_size=6).map(lambda raw: BadText(b"\xff" + raw)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=9), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_records_with_a_header_that_comes_again(values: list[Value], added: int, seed: int) -> None:
    """By what was kept of the header: the same values, of the same types, as by its bytes alone."""
    payload = _record(values)
    assert decode_record(payload) == values
    columns = tuple(
        Column(f"c{at}", "", "REAL" if seed >> at & 1 else "BLOB", default=(None, 7, "d")[at % 3])
        for at in range(len(values) + added)
    )
    table = Table("t", 2, columns, (), None, False, tuple(range(len(columns))))
    fresh = RowFormat(table, "utf-8").row(payload, 5)
    kept = RowFormat(table, "utf-8")
    for _ in range(_TIMES):
        assert same_row(kept.row(payload, 5), fresh)
    with pytest.raises(FormatError):
        kept.row(payload[: payload[0]] + payload[payload[0] + 1 :], 5) if len(payload) > payload[0] else kept.row(
            b"", 5
        )
    again = [*values[:-1], BadText(b"\xfe")]
    other = _record(again)
    for _ in range(_TIMES):
        assert same_row(kept.row(other, 5), RowFormat(table, "utf-8").row(other, 5))


def _record(values: list[Value]) -> bytes:
    """A record of some values, as SQLite itself writes it."""
    connection = Setting(page_size=65536).connect()
    names = ", ".join(f"c{at}" for at in range(len(values)))
    connection.execute(f"CREATE TABLE t({names})")
    marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, BadText) else "?" for value in values)
    connection.execute(
        f"INSERT INTO t VALUES ({marks})", [value.raw if isinstance(value, BadText) else value for value in values]
    )
    pages = Pages.take(connection)
    connection.close()
    page = pages.read(2)
    cell = pages.layout.geometry.table_leaf_cell(page, int.from_bytes(page[8:10], "big"))
    return page[cell.start : cell.end]
