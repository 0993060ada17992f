"""What is typed wrong: one line with what may have been meant and where to look, exit code 2, and JSON if asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import CommandLine


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("upp", "No such command 'upp'. Did you mean 'up'? -- `mirror --help` shows what there is"),
        ("zzz", "No such command 'zzz' -- `mirror --help` shows what there is"),
        ("cutover pla", "No such command 'pla'. Did you mean 'plan'? -- `mirror cutover --help` shows what there is"),
        ("wait --timeout soon", "is not a valid float -- `mirror wait --help` shows what there is"),
        ("up --nonsense", "No such option '--nonsense'"),
        ("completion", "Choose from: bash, zsh, fish -- `mirror completion --help` shows what there is"),
    ],
)
def test_one_line(folder: Path, words: str, line: str) -> None:
    done = CommandLine(folder).run(*words.split())
    assert done.out == ""
    # As `python -m mirror`, by which tests run it, the step names it so.
    assert line in done.error.replace("python -m mirror", "mirror")


def test_as_json(folder: Path) -> None:
    done = CommandLine(folder).run("stauts", "--json")
    error = json.loads(done.out)["error"]
    assert error["code"] == "config" and error["detail"] == "No such command 'stauts'. Did you mean 'status'?"
    assert error["detail"] in done.error


def test_a_secret_in_what_was_typed_is_not_shown(folder: Path) -> None:
    done = CommandLine(folder).run("up", "--postgress", "postgresql://me:hunter2horse@h/d", "--json")
    assert done.code == 2 and "hunter2horse" not in done.out + done.err


@pytest.mark.parametrize("words", ["", "cutover", "rejects"])
def test_without_a_command(folder: Path, words: str) -> None:
    """The help, and nothing was done."""
    done = CommandLine(folder).run(*words.split())
    assert done.code == 2 and done.out == "" and done.err.startswith("Usage: ")
    assert "Traceback" not in done.err and "Commands:\n" in done.err
