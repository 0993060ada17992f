"""The ``mirror`` command."""

from __future__ import annotations

import os
import sys
import traceback

import click

from mirror import __version__
from mirror.cli.check import parity, status, wait
from mirror.cli.cutover import cutover
from mirror.cli.demo import demo
from mirror.cli.doctor import doctor
from mirror.cli.options import log_to
from mirror.cli.rejects import rejects
from mirror.cli.up import up
from mirror.errors import MirrorError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mirror")
def cli() -> None:
    """Keep a Postgres database equal to a live SQLite file, without touching the program that writes it."""


for _command in (doctor, up, wait, status, parity, rejects, cutover, demo):
    cli.add_command(_command)


def main() -> None:
    """Run the command line: an error is one line on stderr and exit code 2."""
    log_to(sys.stderr)
    try:
        cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read has gone. 1 would mean a difference, and what was found was not told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except Exception as error:
        # Also a bug: 1 would mean that parity has found a difference.
        if "--debug" in sys.argv:
            traceback.print_exc()
        else:
            click.secho(f"mirror: {_told(error)}", fg="red", err=True)
        sys.exit(2)


def _told(error: Exception) -> str:
    if isinstance(error, MirrorError):
        return str(error)
    detail = " ".join(str(error).split())
    return f"unexpected: {type(error).__name__}: {detail} -- run it again with --debug, and report what it shows"
