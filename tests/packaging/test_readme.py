"""Every command of the README's ``sh`` blocks is run, so that none of them can be wrong.

Blocks that set up a virtual environment: what they install is checked here, what they start is run by
``tests/integration/test_demo.py`` and by ``.ci/run``, which takes its command from the block marked ``<!-- test -->``.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import click
import pytest

from mirror.cli.main import COMMANDS
from mirror.cli.main import cli as commands
from mirror.core.config.settings import load_settings
from tests.support.commands import CommandLine, stop
from tests.support.memustore import create_dashboard
from tests.support.stubs import Stubs

ROOT = Path(__file__).parents[2]
#: Options whose value is a placeholder for something of the reader's own.
_DSN_OPTION = "--postgres"


def blocks(before: str = "", readme: str = "README.md") -> list[list[list[str]]]:
    """The ``sh`` blocks (that follow right after ``before``): for each line its words, comments left out."""
    text = (ROOT / readme).read_text()
    return [
        [words for line in block.replace("\\\n", " ").splitlines() if (words := shlex.split(line, comments=True))]
        for block in re.findall(rf"^{before}```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


def sets_up(block: list[list[str]]) -> bool:
    """Whether a block makes a virtual environment."""
    return block[0][:3] == ["python3", "-m", "venv"]


def parts(words: list[str]) -> Iterator[list[str]]:
    """The commands between ``&&``."""
    part: list[str] = []
    for word in [*words, "&&"]:
        if word == "&&":
            yield part
            part = []
        else:
            part.append(word)


def test_the_commands_for_a_fresh_machine() -> None:
    """Nothing but Python is needed, the extras exist, and what is started is what other tests start."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    started = []
    for block in filter(sets_up, blocks()):
        ((make, install, start),) = (list(parts(words)) for words in block)
        assert make == ["python3", "-m", "venv", ".venv"]
        assert install[:2] == [".venv/bin/pip", "install"]
        (extras,) = re.fullmatch(r"\.\[([a-z,]+)\]", install[-1]).groups()  # type: ignore[union-attr]
        assert set(extras.split(",")) <= set(project["optional-dependencies"])
        assert "embedded" in extras
        started.append(start)
    assert started == [[".venv/bin/mirror", "demo"], [".venv/bin/python", "-m", "pytest"]]


def test_ci_runs_the_readmes_test_command() -> None:
    shown = subprocess.run([ROOT / ".ci" / "run", "--show"], cwd="/", capture_output=True, text=True, check=True)
    (marked,) = blocks(before="<!-- test -->\n")
    assert [shlex.split(shown.stdout)] == marked


