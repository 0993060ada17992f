"""The tour of a newcomer and of an operator, on the embedded server, at a terminal of 80 columns.

What the README says is printed is compared with what is printed; and the words at each step are those that help.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from scripts.record_session import make_shop
from tests.support.commands import CommandLine, Done
from tests.support.terminal import Terminal, terminal

ROOT = Path(__file__).parents[2]


class Newcomer:
    """Somebody at a terminal, with a home of their own and a file ``shop.db``."""

    def __init__(self, home: Path) -> None:
        self.home, self.shop = home, home / "shop.db"
        self._cli = CommandLine(home)
        make_shop(self.shop)

    def types(self, *words: str) -> Done:
        """Run a command whose output goes into a pipe."""
        return self._cli.run(*words)

    def sees(self, *words: str) -> AbstractContextManager[Terminal]:
        """Run a command on the terminal."""
        command = [sys.executable, "-m", "mirror", *words]
        return terminal(command, self._cli.environment({"NO_COLOR": "1"}), self.home)

    def reads(self, *words: str) -> tuple[int, str]:
        """Run a command on the terminal to its end: the exit code, and what is shown; no line is too long."""
        with self.sees(*words) as shown:
            code = shown.end()
            return code, shown.text

    def writes(self, *statements: str) -> None:
        """What the program does with its file."""
        with closing(sqlite3.connect(self.shop, timeout=60, isolation_level=None)) as program:
            for statement in statements:
                program.execute(statement)


@pytest.fixture
def newcomer(folder: Path) -> Iterator[Newcomer]:
    person = Newcomer(folder)
    yield person
    person.types("down")


def follows(text: str) -> bool:
    return "following  lag" in text


def _normal(line: str, home: Path) -> str:
    """A line in which figures, and the room that they take, do not matter."""
    line = re.sub(r"[0-9a-f]{8}\b|\d[\d.,:]*", "N", line.replace(str(home), "/home/you"))
    return re.sub(r"\s+", " ", re.sub("─+", "─", line)).strip()


def printed_by(readme: str) -> list[tuple[list[str], list[str]]]:
    """The commands whose output the README shows, and that output."""
    found = re.findall(r"^<!-- printed by: mirror (.*?) -->\n```\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    return [(words.split(), block.splitlines()) for words, block in found]


def test_the_readme_shows_what_is_printed(newcomer: Newcomer) -> None:
    """All lines of a block, in their order; where it says ``…``, some are left out."""
    blocks = printed_by((ROOT / "README.md").read_text())
    assert [words[0] for words, _ in blocks] == ["doctor", "status"]
    with newcomer.sees("up", "shop.db") as up:
        up.until(follows)
        assert newcomer.types("wait", "shop.db", "--timeout", "200").code == 0
        for words, block in blocks:
            done = newcomer.types(*words)
            assert done.code == 0, done
            lines = iter([_normal(line, newcomer.home) for line in done.out.splitlines()])
            for line in block:
                assert line == "…" or _normal(line, newcomer.home) in lines, (line, done.out)
        assert up.end(signal.SIGTERM) == 0


def test_a_tour(newcomer: Newcomer) -> None:
    """From a machine on which nothing runs to one on which nothing is left."""
    # Nothing is there yet: what to begin with.
    nothing = newcomer.types("status")
    assert nothing.code == 2 and "`mirror up FILE.db" in nothing.err, nothing

    code, shown = newcomer.reads("doctor", "shop.db")
    assert code == 0 and "key: id" in shown and "1 foreign key" in shown and "Next: `mirror up " in shown, shown

    with newcomer.sees("up", "shop.db") as up:
        # The copy: ticks, no bar is left, and one line that lives.
        text = up.until(follows)
        for line in ("✓ customers  2,000 rows", "✓ orders  20,000 rows", "Look into it: `mirror psql`"):
            assert line in text, text
        assert "━" not in text and up.lines[-1].startswith("following  lag"), text
        assert "psql 'postgresql:///postgres?host=" in text.replace("\n", ""), text
        assert newcomer.types("wait", "shop.db").code == 0

        code, shown = newcomer.reads("status")
        assert code == 0 and "following" in shown and "# never compared" in shown and "--repair" not in shown, shown
        code, shown = newcomer.reads("parity", "shop.db")
        assert code == 0 and "equal: 2 tables, 22,000 rows" in shown and "Postgres 18" in shown, shown
        code, shown = newcomer.reads("status", "--check")
        assert code == 0, shown

        # What happens is said, and counted.
        newcomer.writes(
            "UPDATE orders SET total = 'unknown' WHERE id = 7",
            "CREATE TABLE tags (name TEXT PRIMARY KEY)",
            "INSERT INTO tags VALUES (CAST(x'61ff' AS TEXT))",
            "ALTER TABLE customers ADD COLUMN email TEXT",
            "CREATE TABLE passing (id INTEGER PRIMARY KEY)",
            "DROP TABLE passing",
        )
        assert newcomer.types("wait", "shop.db").code == 0
        text = up.until(lambda text: "table dropped in SQLite" in text)
        told = re.sub(r"\s+", " ", text)
        for what in ("orders.total", "1 row rejected, as Postgres cannot hold it: tags, key ", "customers.email"):
            assert what in told, text
        code, shown = newcomer.reads("parity", "shop.db")
        assert code == 4 and "equal except 1 rejected row" in shown and "≠" not in shown, shown
        code, shown = newcomer.reads("status", "--check")
        # A command is one line, which the terminal shows on two.
        assert code == 1 and "`mirror rejects list " in shown.replace("\n", ""), shown
        code, shown = newcomer.reads("rejects", "list", "shop.db")
        assert "mend: UPDATE" in shown, shown
        code, shown = newcomer.reads("cutover", "plan", "shop.db")
        assert code == 1 and shown.startswith("NOT READY: ") and "widened columns" in shown, shown
        newcomer.writes("DELETE FROM tags", "UPDATE orders SET total = 1 WHERE id = 7")
        assert newcomer.types("wait", "shop.db").code == 0
        up.until(lambda text: "1 row rejected no more" in re.sub(r"\s+", " ", text))

        # The end says what there is, and where to go on.
        assert up.end(signal.SIGINT) == 0
        text = re.sub(r"\s+", " ", up.text)
        assert "Postgres has all of it" in text and "The embedded Postgres stopped, too" in text, up.text

    newcomer.writes("INSERT INTO customers (name) VALUES ('written meanwhile')")
    code, shown = newcomer.reads("status")
    assert "stopped" in shown and "not read yet" in shown and " 0 ms" not in shown, shown
    absent = newcomer.types("wait", "shop.db")
    assert absent.code == 3 and f"start it with `mirror up {newcomer.shop}" in absent.err, absent

    # A restart is no alarm; a kill is told from a stop.
    with newcomer.sees("up", "shop.db") as up:
        text = up.until(follows)
        assert newcomer.types("wait", "shop.db").code == 0
        assert "WARNING" not in text, text
        assert up.end(signal.SIGKILL) == -signal.SIGKILL
    code, shown = newcomer.reads("status")
    assert "killed (its process" in shown, shown

    # A file that was moved takes what it has along.
    moved = newcomer.home / "store.db"
    for end in ("", "-wal", "-shm"):
        if (old := Path(f"{newcomer.shop}{end}")).exists():
            os.rename(old, f"{moved}{end}")
    refused = newcomer.types("up", "store.db")
    assert refused.code == 2 and f"mirror rename {newcomer.shop} {moved}" in refused.err, refused
    renamed = newcomer.types("rename", "shop.db", "store.db")
    assert renamed.code == 0, renamed
    newcomer.shop = moved
    with newcomer.sees("up", "store.db") as up:
        text = up.until(follows)
        assert "copying the whole file" not in text, text
        assert newcomer.types("wait", "store.db").code == 0
        code, shown = newcomer.reads("parity", "store.db")
        assert code == 0 and "equal: 3 tables" in shown, shown

        # It ends when it is told to, and nothing is left when that is wanted.
        code, shown = newcomer.reads("down")
        assert code == 0 and "has ended" in shown, shown
        assert up.end() == 0
    dry = newcomer.types("remove", "store.db", "--drop-tables", "--dry-run")
    assert dry.code == 0 and "customers" in dry.out, dry
    gone = newcomer.types("remove", "store.db", "--drop-tables", "--yes")
    assert gone.code == 0, gone
    assert newcomer.types("status").code == 2
