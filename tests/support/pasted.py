"""What a person would paste: the commands that any output names as next steps, and a shell of their own to run them.

A step is a command after ``next:``, in an item of ``next_steps``, or between back-ticks. A bare one in running text,
as "what `mirror cutover advance` makes", is no step unless it is where steps are.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import launcher
from tests.support.commands import Done, stop
from tests.support.launcher import Launched
from tests.support.waiting import LIMIT

#: How a command may end that is pasted; 2 would be an error.
GOOD = frozenset({0, 1, 3, 4})
_QUOTED = re.compile(r"`(mirror [^`]+)`")
_LINE = re.compile(r"^\W*(?:[Nn]ext: )(mirror .+)$")
#: From here on a line of text is about what to do.
_STEPS = re.compile(r"\b[Nn]ext: | -- ")


def commands_in(text: str) -> list[str]:
    """The commands that an output for people names as steps, without comments, in order and once each."""
    found: list[str] = []
    for line in text.splitlines():
        if whole := _LINE.match(line):
            found.append(whole[1])
            continue
        begin = _STEPS.search(line)
        for quoted in _QUOTED.finditer(line):
            is_step = begin is not None and quoted.start() > begin.start()
            if is_step or _has_arguments(quoted[1]):
                found.append(quoted[1])
    parts = (part for command in found for part in command.split(" && "))
    return list(dict.fromkeys(shlex.join(shlex.split(part, comments=True)) for part in parts))


def commands_in_json(document: Any) -> list[str]:
    """The same of a JSON value: of ``next_step`` and ``next_steps``, at any depth."""
    return list(dict.fromkeys(command for text in _steps(document) for command in commands_in(f"next: {text}")))


def _steps(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "next_step" and isinstance(each, str):
                yield each
            elif name == "next_steps" and isinstance(each, list):
                yield from each
            else:
                yield from _steps(each)
    elif isinstance(value, list):
        for each in value:
            yield from _steps(each)


def _has_arguments(command: str) -> bool:
    return any(not word.isalpha() for word in command.split())


@dataclass
class Shell:
    """Runs commands as they are printed, in a home of their own: nothing else is in the environment.

    ``given``: the options that the person uses, which every step has to carry.
    """

    home: Path
    given: list[str]
    pasted: set[str] = field(default_factory=set)
    """Those that were run."""
    wrong: list[str] = field(default_factory=list)
    """Steps that could not be pasted: each with where it was printed, and how it ended."""
    running: list[Launched] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """That of the commands."""
        return {"HOME": str(self.home), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}

    def run(self, command: str) -> Done:
        """Run a command line of `mirror`. A move is patient: it would judge how fast this machine is just now."""
        words = shlex.split(command)
        assert words[0] == "mirror", command
        program = "patient command" if words[1] == "cutover" else "command"
        return Done(*launcher.run(program, words[1:], self.environment(), self.home, LIMIT))

    def typed(self, what: str, *more: object) -> Done:
        """Run a command that the person types, with the options given."""
        return self.run(shlex.join(["mirror", *what.split(), *map(str, more), *self.given]))

    def up(self, command: str) -> Launched:
        """Start a `mirror up` as it is printed, and wait, by the same words, until it has everything."""
        words = shlex.split(command)
        assert words[:2] == ["mirror", "up"], command
        self.pasted.add(command)
        process = launcher.start("command", words[1:], self.environment(), self.home)
        self.running.append(process)
        done = self.run(shlex.join(["mirror", "wait", *words[2:], "--timeout", str(LIMIT / 2)]))
        assert done.code == 0, (command, done)
        return process

    def close(self) -> None:
        """End what runs."""
        for process in self.running:
            if process.poll() is None:
                stop(process)

    def steps(self, done: Done) -> list[str]:
        """The steps that an output names; each carries the options given."""
        found = commands_in(f"{done.out}\n{done.err}")
        if done.out.startswith("{"):
            found = list(dict.fromkeys([*commands_in_json(json.loads(done.out)), *commands_in(done.err)]))
        for command in found:
            words = shlex.split(command)
            if lacking := [word for word in self.given if word not in words]:
                where = next(line for line in f"{done.out}\n{done.err}".splitlines() if command.split()[-1] in line)
                self.wrong.append(f"{command}: without {shlex.join(lacking)}: {where}")
        return found

    def paste(self, command: str) -> Done:
        """Run a step; what does not work is noted."""
        self.pasted.add(command)
        done = self.run(command)
        # What others have written in Postgres is replaced by no command that does not say so: it is asked first.
        asked = any("--replace-rows" in step for step in commands_in(done.err))
        if (done.code not in GOOD and not asked) or "Usage:" in done.err:
            self.wrong.append(f"{command}: exit code {done.code}: {done.err.strip() or done.out.strip()}")
        return done

    def is_given(self, command: str) -> bool:
        """Whether a step can be pasted as to its options: else it was noted already, and is not run."""
        return all(word in shlex.split(command) for word in self.given)