@pytest.mark.parametrize(
    ("readme", "told"),
    [
        ("```sh\n.venv/bin/python -m pytest\n```\n", "there is no sh block right after a line <!-- test -->"),
        ("<!-- test -->\n\n```sh\n.venv/bin/python -m pytest\n```\n", "there is no sh block right after"),
        ("<!-- test -->\n```sh\nmake test\n```\n", "does not run .venv/bin/python -m pytest"),
    ],
)
def test_ci_says_that_it_finds_no_test_command(folder: Path, readme: str, told: str) -> None:
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    (folder / "README.md").write_text(readme)
    for arguments in ([], ["--show"]):
        done = subprocess.run([folder / ".ci" / "run", *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "") and told in done.stderr


class Reader:
    """Somebody who types the README's commands one after the other, where a ``memory.db`` lies."""

    def __init__(self, cli: CommandLine, running: ExitStack) -> None:
        self._cli = cli
        self._running = running
        self._mirror: subprocess.Popen[str] | None = None
        self._manager: Stubs | None = None

    def type(self, words: list[str]) -> None:
        """Run a command; it must succeed. Fails for one that no rule covers."""
        for part in parts(words):
            match part:
                case ["mirror" | ".venv/bin/mirror", "demo"]:
                    pass  # tests/integration/test_demo.py
                case ["mirror" | ".venv/bin/mirror", "service", *arguments]:
                    self._service(arguments)
                case ["mirror" | ".venv/bin/mirror", "up", *arguments]:
                    self._up([word for word in arguments if word != "&"])
                case ["mirror" | ".venv/bin/mirror", *arguments]:
                    self._run(arguments)
                case ["python" | "python3" | ".venv/bin/python", script, *_] if script.startswith("scripts/"):
                    self._help_of(script)
                case ["python" | "python3" | ".venv/bin/python", "-m", "pytest", *arguments]:
                    self._collect(arguments)
                case [script, *_] if re.fullmatch(r"scripts/setup-[a-z]+\.sh", script):
                    # tests/integration/test_setup_postgres.py and test_setup_redis.py
                    subprocess.run([ROOT / script, "--help"], check=True, stdout=subprocess.DEVNULL)
                case [".", ".venv/bin/activate"]:
                    pass  # every virtual environment has it
                case ["docker", *arguments]:
                    # tests/packaging/test_container.py
                    assert (ROOT / arguments[arguments.index("-f") + 1]).is_file()
                case [".ci/run" | "scripts/check" as script]:
                    subprocess.run(["bash", "-n", ROOT / script], check=True)
                    assert (ROOT / script).stat().st_mode & 0o100, f"{script} cannot be started"
                case _:
                    pytest.fail(f"the README has a command that no rule covers: {shlex.join(part)}")

    def _arguments(self, words: list[str]) -> list[str]:
        """The words as typed, with a server that is there, and stores where files are named."""
        found = list(words)
        for at, word in enumerate(found):
            if word.startswith(_DSN_OPTION + "=") or (at and found[at - 1] == _DSN_OPTION):
                found[at] = word[: word.find("=") + 1] * word.startswith("--") + (self._cli.dsn or "")
            elif word.endswith(".db"):
                store = self._cli.folder / word
                if not store.exists() and word == "dashboard.db":
                    create_dashboard(store).close()
                elif not store.exists() and word == "other.db":
                    with closing(sqlite3.connect(store)) as other:  # not the tables of the file beside it
                        other.execute("CREATE TABLE other(id INTEGER PRIMARY KEY)")
                elif not store.exists():
                    shutil.copyfile(self._cli.folder / "memory.db", store)
        return found

    def _run(self, words: list[str]) -> None:
        done = self._cli.run(*self._arguments(words))
        assert done.code == 0, (words, done)

    def _service(self, words: list[str]) -> None:
        """With a manager that does nothing: this machine's services are not the tests'."""
        if self._manager is None:
            self._manager = Stubs(self._cli.folder)
            self._manager.add("systemctl", "echo ActiveState=active")
            self._manager.add("journalctl")
        done = self._cli.run("service", *words, env={"PATH": str(self._manager.bin)})
        assert done.code == 0, (words, done)

    def _up(self, words: list[str]) -> None:
        """The terminal is free again after a ``mirror up`` only once that has ended."""
        self.end()
        if "--once" in words:
            self._run(["up", *words])
            return
        arguments = self._arguments(words)
        self._mirror = self._running.enter_context(self._cli.up(*arguments, wait=False))
        sources = [word for word in arguments if word.endswith(".db")]
        done = self._cli.run("wait", *sources, "--timeout", "60")
        assert done.code == 0, (words, done)

    def end(self) -> None:
        """End the mirror that runs, if one does."""
        if self._mirror is not None:
            assert stop(self._mirror) == 0
            self._mirror = None

    def _help_of(self, script: str) -> None:
        subprocess.run([sys.executable, ROOT / script, "--help"], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)

    def _collect(self, arguments: list[str]) -> None:
        command = [sys.executable, "-m", "pytest", "--collect-only", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def test_every_other_command(folder: Path, dsn: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "mirror.cli.demo.writer", folder / "memory.db", "0.2"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with ExitStack() as running:
        reader = Reader(CommandLine(folder, dsn), running)
        for block in blocks():
            for words in block if not sets_up(block) else ():
                reader.type(words)
        reader.end()


@pytest.mark.parametrize("readme", ["scripts/bench/README.md", "CONTRIBUTING.md", "mirror/README.md"])
def test_every_command_of_another_readme(readme: str, folder: Path) -> None:
    with ExitStack() as running:
        reader = Reader(CommandLine(folder), running)
        for block in blocks(readme=readme):
            for words in block:
                reader.type(words)


def test_a_newcomer_reads_it_to_the_end() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / link).exists(), link


def test_the_configuration_in_it_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "mirror.json").write_text(example)
    settings = load_settings((), None, None, None, str(tmp_path / "mirror.json"), {"HOME": str(tmp_path)})
    memory, dashboard = settings.sources
    assert memory == (tmp_path / "memory.db").resolve() and settings.agents == {dashboard: "main"}
    assert settings.schemas == {dashboard: "dash"} and settings.dsn == "host=db.example user=mirror dbname=app"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_says_what_it_is(name: str) -> None:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help and not parameter.hidden, parameter.opts
    assert f"mirror {name}" in (ROOT / "README.md").read_text(), "the README does not name it"
