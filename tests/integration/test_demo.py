"""``mirror demo`` tells its story to the end, and leaves nothing behind but what it was to keep."""

from __future__ import annotations

import io
import re
import shlex
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from mirror.cli.demo import command, story
from mirror.cli.demo.screen import Screen, doing
from mirror.cli.main import cli as commands
from mirror.core.status import Phase, StatusReport
from tests.support.commands import CommandLine, processes_about

CLAIMS = (
    "the mirror was killed with -9 while the program was writing",
    "it went on from the old position, without copying the source again",
    "everything committed is in Postgres",
    "each table has as many rows as the program says",
    "a hybrid query (vector and text) as the agent's role finds its memories",
    "row security: the same query as nobody, and as another agent, finds nothing",
    "every value equal",
    "the mirror stopped cleanly",
)


def test_the_demo_holds_what_it_claims(folder: Path) -> None:
    """And what it keeps can be looked at as it says at its end."""
    cli = CommandLine(folder)
    kept = folder / "kept"
    done = cli.run("demo", "--keep", kept, timeout=280)
    assert done.code == 0, done
    told = [line for line in done.out.splitlines() if line.startswith("✓")]
    assert len(told) == len(CLAIMS), done.out
    for claim, line in zip(CLAIMS, told, strict=True):
        assert claim in line
    assert "✗" not in done.out and "All of it is true" in done.out
    assert processes_about(folder) == []
    assert {path.name for path in kept.iterdir()} >= {"memory.db", "mirror.log", "state"}
    steps = [shlex.split(line) for line in done.out.splitlines() if line.startswith("  mirror ")]
    assert [step[1] for step in steps] == ["psql", "parity", "up"]
    again = cli.run(*steps[1][1:])
    assert again.code == 0 and "equal: " in again.out, again
    assert processes_about(folder) == []


class _Short:
    """A story that leaves files, and claims one thing."""

    def __init__(self, folder: Path, console: Console) -> None:
        (folder / "state").mkdir()
        (folder / "memory.db").touch()

    def run(self) -> story.Outcome:
        return story.Outcome([("something", False)])


def test_it_removes_its_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is to keep them, and says so."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(command, "Story", _Short)
    done = CliRunner().invoke(commands, ["demo"])
    assert done.exit_code == 1, done
    assert "✗ something" in done.output and "Not all of it is true" in done.output
    assert "Its files are removed" in done.output and "--keep DIR" in done.output
    assert list(folder.iterdir()) == []


def test_it_wants_a_folder_of_its_own(folder: Path) -> None:
    (folder / "kept").mkdir()
    (folder / "kept" / "something").touch()
    assert "not empty" in CommandLine(folder).run("demo", "--keep", folder / "kept").error


def status(phase: Phase, lag: float | None = None) -> StatusReport:
    return StatusReport(source="memory.db", schema="public", phase=phase, lag_seconds=lag)


def test_what_the_mirror_does_in_words() -> None:
    told = [doing(status(Phase.FOLLOWING, lag)) for lag in (None, 0.0123, 2.345)]
    assert told == ["following", "following, 12 ms behind", "following, 2.3 s behind"]
    assert doing(status(Phase.CATCHING_UP)) == "catching up"
    assert [doing(status(phase)) for phase in (Phase.STARTING, Phase.WAITING)] == ["starting", "waiting"]


def test_the_table_stands_still() -> None:
    """Whatever the figures are, it has one width, which fits into 80 columns; and it says what is waited for."""
    rows = {"live_memory_candidates": 0, "memory_items": 0}
    shown: list[list[str]] = []
    for figures, phase in ((0, Phase.STARTING), (1_234_567, Phase.REDIFF), (12, Phase.FOLLOWING)):
        console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
        with Screen(console) as screen, screen.waiting_for("reading what happened meanwhile"):
            screen.show(dict.fromkeys(rows, figures), doing(status(phase, 12.3)))
            screen.event("one thing", "and more of it")
        assert isinstance(console.file, io.StringIO)
        lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue()).replace("\r", "\n").splitlines()
        shown.append([line for line in lines if line.startswith(("┏", "┃", "│"))])
        assert any("reading what happened meanwhile …" in line for line in lines)
        assert any("live_memory_candidates" in line for line in lines) and max(map(len, lines)) <= 80
    assert len({len(line) for lines in shown for line in lines}) == 1
    assert len({len(lines) % 5 for lines in shown}) == 1


@pytest.mark.slow
def test_it_waits_for_the_first_copy_before_it_kills(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the copy takes longer than any fixed time; here there is no time at all."""
    for name in ("KILL_AFTER", "DOWN_FOR", "END_AFTER"):
        monkeypatch.setattr(story, name, 0.0)
    outcome = story.Story(folder, Console(file=io.StringIO())).run()
    assert [claim for claim, holds in outcome.claims if not holds] == []
    assert processes_about(folder) == []
