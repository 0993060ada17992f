"""The one workload: SQL statements as text, one a line, in sections that the harness runs one after the other.

``python -m scripts.apps.writers.workload`` prints it. The text depends on nothing but the seed. Reals are exact in
binary and texts have no line ends, so every engine that reads a line rightly stores the same values.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

#: The same statements every time.
SEED = 20_261
#: The order of the sections; :mod:`scripts.apps.writers.trial` says what happens between them.
SECTIONS = ("make", "early", "middle", "dark", "late", "change")
#: A line that begins a section.
MARK = "-- section "
#: Transactions in each section.
_TRANSACTIONS = {"make": 12, "early": 16, "middle": 12, "dark": 10, "late": 20, "change": 8}
_MOST_BYTES = 20_000

_TABLES = (
    "CREATE TABLE numbers(id INTEGER PRIMARY KEY, name TEXT, amount INTEGER, rate REAL, body BLOB)",
    "CREATE TABLE words(word TEXT PRIMARY KEY, meaning TEXT, weight REAL)",
    "CREATE TABLE pairs(a TEXT, b INTEGER, note TEXT, PRIMARY KEY(a, b)) WITHOUT ROWID",
    "CREATE TABLE entries(at INTEGER, line TEXT, data BLOB)",
)
_TEXTS = ("", "plain", "it''s", "naïve café", "Ελληνικά", "日本語のテキスト", "ñandú ß", '%_\\ "quoted"', "٣٫١٤")
_INTEGERS = (0, 1, -1, 127, 128, -32769, 2**31, 2**48 + 1, 2**63 - 1, -(2**63) + 1)


def statements(seed: int = SEED) -> dict[str, list[str]]:
    """Return the statements of each section."""
    made = _Made(random.Random(seed))
    return {name: list(made.section(name)) for name in SECTIONS}


def text(seed: int = SEED) -> str:
    """Return the whole workload as a file: one statement a line, sections marked by comments."""
    lines: list[str] = []
    for name, section in statements(seed).items():
        lines += [MARK + name, *section]
    return "\n".join(lines) + "\n"


class _Made:
    """Makes statements; keys are counted, so that no insert meets an old row."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._keys = dict.fromkeys(("numbers", "words", "pairs", "entries"), 0)

    def section(self, name: str) -> Iterator[str]:
        if name == "make":
            yield from _TABLES
        if name == "change":
            yield "ALTER TABLE numbers ADD COLUMN extra TEXT DEFAULT 'none'"
            yield "ALTER TABLE entries ADD COLUMN size INTEGER"
        for number in range(_TRANSACTIONS[name]):
            if name == "change" and number == 3:
                yield "VACUUM"
                yield "CREATE TABLE later(id INTEGER PRIMARY KEY, what TEXT)"
                yield "INSERT INTO later(what) VALUES ('first'), ('second'), (NULL)"
                yield "UPDATE numbers SET extra = 'changed' WHERE id % 5 = 0"
                yield "UPDATE entries SET size = 2 WHERE at % 3 = 0"
            if name == "change" and number == 6:
                yield "PRAGMA wal_checkpoint(TRUNCATE)"
            yield from self._transaction()
            for _ in range(self._chance.randrange(3)):
                yield self._write(self._chance.choice(list(self._keys)))

    def _transaction(self) -> Iterator[str]:
        kept = self._chance.random() > 0.15
        table = self._chance.choice(list(self._keys))
        yield "BEGIN"
        for _ in range(self._chance.randint(2, 30)):
            yield self._write(table)
        if self._chance.random() < 0.25:
            yield "SAVEPOINT here"
            yield self._write(table)
            yield "ROLLBACK TO here"
            yield self._write(table)
            yield "RELEASE here"
        yield "COMMIT" if kept else "ROLLBACK"

    def _write(self, table: str) -> str:
        kind = self._chance.choices(("insert", "update", "delete"), (6, 3, 1))[0]
        made = {"numbers": self._numbers, "words": self._words, "pairs": self._pairs, "entries": self._entries}[table]
        return made(kind, self._key(table, new=kind == "insert"))

    def _key(self, table: str, new: bool) -> int:
        if new:
            self._keys[table] += 1
            return self._keys[table]
        return self._chance.randint(1, max(1, self._keys[table]))

    def _numbers(self, kind: str, key: int) -> str:
        if kind == "insert":
            return (
                f"INSERT INTO numbers(id, name, amount, rate, body) VALUES"
                f" ({key}, {self._text()}, {self._integer()}, {self._real()}, {self._blob()})"
            )
        if kind == "update":
            return f"UPDATE numbers SET amount = {self._integer()}, rate = {self._real()} WHERE id = {key}"
        return f"DELETE FROM numbers WHERE id = {key}"

    def _words(self, kind: str, key: int) -> str:
        if kind == "insert":
            return f"INSERT INTO words(word, meaning, weight) VALUES ('wörd {key}', {self._text()}, {self._real()})"
        if kind == "update":
            return f"UPDATE words SET meaning = {self._text()} WHERE word = 'wörd {key}'"
        return f"DELETE FROM words WHERE word = 'wörd {key}'"

    def _pairs(self, kind: str, key: int) -> str:
        place = f"a = 'p{key % 5}' AND b = {key}"
        if kind == "insert":
            return f"INSERT INTO pairs(a, b, note) VALUES ('p{key % 5}', {key}, {self._text()})"
        if kind == "update":
            return f"UPDATE pairs SET note = {self._text()} WHERE {place}"
        return f"DELETE FROM pairs WHERE {place}"

    def _entries(self, kind: str, key: int) -> str:
        if kind == "insert":
            return f"INSERT INTO entries(at, line, data) VALUES ({key}, {self._text()}, {self._blob()})"
        if kind == "update":
            return f"UPDATE entries SET line = {self._text()} WHERE at = {key}"
        return f"DELETE FROM entries WHERE at = {key}"

    def _text(self) -> str:
        if self._chance.random() < 0.1:
            return "NULL"
        words = [self._chance.choice(_TEXTS) for _ in range(self._chance.choice((1, 1, 2, 8)))]
        return "'" + " ".join(words) + "'"

    def _integer(self) -> str:
        return "NULL" if self._chance.random() < 0.1 else str(self._chance.choice(_INTEGERS))

    def _real(self) -> str:
        if self._chance.random() < 0.1:
            return "NULL"
        return f"{self._chance.randint(-4096, 4096) / 64!r}"

    def _blob(self) -> str:
        if self._chance.random() < 0.1:
            return "NULL"
        size = self._chance.choice((0, 3, 40, 40, 200, 700, 5_000, _MOST_BYTES))
        return f"X'{self._chance.randbytes(self._chance.randint(0, size)).hex()}'"


if __name__ == "__main__":
    print(text(), end="")
