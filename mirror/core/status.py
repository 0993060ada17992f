"""The status of the mirror of one source: commands, guard rails, programs and monitoring all read this value.

A running mirror sends it over its control socket; a stopped one has saved its last in the state folder. Its JSON
form is described by ``status.schema.json`` beside this module, which a test compares with these types.
:data:`STATUS_VERSION` grows when a field changes its meaning or is removed; a reader ignores fields that it does not
know, so fields may be added.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from mirror.core.errors import WayBackLostError
from mirror.core.positions import Lsn

#: Version of :class:`StatusReport` and of the JSON that ``mirror status --json`` prints.
STATUS_VERSION = 1
#: Minutes over which the worst lag is reported.
LAG_MINUTES = 5


class Phase(StrEnum):
    """What the mirror of a source is doing."""

    STARTING = "starting"
    """It has the source's lock and connects."""
    SNAPSHOT = "snapshot"
    """The whole source is copied and loaded into Postgres."""
    CATCHING_UP = "catching up"
    """Its own copy and Postgres are brought to one position."""
    FOLLOWING = "following"
    """Commits are applied as they come."""
    REDIFF = "re-diff"
    """All pages are compared, because contiguity could not be proved."""
    WAITING = "waiting"
    """It cannot go on, and tries again by itself. ``last_error`` says why."""
    FAILED = "failed"
    """It has ended with an error that a retry does not solve. ``last_error`` says which."""
    REVERSE = "carrying back"
    """The source was moved to Postgres: what programs write there is carried into the file."""
    PAUSED = "paused"
    """Nobody mirrors it until it is resumed (`mirror resume`). A process that runs has its lock."""
    STOPPED = "stopped"
    """No process mirrors the source."""
    SILENT = "not answering"
    """Its process is there and does not answer; the rest of the status is what it saved last."""


class GapReport(msgspec.Struct, frozen=True, kw_only=True):
    """A place where contiguity with what was captured before could not be proved; healed by comparing pages."""

    generation: Annotated[int, Meta(description="generation that was left")]
    reason: str
    at: Annotated[str, Meta(description="when it was found, ISO 8601")]
    healed: Annotated[bool, Meta(description="whether it was healed: then nothing is lost")] = False
    rows: Annotated[
        int | None,
        Meta(description="rows written and deleted in Postgres to heal it; null: not known, or a whole copy"),
    ] = None
    seconds: Annotated[float | None, Meta(description="how long that took; null: not known, or a whole copy")] = None


class RefusalReport(msgspec.Struct, frozen=True, kw_only=True):
    """A table that Postgres does not take as it is."""

    table: str
    reason: str
    next_step: str = ""
    own_schema: Annotated[bool, Meta(description="its name is taken: a schema of its own for the source helps")] = False


class RuleReport(msgspec.Struct, frozen=True, kw_only=True):
    """What to know of a rule in mirror.json, or of a column that is left out without one."""

    rule: Annotated[str, Meta(description="its name there, or the table and column")]
    detail: str
    next_step: str = ""


class KeptReport(msgspec.Struct, frozen=True, kw_only=True):
    """A table that Postgres keeps after SQLite has dropped it, with objects that belong to the one of its name now."""

    table: str
    kept: Annotated[str, Meta(description="the name under which it is kept")]
    objects: Annotated[list[str], Meta(description="views, foreign keys, triggers and grants that are still for it")]


class ProgressReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far a copy or a load is."""

    what: Annotated[str, Meta(description="the table, or what is copied")]
    done: int
    total: Annotated[int | None, Meta(description="null: not known")] = None
    unit: Annotated[str, Meta(description="rows or bytes")] = "rows"
    table: Annotated[int | None, Meta(description="number of the table, from 1; null: it is no table")] = None
    tables: Annotated[int | None, Meta(description="how many tables there are; null: it is no table")] = None


class HookReport(msgspec.Struct, frozen=True, kw_only=True):
    """What programs with hooks send, and how its comparison with the log goes; counts since the mirror started."""

    writers: Annotated[list[str], Meta(description="programs that are connected, with their process ids")] = []
    checked: Annotated[int, Meta(description="commits for which hook and log were compared")] = 0
    unchecked: Annotated[int, Meta(description="commits that only the log has")] = 0
    waiting: Annotated[int, Meta(description="batches that wait for what hooks send about them")] = 0
    applied: Annotated[int, Meta(description="commits applied from hooks alone, of a file without a WAL")] = 0
    lost: Annotated[int, Meta(description="messages that did not fit into a queue")] = 0


class ProofReport(msgspec.Struct, frozen=True, kw_only=True):
    """How good the last comparison is as a proof."""

    proof: Annotated[
        str, Meta(description="verified, verified except rejects, not mirrored, stale, different, not checked or never")
    ] = "never"
    age_seconds: float | None = None
    headline: str | None = None
    repairable: Annotated[bool, Meta(description="whether mirror parity --repair can help where it differs")] = True
    rows: Annotated[int | None, Meta(description="rows of the source that were compared; null: never compared")] = None
    by_itself: Annotated[bool, Meta(description="whether the mirror made it by itself, in the background")] = False


class ReverseReport(msgspec.Struct, frozen=True, kw_only=True):
    """The way back of a source that was moved to Postgres. Counts are since the mirror started."""

    rows: Annotated[int, Meta(description="rows written to the file")] = 0
    rejects: Annotated[int, Meta(description="rows that the file does not take: in mirror.reverse_rejects")] = 0
    applied_at: Annotated[float | None, Meta(description="when the last ones were written")] = None
    strays: Annotated[
        int, Meta(description="rows that programs have written to the file instead: in mirror.strays")
    ] = 0
    until: Annotated[
        float | None, Meta(description="when the way back ends by itself (--reverse-window); null: it does not")
    ] = None
    kept_open: Annotated[str, Meta(description="why it did not end then; empty: that time has not come")] = ""
    ended: Annotated[str, Meta(description="that the move was finalized, and why; empty: there is a way back")] = ""


class ReadCount(msgspec.Struct, frozen=True, kw_only=True):
    """Reads of programs on storage adapters; they say it every few seconds."""

    store: Annotated[str, Meta(description="the one that has answered: postgres or sqlite")]
    reason: Annotated[str, Meta(description="why that one, as fresh, behind or not_followed")]
    count: int


class ShadowCount(msgspec.Struct, frozen=True, kw_only=True):
    """Reads that were to be run on both stores."""

    result: Annotated[str, Meta(description="equal, different, ignored, not_compared or dropped")]
    reason: Annotated[str, Meta(description="why it was ignored or not compared; empty: there is no more to say")] = ""
    count: int


class RedisReport(msgspec.Struct, frozen=True, kw_only=True):
    """The Redis or Valkey that is configured, as the mirror saw it last. null: it does not say, or is away."""

    place: Annotated[str, Meta(description="host, port and database")]
    seen_at: Annotated[float | None, Meta(description="when it was asked last, seconds since the epoch")] = None
    error: Annotated[str | None, Meta(description="why it does not answer, in one line; null: it answers")] = None
    away_since: Annotated[float | None, Meta(description="since when it does not answer")] = None
    ping_seconds: Annotated[float | None, Meta(description="how long the answer to a PING took")] = None
    server: Annotated[str | None, Meta(description="its name and version")] = None
    used_bytes: Annotated[int | None, Meta(description="memory in use")] = None
    max_bytes: Annotated[int | None, Meta(description="most memory that it may use; 0: no limit")] = None
    policy: Annotated[str | None, Meta(description="what it does at that limit: maxmemory_policy")] = None
    append_only: Annotated[bool | None, Meta(description="whether it keeps each write in a file")] = None
    write_error: Annotated[str | None, Meta(description="which file it could not write last")] = None
    clients: Annotated[int | None, Meta(description="connections to it")] = None
    agents: Annotated[int | None, Meta(description="agents that are online there")] = None
    hidden: Annotated[str | None, Meta(description="why it does not say some of this, as missing rights")] = None
    next_step: str = ""


class AlertsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The webhook for alerts."""

    place: Annotated[str, Meta(description="its scheme and host; a path may be a secret")]
    holding: Annotated[int, Meta(description="conditions that hold now")] = 0
    untold: Annotated[int, Meta(description="beginnings and ends that could not be delivered yet")] = 0
    delivered: Annotated[int, Meta(description="messages that were delivered since the mirror started")] = 0
    failed: Annotated[int, Meta(description="attempts that failed since then")] = 0
    error: Annotated[str | None, Meta(description="why the last attempt failed; null: it did not")] = None


class AroundReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is around the mirrors of one process. null: it is not configured."""

    redis: RedisReport | None = None
    alerts: AlertsReport | None = None
    stalled: Annotated[list[str], Meta(description="names of sources whose loop does not turn")] = []


class ToldReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far changes were told to one place. Counts are since the mirror started."""

    position: Annotated[str | None, Meta(description="up to which everything was told; null: nothing yet")] = None
    waiting: Annotated[int, Meta(description="transactions in memory that were not told yet; there may be more")] = 0
    told: int = 0
    gaps: Annotated[int, Meta(description="how often what was committed could not be told any more")] = 0
    error: Annotated[str | None, Meta(description="why nothing can be told now, which is tried again")] = None


