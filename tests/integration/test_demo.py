"""``mirror demo`` tells its story to the end, and leaves nothing behind."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mirror.cli.demo import story
from tests.support.commands import CommandLine, processes_about

CLAIMS = (
    "the sidecar was killed with -9 while the program was writing",
    "it went on from the old position, without copying the source again",
    "everything committed is in Postgres",
    "each table has as many rows as the program says",
    "a hybrid query (vector and text) as the agent's role finds its memories",
    "row security: the same query as nobody, and as another agent, finds nothing",
    "every value equal",
    "the sidecar stopped cleanly",
)


def test_the_demo_holds_what_it_claims(folder: Path) -> None:
    cli = CommandLine(folder)
    temporary = folder / "t"
    temporary.mkdir()
    done = cli.run("demo", env={"TMPDIR": str(temporary)}, timeout=280)
    assert done.code == 0, done
    told = [line for line in done.out.splitlines() if line.startswith("✓")]
    assert len(told) == len(CLAIMS), done.out
    for claim, line in zip(CLAIMS, told, strict=True):
        assert claim in line
    assert "✗" not in done.out and "All of it is true" in done.out
    assert list(temporary.glob("mirror-*")) == []
    assert processes_about(folder) == []


def test_it_wants_a_folder_of_its_own(folder: Path) -> None:
    (folder / "kept").mkdir()
    (folder / "kept" / "something").touch()
    assert "not empty" in CommandLine(folder).run("demo", "--keep", folder / "kept").error


@pytest.mark.slow
def test_it_waits_for_the_first_copy_before_it_kills(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the copy takes longer than any fixed time; here there is no time at all."""
    for name in ("KILL_AFTER", "DOWN_FOR", "END_AFTER"):
        monkeypatch.setattr(story, name, 0.0)
    outcome = story.Story(folder, Console(file=io.StringIO())).run()
    assert [claim for claim, holds in outcome.claims if not holds] == []
    assert processes_about(folder) == []
