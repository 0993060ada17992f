"""Random schemas, several programs at once, kills: after each burst of work Postgres must equal the file.

A mirror follows one file for many examples, so what an example starts from is what the ones before left; what
failed since the last time that all was equal is added to the error. ``-m slow`` runs the same for minutes:
``MIRROR_SOAK_SECONDS`` says how long, ``MIRROR_SOAK_SEED`` repeats a run whose seed was printed.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.support.mirrors import MirrorProcess
from tests.support.program import STEPS, Program, Statement, Step, collect, random_table, run
from tests.support.quick import quick
from tests.support.source import Writer


@dataclass(frozen=True)
class Setting:
    """How a file is made and written."""

    page_size: int = 4096
    encoding: str = "UTF-8"
    auto_vacuum: int = 0
    secure_delete: str = "OFF"
    journal: str = "WAL"
    autocheckpoint: int = 60

    def __str__(self) -> str:
        made = f"{self.page_size}-{self.encoding}-{self.auto_vacuum}-{self.secure_delete}"
        return f"{made}-{self.journal}-{self.autocheckpoint}"

    def prepare(self, writer: Writer) -> None:
        """What a program says when it has opened the file; the first one makes it."""
        writer.run(
            f"PRAGMA page_size={self.page_size}",
            f"PRAGMA encoding='{self.encoding}'",
            f"PRAGMA auto_vacuum={self.auto_vacuum}",
            f"PRAGMA journal_mode={self.journal}",
            f"PRAGMA secure_delete={self.secure_delete}",
            f"PRAGMA wal_autocheckpoint={self.autocheckpoint}",
            "PRAGMA cache_size=20",
            "PRAGMA synchronous=OFF",
            "PRAGMA foreign_keys=ON",
        )


SETTINGS = (
    Setting(512),
    Setting(1024, "UTF-16le", 1, "ON"),
    Setting(4096, "UTF-8", 2, "FAST", autocheckpoint=0),
    Setting(8192, "UTF-16be", 0, "ON", autocheckpoint=1000),
    Setting(65536, "UTF-8", 1, "OFF"),
    Setting(2048, "UTF-8", 2, "ON", journal="DELETE"),
)
#: Of the soak, for each file.
SOAK_EXAMPLES = 60
DRIVERS = ("sqlite3", "apsw", "sqlite3")

#: What happens beside the work: the mirror is killed and stays down, or is killed and comes back before it,
#: its capture process is killed, a program dies in the middle of a transaction.
INCIDENTS = ("down", "restart", "capture", "writer")

steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2**32 - 1)), min_size=1, max_size=6)
#: What one program does: its steps, each by itself or in one transaction and how that ends.
Work = tuple[list[Step], str]
works = st.tuples(steps, st.sampled_from(("", "", "COMMIT", "COMMIT", "ROLLBACK")))
#: Who works at once: one, or all.
bursts = st.one_of(
    st.tuples(st.integers(0, len(DRIVERS) - 1), works).map(lambda one: {one[0]: one[1]}),
    st.lists(works, min_size=len(DRIVERS), max_size=len(DRIVERS)).map(lambda all_: dict(enumerate(all_))),
)
examples = st.tuples(
    st.lists(bursts, min_size=1, max_size=3), st.one_of(*[st.just("")] * 6, st.sampled_from(INCIDENTS))
)


class Programs:
    """Several programs that write one file."""

    def __init__(self, path: Path, setting: Setting) -> None:
        self._path = path
        self._setting = setting
        self.writers = [self._open(driver) for driver in DRIVERS]
        self.done: list[tuple[int, Statement]] = []
        """Since the last time that all was equal."""
        self.taken = 0
        """Statements that SQLite took."""
        self._random = random.Random(str(setting))
        self.have_a_table()

    def _open(self, driver: str) -> Writer:
        writer = Writer(self._path, driver=driver)
        self._setting.prepare(writer)
        return writer

    def have_a_table(self) -> None:
        """Make one if none is left: comparing nothing proves nothing."""
        while not Program(self.writers[0]).shapes():
            run(self.writers[0], [random_table(self._random, "t")])

    def work(self, burst: dict[int, Work]) -> None:
        """All these works at once; each program's statements were planned before anybody began."""
        planned: dict[int, list[Statement]] = {}
        for who, (plan, end) in burst.items():
            program = Program(self.writers[who])
            statements = [statement for step in plan for statement in program.plan(step)]
            planned[who] = [*(["BEGIN IMMEDIATE", *statements, end] if end else statements), "ROLLBACK"]
        for who, statements in planned.items():
            for statement in statements:
                self.done.append((who, statement))
                self.writers[who].send(statement)
        for who, statements in planned.items():
            self.taken += collect(self.writers[who], len(statements))

    def lose(self, who: int, plan: list[Step]) -> None:
        """One of them dies in the middle of a transaction."""
        statements = [statement for step in plan for statement in Program(self.writers[who]).plan(step)]
        self.done += [(who, statement) for statement in ("BEGIN IMMEDIATE", *statements, "kill -9")]
        run(self.writers[who], ["BEGIN IMMEDIATE", *statements])
        self.writers[who].kill()
        self.writers[who] = self._open(DRIVERS[who])

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


