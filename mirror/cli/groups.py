"""Groups of commands: their lists, what was meant by a name that is none, and what is known of commands unloaded.

Loading a command takes longer than most of what is asked about it. ``commands.json`` beside this module has what the
list of commands, completion and suggestions need, and a test compares it with the commands:

===========  =========================================================================================================
member       of a command
===========  =========================================================================================================
summary      the line in the list of commands
commands     of a group: its commands, by name
options      their names, each with what its value is: ``flag`` (it has none), ``text``, ``file``, ``folder``, or a
             list of all values
repeated     those of them that may be given again
takes        what its arguments are: ``source``, a list of all values, or ``text``; left out: it has none
===========  =========================================================================================================
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click

#: The variable in which the script of a shell asks what completes a word (:mod:`mirror.cli.completing`).
ASKED = "_MIRROR_COMPLETE"
#: What people call things elsewhere, and the commands that do them, the best first; each is said where it is there.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "analyse": ("doctor",),
    "analyze": ("doctor",),
    "back": ("rollback", "cutover rollback"),
    "check": ("parity", "doctor"),
    "compare": ("parity",),
    "connect": ("psql",),
    "continue": ("go", "resume"),
    "delete": ("remove", "forget", "uninstall"),
    "diff": ("parity",),
    "disable": ("uninstall", "pause"),
    "enable": ("install", "up"),
    "forget": ("remove",),
    "get": ("show", "list"),
    "help": ("--help",),
    "init": ("doctor", "up"),
    "inspect": ("doctor", "status"),
    "kill": ("down",),
    "list": ("status", "show"),
    "log": ("logs", "service logs"),
    "logs": ("service logs",),
    "ls": ("list", "status", "show"),
    "migrate": ("cutover advance", "advance"),
    "monitor": ("top",),
    "move": ("rename", "cutover advance"),
    "mv": ("rename", "cutover advance"),
    "next": ("advance",),
    "ps": ("status",),
    "quit": ("down",),
    "repair": ("parity", "parity --repair"),
    "replicate": ("up",),
    "revert": ("rollback", "cutover rollback"),
    "rm": ("remove", "forget", "uninstall"),
    "run": ("up", "advance"),
    "settings": ("config",),
    "show": ("status", "list"),
    "shutdown": ("down",),
    "sql": ("psql",),
    "start": ("up", "install", "advance"),
    "stop": ("down", "uninstall", "rollback"),
    "switch": ("advance", "cutover advance"),
    "sync": ("up",),
    "undo": ("rollback", "cutover rollback"),
    "validate": ("parity", "doctor"),
    "verify": ("parity",),
    "version": ("--version",),
    "watch": ("top", "status"),
}
#: Suggestions at most.
_MOST = 3


@cache
def known_commands() -> Mapping[str, Any]:
    """What ``commands.json`` says of each command, by name."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("commands.json").read_text())
    return found


class Commands(click.Group):
    """A group that says which command may have been meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As always; without any words the help is what is wanted, and nothing was done."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            sys.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names. Raises ``UsageError`` with what may have been meant."""
        name = args[0]
        if ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        meant = self.meant(ctx, name)
        hint = f" Did you mean {' or '.join(map(repr, meant))}?" if meant else ""
        raise click.UsageError(f"No such command {name!r}.{hint}", ctx)

    def meant(self, ctx: click.Context, name: str) -> list[str]:
        """The commands that may have been meant by a name that is none: words after those that name this group."""
        here = self.list_commands(ctx)
        below = list(_below(self, ctx))
        word = name.lower()
        if word in here:  # but for its capitals
            return [word]
        if found := [each for each in SYNONYMS.get(word, ()) if self._exists(ctx, each, below)]:
            return found[:_MOST]
        if found := [path for path in below if path.rpartition(" ")[2] == word]:
            return found[:_MOST]
        found = [each for each in here if len(word) > 1 and each.startswith(word)]
        from difflib import get_close_matches

        found += [each for each in get_close_matches(word, here) if each not in found]
        return found[:_MOST]

    def _exists(self, ctx: click.Context, words: str, below: list[str]) -> bool:
        if words.startswith("--"):
            return any(words in parameter.opts for parameter in self.get_params(ctx))
        command = words.partition(" --")[0]
        return command in self.list_commands(ctx) or command in below

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As always, and where to read on."""
        super().format_epilog(ctx, formatter)
        if ctx.parent is not None:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(f"Learn more: `{ctx.command_path} COMMAND --help`, and `mirror --help`.")


def _below(group: click.Group, ctx: click.Context) -> Iterator[str]:
    """The commands of the groups in a group, as far as they are known."""
    known: Mapping[str, Any] = known_commands() if ctx.parent is None else {}
    for name in group.list_commands(ctx):
        for below in known.get(name, {}).get("commands", {}):
            yield f"{name} {below}"
