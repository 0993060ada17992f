"""The statements that a mirror really sends to Postgres, and what they read and write, by Postgres' own parser."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pglast import ast, parse_plpgsql, parse_sql
from pglast.visitors import Visitor

from tests.support.proxy import Proxy

#: Frontend messages with a statement: https://www.postgresql.org/docs/current/protocol-message-formats.html
_QUERY, _PARSE = b"Q", b"P"
#: How the parser reads a whole statement in a block; otherwise it is an expression or an assignment.
_WHOLE = 0
#: Bytes of a message before its content: its kind and its size.
_HEAD = 5


class Listener(Proxy):
    """Forwards to a Postgres, and keeps the text of each statement that is sent, once."""

    def __init__(self, dsn: str) -> None:
        self.texts: dict[str, None] = {}
        self._rest: dict[socket.socket, bytes] = {}
        self._begun: set[socket.socket] = set()
        super().__init__(dsn)

    def heard(self, client: socket.socket, data: bytes) -> None:
        """Take what a client sends apart into messages; the first one of a connection has no kind."""
        rest = self._rest.get(client, b"") + data
        at = 0
        while True:
            head = _HEAD if client in self._begun else _HEAD - 1
            if len(rest) < at + head:
                break
            size = int.from_bytes(rest[at + head - 4 : at + head], "big") + head - 4
            if len(rest) < at + size:
                break
            if client in self._begun:
                self._note(rest[at : at + 1], rest[at + head : at + size])
            self._begun.add(client)
            at += size
        self._rest[client] = rest[at:]

    def _note(self, kind: bytes, body: bytes) -> None:
        if kind == _PARSE:
            body = body[body.index(b"\0") + 1 :]
        if kind in (_QUERY, _PARSE):
            self.texts[body[: body.index(b"\0")].decode()] = None


@dataclass
class Used:
    """What one statement uses."""

    text: str
    kind: str
    """Of the statement, as the parser calls it: ``InsertStmt``, ``DeleteStmt``."""
    target: tuple[str, str] | None
    """Schema and name of the table that it fills or changes."""
    reads: set[tuple[str, str]] = field(default_factory=set)
    """Those that it reads; one that UPDATE, DELETE and MERGE change is read, too."""
    operators: set[str] = field(default_factory=set)


class _Uses(Visitor):  # type: ignore[misc]
    def __init__(self) -> None:
        self.tables: list[tuple[str, str]] = []
        self.operators: set[str] = set()

    def visit_RangeVar(self, _: Any, node: ast.RangeVar) -> None:  # noqa: N802 - the parser's names
        self.tables.append((node.schemaname or "", node.relname))

    def visit_A_Expr(self, _: Any, node: ast.A_Expr) -> None:  # noqa: N802
        self.operators.add(str(node.name[-1].sval))


def uses_of(text: str) -> Iterator[Used]:
    """What the statements in a text use, those in the block of a DO included."""
    for raw in parse_sql(text):
        node = raw.stmt
        if isinstance(node, ast.DoStmt):
            for inner in _queries(json.loads(json.dumps(parse_plpgsql(text)))):
                yield from uses_of(inner)
            continue
        found = _Uses()
        found(node)
        target = None
        if isinstance(node, ast.InsertStmt):
            target = node.relation
        elif isinstance(node, ast.CreateTableAsStmt):
            target = node.into.rel
        used = Used(text, type(node).__name__, None, set(found.tables), found.operators)
        if target is not None:
            temporary = target.relpersistence == "t"
            used.target = "pg_temp" if temporary else target.schemaname or "", target.relname
            tables = list(found.tables)
            tables.remove((target.schemaname or "", target.relname))
            used.reads = set(tables)
        yield used


def _queries(tree: Any) -> Iterator[str]:
    """All that a block asks the server: statements, and expressions as the SELECT that they are."""
    if isinstance(tree, list):
        for each in tree:
            yield from _queries(each)
    elif isinstance(tree, dict):
        for name, each in tree.items():
            if name == "PLpgSQL_expr":
                query, mode = each["query"], each["parseMode"]
                yield query if mode == _WHOLE else f"SELECT {query.partition(':=')[2] or query}"
            else:
                yield from _queries(each)
