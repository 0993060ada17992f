"""The ``mirror`` command."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from importlib import import_module

import click

from mirror.cli.groups import ASKED, Commands, known_commands
from mirror.core.dsn import hide_password
from mirror.core.errors import ConfigError, MirrorError, NotReadyError, NotRunningError
from mirror.core.state_errors import file_error
from mirror.core.versions import STATE_FORMAT, package_version

#: Each command, and the module of this package that defines it.
COMMANDS = {
    "doctor": "doctor",
    "adopt": "adopt",
    "up": "up",
    "add": "fleet",
    "remove": "remove",
    "rename": "rename",
    "down": "down",
    "pause": "fleet",
    "resume": "fleet",
    "wait": "wait",
    "status": "status",
    "top": "top",
    "parity": "parity",
    "rejects": "rejects",
    "differences": "differences",
    "overwritten": "overwritten",
    "dropped": "dropped",
    "psql": "psql",
    "cutover": "moves",
    "service": "service.command",
    "mcp": "mcp",
    "config": "config",
    "completion": "completion",
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

\b
Environment variables:
  ARGENT_PG_URL, PG_URL  Postgres, as --postgres; a password is safer there
  MIRROR_STATE_DIR       where the mirror keeps its own files, as --state-dir
  MIRROR_CONFIG          the mirror.json to read, as --config
  NO_COLOR               if it is not empty: no colours

Settings come from flags, environment variables, mirror.json and, for who runs ArgentOS, its argent.json, in this order.
`mirror config show` prints each one and where it comes from; the help of a command has the defaults.

Learn more: `mirror COMMAND --help`; README.md of the project for an introduction; `mirror demo` to see all of it work;
`mirror completion --help` to have your shell complete commands.
"""


class _Commands(Commands):
    """Loads only the command that is run: `mirror wait` need not load what `mirror up` needs, and the help none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"mirror.cli.{COMMANDS[cmd_name]}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, none of which is loaded."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, known_commands()[name]["summary"]) for name in COMMANDS])


def _say_version(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        from mirror.postgres.migrate import schema_version  # takes longer to load than other commands to run

        click.echo(f"mirror {package_version()} (schema {schema_version()}, state format {STATE_FORMAT})")
        context.exit()


@click.group(
    cls=_Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_say_version, help="Show the version."
)
def cli() -> None:
    """Keep a Postgres database equal to a live SQLite file, without changing the program that writes it.

    The file may be of any program. That of an agent of ArgentOS, its memory store (MemuStore), is recognised, and gets
    typed columns, search, and row security by agent.
    """


def main() -> None:
    """Run the command line: an error is one line on stderr, and with ``--json`` an object on stdout.

    Its exit code is 2, or 3 where no mirror of the source runs here.
    """
    if ASKED in os.environ:
        from mirror.cli.completing import complete

        sys.exit(complete(os.environ[ASKED]))
    _hide_arguments()
    try:
        if sys.argv[1:2] and sys.argv[1] in COMMANDS:
            _run()
        else:  # help: nothing else is loaded
            cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has ended. Not 1: that would mean a difference, and it was not reported.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        from mirror.cli.logs import complain

        context = getattr(error, "ctx", None)
        detail = " ".join(error.format_message().split())
        step = f"`{'mirror' if context is None else context.command_path} --help` shows what there is"
        complain(f"{detail.removesuffix('.')} -- {step}")
        _print_json(ConfigError("read the command line", detail=detail, next_step=step))
        sys.exit(2)
    except Exception as error:
        from mirror.cli.logs import complain, traceback_of

        # A bug, too, is 2: 1 would mean that parity has found a difference.
        shown = error if isinstance(error, MirrorError) else _unexpected(error)
        if "--debug" in sys.argv:
            click.echo("\n".join(traceback_of(error)), err=True)
        else:
            complain(str(shown), shown)
        _print_json(shown)
        sys.exit(3 if isinstance(shown, NotRunningError) else 1 if isinstance(shown, NotReadyError) else 2)


def _run() -> None:
    """Run the command that the arguments name, with its log."""
    from mirror.cli.logs import colour_of, end_log, start_log, take_over

    start_log()
    take_over()
    early = None
    if sys.argv[1] == "up" and not {"--help", "-h"} & {*sys.argv}:
        from mirror.cli.early import early_mark

        early = early_mark(sys.argv[2:])
    try:
        with early or nullcontext():
            cli.main(standalone_mode=False, color=None if colour_of(sys.stdout) else False, obj=early)
    finally:
        end_log()


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
        from mirror.cli.options import GIVEN_POSTGRES

        os.execve(sys.executable, [sys.orig_argv[0], *words], {**os.environ, GIVEN_POSTGRES: given})  # noqa: S606


def _unexpected(error: Exception) -> MirrorError:
    if isinstance(error, OSError) and (known := file_error(error)) is not None:
        return known
    return MirrorError(
        "unexpected",
        detail=f"{type(error).__name__}: {error}",
        next_step="run it again with --debug, and report what it shows",
    )


def _print_json(error: MirrorError) -> None:
    """Print the error that ends a command with ``--json``, which then prints nothing else on stdout."""
    if "--json" in sys.argv:
        click.echo(json.dumps({"version": 1, "error": error.to_dict()}, indent=2))
