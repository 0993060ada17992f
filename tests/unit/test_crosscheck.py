"""What makes two rows the same; and what hooks tell, from the program's values to the check's."""

from __future__ import annotations

import math
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.positions import Lsn, Salts
from mirror.core.rows import RowChange, TableChanges
from mirror.core.tables import Column, Table
from mirror.core.values import BadText, Row, Value
from mirror.hook.outbox import Outbox
from mirror.hook.wire import (
    FULL_BLOCK_BYTES,
    LIMIT_BYTES,
    MOST_BLOCK_BYTES,
    Commit,
    WalPlace,
    decode_row,
    encode_block,
    encode_row,
)
from mirror.sidecar.hooktalk.crosscheck import MOST_SENT_BYTES, CrossCheck, _Sent, differences, last_ops, net
from mirror.sidecar.hooktalk.provenance import WriteLog
from mirror.sidecar.hooktalk.receive import MOST_BYTES, HookedCommit, HookReceiver, InWal, Writer, _Waiting

TABLE = Table(
    "t", 2, (Column("id", "INTEGER", "INTEGER"), Column("v", "", "BLOB")), ("id",), "id", False, (0, 1), ("BINARY",)
)
TABLES = {"t": TABLE}


def commit(*rows: tuple[object, ...]) -> HookedCommit:
    return HookedCommit(Writer(1, "p"), 1, None, InWal(Salts(1, 2), 3), [encode_row(row) for row in rows])


def same(one: Value, other: Value) -> bool:
    key = ("t", (1,))
    return not list(differences({key: (None, (1, one))}, {key: (None, (1, other))}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0, 0.0),
        (0, -0.0),
        (0.0, -0.0),
        (1, True),
        ("a", b"a"),
        ("a", BadText(b"a")),
        (b"a", BadText(b"a")),
        (BadText(b"a"), BadText(b"b")),
        (None, 0),
        (None, ""),
        (math.inf, -math.inf),
        (2**53, float(2**53)),
        (2**53 + 1, float(2**53)),
        ("é", "e\u0301"),
    ],
)
def test_values_that_are_alike_and_not_the_same(one: Value, other: Value) -> None:
    assert not same(one, other) and not same(other, one)


@pytest.mark.parametrize(
    "value", [None, 0, -(2**63), 2**63 - 1, 0.0, -0.0, math.inf, 5e-324, "", "a\0b", b"", b"\xff", BadText(b"\xff")]
)
def test_a_value_is_the_same_as_itself(value: Value) -> None:
    copy = BadText(bytes(value.raw)) if isinstance(value, BadText) else value
    assert same(value, copy)


def test_rows_of_different_lengths() -> None:
    key = ("t", (1,))
    assert list(differences({key: (None, (1, 2))}, {key: (None, (1, 2, 3))}))
    assert list(differences({key: (None, None)}, {key: ((1,), (1,))}))


values: st.SearchStrategy[Value] = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)


@given(st.lists(values, min_size=1, max_size=8).map(tuple), st.integers(-(2**63), 2**63 - 1))
def test_what_sqlite_has_comes_as_it_is(row: Row, rowid: int) -> None:
    """To the bit and by type: integers of 64 bits, -0.0, infinity, text with any characters, bytes."""
    found = decode_row(encode_row(("UPDATE", "t", rowid, rowid, row, row)))
    assert (found.op, found.table, found.rowid, found.new_rowid) == ("UPDATE", "t", rowid, rowid)
    for got in (found.before, found.after):
        assert got is not None
        key = ("t", (1,))
        assert not list(differences({key: (None, row)}, {key: (None, got)}))


def test_text_that_is_none_is_no_row() -> None:
    """The hook then tells of the commit without rows."""
    with pytest.raises(UnicodeEncodeError):
        encode_row(("INSERT", "t", 1, 1, None, ("\ud800",)))


def test_rows_of_tables_that_are_read_in_part() -> None:
    """A column that a rule leaves out does not come from hooks; the data of a virtual table come from the pages."""
    content = replace(TABLE, name="docs_content")
    part = replace(TABLE, columns=TABLE.columns[:1], omitted=("v",), whole=TABLE, places=(0,))
    texts = replace(TABLE, name="docs", columns=TABLE.columns[1:], whole=content, places=(1,), virtual="docs")
    tables = {"t": part, "docs": texts}
    written = [commit(("INSERT", "t", 1, 1, None, (1, "secret")), ("UPDATE", "t", 2, 2, (2, "a"), (2, "b")))]
    assert net(written, tables, whole=True) == {("t", (1,)): (None, (1,)), ("t", (2,)): ((2,), (2,))}
    written.append(commit(("INSERT", "docs_content", 1, 1, None, (1, "text"))))
    found = net(written, tables)
    assert found is not None and {table for table, _ in found} == {"t"}
    assert net(written, tables, whole=True) is None


