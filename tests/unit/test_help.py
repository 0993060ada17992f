"""The help of every command: an example that parses, exit codes, short summaries, options that say what they are."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from mirror.cli.groups import known_commands
from mirror.cli.main import cli
from tests.support.known_commands import described

#: Columns of a summary in a list of commands, so that a terminal of 80 columns shows all of it.
MOST_SUMMARY = 45


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands below a group, groups too, each with the words that name it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))


COMMANDS = dict(every_command(cli))
ALL = {(): cli, **COMMANDS}


def help_of(words: tuple[str, ...], columns: int = 80) -> str:
    done = CliRunner().invoke(cli, [*words, "--help"], prog_name="mirror", terminal_width=columns)
    assert done.exit_code == 0, done.output
    return done.output


def examples(words: tuple[str, ...]) -> list[list[str]]:
    """The words of each command line after ``Example:``, comments left out, and what a shell does with its output."""
    found = re.search(r"^  Example:\n((?:    \S.*\n)+)", help_of(words), re.MULTILINE)
    assert found is not None, help_of(words)
    lines = [re.sub(r'^ *eval "\$\((.*)\)"|\|.*', r"\1", line) for line in found[1].splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def parsed(line: list[str]) -> tuple[str, ...]:
    """The command that a line names, once its arguments are parsed. Raises ``click.UsageError``."""
    program, *rest = line
    assert program == "mirror"
    command: click.Command = cli
    named: tuple[str, ...] = ()
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, line
        command, named, rest = found, (*named, rest[0]), rest[1:]
    command.make_context(" ".join(named), rest)
    return named


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_examples_that_parse(words: tuple[str, ...]) -> None:
    lines = examples(words)
    assert lines
    for line in lines:
        assert parsed(line)[: len(words)] == words, line


def test_an_example_that_does_not_parse_is_noticed() -> None:
    for line in ("mirror up memory.db --no-such-option", "mirror wait --timeout soon"):
        with pytest.raises(click.UsageError):
            parsed(shlex.split(line))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_a_summary_that_is_shown_whole(words: tuple[str, ...]) -> None:
    summary = COMMANDS[words].short_help
    assert summary and len(summary) <= MOST_SUMMARY, summary
    assert re.search(rf"^  {words[-1]} +{re.escape(summary)}$", help_of(words[:-1]), re.MULTILINE)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_option_says_what_it_is(words: tuple[str, ...]) -> None:
    for parameter in ALL[words].params:
        if isinstance(parameter, click.Option):
            assert parameter.help and not parameter.hidden, parameter.opts
            # The value is called what it is, and not by its type in the program.
            assert parameter.is_flag or parameter.metavar or isinstance(parameter.type, click.Choice), parameter.opts


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_the_help_fits_into_80_columns(words: tuple[str, ...]) -> None:
    too_long = [line for line in help_of(words).splitlines() if len(line) > 80]
    assert not too_long


@pytest.mark.parametrize("words", [words for words in ALL if not (words and isinstance(ALL[words], click.Group))])
def test_the_exit_codes_are_stated(words: tuple[str, ...]) -> None:
    found = re.search(r"^  Exit codes.*:\n((?:    .*\n)+)", help_of(words), re.MULTILINE)
    assert found is not None
    codes = [int(line.split()[0]) for line in found[1].splitlines()]
    assert codes[0] == 0 and 2 in codes and codes == sorted(codes)


#: The environment variables of options, and what a default that is not a constant must be said in.
VARIABLES = {
    "--postgres": ("ARGENT_PG_URL", "PG_URL"),
    "--state-dir": ("MIRROR_STATE_DIR",),
    "--config": ("MIRROR_CONFIG", "ARGENT_STATE_DIR"),
}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_options_name_their_variables_and_defaults(words: tuple[str, ...]) -> None:
    for parameter in ALL[words].params:
        if isinstance(parameter, click.Option) and (named := VARIABLES.get(parameter.opts[0])):
            assert parameter.help is not None
            assert "default: " in parameter.help
            for name in named:
                assert name in parameter.help, parameter.opts


def test_the_help_of_all_names_the_variables() -> None:
    for name in (*VARIABLES["--postgres"], "MIRROR_STATE_DIR", "MIRROR_CONFIG"):
        assert name in help_of(())


@pytest.mark.parametrize("words", [words for words in COMMANDS if isinstance(COMMANDS[words], click.Group)])
def test_a_group_says_where_to_read_on(words: tuple[str, ...]) -> None:
    assert f"Learn more: `mirror {' '.join(words)} COMMAND --help`" in " ".join(help_of(words).split())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_the_help_names_no_command_that_is_not_there(words: tuple[str, ...]) -> None:
    for line in re.findall(r"`mirror ([a-z ]+)[^`]*`", " ".join(help_of(words).split())):
        assert any(line.startswith(" ".join(known)) for known in COMMANDS), line


def test_the_help_of_all_says_where_to_read_on() -> None:
    shown = help_of(())
    assert "mirror config show" in shown and "mirror COMMAND --help" in shown


def test_what_is_known_of_commands_unloaded_is_so() -> None:
    """To make the file again: ``python -m tests.support.known_commands``."""
    assert known_commands() == described(cli)


@pytest.mark.parametrize("argument", ["--help", "-h", "upp"])
def test_no_command_is_loaded_to_list_them_all(argument: str) -> None:
    """That would take a second."""
    code = (
        f"import sys; sys.argv[1:] = [{argument!r}]\n"
        "from mirror.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not loaded & {"apsw", "numpy", "psycopg", "mirror.cli.up", "mirror.cli.options", "mirror.sidecar"}


def test_without_a_command_nothing_is_done() -> None:
    for words in ((), ("cutover",)):
        done = CliRunner().invoke(cli, words, prog_name="mirror")
        assert done.exit_code == 2 and done.stderr == help_of(words), done.output
