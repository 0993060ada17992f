"""What the benchmarks share: a place to work in, the processes, the figures and the table.

Every benchmark starts the embedded Postgres in a temporary directory and leaves nothing behind. The
writer and the mirror are processes of their own. Nothing is asserted: a figure is printed beside what it
is measured against *in the same run*, because only that ratio says something about another machine.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parents[1]
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402
import psycopg  # noqa: E402
from psycopg import RawCursor  # noqa: E402
from psycopg.conninfo import make_conninfo  # noqa: E402

from mirror.core.control import ControlClient, wait_for_mirror  # noqa: E402
from mirror.core.errors import ControlError  # noqa: E402
from mirror.core.folders import resolve, source_folder  # noqa: E402
from mirror.postgres.embedded import start_embedded  # noqa: E402

Conn = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a benchmark's table."""

    name: str
    value: float
    unit: str
    against: str = ""
    """What the ratio is taken of, with its own figure."""
    ratio: float | None = None


class Figures:
    """Collects the lines of one benchmark and prints them."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.lines: list[Figure] = []

    def add(self, name: str, value: float, unit: str, against: str = "", base: float | None = None) -> None:
        """Add a figure; ``base``: the figure of the same run that it is divided by."""
        ratio = value / base if base else None
        self.lines.append(Figure(name, value, unit, against, ratio))

    def finish(self, options: argparse.Namespace) -> None:
        """Print the table, and write it where ``--json`` says."""
        cores = os.cpu_count()
        print(f"\n{self.title} — {platform.system()} {platform.machine()}, {cores} cores, load {_load()}")
        print_table(self.lines)
        if options.json:
            lines = [[line.name, line.value, line.unit, line.against, line.ratio] for line in self.lines]
            Path(options.json).write_text(json.dumps({"title": self.title, "lines": lines}))


def print_table(lines: Sequence[Figure]) -> None:
    """Print figures as a table that is also Markdown."""
    rows = [("what", "figure", "ratio", "to")]
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.3g}"
        rows.append((line.name, f"{shown(line.value)} {line.unit}", ratio, line.against))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for index, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if index == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def shown(value: float) -> str:
    """A figure in a table."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have; the module's text is its help."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", metavar="FILE", help="write the figures there too")
    made.add_argument("--keep-log", action="store_true", help="show the mirror's own log")
    return made


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return percentile(values, 0.5)


def environment(root: Path = ROOT) -> dict[str, str]:
    """The environment for our child processes: they import the package of this checkout, or of another.

    They keep the modules that they compile, as an installed package has them.
    """
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path = found.get("PYTHONPATH")
    return found | {"PYTHONPATH": str(root) if not path else f"{root}{os.pathsep}{path}"}


def write(job: str, **options: Any) -> dict[str, Any]:
    """Run one job of ``_writer.py`` to its end."""
    return start_writer(job, **options).result()


class RunningScript:
    """A job of one of the scripts here that is under way."""

    def __init__(self, script: str, *words: str) -> None:
        command = [sys.executable, str(BENCH / script), *words]
        self._script = script
        self._process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)

    def ready(self) -> None:
        """Wait until it has said that it is, in a line before its result."""
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._process.kill()
        self._process.communicate()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def result(self) -> dict[str, Any]:
        """Wait for its end; what it printed."""
        output, _ = self._process.communicate()
        if self._process.returncode:
            raise SystemExit(f"{self._script} failed with {self._process.returncode}")
        found: dict[str, Any] = json.loads(output)
        return found


def start_writer(job: str, **options: Any) -> RunningScript:
    """Start one job of ``_writer.py``."""
    return start("_writer.py", job, **options)


def start(script: str, *job: str, **options: Any) -> RunningScript:
    """Start a job of a script here, which prints its result as one line of JSON."""
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    return RunningScript(script, *job, json.dumps(given))


class Trace:
    """When which of the source's commits had become visible in Postgres."""

    def __init__(self, path: Path) -> None:
        values = array("d")
        values.frombytes(path.read_bytes())
        half = len(values) // 2
        self._times, self._before = values[:half], values[half:]

    @property
    def transactions(self) -> int:
        """Postgres transactions of the run."""
        return len(self._times) - 1

    @property
    def commits(self) -> int:
        """Source commits of the run."""
        return int(self._before[-1])

    def visible_at(self, commit: int) -> float:
        """When the commit with this number (from 0) had been acknowledged by Postgres."""
        # The transaction that brought it is the last one before which it had not been counted.
        return float(self._times[bisect_left(self._before, commit + 1) - 1])