@contextmanager
def programs_on(path: Path, setting: Setting) -> Iterator[Programs]:
    programs = Programs(path, setting)
    try:
        yield programs
    finally:
        programs.close()


def work_and_compare(mirror: MirrorProcess, programs: Programs, count: int, number: int | None = None) -> None:
    """So many examples, after each of which every value of every table must be equal."""

    # No shrinking: an example that failed leaves a mirror that is not equal, so any smaller one would fail too.
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(examples)
    def example(drawn: tuple[list[dict[int, Work]], str]) -> None:
        parts, incident = drawn
        programs.done.clear()
        if incident in ("down", "restart"):
            mirror.kill()
        if incident == "restart":
            mirror.start(wait=False)
        for at, burst in enumerate(parts):
            programs.work(burst)
            if at == 0 and incident == "capture":
                mirror.control().close()  # once it answers, it has one
                mirror.kill_capture()
            elif at == 0 and incident == "writer":
                who, (plan, _) = next(iter(burst.items()))
                programs.lose(who, plan)
        programs.have_a_table()
        if not mirror.alive:
            mirror.start()
        try:
            mirror.check()
        except AssertionError as error:
            lines = "\n".join(f"{who}: {statement!r}"[:400] for who, statement in programs.done)
            error.add_note(f"incident: {incident or 'none'}\n{lines}")
            raise

    (example if number is None else seed(number)(example))()


@pytest.mark.few(1)
@pytest.mark.parametrize("setting", quick(SETTINGS[1], SETTINGS[5], among=SETTINGS), ids=str)
def test_random_schemas(make_mirror: Callable[..., MirrorProcess], database: Path, setting: Setting) -> None:
    with programs_on(database, setting) as programs:
        mirror = make_mirror(database)
        mirror.start()
        work_and_compare(mirror, programs, 15)
        assert programs.taken > 50
        mirror.check()
        mirror.end()


@pytest.mark.slow
@pytest.mark.parametrize("setting", quick(SETTINGS[0], among=[SETTINGS[0], SETTINGS[1], SETTINGS[5]]), ids=str)
def test_random_schemas_of_an_agent(
    make_mirror: Callable[..., MirrorProcess], database: Path, setting: Setting
) -> None:
    """In tables that others could have rows in, which are never rebuilt or renamed."""
    with programs_on(database, setting) as programs:
        mirror = make_mirror(database)
        mirror.agents = {database: "ada"}
        mirror.start()
        work_and_compare(mirror, programs, 15)
        assert programs.taken > 50
        mirror.check()
        mirror.end()


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_soak(
    make_mirror: Callable[..., MirrorProcess], database: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """New files in every setting there is, one after the other, until the time is over."""
    number = int(os.environ.get("MIRROR_SOAK_SEED") or random.SystemRandom().randrange(2**32))
    until = time.monotonic() + float(os.environ.get("MIRROR_SOAK_SECONDS") or 600)
    r = random.Random(number)
    rounds = taken = 0
    while time.monotonic() < until:
        setting = Setting(
            page_size=r.choice((512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)),
            encoding=r.choice(("UTF-8", "UTF-8", "UTF-16le", "UTF-16be")),
            auto_vacuum=r.randrange(3),
            secure_delete=r.choice(("ON", "OFF", "FAST")),
            journal=r.choice(("WAL", "WAL", "WAL", "DELETE", "PERSIST")),
            autocheckpoint=r.choice((0, 10, 60, 1000)),
        )
        done = SOAK_EXAMPLES * rounds
        rounds += 1
        with capsys.disabled():
            print(f"\nsoak with seed {number}: {done} examples, {taken} statements; next: {setting}", flush=True)
        path = database.with_name(f"{rounds}.db")
        with programs_on(path, setting) as programs:
            mirror = make_mirror(path, state=f"state{rounds}", schema=f"soak{rounds}")
            if r.random() < 0.4:
                mirror.agents = {path: "ada"}
            mirror.start()
            work_and_compare(mirror, programs, SOAK_EXAMPLES, r.randrange(2**32))
            taken += programs.taken
            mirror.check()
            assert mirror.stop() == 0
        shutil.rmtree(folder / f"state{rounds}")
        path.unlink()
