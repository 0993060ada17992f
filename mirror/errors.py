"""The one tree of errors.

MirrorError
├── SourceError        the SQLite file: missing, not a database, wrong mode, locked, encrypted
│   ├── FormatError    bytes that are not what SQLite writes, with their place
│   └── ReplacedError  another file was put at the source's path (answered by a re-diff)
├── StateError         the state directory: locked by another mirror, damaged, full
├── SinkError          Postgres: unreachable, refusing, out of space
│   ├── FencedError    another mirror has taken this source over
│   ├── RefusedError   a row, a table or a change of one that Postgres will not take (answered by going on without it)
│   │   └── NameTakenError  a name in the schema is another's
│   └── RepairError    what a repair has written is not what Postgres then has
├── ControlError       the running mirror: not there, or it answered no
└── ConfigError        argent.json, the environment or the flags

An error says which operation failed, at which place, what to do next, and whether trying the same
again can help. The command line prints it as one line.
"""

from __future__ import annotations


class MirrorError(Exception):
    """Base of all errors of the package.

    ``operation``: what was being done, as a verb phrase. ``place``: file, page, table or server.
    ``detail``: what was found. ``next_step``: what a person can do. ``retryable``: whether the same
    call may succeed later without anybody doing anything.
    """

    retryable = False

    def __init__(
        self,
        operation: str,
        place: str = "",
        detail: str = "",
        *,
        next_step: str = "",
        retryable: bool | None = None,
    ) -> None:
        self.operation = operation
        self.place = place
        self.detail = detail
        self.next_step = next_step
        if retryable is not None:
            self.retryable = retryable
        super().__init__(operation, place, detail)

    def __str__(self) -> str:
        text = self.operation
        if self.place:
            text += f" ({self.place})"
        if self.detail:
            text += f": {self.detail}"
        if self.next_step:
            text += f" -- {self.next_step}"
        return " ".join(text.split())


class SourceError(MirrorError):
    """Something is wrong with the SQLite file or it cannot be mirrored as it is."""


class FormatError(SourceError):
    """Bytes that SQLite does not write; ``place`` names the page, frame or offset."""


class ReplacedError(SourceError):
    """Other files stand at the source's path: connect anew and compare."""

    retryable = True


class StateError(MirrorError):
    """The state directory cannot be used."""


class SinkError(MirrorError):
    """Postgres did not do what it was asked; ``sqlstate`` is its code, if it gave one."""

    def __init__(
        self,
        operation: str,
        place: str = "",
        detail: str = "",
        *,
        sqlstate: str | None = None,
        next_step: str = "",
        retryable: bool | None = None,
    ) -> None:
        super().__init__(operation, place, detail, next_step=next_step, retryable=retryable)
        self.sqlstate = sqlstate


class FencedError(SinkError):
    """Another mirror writes this source to this Postgres."""


class RefusedError(SinkError):
    """Postgres works, but will not take a row, a table, or a change of a table as it is."""


class NameTakenError(RefusedError):
    """A name in the Postgres schema is another's: a schema of its own for the source helps."""


class RepairError(SinkError):
    """A repair that something in Postgres undoes or changes."""


class ControlError(MirrorError):
    """The mirror's control socket could not be used, or the mirror refused."""


class ConfigError(MirrorError):
    """The configuration cannot be used."""
