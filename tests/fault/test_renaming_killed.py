"""The renames alone, of files in each journal mode, killed between any two, with programs of each kind at the file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from mirror.core.errors import SourceError
from mirror.core.place import is_away, is_stand_in, other_name, where
from mirror.cutover import renaming
from tests.support.renamed import connected, opened_anew
from tests.support.source import Writer
from tests.support.waiting import LIMIT

RENAMING = Path(__file__).parents[1] / "support" / "renaming_process.py"
QUERY = "SELECT x FROM t ORDER BY x"
REFUSED = "error unable to open database file"
AWAY = {"wal": renaming.AWAY, "delete": ["rename:linked", "rename:away-journal", "rename:away"]}
BACK = {"wal": renaming.BACK, "delete": ["rename:back", "rename:back-journal", "rename:cleared"]}
TABLE = [
    (mode, back, seam, end)
    for mode in ("wal", "delete")
    for back, seams in ((False, AWAY), (True, BACK))
    for seam in seams[mode]
    for end in ("hide", "show")
]


def rename(database: Path, what: str, seam: str = "") -> None:
    done = subprocess.run(
        [sys.executable, str(RENAMING), str(database), what, seam],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if seam else 0), done.stderr


def require_whole_or_nothing(database: Path, whole: list[int]) -> None:
    found = opened_anew(database, QUERY)
    assert found == json.dumps([[x] for x in whole]) or found.startswith(REFUSED), found


def require_end(database: Path, what: str, whole: list[int], mode: str) -> None:
    rename(database, what)
    names = sorted(path.name.removeprefix(database.name) for path in database.parent.iterdir())
    moved = other_name(database).name.removeprefix(database.name)
    if what == "hide":
        assert opened_anew(database, QUERY).startswith(REFUSED) and is_stand_in(database)
        assert json.loads(opened_anew(other_name(database), QUERY)) == [[x] for x in whole]
        assert not [name for name in names if name.endswith(".new")]
        return
    assert json.loads(opened_anew(database, QUERY)) == [[x] for x in whole]
    assert not [name for name in names if name.startswith(moved) or name.endswith(".new")]
    assert os.stat(database).st_nlink == 1 and not is_away(database)
    assert opened_anew(database, "PRAGMA journal_mode", "PRAGMA integrity_check") == '[["ok"]]'


@pytest.mark.few(6)
@pytest.mark.parametrize(("mode", "back", "seam", "end"), TABLE)
def test_killed(database: Path, mode: str, back: bool, seam: str, end: str) -> None:
    """In between, the program that had it open closes it, and one that goes by the name it has writes and ends."""
    with Writer(database) as program:
        program.run(f"PRAGMA journal_mode={mode}", "CREATE TABLE t(x INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
        if back:
            rename(database, "hide")
        with nullcontext(lambda: REFUSED) if back else connected(database, QUERY) as read_it:
            rename(database, "show" if back else "hide", seam)
            require_whole_or_nothing(database, [1])
            program.close()
            require_whole_or_nothing(database, [1])
            # The mirror's own: the last one to close it.
            assert opened_anew(where(database), "INSERT INTO t VALUES (2)") == "[]"
            require_whole_or_nothing(database, [1, 2])
            assert opened_anew(where(database), "INSERT INTO t VALUES (3)") == "[]"
            require_whole_or_nothing(database, [1, 2, 3])
            found = read_it()
            assert found.startswith(REFUSED) or found == "[[1], [2], [3]]", found
        require_end(database, end, [1, 2, 3], mode)
        require_end(database, "show", [1, 2, 3], mode)


@pytest.mark.parametrize(("before", "after"), [("wal", "delete"), ("delete", "wal")])
def test_the_journal_mode_is_changed_by_the_other_name(database: Path, before: str, after: str) -> None:
    with Writer(database) as program:
        program.run(f"PRAGMA journal_mode={before}", "CREATE TABLE t(x INTEGER PRIMARY KEY)")
        rename(database, "hide")
    assert opened_anew(other_name(database), f"PRAGMA journal_mode={after}") == f'[["{after}"]]'
    with Writer(other_name(database)) as program:
        program.run("INSERT INTO t VALUES (1)")
        rename(database, "show")
    require_end(database, "show", [1], after)


def test_what_is_not_possible_is_said_before(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Writer(database) as program:
        program.run("CREATE TABLE t(x)")
        before = sorted(os.listdir(database.parent))
        renaming.require_possible(database)
        assert sorted(os.listdir(database.parent)) == before

        def refuse(*_: object) -> None:
            raise OSError(1, "Operation not permitted")

        with monkeypatch.context() as patched:  # as on FAT
            patched.setattr(os, "link", refuse)
            with pytest.raises(SourceError, match="needs hard links and sockets") as refused:
                renaming.require_possible(database)
            assert refused.value.next_step == "choose another --fence"
        assert sorted(os.listdir(database.parent)) == before
        other_name(database).touch()
        with pytest.raises(SourceError, match="is there already"):
            renaming.require_possible(database)


def test_another_file_is_never_replaced(database: Path) -> None:
    """It got the other name after the move had begun."""
    with Writer(database) as program:
        program.run("CREATE TABLE t(x)", "INSERT INTO t VALUES (1)")
        other_name(database).write_text("a backup")
        with pytest.raises(SourceError, match="is another file"):
            renaming.give_other(database, wal=True)
        assert other_name(database).read_text() == "a backup"
        assert opened_anew(database, QUERY) == "[[1]]"


def test_a_system_on_which_programs_may_not_make_such_a_name(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As macOS: the socket is made by binding it."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "mknod", refuse)
    with Writer(database) as program:
        program.run("PRAGMA journal_mode=wal", "CREATE TABLE t(x)", "INSERT INTO t VALUES (1)")
        renaming.require_possible(database)
        renaming.give_other(database, wal=True)
        assert opened_anew(database, QUERY).startswith(REFUSED)
        renaming.give_back(database, wal=True)
        assert opened_anew(database, QUERY) == "[[1]]"
