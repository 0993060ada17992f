"""The command line of the scripts."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from application import Application
from moving import Move
from places import postgres
from programs import StopError


def parser(description: str | None, transactions: int = 120) -> argparse.ArgumentParser:
    """A parser with the options that the scripts share; the module's text is its help."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--python",
        dest="tools",
        metavar="PYTHON",
        help="a Python that has the packages; default: a new environment is made",
    )
    made.add_argument(
        "--superuser", action="store_true", help="connect as one: the mirror then needs no table's foreign keys away"
    )
    said = "of each writer (default: %(default)s)"
    made.add_argument("--transactions", type=int, default=transactions, metavar="N", help=said)
    return made


def main(application: Application, options: argparse.Namespace, kind: type[Move] = Move) -> int:
    """Move an application, in the order of ``kind``; the exit code: 1 if anything is not as it should be."""
    application.transactions = options.transactions
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mv", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)  # the server may run as a user of its own
        tools = Path(options.tools).absolute() if options.tools else application.install(folder)
        database = postgres(folder, application.database, application.extensions, superuser=options.superuser)
        with database as dsn:
            move = kind(application, folder, tools, dsn)
            try:
                move.go()
            except StopError as error:
                move.check(False, str(error))
            finally:
                move.close()
    said = f"{move.failed} checks failed" if move.failed else "all is as it should be"
    print(f"{application.name}: {said}, {time.monotonic() - begun:.0f} s")
    return 1 if move.failed else 0