class ChangesReport(msgspec.Struct, frozen=True, kw_only=True):
    """The change feed of a source."""

    logged: Annotated[bool, Meta(description="whether transactions are logged in Postgres, too")] = False
    redis: Annotated[ToldReport | None, Meta(description="null: storage.redis is not configured")] = None
    webhook: Annotated[ToldReport | None, Meta(description="null: there is none")] = None


class WideningReport(msgspec.Struct, frozen=True, kw_only=True):
    """A column that is jsonb because of a value that did not fit its type."""

    column: Annotated[str, Meta(description="table.column")]
    since: Annotated[float | None, Meta(description="since when, seconds since the epoch; null: not known")] = None
    was: Annotated[str, Meta(description="its type in Postgres before, or as it is declared; empty: not known")] = ""
    kind: Annotated[str, Meta(description="what the first such value was: a text; empty: it was not seen")] = ""
    value: Annotated[str, Meta(description="that value, of a long one the beginning; never over HTTP")] = ""
    key: Annotated[str, Meta(description="the key of its row, as mirror.rejects has keys; never over HTTP")] = ""


class EventsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What has happened, counted. The log has a line for each.

    Over restarts, what a mirror did right before it was killed may not be counted, but for rows that are rejected and
    columns that were widened: these are found again.
    """

    tables_added: Annotated[int, Meta(description="tables that are new in the source")] = 0
    tables_dropped: int = 0
    tables_renamed: int = 0
    tables_rebuilt: Annotated[int, Meta(description="tables that were made again with another definition")] = 0
    columns_added: int = 0
    columns_dropped: int = 0
    columns_renamed: int = 0
    columns_widened: Annotated[int, Meta(description="columns that became jsonb for a value that did not fit")] = 0
    columns_narrowed: Annotated[int, Meta(description="columns that are jsonb no more")] = 0
    columns_escaped: Annotated[int, Meta(description="columns that got text which is whole only in _original")] = 0
    tables_refused: Annotated[int, Meta(description="tables that Postgres began to refuse")] = 0
    tables_accepted: Annotated[int, Meta(description="tables that it takes again")] = 0
    rows_rejected: Annotated[int, Meta(description="rows that Postgres could not hold")] = 0
    rows_lost: Annotated[int, Meta(description="of those, rows that were in Postgres, and are there no more")] = 0
    rows_back: Annotated[int, Meta(description="rows that are rejected no more")] = 0
    columns_not_json: Annotated[int, Meta(description="columns of JSON that got values which are no JSON")] = 0
    reconnections: Annotated[int, Meta(description="how often Postgres was there again after it was lost")] = 0


class HappenedReport(msgspec.Struct, frozen=True, kw_only=True):
    """A line that the log had about tables and columns which are others than before."""

    at: Annotated[float, Meta(description="seconds since the epoch")]
    text: str


class OutageReport(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which the mirror could not go on, whatever the reason."""

    reason: Annotated[str, Meta(description="why, as the first error said it, in one line")]
    postgres: Annotated[bool, Meta(description="whether it was Postgres that could not be used")]
    began_at: Annotated[float, Meta(description="seconds since the epoch")]
    ended_at: Annotated[float | None, Meta(description="when all was applied again; null: it goes on")] = None
    tries: Annotated[int, Meta(description="how often it was tried in vain")] = 1


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """State of the mirror of one source at one moment. Counts are since it started, unless they say otherwise."""

    version: int = STATUS_VERSION
    source: Annotated[str, Meta(description="absolute path of the SQLite file")]
    schema: Annotated[str, Meta(description="Postgres schema of its tables")]
    phase: Phase = Phase.STARTING
    agent: Annotated[str | None, Meta(description="the agent that its rows belong to")] = None
    profile: Annotated[str | None, Meta(description="how its tables are stored: generic or memustore")] = None
    capture: Annotated[str, Meta(description="WAL, or pages: the file has no WAL and all pages are compared")] = "WAL"
    captured: Annotated[str | None, Meta(description="position up to which commits are in the spool")] = None
    applied: Annotated[str | None, Meta(description="position that Postgres has")] = None
    committed_at: Annotated[float | None, Meta(description="when that was committed, seconds since the epoch")] = None
    behind_since: Annotated[float | None, Meta(description="since when something captured is not applied")] = None
    caught_up_at: Annotated[float | None, Meta(description="when everything captured was applied last")] = None
    lag_seconds: Annotated[float | None, Meta(description="age of the oldest commit not applied; null: unknown")] = None
    freshness_seconds: Annotated[float | None, Meta(description="age of the newest commit that is applied")] = None
    worst_lag_seconds: Annotated[float | None, Meta(description="worst lag of the last five minutes")] = None
    commits: Annotated[int, Meta(description="source commits applied")] = 0
    transactions: Annotated[int, Meta(description="Postgres transactions that they took")] = 0
    rows: Annotated[int, Meta(description="rows written and deleted, without the snapshot's")] = 0
    tables: int = 0
    rejects: Annotated[int, Meta(description="rows that Postgres cannot hold: in mirror.rejects")] = 0
    refusals: list[RefusalReport] = []
    left_out: Annotated[list[str], Meta(description="virtual columns that only the program can compute")] = []
    omitted: Annotated[list[str], Meta(description="columns that a rule leaves out")] = []
    rules: Annotated[
        list[RuleReport],
        Meta(description="rules in mirror.json that mean nothing, and columns left out for the rule of another name"),
    ] = []
    kept: Annotated[
        list[KeptReport],
        Meta(description="tables that were dropped in SQLite, and that views and grants of a new one still use"),
    ] = []
    escaped: Annotated[
        list[str], Meta(description="columns with text that Postgres cannot hold as it is: whole in _original")
    ] = []
    widened: Annotated[list[str], Meta(description="columns that are jsonb because of values that do not fit")] = []
    by_version: Annotated[
        list[str],
        Meta(description="virtual columns that the mirror's SQLite computes, another version maybe otherwise"),
    ] = []
    virtual: Annotated[
        list[str] | None,
        Meta(description="virtual tables that hold data which so is not in Postgres; null: not known yet"),
    ] = None
    gaps: list[GapReport] = []
    comparisons: Annotated[int, Meta(description="how often all pages were compared")] = 0
    resyncs: Annotated[list[str], Meta(description="why the whole source was copied (again)")] = []
    interruptions: Annotated[int, Meta(description="how often it could not go on")] = 0
    last_error: Annotated[str | None, Meta(description="why it cannot go on, or has ended, in one line")] = None
    error: Annotated[dict[str, Any] | None, Meta(description="the same with its stable code, as errors have it")] = None
    discrepancies: Annotated[int, Meta(description="rows on which hook and log disagreed, ever")] = 0
    read_differences: Annotated[
        int, Meta(description="reads that both stores answered differently at one position, as far as not forgotten")
    ] = 0
    reads: Annotated[list[ReadCount], Meta(description="reads of programs on storage adapters")] = []
    shadow_reads: Annotated[list[ShadowCount], Meta(description="those that were to be run on both stores")] = []
    others_wrote: Annotated[
        int, Meta(description="rows that others than the mirror have written in Postgres since it was made equal")
    ] = 0
    overwritten: Annotated[
        int, Meta(description="rows of others that a copy or repair has replaced, as far as not forgotten")
    ] = 0
    hook: HookReport = HookReport()
    indexing: Annotated[str | None, Meta(description="the vector index that is being built")] = None
    index_error: Annotated[str | None, Meta(description="why one could not be built")] = None
    progress: ProgressReport | None = None
    parity: ProofReport = ProofReport()
    reverse: Annotated[ReverseReport | None, Meta(description="null while the file is the original")] = None
    changes: Annotated[ChangesReport | None, Meta(description="null: there is no change feed")] = None
    configuration: Annotated[
        str | None,
        Meta(
            description="why the files that mirror status reads cannot be used; programs that run keep what they said"
        ),
    ] = None
    next_steps: Annotated[list[str], Meta(description="what a person can do, the most useful first")] = []
    widenings: Annotated[
        list[WideningReport], Meta(description="since when columns are jsonb for values that do not fit, and for which")
    ] = []
    events: Annotated[EventsReport, Meta(description="what has happened since the mirror started, counted")] = (
        EventsReport()
    )
    outage: Annotated[
        OutageReport | None, Meta(description="the last time that it could not go on; null: there was none")
    ] = None
    spool_bytes: Annotated[
        int | None, Meta(description="size of what was captured and is still needed; null: not known")
    ] = None
    stopped_at: Annotated[
        float | None,
        Meta(description="when it was stopped, seconds since the epoch; null: it runs, or nobody knows"),
    ] = None
    killed: Annotated[
        int | None, Meta(description="the id of its process, which is gone without having stopped; null: it is not so")
    ] = None
    unread_bytes: Annotated[
        int | None,
        Meta(
            description="while it is stopped: at most so many bytes were written since, 0 if nothing was; null: unknown"
        ),
    ] = None
    worst_lag_at: Annotated[float | None, Meta(description="when the worst lag of the last five minutes was")] = None
    worst_lag_why: Annotated[str, Meta(description="what held the mirror up then; empty: nothing that it knows")] = ""
    not_json: Annotated[
        list[str], Meta(description="columns declared JSON with values that are none: jsonb strings and objects there")
    ] = []
    ever: Annotated[EventsReport, Meta(description="what has happened since ever_since, counted over restarts")] = (
        EventsReport()
    )
    ever_since: Annotated[
        float | None,
        Meta(description="when the source was mirrored first with its state directory; null: it was not yet"),
    ] = None
    happened: Annotated[
        list[HappenedReport], Meta(description="the last lines about changed tables and columns, the newest last")
    ] = []
    file_missing: Annotated[bool, Meta(description="while it is stopped: whether its file is not there any more")] = (
        False
    )
    after_copy_error: Annotated[
        str, Meta(description="why the SQL of mirror adopt --after-copy could not be run, with its file; empty: it was")
    ] = ""


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What ``mirror status --json`` prints."""

    version: int = STATUS_VERSION
    sources: list[StatusReport]
    redis: Annotated[RedisReport | None, Meta(description="null: none is configured, or no mirror runs")] = None
    alerts: Annotated[AlertsReport | None, Meta(description="null: no webhook is configured, or no mirror runs")] = None


def without_rows(report: StatusReport) -> StatusReport:
    """A report for those who may not read the database: without anything of a row."""
    return replace(report, widenings=[replace(each, value="", key="") for each in report.widenings])


def named(objects: list[str], most: int = 5) -> str:
    """The first of a list of names, and how many there are besides."""
    more = f" and {len(objects) - most} more" if len(objects) > most else ""
    return ", ".join(objects[:most]) + more


def healed(gap: GapReport, report: StatusReport) -> bool:
    """Whether Postgres has what was committed in a gap of the report's source.

    That is so from the transaction on that writes what differed, in which its position leaves that generation.
    """
    return gap.healed or (report.applied is not None and Lsn.parse(report.applied).generation > gap.generation)


def kept_text(report: KeptReport) -> str:
    """What there is to know of a kept table, in one line."""
    return (
        f"{report.kept} is the table that was {report.table} before the program made another one of this name; it stays"
        f" as it is now, and these are still for it: {named(report.objects)}"
    )


def is_lost(report: StatusReport) -> bool:
    """Whether the way back of a source that was moved to Postgres cannot go on."""
    return report.error is not None and report.error.get("code") == WayBackLostError.code


def rejected(report: StatusReport) -> int:
    """Rows that one of the stores does not take from the other, whichever way they are carried now."""
    back = report.reverse
    return report.rejects + (0 if back is None or back.ended else back.rejects)


def moved_text(report: StatusReport) -> str:
    """What there is to know of a source that was moved to Postgres (``reverse`` is there), in one line."""
    assert report.reverse is not None
    if report.reverse.ended:
        return f"{report.reverse.ended}: programs use Postgres, and the file is an old copy"
    if is_lost(report):
        return "it was moved to Postgres, and what programs write there is not carried into the file any more"
    if report.phase is Phase.REVERSE:
        return "it was moved to Postgres: what programs write there is carried into the file"
    until = "`mirror up` runs again" if report.phase is Phase.STOPPED else "the mirror can go on"
    return (
        "it was moved to Postgres: what programs write there is not carried into the file until"
        f" {until}; nothing is lost meanwhile"
    )


_encoder = msgspec.json.Encoder()


def encode(value: msgspec.Struct | dict[str, Any]) -> bytes:
    """A value as JSON. Bytes of a file's name that are not text come as ``\\xff``."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_as_text(msgspec.to_builtins(value)))


def _as_text(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="backslashreplace")
    if isinstance(value, dict):
        return {_as_text(key): _as_text(each) for key, each in value.items()}
    return [_as_text(each) for each in value] if isinstance(value, list | tuple) else value


def json_schema() -> dict[str, Any]:
    """The JSON schema of :class:`StatusDocument`, as ``status.schema.json`` has it."""
    return msgspec.json.schema(StatusDocument)
