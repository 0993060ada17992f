"""The fleet of foreign writers: its parts, one writer beside the mirror, and (slow) each that installs in seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.apps.writers import workload
from scripts.apps.writers.entry import Mode, Writer, fleet, read
from scripts.apps.writers.install import install
from scripts.apps.writers.table import OUTCOMES, TABLE, load, save, table
from scripts.apps.writers.trial import Check, judge, try_out
from tests.support.postgres import PostgresServer

ROWS_MISSING = "3 of 10 rows are missing, 0 are wrong, in numbers"
#: Those that a test may install: within seconds, and nothing into the system.
QUICK = [writer for writer in fleet() if not writer.heavy and not writer.missing()]


def check(**values: Any) -> Check:
    """A check at which all is well, but for what is given."""
    well: dict[str, Any] = {"when": "open", "differs": "", "wait": 0, "said": "", "ended": False, "parity": 0}
    return Check(**(well | values))


def test_the_workload_is_the_same_every_time() -> None:
    text = workload.text()
    assert text == workload.text()
    assert text != workload.text(seed=1)
    for part in ("WITHOUT ROWID", "X'", "SAVEPOINT", "ROLLBACK TO", "ADD COLUMN", "VACUUM", "wal_checkpoint(TRUNCATE)"):
        assert part in text
    assert [line for line in text.splitlines() if line.startswith(workload.MARK)] == [
        workload.MARK + name for name in workload.SECTIONS
    ]


def test_every_statement_of_the_workload_runs_on_the_standard_library() -> None:
    script = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(':memory:', isolation_level=None)\n"
        "for line in sys.stdin: connection.execute(line).fetchall()\n"
        "assert not connection.in_transaction\n"
        "print(connection.execute('SELECT count(*), max(length(body)) FROM numbers').fetchone())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=workload.text(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows, longest = eval(done.stdout)
    assert rows > 50 and longest > 10_000


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "equal"),
        ({"wait": 1, "said": "looks again"}, "equal"),
        ({"differs": ROWS_MISSING}, "SILENT"),
        ({"differs": ROWS_MISSING, "wait": 1, "plan": 0}, "SILENT"),
        ({"differs": ROWS_MISSING, "wait": 1, "plan": 1}, "told"),
        ({"differs": ROWS_MISSING, "said": "it is locked", "plan": 1}, "told"),
        ({"differs": ROWS_MISSING, "said": "it is encrypted", "wait": 2, "ended": True, "plan": 2}, "refused"),
    ],
)
def test_a_check_is_judged(given: dict[str, Any], word: str) -> None:
    assert check(**given).word == word
    assert judge([check(**given)])[0] == word


def test_the_worst_check_counts_and_the_last_one_is_named() -> None:
    told = check(differs=ROWS_MISSING, wait=1, said="it is locked")
    silent = check(differs=ROWS_MISSING)
    well = check(when="closed")
    assert judge([told, well]) == ("told", "told: it is locked [open]; then equal [closed]")
    assert judge([well, told, silent])[0] == "SILENT"
    assert judge([check(), well]) == ("equal", "equal")


def test_the_table_has_a_line_for_modes_with_one_outcome(folder: Path) -> None:
    made: dict[str, Any] = {"title": "A | B", "library": "1", "sqlite": "3.50", "journal": "WAL", "outcome": "equal"}
    made |= {"harm": "", "notes": ["alone too: 1 statement fails"]}
    outcomes: dict[str, dict[str, Any]] = {
        "a/wal": made | {"mode": "wal"},
        "a/delete": made | {"mode": "delete", "journal": "rollback"},
        "a/persist": made | {"mode": "persist", "outcome": "SILENT: 1 row", "harm": "it cannot open"},
        "b": {"title": "B", "absent": "this machine has no x"},
    }
    save(outcomes, folder / "outcomes.json")
    assert load(folder / "outcomes.json") == outcomes
    text = table(outcomes)
    assert "| A \\| B | 1 | 3.50 | delete, wal | equal | none |" in text
    assert "| persist (file: WAL) | **SILENT: 1 row** | it cannot open |" in text
    assert "- A \\| B: alone too: 1 statement fails (delete, persist, wal)" in text
    assert "- B: this machine has no x" in text


def test_the_table_is_that_of_the_outcomes_kept() -> None:
    assert TABLE.read_text() == table(load())
    known = {f"{writer.name}/{mode.name}" for writer in fleet() for mode in writer.modes}
    assert {name for name in load() if "/" in name} <= known, f"{OUTCOMES.name} has outcomes of writers that are gone"


def test_a_program_without_modes_or_with_an_unknown_expectation_is_refused(folder: Path) -> None:
    program = folder / "some.py"
    program.write_text('# @ title = "Some"\n')
    with pytest.raises(ValueError, match="names no modes"):
        read(program)
    program.write_text('# @ title = "Some"\n# @ [modes]\n# @ "wal" = "SILENT"\n')
    with pytest.raises(ValueError, match="expects SILENT"):
        read(program)


@pytest.mark.slow
def test_the_harness_holds_the_mirror_against_what_was_written(postgres_server: PostgresServer) -> None:
    (writer,) = fleet(["python_sqlite3"])
    hold(writer, Mode("wal", frozenset({"equal"})), postgres_server)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # some have a dozen modes, and a program that is locked out waits for its busy timeouts
@pytest.mark.parametrize("writer", [pytest.param(writer, id=writer.name) for writer in QUICK])
def test_a_foreign_writer_is_followed_or_told_of(writer: Writer, postgres_server: PostgresServer) -> None:
    for mode in writer.modes:
        hold(writer, mode, postgres_server)


def hold(writer: Writer, mode: Mode, server: PostgresServer) -> None:
    """Run a writer in one mode; its outcome is one that its program expects, and never silence."""
    dsn = server.create_database()
    try:
        made = try_out(writer, mode, install(writer), dsn)
    finally:
        server.drop_database(dsn)
    assert made.checks, "nothing was compared"
    assert made.word in mode.expected, made.to_json()
