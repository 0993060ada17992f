"""What hooks send, in the form in which tests compare it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import astuple

from mirror.hook.wire import decode_row


def row_told(row: bytes) -> tuple[Any, ...]:
    """A row that a hook has encoded, as the tuple that it was."""
    found = decode_row(row)
    return astuple(found) if found.new_rowid is not None else (found.op, found.table, found.rowid)
