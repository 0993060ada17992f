"""The protocol of the control socket: requests and answers, one JSON object a line, each way.

=================================================  =============================================================
request                                            answer
=================================================  =============================================================
``{"op": "status"}``                               ``{"answer": "status", "status": {...}}``
``{"op": "history"}``                              ``{"answer": "history", "seconds": [[second, worst lag,
                                                   transactions], ...]}``
``{"op": "load"}``                                 ``{"answer": "load", "load": {...}}``: what programs have written in
                                                   the last minutes
``{"op": "mark", "timeout"}``                      ``{"answer": "marked", "lsn": "g:f" or null}``: all that is
                                                   committed now; null: not known in time
``{"op": "applied", "lsn", "timeout"}``            ``{"answer": "applied", "applied": bool}``
``{"op": "hold"}``                                 ``{"answer": "held", "hold": token}``; ends with ``release`` or
                                                   the connection
``{"op": "reach", "hold", "salts", "frame"}``      ``{"answer": "reached", "lsn": "g:f"}``: Postgres is exactly there
``{"op": "release", "hold"}``                      ``{"answer": "done"}``
``{"op": "retry", "timeout"}``                     ``{"answer": "done"}``: rejects and refused tables were tried again;
                                                   ``"replace": true``: also where others have written
``{"op": "repair", "tables", "timeout"}``          ``{"answer": "repaired", "outcome": {table: text}}``: these were
                                                   made equal again; ``"replace"``: as above
``{"op": "begin_move"}``                           ``{"answer": "done"}``: programs on this host write nothing to the
                                                   file now; ends with ``end_move`` or the connection
``{"op": "end_move"}``                             ``{"answer": "done"}``: the mirror sees in Postgres if they moved
``{"op": "agree", "since", "timeout"}``            ``{"answer": "agreed", "agreement": {...}}``: of a source that was
                                                   moved: all rows of the file were compared; strays that were seen
                                                   after the time ``since`` of Postgres are not known. With
                                                   ``"touched": true`` only if another connection has written to the
                                                   file since it was last compared; with a snapshot of Postgres as
                                                   ``after`` only what was written there since, if none has
``{"op": "pause"}``, ``{"op": "resume"}``          ``{"answer": "done"}``: the source is mirrored no more until it
                                                   is resumed; or it is resumed
``{"op": "remove"}``                               ``{"answer": "done"}``: it is none of the process's sources; what is
                                                   under way in Postgres, if that takes long, ends after that
``{"op": "end"}``                                  ``{"answer": "done"}``: the process ends in order, with all sources
``{"op": "add", "path"}``                          ``{"answer": "done"}``: the process mirrors another source, too;
                                                   ``"agent"``, ``"schema"``, ``"profile"``: as in mirror.json
``{"op": "reads", "process", "number",             ``{"answer": "done"}``: reads of a program on storage adapters
"answers", "shadows"}``                            since its last report, by store and reason (``[store, reason,
                                                   count]``), and shadow reads by result and reason. One that comes
                                                   again, by its number, is counted once
``{"op": "around"}``                               ``{"answer": "around", "around": {...}}``: what is around the mirrors
                                                   of this process, as Redis
``{"op": "hook", "pid", "program"}``               ``{"answer": "done"}``; what follows is in :mod:`mirror.hook.wire`
any of them, and what is not a request              ``{"answer": "refused", "error": {...}}``: as
                                                   :meth:`mirror.core.errors.MirrorError.to_dict` gives it
=================================================  =============================================================

``timeout``: seconds that the mirror may take. Unknown fields are ignored.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

import msgspec

from mirror.core.agreement import Agreement
from mirror.core.errors import RequestError
from mirror.core.recorded_load import RecordedLoad
from mirror.core.status import AroundReport, StatusReport, encode

#: Bytes of a line with a request, and of one with an answer (a status lists every gap and refused table).
MOST_REQUEST_BYTES, MOST_ANSWER_BYTES = 1 << 20, 64 << 20

#: The longest ``timeout``.
MOST_SECONDS = 7 * 86_400.0

Seconds = Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)]
#: (``$`` would accept a line break at the end, too.)
Position = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,18}:[0-9]{1,18}\Z")]
Token = Annotated[str, msgspec.Meta(max_length=64)]
_Word = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
#: A word of a few that programs and the mirror know, as ``not_followed``; and how often it was so.
_Why = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{0,32}\Z")]
_Times = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class Request(msgspec.Struct, frozen=True, tag_field="op"):
    """Base of the requests."""


class Status(Request, frozen=True, tag="status"):
    """What is the mirror of the source doing?"""


class History(Request, frozen=True, tag="history"):
    """What was applied in the last minutes?"""


class Load(Request, frozen=True, tag="load"):
    """What have programs written in the last minutes?"""


class Mark(Request, frozen=True, tag="mark"):
    """Up to where has the source committed now?"""

    timeout: Seconds


class Applied(Request, frozen=True, tag="applied"):
    """Wait until Postgres has everything up to a position."""

    lsn: Position
    timeout: Seconds


class Hold(Request, frozen=True, tag="hold"):
    """Apply nothing until the hold is released."""


class Reach(Request, frozen=True, tag="reach"):
    """Apply up to exactly the commit that ends at a frame of the WAL with these salts."""

    hold: Token
    salts: tuple[_Word, _Word]
    frame: _Word


class Release(Request, frozen=True, tag="release"):
    """End a hold: apply again."""

    hold: Token


class Retry(Request, frozen=True, tag="retry"):
    """Send refused tables and rejected rows again. ``replace``: also where others have written in Postgres."""

    timeout: Seconds
    replace: bool = False


class Repair(Request, frozen=True, tag="repair"):
    """Make tables equal to the source again. ``replace``: also where others have written in Postgres."""

    tables: list[str]
    timeout: Seconds
    replace: bool = False


class BeginMove(Request, frozen=True, tag="begin_move"):
    """Programs are about to be moved: have them write nothing to the file."""


class EndMove(Request, frozen=True, tag="end_move"):
    """The move has ended: the row of the phase says where programs write now."""


class Agree(Request, frozen=True, tag="agree"):
    """Compare the file with what it should have, of a source that was moved to Postgres."""

    since: Annotated[str, msgspec.Meta(max_length=64)]
    timeout: Seconds
    touched: bool = False
    after: str = ""


class Pause(Request, frozen=True, tag="pause"):
    """Mirror the source no more until it is resumed."""


class Resume(Request, frozen=True, tag="resume"):
    """Go on mirroring the source."""


class Remove(Request, frozen=True, tag="remove"):
    """End the mirror of the source, and go on with the others."""


class End(Request, frozen=True, tag="end"):
    """End the process, with all its sources."""


class Add(Request, frozen=True, tag="add"):
    """Mirror another source, too. None: not named."""

    path: str
    agent: str | None = None
    schema: str | None = None
    profile: str | None = None


class Reads(Request, frozen=True, tag="reads"):
    """What a program has read of the source since its last report."""

    process: Token
    """Made up by the program when it began."""
    number: Annotated[int, msgspec.Meta(ge=1)]
    """Of the report: 1, 2, 3, …; one whose answer was lost comes again under its number."""
    answers: Annotated[list[tuple[Literal["postgres", "sqlite"], _Why, _Times]], msgspec.Meta(max_length=64)]
    """The store that has answered, why that one, and how often."""
    shadows: Annotated[list[tuple[_Why, _Why, _Times]], msgspec.Meta(max_length=128)]
    """What became of shadow reads, why, and how often."""


class Around(Request, frozen=True, tag="around"):
    """What is around the mirrors of this process?"""


class Hook(Request, frozen=True, tag="hook"):
    """A program that sends its commits from now on."""

    pid: _Word
    program: str


class Answer(msgspec.Struct, frozen=True, tag_field="answer"):
    """Base of the answers."""


class StatusAnswer(Answer, frozen=True, tag="status"):
    """The status of the mirror of a source."""

    status: StatusReport


class HistoryAnswer(Answer, frozen=True, tag="history"):
    """See :meth:`mirror.sidecar.status.SourceStatus.history`."""

    seconds: list[tuple[int, float, int]]


class LoadAnswer(Answer, frozen=True, tag="load"):
    """See :class:`mirror.sidecar.recent_load.RecentLoad`."""

    load: RecordedLoad


class Marked(Answer, frozen=True, tag="marked"):
    """A position; None: it is not known yet."""

    lsn: Position | None


class WasApplied(Answer, frozen=True, tag="applied"):
    """Whether it was, in time."""

    applied: bool


class Held(Answer, frozen=True, tag="held"):
    """Nothing is applied; requests about the hold need its token."""

    hold: Token


class Reached(Answer, frozen=True, tag="reached"):
    """The position that Postgres shows."""

    lsn: Position


class Repaired(Answer, frozen=True, tag="repaired"):
    """What was done with each table."""

    outcome: dict[str, str]


class Agreed(Answer, frozen=True, tag="agreed"):
    """What came of it."""

    agreement: Agreement


class AroundAnswer(Answer, frozen=True, tag="around"):
    """See :class:`~mirror.core.status.AroundReport`."""

    around: AroundReport


class Done(Answer, frozen=True, tag="done"):
    """It was done."""


class Refused(Answer, frozen=True, tag="refused"):
    """It was not done; why."""

    error: dict[str, Any]


AnyRequest = (
    Status
    | History
    | Load
    | Mark
    | Applied
    | Hold
    | Reach
    | Release
    | Retry
    | Repair
    | BeginMove
    | EndMove
    | Agree
    | Pause
    | Resume
    | Remove
    | End
    | Add
    | Reads
    | Around
    | Hook
)
AnyAnswer = (
    StatusAnswer
    | HistoryAnswer
    | LoadAnswer
    | Marked
    | WasApplied
    | Held
    | Reached
    | Repaired
    | Agreed
    | AroundAnswer
    | Done
    | Refused
)


# To make one takes longer than most questions: a program needs the one, and the mirror the other.
@cache
def _requests() -> msgspec.json.Decoder[AnyRequest]:
    return msgspec.json.Decoder(AnyRequest)


@cache
def _answers() -> msgspec.json.Decoder[AnyAnswer]:
    return msgspec.json.Decoder(AnyAnswer)


def line_of(message: Request | Answer) -> bytes:
    """A message as a line, with its newline. Bytes that are not text (of a file's name) come as ``\\xff``."""
    return encode(message) + b"\n"


def request_in(line: bytes) -> AnyRequest:
    """The request in a line; raises ``RequestError``."""
    try:
        return _requests().decode(line)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, and so is one of UTF-8
        raise RequestError("understand a request", detail=str(error)) from error


def answer_in(line: bytes) -> AnyAnswer:
    """The answer in a line; raises ``ValueError``."""
    try:
        return _answers().decode(line)
    except RecursionError as error:
        raise ValueError(str(error)) from error
