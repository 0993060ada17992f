"""The ``mirror`` command."""

from __future__ import annotations

import io
import json
import os
import sys
from importlib import import_module

import click

from mirror.cli.logs import colour_of, complain, end_log, start_log, take_over, traceback_of
from mirror.cli.options import GIVEN_POSTGRES
from mirror.core.dsn import hide_password
from mirror.core.errors import ConfigError, MirrorError, NotRunningError
from mirror.core.redaction import redacted

#: Each command, and the module of this package that defines it.
COMMANDS = {
    "doctor": "doctor",
    "up": "up",
    "add": "fleet",
    "remove": "fleet",
    "pause": "fleet",
    "resume": "fleet",
    "wait": "wait",
    "status": "status",
    "top": "top",
    "parity": "parity",
    "rejects": "rejects",
    "differences": "differences",
    "overwritten": "overwritten",
    "cutover": "moves",
    "service": "service.command",
    "mcp": "mcp",
    "config": "config",
    "demo": "demo.command",
}

_EPILOG = """\b
Example:
  mirror doctor memory.db  # what would be copied, and how
  mirror up memory.db      # copy it, and follow every commit
  mirror status            # in another terminal: what the mirror does

\b
Exit codes of all commands (COMMAND --help has the details):
  0    done, and as it should be
  1    done, and the answer is no: different, not ready, late, a problem
  2    not done: one line on stderr says what, where, why, and what to do next
  3    no mirror of this source runs here: the line says how to start it
  4    parity: equal, but for rows that Postgres cannot hold
  130  interrupted by Ctrl-C (`mirror up` stops cleanly instead, with 0)

Settings come from flags, environment variables, mirror.json and argent.json, in this order. `mirror config show`
prints each one and where it comes from; the help of a command names its variables and defaults.

Read on: `mirror COMMAND --help`; README.md of the project for an introduction; `mirror demo` to see all of it work.
"""


class _Commands(click.Group):
    """Loads only the command that is run: `mirror wait` need not load what `mirror up` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"mirror.cli.{COMMANDS[cmd_name]}"), cmd_name)
        return command


@click.group(
    cls=_Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="mirror", prog_name="mirror")
def cli() -> None:
    """Keep a Postgres database equal to a live SQLite file, without changing the program that writes it."""


def main() -> None:
    """Run the command line: an error is one line on stderr, and with ``--json`` an object on stdout.

    Its exit code is 2, or 3 where no mirror of the source runs here.
    """
    _hide_arguments()
    start_log()
    take_over()
    try:
        try:
            cli.main(standalone_mode=False, color=None if colour_of(sys.stdout) else False)
        finally:
            end_log()
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has ended. Not 1: that would mean a difference, and it was not reported.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        click.echo(redacted(said.getvalue()), err=True, nl=False)
        _print_json(ConfigError("read the command line", detail=error.format_message()))
        sys.exit(2)
    except Exception as error:
        # A bug, too, is 2: 1 would mean that parity has found a difference.
        shown = error if isinstance(error, MirrorError) else _unexpected(error)
        if "--debug" in sys.argv:
            click.echo("\n".join(traceback_of(error)), err=True)
        else:
            complain(str(shown), shown)
        _print_json(shown)
        sys.exit(3 if isinstance(shown, NotRunningError) else 2)


def _hide_arguments() -> None:
    """Begin anew if ``--postgres`` has a password: other users can read a command line as long as the program runs.

    What was given is in the environment then, which they cannot read, for :func:`~mirror.cli.options.common`.
    """
    words, given = sys.orig_argv[1:], None
    for at, word in enumerate(words):
        flag, joined, value = word.partition("=")
        if flag == "--postgres" and joined:
            words[at], given = f"{flag}={hide_password(value)}", value
        elif at and words[at - 1] == "--postgres":
            words[at], given = hide_password(word), word
    if given is not None and words != sys.orig_argv[1:]:
        os.execve(sys.executable, [sys.orig_argv[0], *words], {**os.environ, GIVEN_POSTGRES: given})  # noqa: S606


def _unexpected(error: Exception) -> MirrorError:
    return MirrorError(
        "unexpected",
        detail=f"{type(error).__name__}: {error}",
        next_step="run it again with --debug, and report what it shows",
    )


def _print_json(error: MirrorError) -> None:
    """Print the error that ends a command with ``--json``, which then prints nothing else on stdout."""
    if "--json" in sys.argv:
        click.echo(json.dumps({"version": 1, "error": error.to_dict()}, indent=2))
