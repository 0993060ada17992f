#!/usr/bin/env python3
"""Record a session at a terminal of 80 columns, as ``scripts/session.svg``: the picture in the README.

``python scripts/record_session.py [FILE.svg]`` makes a SQLite file that a program writes meanwhile, types the commands
below in a folder of its own, and draws what they print. It needs the extras ``embedded`` and ``test``.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import click
import pyte
from rich.color import ANSI_COLOR_NAMES
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.terminal import Terminal, terminal  # noqa: E402

#: What somebody's home is called in the picture.
_HOME = "/home/you"
#: Names of colours that pyte has and rich has not.
_COLOURS = {"brown": "yellow", "brightbrown": "bright_yellow"}
#: Commits a second of the program that writes.
_COMMITS = 50
_PAPER = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
#: The picture names a font of the machine: nothing is fetched to look at it.
_FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def make_shop(path: Path) -> None:
    """A SQLite file in WAL mode with two tables."""
    shop = sqlite3.connect(path)
    shop.executescript("""
        PRAGMA journal_mode = WAL;
        CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, since DATE);
        CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INT REFERENCES customers, total REAL, paid BOOLEAN);
    """)
    customers = ((number, f"Customer {number}", f"2026-{number % 12 + 1:02}-01") for number in range(1, 2001))
    orders = ((number, number % 2000 + 1, number / 4, number % 2) for number in range(1, 20001))
    with shop:
        shop.executemany("INSERT INTO customers VALUES (?, ?, ?)", customers)
        shop.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", orders)
    shop.close()


def keep_selling(path: Path, done: threading.Event) -> None:
    """Insert an order some times a second until ``done`` is set."""
    shop = sqlite3.connect(path, timeout=60, isolation_level=None)
    while not done.wait(1 / _COMMITS):
        shop.execute("INSERT INTO orders (customer, total, paid) VALUES (7, 12.5, TRUE)")
    shop.close()


def drawn(shown: Terminal, home: str) -> Iterator[Text]:
    """The lines of a terminal, with their colours, and another name for the home folder."""
    for row in range(len(shown.lines)):
        line = Text()
        cells = (shown.screen.buffer[row][column] for column in range(shown.screen.columns))
        for style, run in groupby(cells, _style):
            line.append("".join(cell.data for cell in run), style)
        line.rstrip()
        while (at := line.plain.find(home)) >= 0:
            line = line[:at] + Text(_HOME, line.get_style_at_offset(_PAPER, at)) + line[at + len(home) :]
        yield line


def _style(cell: pyte.screens.Char) -> Style:
    colour = _COLOURS.get(cell.fg, cell.fg)
    return Style(color=colour if colour in ANSI_COLOR_NAMES else None, bold=cell.bold)


@click.command()
@click.argument("picture", type=click.Path(path_type=Path), default=ROOT / "scripts" / "session.svg")
def record(picture: Path) -> None:
    """Write the picture of a session to PICTURE (default: scripts/session.svg)."""

    def show(command: str, shown: Terminal) -> None:
        _PAPER.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        if shown.text:
            _PAPER.print(*drawn(shown, home), sep="\n", soft_wrap=True)
        _PAPER.print()

    with tempfile.TemporaryDirectory() as folder:
        home = os.path.realpath(folder)
        shop, done = Path(home) / "shop.db", threading.Event()
        make_shop(shop)
        environment = {
            "HOME": home,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
        }

        def run(command: str) -> None:
            with terminal(command.split(), environment, Path(home)) as shown:
                shown.end()
                show(command, shown)

        seller = threading.Thread(target=keep_selling, args=(shop, done))
        seller.start()
        try:
            with terminal(["mirror", "up", "shop.db"], environment, Path(home)) as up:
                up.until(lambda text: "following" in text)
                show("mirror up shop.db", up)
                run("mirror wait shop.db --timeout 30")
                run("mirror status")
                run("mirror parity shop.db")
                up.end(signal.SIGTERM)
        finally:
            done.set()
            seller.join()
    picture.write_text(_FONT.sub("", _PAPER.export_svg(title="mirror")))
    print(picture)


if __name__ == "__main__":
    record()
