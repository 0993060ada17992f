"""The writers: one program file each, whose first comment says how it is installed and run.

A line of that comment is the language's comment sign, ``@`` and a line of TOML::

    # @ title = "Perl DBD::SQLite"
    # @ apt = ["libdbd-sqlite3-perl"]
    # @ [modes]
    # @ "wal" = "equal"
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Where the programs are.
PROGRAMS = Path(__file__).parent / "programs"
_HEADER = re.compile(r"^(?:#|//|--) @ (.*)$", re.MULTILINE)
#: How a program is started if its header does not say so, by the ending of its name.
_RUN: Mapping[str, Sequence[str]] = {
    ".py": ("{python}", "{program}"),
    ".cjs": ("node", "{program}"),
    ".mjs": ("node", "{program}"),
    ".pl": ("perl", "{program}"),
    ".php": ("php", "{program}"),
    ".rb": ("ruby", "{program}"),
    ".tcl": ("tclsh", "{program}"),
    ".lua": ("lua5.4", "{program}"),
    ".R": ("Rscript", "{program}"),
    ".java": ("java", "{program}"),
    ".go": ("go", "run", "{program}"),
}
#: The words that an outcome begins with, from best to worst.
WORDS = ("equal", "refused", "told", "SILENT")


@dataclass(frozen=True, slots=True)
class Mode:
    """One way in which a writer is run."""

    name: str
    """Words: a journal mode, and what the program itself understands; ``later``: the mirror starts after it."""
    expected: frozenset[str]
    """The words of :data:`WORDS` that its outcome may begin with."""

    @property
    def words(self) -> list[str]:
        """What the harness and the program are asked for."""
        return self.name.split()


@dataclass(frozen=True, slots=True)
class Writer:
    """A program that writes a SQLite file, and what it needs."""

    name: str
    program: Path
    title: str
    run: Sequence[str]
    """The command; ``{python}``, ``{program}`` and ``{folder}`` (of its installation) are filled in."""
    modes: Sequence[Mode]
    pip: Sequence[str] = ()
    npm: Sequence[str] = ()
    apt: Sequence[str] = ()
    heavy: bool = False
    """It takes more than seconds to install or to run, so no test does."""
    notes: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Return the Debian packages and programs that it needs and this machine does not have."""
        lacking = [package for package in self.apt if not _has(package)]
        if self.npm and shutil.which("npm") is None:
            lacking.append("npm")
        return lacking


def _has(package: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Status}", package], capture_output=True, text=True, check=False
    )
    return asked.stdout.endswith(" installed")


def read(program: Path) -> Writer:
    """Read the header of a program. Raises ``ValueError`` if it has none or says what is not known."""
    header = tomllib.loads("\n".join(_HEADER.findall(program.read_text())))
    if not header.get("modes"):
        raise ValueError(f"{program}: its header names no modes")
    modes = [Mode(name, frozenset(expected.split(" or "))) for name, expected in header.pop("modes").items()]
    for mode in modes:
        if unknown := mode.expected.difference(WORDS[:-1]):
            raise ValueError(f"{program}: {mode.name!r} expects {', '.join(sorted(unknown))}")
    run = header.pop("run", None) or _RUN[program.suffix]
    return Writer(name=program.stem, program=program, modes=modes, run=run, **header)


def fleet(names: Sequence[str] = ()) -> list[Writer]:
    """Return all writers, or those named. Raises ``ValueError`` for a name that there is not."""
    found = list(_all())
    known = {writer.name for writer in found}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no writer is named {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [writer for writer in found if not names or writer.name in names]


def _all() -> Iterator[Writer]:
    for program in sorted(PROGRAMS.iterdir()):
        if program.suffix in _RUN and not program.name.startswith("_"):
            yield read(program)
