"""`mirror completion`: what a shell makes of it, in a terminal; and the answers that its script gets."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.core.folders import source_folder
from tests.support.commands import CommandLine
from tests.support.waiting import until

#: Shows the line as it is then: of what is on the terminal, not all is there to stay.
SHOW = "show() { printf '<%s>\\n' \"$READLINE_LINE\"; }; bind -x '\"\\C-xw\": show'"


class Bash:
    """An interactive bash that has loaded the script."""

    def __init__(self, cli: CommandLine, *lines: str) -> None:
        self._end, inner = pty.openpty()
        self._text = ""
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            env=cli.environment({"TERM": "dumb", "PATH": f"{cli.folder / 'bin'}:{os.environ['PATH']}"}),
            cwd=cli.folder, stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
        )  # fmt: skip
        os.close(inner)
        for line in (*lines, "echo rea''dy"):
            os.write(self._end, line.encode() + b"\n")
        until(lambda: self._shows(r"^ready"))

    def _shows(self, pattern: str) -> str | None:
        while select.select([self._end], [], [], 0)[0]:
            self._text += os.read(self._end, 65536).decode()
        found = re.search(pattern, self._text.replace("\r", ""), re.MULTILINE)
        return None if found is None else found[0]

    def completes(self, typed: str) -> str:
        """The line after the key was pressed."""
        self._text = ""
        os.write(self._end, typed.encode() + b"\t\x18w")
        line = until(lambda: self._shows(r"^<.*>$"))
        os.write(self._end, b"\x15")
        assert line is not None
        return line[1:-1]

    def offers(self, typed: str, last: str) -> set[str]:
        """What is listed when the key is pressed twice: once it shows ``last``."""
        self._text = ""
        os.write(self._end, typed.encode() + b"\t\t")
        until(lambda: self._shows(rf"\b{re.escape(last)}\b"))
        os.write(self._end, b"\x18w")
        until(lambda: self._shows(r"^<.*>$"))
        os.write(self._end, b"\x15")
        return set(re.split(r"\s{2,}|\n", self._text.replace("\r", "")))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._end)


@pytest.fixture
def cli(folder: Path) -> CommandLine:
    """With ``mirror`` in a folder for PATH, and a source that is known."""
    program = folder / "bin" / "mirror"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m mirror "$@"\n')
    program.chmod(0o755)
    found = CommandLine(folder)
    known = folder / "elsewhere" / "known one.db"
    known.parent.mkdir()
    for path in (known, folder / "notes.db", folder / "two words.db"):
        path.touch()
    state = found.source_folder(known)
    state.mkdir(parents=True)
    (state / "source").write_text(str(known.resolve()))
    return found


@pytest.fixture
def bash(cli: CommandLine) -> Iterator[Bash]:
    script = cli.run("completion", "bash")
    assert script.code == 0, script
    (cli.folder / "script").write_text(script.out)
    shell = Bash(cli, SHOW, "source ./script")
    yield shell
    shell.close()


def test_what_bash_makes_of_it(bash: Bash, folder: Path) -> None:
    """Commands, commands of groups, options, their values, files, folders, and sources that are known."""
    completed = {
        "mirror cuto": "mirror cutover ",
        "mirror rejects re": "mirror rejects retry ",
        "mirror up --post": "mirror up --postgres ",
        "mirror up --log-format j": "mirror up --log-format json ",
        "mirror up --log-format=j": "mirror up --log-format=json ",
        "mirror cutover plan --acknowledge kept": r"mirror cutover plan --acknowledge kept\ tables ",
        "mirror parity no": "mirror parity notes.db ",
        "mirror parity two": r"mirror parity two\ words.db ",
        "mirror up --state-dir else": "mirror up --state-dir elsewhere/",
        "mirror up notes.db --config=scr": "mirror up notes.db --config=script ",
        f"mirror parity {folder}/elsewhere/kn": rf"mirror parity {folder}/elsewhere/known\ one.db ",
        "mirror completion f": "mirror completion fish ",
        "mirror nothing-such ": "mirror nothing-such ",
    }
    assert {typed: bash.completes(typed) for typed in completed} == completed


def test_known_sources_are_offered_beside_files(bash: Bash) -> None:
    assert {"known one.db", "notes.db", "elsewhere/"} <= bash.offers("mirror parity ", "words.db")


def test_a_source_of_another_state_directory(cli: CommandLine, bash: Bash, folder: Path) -> None:
    """The words that were typed name it."""
    other = source_folder(folder / "other", Path("/gone/of-other.db"))
    other.mkdir(parents=True)
    (other / "source").write_text("/gone/of-other.db")
    typed = f"mirror status --state-dir {folder}/other /go"
    assert bash.completes(typed) == f"{typed}ne/of-other.db "


@pytest.mark.parametrize(
    ("shell", "parts"),
    [
        ("bash", ["complete -F _mirror_completion mirror", "_MIRROR_COMPLETE=bash_complete"]),
        ("zsh", ["#compdef mirror", "compdef _mirror_completion mirror", "_MIRROR_COMPLETE=zsh_complete"]),
        ("fish", ["complete --no-files --command mirror", "_MIRROR_COMPLETE=fish_complete"]),
    ],
)
def test_the_script_of_each_shell(cli: CommandLine, shell: str, parts: list[str]) -> None:
    done = cli.run("completion", shell)
    assert done.code == 0 and done.err == ""
    for part in parts:
        assert part in done.out


def test_the_answers(cli: CommandLine) -> None:
    """In the form of each shell; nothing fails where the settings cannot be used."""

    def answer(shell: str, words: str) -> str:
        asked = {"_MIRROR_COMPLETE": f"{shell}_complete", "COMP_WORDS": words}
        asked["COMP_CWORD"] = "cut" if shell == "fish" else "1"
        done = cli.run(env=asked)
        assert done.err == ""
        return done.out

    assert answer("bash", "mirror cut") == "plain,cutover\n"
    assert answer("zsh", "mirror cut") == "plain\ncutover\nMove programs to Postgres, and back.\n"
    assert answer("fish", "mirror cut").startswith("plain,cutover\t")
    (cli.folder / "argent").mkdir(exist_ok=True)
    (cli.folder / "argent" / "mirror.json").write_text("{no json")
    done = cli.run(env={"_MIRROR_COMPLETE": "bash_complete", "COMP_WORDS": "mirror up ", "COMP_CWORD": "2"})
    assert done.out.splitlines()[-1] == "file," and done.err == ""


def test_a_shell_that_is_not_known(cli: CommandLine) -> None:
    assert "'ksh' is not one of 'bash', 'zsh', 'fish'" in cli.run("completion", "ksh").error
