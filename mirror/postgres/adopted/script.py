"""The SQL of ``mirror adopt --after-copy``, as text: where it may not be run, and why.

It is run in a transaction of the mirror's, which ends with the mark that it was run, so it must not end that. Its
tokens are Postgres' (https://www.postgresql.org/docs/current/sql-syntax-lexical.html):

============== =================================================================================
comment        ``-- …`` to the end of the line; ``/* … */``, which may contain others
text           ``'…'`` with ``''`` for a quote; ``E'…'``, with backslashes, too; ``$tag$…$tag$``
name           ``"…"`` with ``""`` for a quote
word           a letter, then letters, digits, ``_``, ``$``
``;``          ends a statement, but between ``BEGIN ATOMIC`` and its ``END``
============== =================================================================================

What is found here is told before anything is copied. That nothing is committed by a script does not rest on it: see
:mod:`.after_copy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from psycopg.pq import DiagnosticField

from mirror.core.errors import ConfigError
from mirror.core.redaction import redacted
from mirror.postgres.target import Conn

_OPERATION = "read the SQL for after the copy"
#: Bytes that a file may have.
LARGEST = 1 << 20
_LETTER = r"A-Za-z_\x80-\U0010ffff"
_TOKEN = re.compile(
    rf"""(?P<space>\s+|--[^\n]*)
    |(?P<comment>/\*)
    |(?P<text>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>(?:[{_LETTER}][{_LETTER}0-9]*)?)\$.*?\$(?P=tag)\$)
    |(?P<word>[{_LETTER}][{_LETTER}0-9$]*)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
#: What a statement begins with that begins, ends or divides a transaction; besides ``PREPARE TRANSACTION``.
_TRANSACTION = frozenset(("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"))


def read_script(path: Path) -> str:
    """The text of a file. Raises :class:`ConfigError` if it cannot be one to run."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error), "name a file that can be read") from error
    if len(data) > LARGEST:
        raise _unusable(path, "it is larger than 1 MiB", "have it call functions that are in Postgres")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        step = "save it as UTF-8"
        raise _unusable(path, f"it is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}", step) from error
    if "\0" in text:
        raise _unusable(path, "it has a NUL, which Postgres takes in no text", "take it out")
    require_one_transaction(path, text)
    return text


def require_one_transaction(path: Path, text: str) -> None:
    """Raise :class:`ConfigError` for a script that has no statement, or one that cannot be run inside a transaction of
    the mirror's."""
    empty = True
    for line, words, sign in _statements(text):
        empty = False
        if sign == "\\":
            step = "write plain SQL: it is not run by psql"
            raise _unusable(path, f"line {line} has a backslash, as psql's own commands begin with", step)
        if (words and words[0] in _TRANSACTION) or words == ["PREPARE", "TRANSACTION"]:
            step = "leave it out: all of it is run in one transaction, which the mirror begins and ends"
            raise _unusable(path, f"line {line} begins or ends a transaction: {' '.join(words)}", step)
    if empty:
        raise _unusable(path, "there is no statement in it", "write the SQL that is to be run")


def require_syntax(conn: Conn, path: Path, text: str) -> None:
    """Raise :class:`ConfigError` if Postgres' parser does not take the text. Nothing of it is run or looked up.

    The server parses the whole text of a statement that is to be prepared before it refuses to prepare several: those
    two errors have one SQLSTATE, and only that of the parser has a place in the text.
    """
    result = conn.pgconn.prepare(b"", f"{text}\n;SELECT 1;SELECT 1".encode())
    place = result.error_field(DiagnosticField.STATEMENT_POSITION)
    if place is not None:
        detail = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        found = f"line {line_of(text, int(place))}: {redacted(detail)}"
        raise _unusable(path, found, "correct it; it is plain SQL, and not run by psql")


def line_of(text: str, place: int) -> int:
    """The line of a character, both counted from 1."""
    return text.count("\n", 0, place - 1) + 1


def _unusable(path: Path, detail: str, step: str) -> ConfigError:
    return ConfigError(_OPERATION, str(path), detail, next_step=step)


def _statements(text: str) -> Iterator[tuple[int, list[str], str]]:
    """Of each statement the line of its first token and its first two words, in capitals; and of each backslash its
    line, with the sign itself."""
    first, words, last, depth = 0, list[str](), "", 0
    for at, kind, found in _tokens(text):
        if found == ";" and not depth:
            if first:
                yield first, words, ""
            first, words, last = 0, [], ""
            continue
        if found == "\\":
            yield line_of(text, at + 1), [], found
        word = found.upper() if kind == "word" else ""
        if not first or (len(words) == 1 and last == words[0]):
            first = first or line_of(text, at + 1)
            words += [word] if word else []
        if depth:
            depth += (word == "CASE") - (word == "END")
        elif (last, word) == ("BEGIN", "ATOMIC"):
            depth = 1
        last = word
    if first:
        yield first, words, ""


def _tokens(text: str) -> Iterator[tuple[int, str, str]]:
    """Where each begins, its kind and its text; without spaces and comments."""
    at = 0
    while (match := _TOKEN.match(text, at)) is not None:
        begun, at = at, match.end()
        if match["comment"] is not None:
            at = _end_of_comment(text, at)
        elif match["space"] is None:
            yield begun, match.lastgroup or "", match.group()


def _end_of_comment(text: str, at: int) -> int:
    depth = 1
    while depth and (match := _COMMENT.search(text, at)) is not None:
        depth += 1 if match.group() == "/*" else -1
        at = match.end()
    return len(text) if depth else at
