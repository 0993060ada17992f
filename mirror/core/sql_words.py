"""The words of SQL in a source's schema, for the little that no pragma reports.

SQLite has accepted each of these statements, so only words are told apart here: names in any quotes, texts and comments
are never taken for keywords.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["word", "name", "text", "number", "sign"]
_KINDS: dict[str | None, Kind] = {"word": "word", "name": "name", "text": "text", "number": "number", "sign": "sign"}

# As SQLite's tokenize.c: a character beyond ASCII is part of a word, a vertical tab is no space, "=" may be doubled.
_TOKEN = re.compile(
    r"""(?P<space>[ \t\n\f\r]+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<text>[xX]?'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    |(?P<number>[0-9][0-9A-Za-z_.]*|\.[0-9][0-9A-Za-z_]*)
    |(?P<sign>==|.)""",
    re.VERBOSE | re.DOTALL,
)
_QUOTES = {'"': '"', "`": "`", "[": "", "'": "'"}


class Token(NamedTuple):
    """One token; comments and spaces are none."""

    kind: Kind
    text: str
    """As it is written, with its quotes."""

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these keywords, given in capitals."""
        return self.kind == "word" and self.text.upper() in words

    @property
    def value(self) -> str:
        """Without quotes."""
        quote = _QUOTES.get(self.text[:1])
        if quote is None:
            return self.text
        inner = self.text[1:-1]
        return inner.replace(quote * 2, quote) if quote else inner


def tokens(sql: str) -> list[Token]:
    """The tokens of a statement."""
    return [
        Token(_KINDS[match.lastgroup], match.group()) for match in _TOKEN.finditer(sql) if match.lastgroup in _KINDS
    ]


def deferred_keys(statement: str) -> list[bool]:
    """Of each foreign key of a CREATE TABLE statement, in its order, whether it is DEFERRABLE INITIALLY DEFERRED.

    REFERENCES and DEFERRABLE are reserved, so nothing else in the statement can be spelled so. Of a column's key,
    DEFERRABLE may come after other constraints of the column: it belongs to the key before it.
    """
    listed = tokens(statement)
    found: list[bool] = []
    for at, token in enumerate(listed):
        if token.is_word("REFERENCES"):
            found.append(False)
        elif token.is_word("DEFERRABLE") and found:
            ends = [each.text.upper() for each in listed[at + 1 : at + 3] if each.kind == "word"]
            found[-1] = ends == ["INITIALLY", "DEFERRED"] and not listed[at - 1].is_word("NOT")
    return found


def hides_conflicts(statement: str) -> bool:
    """Whether a constraint of a CREATE TABLE statement ignores or replaces rows that break it."""
    listed = tokens(statement)
    return any(
        listed[at].is_word("ON") and listed[at + 1].is_word("CONFLICT") and listed[at + 2].is_word("IGNORE", "REPLACE")
        for at in range(len(listed) - 2)
    )


def condition_of(statement: str) -> tuple[Token, ...]:
    """The condition of a partial index, by its CREATE INDEX statement: what follows WHERE; empty if there is none."""
    depth = 0
    listed = tokens(statement)
    for at, token in enumerate(listed):
        if token.kind == "sign":
            depth += (token.text == "(") - (token.text == ")")
        elif not depth and token.is_word("WHERE"):
            return tuple(listed[at + 1 :])
    return ()


def written(listed: Sequence[Token]) -> str:
    """Tokens as SQL again, for people."""
    text = " ".join(token.text for token in listed)
    return text.replace("( ", "(").replace(" )", ")").replace(" ,", ",")
