"""``commands.json`` as the commands have it; run as ``python -m tests.support.known_commands`` it writes the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mirror.cli import groups
from mirror.cli.main import cli

FILE = Path(groups.__file__).with_name("commands.json")
_OF_METAVAR = {"FILE": "file", "DIR": "folder"}


def described(group: click.Group) -> dict[str, Any]:
    """What :mod:`mirror.cli.groups` wants to know of the commands in a group."""
    context = click.Context(group)
    found = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[name] = _described(command)
    return found


def _described(command: click.Command) -> dict[str, Any]:
    options = [each for each in command.params if isinstance(each, click.Option)]
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    made: dict[str, Any] = {
        "summary": command.short_help,
        "options": {_names(each): "flag" if each.is_flag else _values(each) for each in options},
    }
    if repeated := [_names(each) for each in options if each.multiple]:
        made["repeated"] = repeated
    if arguments:
        made["takes"] = "source" if isinstance(arguments[0].type, click.Path) else _values(arguments[0])
    if isinstance(command, click.Group):
        made["commands"] = described(command)
    return made


def _names(option: click.Option) -> str:
    return ", ".join([*option.opts, *option.secondary_opts])


def _values(parameter: click.Parameter) -> str | list[str]:
    if isinstance(parameter.type, click.Choice):
        return list(parameter.type.choices)
    return _OF_METAVAR.get(parameter.metavar or "", "text")


if __name__ == "__main__":
    FILE.write_text(json.dumps(described(cli), indent=1, ensure_ascii=False) + "\n")
