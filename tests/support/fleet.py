"""A fleet of programs on storage adapters, and the world around it: a source, its mirror, commands that move it.

What each program was told is in its log (:mod:`tests.support.fleet_log`); :meth:`FleetWorld.check` compares that with
what both stores have, while the programs pause between two calls.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from mirror.core.errors import ControlError
from mirror.core.folders import resolve
from mirror.postgres.sessions import connect
from mirror.reverse.proof import differences
from tests.support.commands import CommandLine, Done
from tests.support.fleet_log import Board, State, read
from tests.support.memustore import create_store
from tests.support.mirrors import MirrorProcess
from tests.support.raw_programs import TABLES, LongReader, LongTransactions, RawProgram
from tests.support.waiting import LIMIT, until

_HERE = Path(__file__).parent
_PROGRAM, _READER, _STRAY, _HELD = (
    _HERE / name
    for name in ("fleet_process.py", "fleet_reader_process.py", "stray_once_process.py", "held_move_process.py")
)
#: What the phase of a mirror is that does what it is for.
_AT_WORK = ("following", "carrying back", "finalized")
COUNTER = "00000000-0000-4000-8000-000000000000"


class _NotReachedError(Exception):
    """A command has ended before it came to a seam."""


class Fleet:
    """The programs. A failed call of one is an error of the test."""

    def __init__(self, folder: Path, config: Path, environment: dict[str, str], count: int) -> None:
        self.folder, self.config, self.environment, self.size = folder, config, environment, count
        self.board = Board(folder / "board")
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.kills = 0

    def log(self, number: int) -> Path:
        return self.folder / f"program-{number}.log"

    def start(self, number: int) -> None:
        self.board.is_now(number, State.STARTING)
        library = "apsw" if number % 2 else "sqlite3"
        self.processes[number] = subprocess.Popen(
            [sys.executable, str(_PROGRAM), *map(str, (self.config, self.log(number), self.folder / "board", number,
             COUNTER, library))],
            env=self.environment, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def start_all(self) -> None:
        self.board.wanted = State.RUNNING
        for number in range(self.size):
            self.start(number)
        self.await_turns()

    def kill(self, number: int) -> None:
        """Kill one with -9."""
        self.kills += 1
        self.processes[number].kill()
        self.processes[number].wait()

    def require_well(self) -> None:
        """No call has failed."""
        for number, process in self.processes.items():
            if process.poll() is not None:
                raise AssertionError(f"program {number} has ended with {process.returncode}: {self.failure(number)}")

    def failure(self, number: int) -> str:
        return read(self.log(number)).failed

    def _all(self, states: set[State]) -> bool:
        self.require_well()
        return all(self.board.state(number) in states for number in self.processes)

    def pause(self) -> None:
        """Have all stand between two calls."""
        self.board.wanted = State.PAUSED
        until(lambda: self._all({State.PAUSED}))

    def resume(self) -> None:
        self.board.wanted = State.RUNNING

    def await_turns(self, turns: int = 2) -> None:
        """Wait until each has done all its calls, so many times from now on."""
        before = {number: self.board.turns(number) for number in self.processes}

        def done() -> bool:
            self.require_well()
            return all(self.board.turns(number) >= known + turns for number, known in before.items())

        until(done)

    def stop(self) -> None:
        self.board.wanted = State.STOPPED
        for number, process in self.processes.items():
            assert process.wait(LIMIT) == 0, (number, self.failure(number))
        self.processes.clear()

    def end(self) -> None:
        """Clean up."""
        for process in self.processes.values():
            process.kill()
            process.wait()


class FleetWorld:
    """A MemuStore with tables of other programs, its mirror, the fleet, and raw programs beside."""

    def __init__(self, folder: Path, dsn: str, programs: int) -> None:
        self.folder, self.dsn = folder, dsn
        self.source = resolve(folder / "memory.db")
        writer = create_store(self.source)
        writer.run(*TABLES)
        writer.run(
            "INSERT INTO memory_items(id, memory_type, summary, content_hash, reinforcement_count)"
            f" VALUES ('{COUNTER}', 'event', 'counter', 'none', 1)"
        )
        writer.close()
        config = folder / "argent" / "mirror.json"
        config.parent.mkdir()
        storage = {"backend": "dual", "readFrom": "sqlite", "postgres": {"connectionString": dsn}}
        config.write_text(json.dumps({"sources": [str(self.source)], "storage": storage}))
        self.cli = CommandLine(folder, dsn)
        self.mirror = MirrorProcess([self.source], dsn, self.cli.state_dir)
        self.mirror.log = folder / "mirror.log"
        self.fleet = Fleet(folder, config, self.cli.environment(), programs)
        self.raw: RawProgram | None = None
        self.long: LongTransactions | None = None
        self.reader: LongReader | None = None
        self._file_reader: subprocess.Popen[bytes] | None = None
        self.strays: set[int] = set()
        """Ids of rows in the file that Postgres must not have."""
        self.adopted: set[int] = set()
        self._next_stray = 1_000_000
        try:
            self.mirror.start()
            self.await_mirror()
            self.fleet.start_all()
            self._read_file()
        except BaseException:
            self.clean_up()
            raise

    # -- parts -------------------------------------------------------------------------------------

    def _read_file(self) -> None:
        self._file_reader = subprocess.Popen(
            [sys.executable, str(_READER), str(self.source), str(self.folder / "seen"), str(self.folder / "stop")]
        )

    def seen(self) -> list[str]:
        """What the reader of the file has seen."""
        path = self.folder / "seen"
        return path.read_text().splitlines() if path.exists() else []

    def start_raw(self) -> None:
        """Programs that write in Postgres: once it is the original for the first time; then they go on."""
        if self.raw is not None or self.phase()["phase"] != 3:
            return
        with psycopg.connect(self.dsn) as conn:
            [(agent,)] = conn.execute("SELECT agent_id FROM mirror.sources").fetchall()
        self.raw = RawProgram(self.dsn, agent)
        self.long = LongTransactions(self.dsn, self.raw)
        self.reader = LongReader(self.dsn)
        self.raw.start()
        self.long.start()

    def await_raw(self, transactions: int) -> None:
        """Wait for so many transactions of the raw program, and one of the long ones."""
        raw, long = self.raw, self.long
        assert raw is not None and long is not None
        known = raw.acknowledged, long.acknowledged

        def done() -> bool:
            self.require_well()
            return raw.acknowledged >= known[0] + transactions and long.acknowledged > known[1]

        until(done)

    def require_well(self) -> None:
        self.fleet.require_well()
        for one in (self.raw, self.long):
            if one is not None and one.error is not None:
                raise one.error
        assert self._file_reader is not None and self._file_reader.poll() is None, self.seen()[-1:]

    def stray(self) -> int:
        """A program that knows of nothing writes a row to the file. It must be open to it."""
        self._next_stray += 1
        subprocess.run(
            [sys.executable, str(_STRAY), str(self.source), str(self._next_stray)], check=True, timeout=LIMIT
        )
        return self._next_stray

    def mirror_log(self) -> str:
        return (self.folder / "mirror.log").read_text()[-3000:]

    def write_to_file(self) -> None:
        """:meth:`stray`, whatever the phase is: while the file is the original it is none, and finalized nothing."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            sealed = self._sealed(conn)
        written = self.stray()
        if sealed is not False:
            (self.strays if sealed else self.adopted).add(written)

    def restart_mirror(self) -> None:
        self.mirror.start(wait=False)

    def await_mirror(self) -> str:
        """Wait until it follows, or carries back; or has nothing more to do.

        It is started again, as a service manager does, where Postgres had not noticed yet that one was killed.
        """

        def phase() -> str:
            if not self.mirror.alive:
                if self.phase()["finalized_at"] is not None:
                    return "finalized"
                assert "another mirror" in self.mirror_log(), self.mirror_log()
                self.restart_mirror()
            try:
                return str(self.mirror.status()["phase"])
            except ControlError:
                return ""

        return until(lambda: found if (found := phase()) in _AT_WORK else "")

    # -- moves -------------------------------------------------------------------------------------

    def phase(self) -> dict[str, Any]:
        """The row of the phase, read in Postgres itself: a command takes seconds beside the fleet."""
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as conn:
            row = conn.execute("SELECT phase, moving_to, sealed_at, finalized_at FROM mirror.phase").fetchone()
        return row or {"phase": 1, "moving_to": None, "sealed_at": None, "finalized_at": None}

    def prove(self) -> None:
        """A fresh comparison, as the guard rails want one."""
        done = self.cli.run("parity", self.source)
        assert done.code == 0, done

    def arguments(self, command: str) -> list[str]:
        return [command, str(self.source), *(("--acknowledge", "backups") if command == "advance" else ())]

    def move(self, command: str) -> None:
        """One command, which must succeed."""
        while True:
            done = self.cli.run("cutover", *self.arguments(command))
            if not self._settled_after(done.err):
                break
        assert done.code == 0, (command, done, self.mirror_log())
        self.require_well()

    def _settled_after(self, error: str) -> bool:
        """Whether a command was refused because of strays that are "overwritten"; they are thrown away then."""
        if "rows to it after the switch" not in error:
            return False
        assert not self.strays, (error, self.strays)
        self.settle_strays("--discard")
        return True

    def go_to(self, phase: int) -> None:
        """Move to a phase."""
        while (now := self.phase()["phase"]) != phase:
            if now < phase:
                self.prove()
            self.move("advance" if now < phase else "rollback")
            self.start_raw()

    def move_held(self, command: str, seam: str, meanwhile: Callable[[subprocess.Popen[str]], None]) -> Done:
        """One command, and something that happens while it is at a seam; how the command ended."""
        while True:
            try:
                return self._move_held(command, seam, meanwhile)
            except _NotReachedError as error:
                if not self._settled_after(str(error)):
                    raise

    def _move_held(self, command: str, seam: str, meanwhile: Callable[[subprocess.Popen[str]], None]) -> Done:
        shared = Path(tempfile.mkdtemp(dir=self.folder))
        process = subprocess.Popen(
            [sys.executable, str(_HELD), seam, str(shared), "cutover", *self.arguments(command)],
            env=self.cli.environment(), cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            try:
                until(lambda: (shared / "reached").exists() or process.poll() is not None)
            except AssertionError as error:
                raise AssertionError(f"{command} has not come to {seam}: {error}: {self._where(process)}") from error
            if not (shared / "reached").exists():
                raise _NotReachedError(f"{command} has not come to {seam}: {process.communicate()}")
            meanwhile(process)
            (shared / "go").touch()
            out, err = process.communicate(timeout=LIMIT)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return Done(process.returncode, out, err)

    def _where(self, process: subprocess.Popen[str]) -> str:
        """Where a command and the mirror stand; the command is ended."""
        process.send_signal(signal.SIGUSR1)
        self.mirror.tell_where()
        time.sleep(1)  # they write it without an answer
        process.kill()
        return f"{process.communicate()}\n{self.mirror_log()}"

    # -- checks ------------------------------------------------------------------------------------

    def check(self) -> None:
        """At a stop: nothing acknowledged is lost, nothing is there twice, and both stores are equal."""
        self.fleet.pause()
        raw = [one for one in (self.raw, self.long) if one is not None]
        for one in raw:
            one.resting.clear()
            one.paused.set()
        until(lambda: all(one.resting.is_set() or one.error for one in raw))
        self.require_well()
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            sealed = self._sealed(conn)
            if sealed is None:
                done = self.cli.run("wait", self.source, "--timeout", LIMIT)
                assert done.code == 0, done
                self.prove()
            else:
                if sealed:
                    until(lambda: self._drained(conn))
                    self.await_strays(conn)
                    with connect(self.dsn, name="test", raw=True) as session:
                        _, found = differences(session, self.source, "public")
                    expected = len(self.strays)
                    assert len(found) == bool(expected), found
            self._check_logs(conn)
            self._check_raw(conn)
        for one in raw:
            one.paused.clear()
        self.fleet.resume()

    def _sealed(self, conn: psycopg.Connection[Any]) -> bool | None:
        """Whether the way back is open; None: the file is the original."""
        row = conn.execute("SELECT sealed_at IS NOT NULL, finalized_at IS NULL FROM mirror.phase").fetchone()
        return None if row is None or not row[0] else bool(row[1])

    def _drained(self, conn: psycopg.Connection[Any]) -> bool:
        assert self.mirror.alive, self.mirror_log()
        row = conn.execute(
            "SELECT r.lost, EXISTS (SELECT FROM mirror.outbox o WHERE o.source_id = r.source_id"
            " AND NOT pg_visible_in_snapshot(o.xid, r.snapshot)) FROM mirror.reverse r"
        ).fetchone()
        assert row is not None and row[0] is None, row
        return not row[1]

    def await_strays(self, conn: psycopg.Connection[Any]) -> None:
        """All strays are known, and no other."""

        def known() -> list[tuple[Any, ...]]:
            # Others: "overwritten", of rows that Postgres has written while nothing could tell who wrote them.
            return conn.execute("SELECT source_table, key FROM mirror.strays WHERE state <> 'overwritten'").fetchall()

        wanted = {("notes", f"[{number}]") for number in self.strays}
        until(lambda: set(known()) >= wanted, alive=lambda: self.mirror.alive)
        query = "SELECT source_table, key, state, before, after, seen_at FROM mirror.strays ORDER BY seen_at LIMIT 9"
        shown = "\n".join(str(row)[:300] for row in conn.execute(query).fetchall())
        assert set(known()) == wanted, f"{shown}\n{self.mirror_log()}"

    def _check_logs(self, conn: psycopg.Connection[Any]) -> None:
        rows = conn.execute("SELECT id, summary, reinforcement_count FROM memory_items").fetchall()
        found = {item: (summary, version) for item, summary, version in rows}
        assert len(found) == len(rows), "an item is there twice"
        assert len({summary for _, summary, _ in rows}) == len(rows), "an item was made twice"
        counter = found.pop(COUNTER)[1]
        maybe: set[str] = set()
        counted: list[int] = []
        maybe_counted = 0
        for number in range(self.fleet.size):
            known = read(self.fleet.log(number))
            assert not known.failed, known.failed
            for item, version in known.items.items():
                assert found.pop(item, (None, None))[1] == version, (number, item, version)
            maybe |= known.maybe_made
            counted += known.counted
            maybe_counted += known.maybe_counted
            if known.pending is not None:
                maybe |= {known.pending[1]} if known.pending[0] == "create" else set()
                maybe_counted += known.pending[0] == "count"
        left = {summary for summary, _ in found.values()}
        assert left <= maybe, f"items that nobody has, or that were deleted: {left - maybe}"
        assert len(set(counted)) == len(counted), "the counter gave a number twice"
        assert len(counted) <= counter - 1 <= len(counted) + maybe_counted, (len(counted), counter, maybe_counted)
        assert counter >= max(counted, default=1)

    def _check_raw(self, conn: psycopg.Connection[Any]) -> None:
        notes = {row[0] for row in conn.execute("SELECT id FROM notes").fetchall()}
        assert notes == self.adopted, (notes, self.adopted)
        if self.raw is None or self.long is None:
            return
        query = "SELECT n, (SELECT count(*) FROM journal), (SELECT sum(balance) FROM accounts) FROM marks"
        assert conn.execute(query).fetchall() == [(self.raw.acknowledged, self.raw.acknowledged, 0)]
        assert conn.execute("SELECT DISTINCT v FROM pairs").fetchall() == [(self.long.acknowledged,)]

    def settle_strays(self, how: str) -> None:
        """Adopt strays, or throw them away (``--adopt``, ``--discard``); of overwritten ones Postgres has another."""
        if how == "--adopt":
            done = self.cli.run("cutover", "strays", self.source, how, "--json")
            assert done.code in (0, 1), done
            (found,) = json.loads(done.out)["sources"]
            assert all("the row has changed in Postgres since" in one["reason"] for one in found["left"]), done
            self.adopted |= self.strays
        done = self.cli.run("cutover", "strays", self.source, "--discard")
        assert done.code == 0, done
        self.strays.clear()

    def end(self) -> None:
        """Stop all parts; each must have gone well."""
        try:
            for one in (self.long, self.raw):
                if one is not None:
                    one.end()
            if self.reader is not None:
                self.reader.close()
            self.fleet.stop()
            (self.folder / "stop").touch()
            if self._file_reader is not None:
                assert self._file_reader.wait(LIMIT) == 0, self.seen()[-1:]
        finally:
            self.clean_up()

    def clean_up(self) -> None:
        """End whatever still runs."""
        for one in (self.long, self.raw):
            if one is not None:
                one.stopping.set()
        if self.reader is not None:
            self.reader.close()
        self.fleet.end()
        if self._file_reader is not None and self._file_reader.poll() is None:
            self._file_reader.send_signal(signal.SIGKILL)
            self._file_reader.wait()
        self.mirror.end()