def test_the_net_effect() -> None:
    commits = [
        commit(("INSERT", "t", 1, 1, None, (1, "a")), ("INSERT", "t", 2, 2, None, (2, "b"))),
        commit(("UPDATE", "t", 1, 5, (1, "a"), (5, "a")), ("DELETE", "t", 2, 2, (2, "b"), None)),
    ]
    assert net(commits, TABLES) == {
        ("t", (1,)): (None, None),
        ("t", (2,)): (None, None),
        ("t", (5,)): (None, (5, "a")),
    }
    assert last_ops(commits, TABLES) == {("t", (1,)): False, ("t", (2,)): False, ("t", (5,)): True}
    keys = [commit(("INSERT", "t", 1), ("UPDATE", "t", 7), ("DELETE", "t", 9))]
    assert net(keys, TABLES) is None, "values are not known"
    assert last_ops(keys, TABLES) == {("t", (1,)): True, ("t", (7,)): True, ("t", (9,)): False}
    assert net([commit(("INSERT", "t", 1, 1, None, (1,)))], TABLES) is None, "another number of columns"
    assert net([commit(("INSERT", "none", 1, 1, None, (1,)))], TABLES) == {}


def test_what_waits_has_a_limit() -> None:
    """By bytes, too: a commit may be large."""
    large = HookedCommit(Writer(1, "p"), 1, None, InWal(Salts(1, 2), 3), [bytes(MOST_BYTES // 4)])
    waiting = _Waiting()
    assert [waiting.add(large) for _ in range(6)] == [0, 0, 0, 0, 1, 1]
    assert len(waiting.take()) == 4 and not waiting and waiting.take() == []
    assert [waiting.add(large) for _ in range(4)] == [0, 0, 0, 0]
    sent = _Sent()
    for frame in range(8):
        sent.add(frame, HookedCommit(Writer(1, "p"), 1, None, None, [bytes(MOST_SENT_BYTES // 4)]))
        sent.add(frame, HookedCommit(Writer(1, "p"), 2, None, None, [bytes(MOST_SENT_BYTES // 4)]))
    assert len(sent.between(0, None)) == 4
    sent.forget(6)
    assert len(sent.between(0, None)) == 2
    for frame in (8, 9):
        sent.add(frame, large)
    assert len(sent.between(0, None)) == 4


def test_a_block_as_large_as_may_be_sent_is_not_too_large_to_be_read(tmp_path: Path) -> None:
    """Small messages, which have the most beside their rows, before one that fills what is left of the queue."""
    outbox = Outbox(tmp_path)
    outbox.close(30.0)  # nobody sends
    outbox.connected = True

    def put(rows: list[bytes]) -> int:
        size = 100 + sum(map(len, rows))
        outbox.put(("commit", 1, "a" * 200, ("wal", 2**32 - 1, 2, 3), rows), size)
        return size

    left = LIMIT_BYTES
    row = encode_row(("DELETE", "t", 1))
    while left > LIMIT_BYTES - FULL_BLOCK_BYTES + 10_000:
        left -= put([row] * 400)
    put([bytes(1000)] * 19_999 + [bytes(left - 19_999_100)])
    assert outbox.lost == 0
    sent = 0
    while block := outbox._take():
        assert len(encode_block(block)) <= MOST_BLOCK_BYTES
        sent += len(block)
    assert sent > 500


def test_the_file_may_be_faster_than_a_hook_that_was_silent() -> None:
    """Also right after what a program without a hook has written: the commit waits for what the hook says."""
    hooked, salts, writer = HookReceiver(lambda: None), Salts(1, 2), Writer(1, "p")
    cross = CrossCheck(hooked, WriteLog(), str)

    def applies(frame: int) -> None:
        cross.begin(Lsn(1, frame), salts, 1, TABLES)
        for changes in cross.on_rows([TableChanges(TABLE, iter([RowChange(frame, None, (frame, "a"))]))]):
            list(changes.rows)
        cross.end(Lsn(1, frame + 1), salts, same_schema=True)

    applies(0)
    hooked._connected[BytesIO()] = writer
    for frame in range(1, 3):
        applies(frame)
    hooked._take(writer, [Commit(1, "ada", WalPlace(1, 2, 2), [encode_row(("INSERT", "t", 2, 2, None, (2, "a")))])])
    cross.check()
    assert (cross.checked, cross.unchecked, cross.waiting) == (1, 0, 1)
