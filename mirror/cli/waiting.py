"""What `mirror cutover advance --wait` does at the terminal, and the comparisons that it makes."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import click

from mirror.cli.options import schema_of
from mirror.cli.plain import printable
from mirror.cli.running import gate_of
from mirror.core.commands import completed
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient
from mirror.core.errors import ControlError
from mirror.core.folders import source_folder
from mirror.core.locks import ParityLock
from mirror.cutover.waiting import Compared
from mirror.parity.compare import compare
from mirror.postgres.sessions import connect
from mirror.sidecar.parity_runs import derived, record


@dataclass
class Terminal:
    """The operator of a move that waits. Messages go to stderr, because a script may read stdout."""

    source: Path
    dsn: str
    settings: Settings
    command: str
    """The command that has the move go on."""
    _reads: bool = field(init=False, default=False)

    def begin(self) -> None:
        """Say what ends the wait. What was typed before does not count."""
        with contextlib.suppress(OSError, ValueError, termios.error):  # no terminal, or none at all
            self._reads = sys.stdin.isatty()
            if self._reads:
                termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        how = "press Enter, or " if self._reads else ""
        self.tell(f"waiting: to switch, {how}run `{self.command}`; Ctrl-C ends it without switching")

    def says_go(self) -> bool:
        """Whether Enter was pressed."""
        if not self._reads:
            return False
        try:
            number = sys.stdin.fileno()
            # Of a command in the background the terminal is somebody else's, and reading would stop it.
            if os.tcgetpgrp(number) != os.getpgrp() or not select.select([number], [], [], 0)[0]:
                return False
            typed = os.read(number, 1024)
        except OSError:
            typed = b""
        self._reads = bool(typed)  # else the terminal is gone
        return b"\n" in typed

    def tell(self, text: str) -> None:
        """Print a line."""
        click.echo(f"{self.source.name}: {printable(text)}", err=True)

    def compare(self, look: Callable[[], None]) -> Compared:
        """Compare all rows, and record it as `mirror parity` does; with a mirror that runs. Raises ``MirrorError``."""
        try:
            ControlClient(source_folder(self.settings.state_dir, self.source)).close()
            return self._compare(look)
        except ControlError as error:
            said = completed(str(error), str(self.source), self.settings.options)
            return Compared("not checked", said)

    def _compare(self, look: Callable[[], None]) -> Compared:
        settings, schema = self.settings, schema_of(self.settings, self.source)
        folder = source_folder(settings.state_dir, self.source)
        with (
            connect(self.dsn, autocommit=False) as connection,
            # None of its own: this command waits for hours, and would keep another mirror from starting.
            gate_of(
                self.source, self.dsn, settings.state_dir, schema, settings.options, settings.rules, start=False
            ) as gate,
            closing(ParityLock(folder)) as lock,
        ):
            lock.take(wait=True)
            report = compare(
                self.source,
                connection,
                schema,
                gate,
                progress=lambda table, rows: look(),
                derived=derived(connection, self.source, schema),
            )
            if not report.reason:
                record(connection, self.source, schema, report, folder, whole=True)
        return Compared(report.agreement, report.reason or report.headline)