class Mirror:
    """A mirror of one source in a process of its own."""

    def __init__(self, bench: Workbench, source: Path, schema: str = "public") -> None:
        self._trace = bench.folder / f"{schema}.trace"
        self.folder = source_folder(bench.state_dir, resolve(source))
        spec = {
            "source": str(source),
            "dsn": bench.dsn,
            "state_dir": str(bench.state_dir),
            "schema": schema,
            "trace": str(self._trace),
            "log": "DEBUG" if bench.show_log else "ERROR",
        }
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, str(BENCH / "_sidecar.py"), json.dumps(spec)],
            stdin=subprocess.PIPE,
            env=environment(),
        )
        self.pid = self._process.pid

    def ready(self, timeout: float = 600.0) -> float:
        """Wait until it follows the source; seconds since it was started."""
        deadline = time.monotonic() + timeout
        with wait_for_mirror(self.folder, 20.0, lambda: self._process.poll() is None) as client:
            while (status := client.status()).phase != "following" or not status.caught_up_at:
                if time.monotonic() > deadline or status.phase == "failed":
                    raise SystemExit(f"the mirror does not follow the source: {status}")
                time.sleep(0.01)
        return time.monotonic() - self.started

    def status(self) -> dict[str, Any]:
        """Its status report."""
        with ControlClient(self.folder) as client:
            return dict(msgspec.to_builtins(client.status()))

    def wait(self, timeout: float = 300.0) -> None:
        """Wait until all that is committed now is in Postgres."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            with ControlClient(self.folder) as client:
                try:
                    if client.wait(left):
                        return
                except ControlError:
                    pass  # inside a large transaction it answers no question for a while
        raise SystemExit(f"the mirror did not catch up in {timeout:.0f} s: {self.status()}")

    def stop(self) -> Trace:
        """End it, and have what it noted."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        return Trace(self._trace)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()


class Workbench:
    """A temporary directory with a Postgres in it."""

    def __init__(self, folder: Path, dsn: str, server_pid: int, show_log: bool) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.dsn = dsn
        self.server_pid = server_pid
        self.show_log = show_log

    def source(self, name: str, base: Path | None = None) -> Path:
        """A path for a database file; ``base``: a finished database to copy there."""
        path = self.folder / f"{name}.db"
        if base is not None:
            shutil.copyfile(base, path)
        return path

    def forget(self) -> None:
        """Put Postgres and the state directory back to where nothing has been mirrored."""
        shutil.rmtree(self.state_dir)
        self.state_dir.mkdir()
        with self.connect() as conn:
            conn.execute("DROP SCHEMA IF EXISTS public CASCADE")
            conn.execute("DROP SCHEMA IF EXISTS mirror CASCADE")
            conn.execute("CREATE SCHEMA public")
            conn.execute("CHECKPOINT")

    def connect(self, dsn: str = "") -> Conn:
        """A connection in autocommit mode that takes $1, $2; ``dsn``: to another database."""
        return psycopg.Connection.connect(dsn or self.dsn, autocommit=True, cursor_factory=RawCursor)

    def database(self, name: str) -> str:
        """Make a new database in the server; its DSN."""
        with self.connect() as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            conn.execute(f"CREATE DATABASE {name}")
        return make_conninfo(self.dsn, dbname=name)

    def stamps(self, path: Path) -> tuple[list[float], list[float]]:
        """Begin and end of each commit, as the writer noted them."""
        values = array("d")
        values.frombytes(path.read_bytes())
        return list(values[0::2]), list(values[1::2])


@contextmanager
def workbench(options: argparse.Namespace) -> Iterator[Workbench]:
    """Give a place to work in; Postgres is stopped and the directory removed at the end."""
    with scratch() as folder:
        (folder / "state").mkdir()
        with start_embedded(folder / "server") as server:
            yield Workbench(folder, server.dsn, server.pid, options.keep_log)


def compiled(checkout: Path) -> None:
    """Compile the mirror's modules: where Python writes no bytecode, each process would do it again.

    Ends the benchmark if that cannot be done: its figures would mean something else.
    """
    if not compileall.compile_dir(checkout / "mirror", quiet=2):
        sys.exit(f"{checkout}: its modules cannot be compiled; is it writable?")


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a temporary directory; the mirror's modules are compiled, as pip would have done."""
    compiled(ROOT)
    with tempfile.TemporaryDirectory(prefix="mirror-bench-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)  # the server may run as a user of its own
        yield Path(name)
