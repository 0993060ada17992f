"""Commands that are none: which one was meant."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from mirror.cli.groups import SYNONYMS, Commands
from mirror.cli.main import COMMANDS, cli
from tests.support.known_commands import described

KNOWN = described(cli)


def said(*words: str) -> str:
    """What is said of a command that is none."""
    done = CliRunner().invoke(cli, words, prog_name="mirror", standalone_mode=False)
    assert isinstance(done.exception, click.UsageError), done
    return done.exception.format_message()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("upp", "'up'"),
        ("UP", "'up'"),
        ("stauts", "'status'"),
        ("cut", "'cutover'"),
        ("start", "'up'"),
        ("ls", "'status'"),
        ("list", "'status'"),
        ("forget", "'remove'"),
        ("delete", "'remove'"),
        ("logs", "'service logs'"),
        ("verify", "'parity'"),
        ("compare", "'parity'"),
        ("check", "'parity' or 'doctor'"),
        ("help", "'--help'"),
        ("plan", "'cutover plan'"),
        ("retry", "'rejects retry'"),
        ("cutover pla", "'plan'"),
        ("cutover undo", "'rollback'"),
        ("service start", "'install'"),
        ("service log", "'logs'"),
        ("rejects ls", "'list'"),
        ("config get", "'show'"),
    ],
)
def test_what_was_meant(words: str, meant: str) -> None:
    name = words.split()[-1]
    assert said(*words.split()) == f"No such command {name!r}. Did you mean {meant}?"


def test_nothing_is_made_up() -> None:
    assert said("quux") == "No such command 'quux'."
    assert said("cutover", "quux") == "No such command 'quux'."


def test_an_option_is_none() -> None:
    """Said as an option that is not there."""
    assert said("--upp").startswith("No such option '--upp'")


@pytest.mark.parametrize("name", SYNONYMS)
def test_what_is_suggested_is_there(name: str) -> None:
    """Where the name is none itself, and for whichever group it is meant."""
    groups = {"mirror": cli} | {name: cli.get_command(click.Context(cli), name) for name in COMMANDS}
    for words, group in groups.items():
        if not isinstance(group, Commands):
            continue
        context = click.Context(group, parent=None if group is cli else click.Context(cli, info_name="mirror"))
        if group.get_command(context, name) is not None:
            continue
        for meant in group.meant(context, name):
            first, _, rest = meant.partition(" ")
            if first.startswith("--"):
                continue
            known = KNOWN[first] if group is cli else KNOWN[words]["commands"][first]
            for each in rest.split():
                assert each in known["options"] or each in known["commands"], meant
