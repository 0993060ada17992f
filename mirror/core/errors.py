"""The one tree of errors. Each class has a code that stays the same from version to version: programs decide by it.

MirrorError            ``mirror``                anything else, also a bug
├── SourceError        ``source``                the SQLite file: missing, not a database, wrong mode, locked, encrypted
│   ├── FormatError    ``source.format``         bytes that are not what SQLite writes, with their place
│   │   └── DamagedError ``source.format.damaged``  a table that has damaged pages, and rows that can be read
│   └── ReplacedError  ``source.replaced``       another file was put at the source's path (handled by a re-diff)
│       ├── PrivateIndexError ``source.replaced.private_index``  a program writes with a WAL index of its own
│       └── OldLogError ``source.replaced.old_log``  beside it is the log of the file before
├── StateError         ``state``                 the state directory: locked by another mirror, damaged, full
│   └── NewerStateError ``state.newer``          a newer mirror made its files
├── SinkError          ``postgres``              Postgres: unreachable, refusing, out of space
│   ├── BusyError      ``postgres.busy``         all connections that a program may use are in use
│   ├── FencedError    ``postgres.fenced``       another mirror has taken this source over
│   ├── RefusedError   ``postgres.refused``      a row, a table or a change of one that Postgres will not take
│   │   │                                        (handled by going on without it)
│   │   ├── NameTakenError ``postgres.refused.name_taken``  a name in the schema belongs to another
│   │   └── OthersWroteError ``postgres.refused.others_wrote``  rows that others wrote would be replaced unasked
│   ├── RepairError    ``postgres.repair``       Postgres does not have what a repair has written
│   ├── UnknownSourceError ``postgres.unknown_source``  nothing is known of the source in this Postgres
│   ├── SealedError    ``postgres.sealed``       the source was moved to Postgres: no mirror writes there any more
│   ├── WayBackLostError ``postgres.way_back_lost``  what is written in Postgres cannot be carried into the file
│   └── NewerSchemaError ``postgres.newer_schema``  a newer mirror made the mirror's own tables there
├── ControlError       ``control``               the running mirror: it cannot be reached, does not answer, or is busy
│   ├── NotRunningError ``control.not_running``  nothing listens: no mirror of the source is running
│   ├── PausedError    ``control.paused``        somebody has paused the source: nothing is mirrored until it is resumed
│   └── RequestError   ``control.request``       what was sent to it is not a request
├── HotStateError      ``hot``                   Redis: refusing, or not set up as it has to be
│   ├── HotAwayError   ``hot.away``              Redis cannot be reached, or does not answer; nothing was done
│   ├── HotUnsureError ``hot.unsure``            the answer was lost: it may have been done, or not
│   ├── HotFullError   ``hot.full``              Redis has no memory left for it
│   ├── TooOldError    ``hot.too_old``           entries of the change feed that a follower has not seen are gone
│   ├── LockTakenError ``hot.lock_taken``        another has the lock
│   ├── LockLostError  ``hot.lock_lost``         a lock that was held is not held any more
│   └── LateWriteError ``hot.late_write``        a later holder of a lock has written in Postgres
├── StorageError       ``storage``               what a program asked of its storage adapter
│   ├── ConstraintError ``storage.constraint``   a row that breaks a constraint of its table
│   ├── UnsupportedError ``storage.unsupported`` a method that the store in use does not have
│   ├── MovedBackError ``storage.moved_back``    programs were moved back to the file
│   └── TokenError     ``storage.token``         a session's token that says nothing about what Postgres has
├── NotReadyError      ``cutover.not_ready``     a guard rail of a move does not hold: the answer is no
└── ConfigError        ``config``                mirror.json, argent.json, the environment or the flags

An error says which operation failed, at which place, what to do next, and whether a retry can
help. The command line prints it as one line, and with ``--json`` as an object, too.
:meth:`MirrorError.to_dict` and :meth:`MirrorError.from_dict` carry it over a socket. Its text and its JSON values show
no secret (:mod:`mirror.core.redaction`); its attributes are as they were given.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mirror.core.redaction import redacted
from mirror.core.words import one_line

#: How :func:`recover` begins.
RECOVER = "`sqlite3 "
#: The end of a next step after which a mirror that runs goes on.
GOES_ON = "; the mirror then goes on by itself"


def recover(source: Path) -> str:
    """What to do about this file, which is damaged.

    (Debian 12's shell makes an empty database of ``.recover``, without an error.)
    """
    file, new = shlex.quote(str(source)), shlex.quote(f"{source}.new")
    return (
        f"{RECOVER}{file} 'PRAGMA integrity_check'` says what is damaged,"
        f" `sqlite3 {file} .recover | sqlite3 {new}` makes a new file: look whether it has the tables;"
        " then stop programs and mirror, delete"
        f" {source.name}-wal and {source.name}-shm, and put it in the place of {source.name}"
    )


def put_again(name: str) -> str:
    """The next step where the file ``name`` was put beside the log of the one before."""
    return f"close all programs that have it open, delete {name}-wal and {name}-shm, and put the file there again"


class MirrorError(Exception):
    """Base of all errors of the package.

    ``operation``: what was being done, as a verb phrase. ``place``: file, page, table or server.
    ``detail``: what was found. ``next_step``: what a person can do. ``retryable``: whether the same
    call may succeed later without any change.
    """

    code: ClassVar[str] = "mirror"
    """Stable; a subclass's code begins with its parent's and a dot, except directly below this class."""
    more: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes that the class has in addition to those of every error."""

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
        if not self.place_is_said:
            text += f" ({self.place})"
        if self.detail:
            text += f": {one_line(self.detail)}"
        if self.next_step:
            text += f" -- {self.next_step}"
        return " ".join(redacted(text).split())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def place_is_said(self) -> bool:
        """Whether the detail begins with the place, not merely with a longer word, or there is no place to say."""
        return not self.place or re.match(rf"{re.escape(self.place)}(?!\w)", self.detail) is not None

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON values: ``code``, ``operation``, ``place``, ``detail``, ``next_step``,
        ``retryable``, and what its class adds (``sqlstate``: the code that Postgres gave, or None).
        """
        names = ("code", "operation", "place", "detail", "next_step", "retryable", *self.more)
        values = {name: getattr(self, name) for name in names}
        return {name: redacted(value) if isinstance(value, str) else value for name, value in values.items()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> MirrorError:
        """The error that :meth:`to_dict` turned into ``data``, as an instance of its class.

        A code that is not known here, of another version, gives the nearest known class above it. Raises
        ``ValueError`` if ``data`` is not an error.
        """
        code = data.get("code")
        texts = [data.get(name, "") for name in ("operation", "place", "detail", "next_step")]
        retryable = data.get("retryable")
        if not isinstance(code, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"not an error: {data!r:.200}")
        if not isinstance(retryable, bool):
            raise ValueError(f"an error that does not say whether it is retryable: {data!r:.200}")
        classes = {kind.code: kind for kind in _tree(MirrorError) if "code" in kind.__dict__}
        while code not in classes and code:
            code = code.rpartition(".")[0]
        kind = classes.get(code, MirrorError)
        error = kind.__new__(kind)
        operation, place, detail, next_step = texts
        MirrorError.__init__(error, operation, place, detail, next_step=next_step, retryable=retryable)
        for name in kind.more:
            value = data.get(name)
            setattr(error, name, value if isinstance(value, str) else None)
        return error


def _tree(kind: type[MirrorError]) -> Iterator[type[MirrorError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _tree(each)


class SourceError(MirrorError):
    """Something is wrong with the SQLite file or it cannot be mirrored as it is."""

    code = "source"


class FormatError(SourceError):
    """Bytes that SQLite does not write; ``place`` names the page, frame or offset."""

    code = "source.format"


class DamagedError(FormatError):
    """Some pages of a table cannot be read; all rows of the others were given before this was raised."""

    code = "source.format.damaged"


class ReplacedError(SourceError):
    """Another file is at the source's path: connect again and compare."""

    code = "source.replaced"

    @property
    def reason(self) -> str:
        """Why all pages are to be compared when the source is followed again."""
        return self.detail

    retryable = True


class PrivateIndexError(ReplacedError):
    """A program writes the WAL with an index of its own: stay away from the file until nothing is written."""

    code = "source.replaced.private_index"


class OldLogError(ReplacedError):
    """Another file was put beside the log of the one before: stay away from both until one of them has changed."""

    code = "source.replaced.old_log"
    UNSURE: ClassVar[str] = "another file was put beside the log of the one before"
    """The reason of a gap after which a comparison of pages has to show whether the two belong together."""
    SURE: ClassVar[str] = "another file, with another header, was put beside the log of the one before"

    @property
    def reason(self) -> str:
        """As a gap's reason: this is raised only once the headers are known to differ."""
        return self.SURE


class StateError(MirrorError):
    """The state directory cannot be used."""

    code = "state"


class NewerStateError(StateError):
    """A newer mirror made files of the state directory, which this one does not know; it has changed none."""

    code = "state.newer"


class SinkError(MirrorError):
    """Postgres did not do what it was asked; ``sqlstate`` is its code, if it gave one."""

    code = "postgres"
    more: ClassVar[tuple[str, ...]] = ("sqlstate",)
    lost = False
    """Whether the server cannot be reached, or has ended the session: it is not about what was asked of it. It is not
    carried over a socket."""

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


class BusyError(SinkError):
    """All connections that may be used are in use; Postgres itself answers."""

    code = "postgres.busy"
    retryable = True


class FencedError(SinkError):
    """Another mirror writes this source to this Postgres."""

    code = "postgres.fenced"


class RefusedError(SinkError):
    """Postgres works, but will not take a row, a table, or a change of a table as it is."""

    code = "postgres.refused"


class NameTakenError(RefusedError):
    """A name in the Postgres schema belongs to another: give the source a schema of its own."""

    code = "postgres.refused.name_taken"


class OthersWroteError(RefusedError):
    """Others than the mirror have written rows in Postgres, and a copy or a repair would replace them unasked."""

    code = "postgres.refused.others_wrote"


class RepairError(SinkError):
    """Something in Postgres undoes or changes what a repair writes."""

    code = "postgres.repair"


class UnknownSourceError(SinkError):
    """The source is not mirrored into this Postgres, or into another schema of it."""

    code = "postgres.unknown_source"


class SealedError(SinkError):
    """The source was moved to Postgres: what a mirror would write there would undo what programs have written."""

    code = "postgres.sealed"


class WayBackLostError(SinkError):
    """The file does not get what is written in Postgres any more."""

    code = "postgres.way_back_lost"


class NewerSchemaError(SinkError):
    """A newer mirror made the tables in which mirrors keep what they know; this one has changed nothing there."""

    code = "postgres.newer_schema"


class ControlError(MirrorError):
    """The running mirror could not be reached, did not answer, or is busy with something else."""

    code = "control"


class NotReadyError(MirrorError):
    """A guard rail does not hold: a move is not begun."""

    code = "cutover.not_ready"


class NotRunningError(ControlError):
    """Nothing listens at the control socket, or not any more."""

    code = "control.not_running"
    folder: Path | None = None
    """The source's folder in the state directory; None: it is not said. It is not carried over a socket."""


class PausedError(ControlError):
    """The source is paused: nothing is mirrored until it is resumed."""

    code = "control.paused"


class RequestError(ControlError):
    """What came over the control socket is not a request, or too long for one."""

    code = "control.request"


class HotStateError(MirrorError):
    """Redis did not do what it was asked; ``reply`` is the first word of its error, if it gave one: ``NOAUTH``."""

    code = "hot"
    more: ClassVar[tuple[str, ...]] = ("reply",)

    def __init__(
        self,
        operation: str,
        place: str = "",
        detail: str = "",
        *,
        reply: str | None = None,
        next_step: str = "",
        retryable: bool | None = None,
    ) -> None:
        super().__init__(operation, place, detail, next_step=next_step, retryable=retryable)
        self.reply = reply


class HotAwayError(HotStateError):
    """Redis cannot be reached, or does not answer, and what was asked of it can be asked again."""

    code = "hot.away"
    retryable = True


class HotUnsureError(HotStateError):
    """The connection broke between question and answer: it may have been done. Asking again may do it twice."""

    code = "hot.unsure"


class HotFullError(HotStateError):
    """Redis is at its ``maxmemory`` and evicts nothing; nothing was written."""

    code = "hot.full"
    retryable = True


class TooOldError(HotStateError):
    """The change feed does not have everything after a position any more; ``resume``: it does after this one.

    Postgres has everything up to ``resume``, and maybe more: who reads there what it needs can follow from it.
    """

    code = "hot.too_old"
    more: ClassVar[tuple[str, ...]] = ("reply", "resume")

    def __init__(
        self,
        operation: str,
        place: str = "",
        detail: str = "",
        *,
        reply: str | None = None,
        resume: str = "0:0",
        next_step: str = "",
        retryable: bool | None = None,
    ) -> None:
        super().__init__(operation, place, detail, reply=reply, next_step=next_step, retryable=retryable)
        self.resume = resume


class LockTakenError(HotStateError):
    """Another has the lock."""

    code = "hot.lock_taken"
    retryable = True


class LockLostError(HotStateError):
    """The lock is not held any more, or not for certain: another may have it."""

    code = "hot.lock_lost"


class LateWriteError(HotStateError):
    """A later holder of the lock has written in Postgres: this one's write is refused."""

    code = "hot.late_write"


class StorageError(MirrorError):
    """What a program asked of its storage adapter cannot be done as it was asked."""

    code = "storage"


class ConstraintError(StorageError):
    """A row would break a constraint of its table: a name that is taken, a reference to nothing."""

    code = "storage.constraint"


class UnsupportedError(StorageError):
    """The store in use does not have what was asked for; another one does."""

    code = "storage.unsupported"


class MovedBackError(StorageError):
    """A write to Postgres of a program that was moved back to its SQLite file, and does not know it yet."""

    code = "storage.moved_back"
    retryable = True


class TokenError(StorageError):
    """A token is damaged, or of another copy of the source than the one that Postgres has."""

    code = "storage.token"


class ConfigError(MirrorError):
    """The configuration cannot be used."""

    code = "config"


def overwritten(database: Path | str) -> SourceError:
    """The error for a file that was a database and is none now."""
    return SourceError(
        "follow the source",
        str(database),
        "the file is no database any more: it does not begin with the header of one, so it was overwritten or damaged",
        next_step=f"put the file back from a backup; until then Postgres keeps what it has{GOES_ON}",
        retryable=True,
    )
