"""Every next step works when it is pasted: a tour of all phases, in which what the commands print is run as it stands.

The person names the mirror by options, and has nothing else in the environment than HOME and PATH: each step that is
printed has to carry the options, and must not end in an error.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.commands import Done, stop
from tests.support.launcher import Launched
from tests.support.pasted import Shell, commands_in, commands_in_json
from tests.support.source import Writer
from tests.support.waiting import until

#: Steps that change where the source is, or that run on: the tour pastes these when their turn has come.
MOVES = ("up", "cutover advance", "cutover rollback", "cutover finalize", "cutover rehearse", "cutover go")
#: What a person looks at in each phase.
LOOKS = ("status", "cutover plan", "cutover status", "rejects list")
#: The same for scripts, and in which phases it is looked at, too.
LOOKS_OF_SCRIPTS = tuple(f"{what} --json" for what in LOOKS)
FOR_SCRIPTS = ("no mirror yet", "never compared", "rejects", "ready", "strays", "finalized")
#: By what the person gives: the options.
GIVEN = {
    "state directory": ["--state-dir", "{folder}/my state", "--postgres", "{dsn}"],
    "schema": ["--schema", "shop of mine", "--postgres", "{dsn}"],
    "configuration": ["--config", "{folder}/mirror.json"],
}
BAD_TEXT = "INSERT INTO customers VALUES (9, CAST(x'61ff' AS TEXT))"


class Tour:
    """One way through all phases."""

    def __init__(self, shell: Shell, source: Path, writer: Writer, dsn: str) -> None:
        self.shell, self.source, self.writer, self.dsn = shell, source, writer, dsn
        self.named: list[str] = []
        """The steps that the last look has found."""
        self._run: set[tuple[str, str]] = set()

    def look(self, phase: str, *outputs: Done) -> None:
        """Have all commands look, and paste the steps that they name and that only look, too."""
        self.named = []
        for done in (*outputs, *(self.shell.typed(what, self.source) for what in LOOKS)):
            self.named += [step for step in self.shell.steps(done) if step not in self.named]
        for what in LOOKS_OF_SCRIPTS if phase in FOR_SCRIPTS else ():
            found = self.shell.steps(self.shell.typed(what, self.source))
            self.named += [step for step in found if step not in self.named]
        for step in self.named:
            if not self._is_move(step) and self.shell.is_given(step) and (phase, step) not in self._run:
                self._run.add((phase, step))
                self.shell.paste(step)

    def step(self, what: str, without: str = "--dry-run") -> str:
        """The step of the last look that begins so."""
        found = [step for step in self.named if step.startswith(f"mirror {what} ") and without not in step]
        assert found, (what, self.named)
        return found[0]

    def move(self, what: str) -> Done:
        """Paste the step that begins so, which must do what it says; then look at what it prints."""
        done = self.shell.paste(self.step(what))
        assert done.code == 0, (what, done)
        return done

    def _is_move(self, step: str) -> bool:
        return any(step.startswith(f"mirror {move} ") for move in MOVES)

    def fails(self, what: str, *more: str) -> Done:
        """What the person types does not work here, and says what to do."""
        done = self.shell.typed(what, self.source, *more)
        assert done.code != 0, done
        return done

    def in_postgres(self, statement: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture
def tour(folder: Path, dsn: str, request: pytest.FixtureRequest) -> Iterator[Tour]:
    given = [word.format(folder=folder, dsn=dsn) for word in GIVEN[request.param]]
    home, source = folder / "home", folder / "shop.db"
    home.mkdir()
    if request.param == "configuration":
        text = f'{{"postgres": {{"connectionString": "{dsn}"}}, "stateDir": "{folder}/state"}}'
        (folder / "mirror.json").write_text(text)
    shell = Shell(home, given)
    with Writer(source) as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE customers(id INTEGER, name TEXT PRIMARY KEY)")
        writer.run("INSERT INTO customers VALUES (1, 'one'), (2, 'two')")
        writer.run("CREATE TABLE orders(id INTEGER PRIMARY KEY, total REAL)", "INSERT INTO orders VALUES (1, 1.5)")
        try:
            yield Tour(shell, source, writer, dsn)
        finally:
            shell.close()


def schema_of(given: list[str]) -> str:
    return given[given.index("--schema") + 1] if "--schema" in given else "public"


@pytest.mark.few(1)
@pytest.mark.parametrize("tour", list(GIVEN), indirect=True)
def test_a_short_tour(tour: Tour) -> None:
    """From nothing to the first phase of a move."""
    shell = tour.shell
    tour.look("no mirror yet", tour.fails("parity"), tour.fails("wait", "--timeout", "0"))
    shell.up(tour.step("up"))
    tour.look("never compared")
    assert not any("--repair" in step for step in tour.named), "no repair before a first look"
    acknowledged = [step for step in tour.named if step.endswith("--acknowledge backups")]
    tour.look("ready", shell.paste(acknowledged[0]))
    tour.look("phase 2", tour.move("cutover advance"))
    tour.move("cutover rollback")
    assert not shell.wrong, "\n".join(shell.wrong)


@pytest.mark.slow
@pytest.mark.parametrize("tour", list(GIVEN), indirect=True)
def test_a_tour(tour: Tour) -> None:
    shell, source, writer = tour.shell, tour.source, tour.writer
    schema = schema_of(shell.given)

    nothing = [tour.fails(what) for what in ("parity", "rejects retry", "cutover advance", "cutover rehearse")]
    tour.look("no mirror yet", shell.typed("doctor", source), *nothing, tour.fails("wait", "--timeout", "0"))
    process = shell.up(tour.step("up"))

    tour.look("never compared", shell.typed("differences list", source), shell.typed("overwritten list", source))
    assert not any("--repair" in step for step in tour.named), "no repair before a first look"
    assert any(step.startswith("mirror parity ") for step in tour.named)

    tour.in_postgres(f"UPDATE \"{schema}\".customers SET id = 7 WHERE name = 'two'")
    tour.look("different", tour.fails("parity"))
    tour.look("different, and repaired", shell.typed("parity", source, "--repair", "--replace-rows"))
    tour.look("overwritten", shell.typed("overwritten list", source))
    assert tour.step("overwritten forget")

    writer.run(BAD_TEXT, "INSERT INTO orders VALUES (2, 'none')")
    assert shell.typed("wait", source).code == 0
    tour.look("rejects", tour.fails("rejects retry"))
    assert tour.step("rejects list") and tour.step("rejects retry")
    writer.run("DELETE FROM customers WHERE id = 9", "UPDATE orders SET total = 2 WHERE id = 2")
    assert shell.typed("wait", source).code == 0
    assert shell.paste(tour.step("rejects retry")).code == 0
    tour.look("no rejects")
    assert "widened columns" not in " ".join(tour.named)

    tour.in_postgres(f'CREATE TABLE "{schema}".taken(x int)')
    writer.run("CREATE TABLE taken(id INTEGER PRIMARY KEY)")
    until(lambda: "taken" in shell.typed("status", source).out)
    tour.look("a table is refused", shell.typed("rejects retry", source))
    writer.run("DROP TABLE taken")
    assert shell.typed("wait", source).code == 0

    stop(process)
    writer.run("INSERT INTO orders VALUES (3, 3)", "PRAGMA wal_checkpoint(TRUNCATE)")
    tour.look("stopped", tour.fails("wait", "--timeout", "0"))
    process = shell.up(tour.step("up"))
    tour.look("a gap")

    assert shell.typed("parity", source).code == 0
    tour.look("not ready", tour.fails("cutover advance"))
    acknowledged = [step for step in tour.named if step.endswith("--acknowledge backups")]
    ready = shell.paste(acknowledged[0])
    assert ready.code == 0, ready
    tour.look("ready", ready)

    tour.look("phase 2", tour.move("cutover advance"))
    tour.look("back in phase 1", tour.move("cutover rollback"))
    tour.look("phase 2 again", shell.typed("cutover advance", source, "--acknowledge", "backups"))
    tour.look("rehearsed", tour.move("cutover rehearse"))
    third = shell.typed("cutover advance", source, "--acknowledge", "backups")
    assert third.code == 0, third
    tour.look("phase 3", third)
    assert tour.step("cutover rollback")
    strays(tour, process)

    back = shell.typed("cutover rollback", source)
    assert back.code == 0, back
    tour.look("phase 2, from 3", back)
    third = shell.typed("cutover advance", source, "--acknowledge", "backups")
    assert third.code == 0, third
    tour.look("phase 3 again", third)
    final = tour.move("cutover finalize")
    process = shell.running[-1]
    process.wait(200)
    done = [tour.fails(what) for what in ("cutover advance", "cutover rollback", "cutover finalize", "wait")]
    tour.look("finalized", final, *done)
    assert not any(step.startswith("mirror up ") for step in tour.named), "nothing is to be started any more"
    assert not shell.wrong, "\n".join(shell.wrong)


def strays(tour: Tour, process: Launched) -> None:
    """A program writes to the file while no mirror runs: going back is refused, and says what can be done."""
    shell, source, writer = tour.shell, tour.source, tour.writer
    stop(process)
    tour.look("phase 3, stopped", tour.fails("wait", "--timeout", "0"))
    writer.run("INSERT INTO orders VALUES (99, 99)")
    up = tour.step("up")
    shell.pasted.add(up)
    shell.up(up)
    until(lambda: "99" in shell.typed("cutover strays", source).out)
    tour.look("strays", tour.fails("cutover rollback"), shell.typed("cutover strays", source))
    assert any(step.endswith("--adopt") for step in tour.named) and any("--discard" in step for step in tour.named)
    until(lambda: "no strays" in shell.typed("cutover strays", source).out)


def test_what_counts_as_a_step() -> None:
    said = (
        "• what `mirror cutover advance` makes\n"
        "  next: look: `mirror status '/a b.db' --schema s`; or `mirror parity`\n"
        "Next: mirror up /a.db  # and wait\nmirror: wait (/a.db): late -- see `mirror status`\n`mirror up /c.db`"
    )
    assert commands_in(said) == [
        "mirror status '/a b.db' --schema s", "mirror parity", "mirror up /a.db", "mirror status", "mirror up /c.db",
    ]  # fmt: skip
    document = {
        "sources": [{"next_steps": ["mirror up /a.db  # why", "look: `mirror status`"], "detail": "`mirror x`"}]
    }
    assert commands_in_json(document) == ["mirror up /a.db", "mirror status"]
    assert shlex.split("mirror up /a.db  # why", comments=True) == ["mirror", "up", "/a.db"]
