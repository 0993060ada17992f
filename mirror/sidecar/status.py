"""The state of one source's mirror as its loop records it, and as it is reported while it runs and afterwards.

The loop changes a :class:`SourceStatus`. Everything else reads a :class:`~mirror.core.status.StatusReport`, which is
made from it, sent over the control socket, and kept in the source's folder for when the mirror does not run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import InitVar, asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger
from msgspec.structs import replace

from mirror.core.errors import MirrorError, SealedError, SourceError
from mirror.core.positions import Lsn, Position
from mirror.core.rows import TableResult
from mirror.core.saved_status import save_report
from mirror.core.status import (
    EventsReport,
    GapReport,
    HappenedReport,
    HookReport,
    KeptReport,
    OutageReport,
    Phase,
    ProgressReport,
    RefusalReport,
    ReverseReport,
    RuleReport,
    StatusReport,
    WideningReport,
    kept_text,
)
from mirror.core.tables import ANY_TEXT, ANY_VALUE, ColumnType, Profile, Table
from mirror.core.virtual import left_out
from mirror.postgres.profiles.generic import column_type
from mirror.sidecar.lags import Lags
from mirror.sidecar.news import gap_report, widened_columns, widenings
from mirror.sidecar.next_steps import next_steps
from mirror.sidecar.read_tally import ReadTally
from mirror.sidecar.recent_load import RecentLoad
from mirror.sidecar.rule_notes import begun, rule_notes

if TYPE_CHECKING:
    from mirror.core.rules import Rules
    from mirror.postgres.ledger import Gap, Ledger
    from mirror.postgres.refusals import Refusal
    from mirror.postgres.sink import Sink
    from mirror.replica.replica import Replica
    from mirror.sidecar.source_folder import FeedOfSource
    from mirror.sqlite.decode.schema import Schema

#: Seconds between two looks at what only programs write to Postgres.
LOOK_SECONDS = 2.0
#: The share of the loop's time that these looks may take, where one takes long.
LOOK_SHARE = 0.05


@dataclass
class SourceStatus:
    """State of one source.

    Thread: written by its pipeline's, read by any.
    """

    source: str
    schema: str
    phase: Phase = Phase.STARTING
    capture: str = "WAL"
    """How commits are captured: "WAL", or "pages" where there is no WAL: slower, by comparing all pages."""
    captured: str | None = None
    """Position up to which frames are in the spool."""
    applied: str | None = None
    """Position that Postgres has."""
    committed_at: float | None = None
    """When the newest applied commit was made."""
    behind_since: float | None = None
    """Since when something is captured that Postgres does not have; None: Postgres has everything."""
    caught_up_at: float | None = None
    commits: int = 0
    """Source commits applied since the mirror started."""
    transactions: int = 0
    """Postgres transactions that applied them."""
    rows: int = 0
    """Rows written and deleted in Postgres since the mirror started, without the snapshot's."""
    rejects: int = 0
    refusals: list[RefusalReport] = field(default_factory=list)
    """Tables that Postgres refuses, each with the reason and the next step."""
    tables: int = 0
    left_out: list[str] = field(default_factory=list)
    """Virtual generated columns (table.column) that only the source's program can compute."""
    omitted: list[str] = field(default_factory=list)
    """Columns (table.column) that a rule leaves out."""
    rules: list[RuleReport] = field(default_factory=list)
    """What to know of the rules in mirror.json; what happened to one, since the mirror started."""
    kept: list[KeptReport] = field(default_factory=list)
    """Tables kept after their source dropped them, which views and grants of another one of that name still use."""
    escaped: list[str] = field(default_factory=list)
    """Columns (table.column) with text that Postgres cannot hold as it is: it is whole in ``_original``."""
    not_json: list[str] = field(default_factory=list)
    """Columns (``table.column``) declared JSON that have, or have had, values which are no JSON."""
    widened: list[str] = field(default_factory=list)
    """Columns (table.column) that are jsonb because of values that do not fit their type."""
    by_version: list[str] = field(default_factory=list)
    """Virtual generated columns with values that may depend on the version of the SQLite that computes them."""
    virtual: list[str] | None = None
    """Virtual tables (name, module) that hold data which so is not in Postgres; None: not known yet."""
    gaps: list[GapReport] = field(default_factory=list)
    """Each with the generation that was left, the reason, and when it was found."""
    comparisons: int = 0
    """How often all pages were compared since the mirror started."""
    resyncs: list[str] = field(default_factory=list)
    """Why the whole source was copied (again) since the mirror started."""
    last_error: str | None = None
    """The error that the mirror retries now, or that ended it."""
    error: dict[str, Any] | None = None
    """The same error, as :meth:`~mirror.core.errors.MirrorError.to_dict` gives it."""
    interruptions: int = 0
    """How often an error interrupted the mirror since it started."""
    agent: str | None = None
    """The agent that the source belongs to."""
    profile: str | None = None
    """The profile by which its tables are stored."""
    hook: HookReport = field(default_factory=HookReport)
    """The programs with hooks, and the result of comparing what they send with the WAL."""
    discrepancies: int = 0
    """Rows on which hooks and the WAL disagreed, since the first start: they are in ``mirror.discrepancies``."""
    read_differences: int = 0
    """Reads that programs ran on both stores at one position, with different answers: ``mirror.read_differences``."""
    others_wrote: int = 0
    """Rows that others have written in Postgres, as far as is known: ``mirror.others_wrote``."""
    overwritten: int = 0
    """Rows of others that a copy or repair has replaced: ``mirror.overwritten``."""
    indexing: str | None = None
    """The vector index that is being built while the mirror runs."""
    index_error: str | None = None
    """Why a vector index could not be built; the next start tries again."""
    after_copy_error: str = ""
    """Why the SQL for after the copy could not be run, with its file."""
    progress: ProgressReport | None = None
    """While a snapshot runs."""
    widenings: list[WideningReport] = field(default_factory=list)
    """Since when columns are jsonb because of values that do not fit, and for which."""
    events: EventsReport = field(default_factory=EventsReport)
    """What has happened since the mirror started."""
    ever: EventsReport = field(default_factory=EventsReport)
    """What has happened since the source was mirrored first: as saved, and since then."""
    ever_since: float | None = None
    happened: list[HappenedReport] = field(default_factory=list)
    """The last lines about changed tables and columns."""
    outage: OutageReport | None = None
    """The last time that it could not go on."""
    reverse: ReverseReport | None = None
    """While what is written in Postgres is carried into the file."""
    feed: InitVar[FeedOfSource | None] = None
    """Its change feed, if there is one."""
    called: InitVar[str] = ""

    def __post_init__(self, feed: FeedOfSource | None, called: str) -> None:
        self._feed, self.name = feed, called or Path(self.source).name
        self._kept: tuple[object, ...] = ()
        self._next_look = 0.0
        self._followed_at: float | None = None
        """When it had caught up for the first time, or after a pause."""
        self._described: Mapping[str, Table] | None = None
        self._refused: list[Refusal] = []
        self._schema: Schema | None = None
        self._begun: list[RuleReport] = []
        self._left_out_by: Profile | None = None
        self._not_json_of: Collection[tuple[str, str]] | None = None
        self._overrides: Mapping[str, Mapping[str, ColumnType]] | None = None
        self.lags = Lags()
        self.history = self.lags.history
        self.load = RecentLoad()
        self.reads = ReadTally()

    def has_captured(self, lsn: Lsn) -> None:
        """The spool has everything up to here."""
        if str(lsn) != self.captured:
            self.captured = str(lsn)
            self.behind_since = self.behind_since or time.time()

    def is_at(self, position: Position) -> None:
        """Postgres has this position."""
        # What was committed during the first copy has waited for that.
        could = self._followed_at is not None and position.committed_at >= self._followed_at
        if str(position.lsn) != self.applied and self.phase is Phase.FOLLOWING and could:
            self.lags.add(time.time(), position.committed_at)
        self.applied, self.committed_at = str(position.lsn), position.committed_at
        if self.behind_since is not None:
            # What is not applied yet was committed after what just was.
            self.behind_since = max(self.behind_since, position.committed_at)

    def has_applied(self, commits: int, results: Collection[TableResult], *, compared: bool) -> None:
        """A transaction in Postgres has applied so many commits; ``compared``: as a comparison of pages found them."""
        self.commits += commits
        self.transactions += 1
        self.rows += sum(result.upserted + result.deleted for result in results)
        if not compared:  # else it is not known when they were committed
            self.load.add(time.time(), commits, results)

    def shows(self, replica: Replica, sink: Sink, profile: Profile, rules: Rules) -> None:
        """What is mirrored now, how far, and what is not."""
        self.is_at(replica.position)
        self.describes(replica.schema.tables, sink.agent, sink.profile)
        if self.holds(sink.overrides, replica.schema.tables):
            # Of one without a declared type it is known only that it was another once.
            self.widened = sorted({*self.widened, *widened_columns(sink.mappings)})
            self.widenings = widenings(self.widened, sink.mappings)
        if sink.not_json is not self._not_json_of:
            self._not_json_of = sink.not_json
            self.not_json = [f"{table}.{column}" for table, column in sorted(sink.not_json)]
        self.after_copy_error = sink.after_copy_error
        self.leaves_out(replica.schema, profile, rules)
        self.lacks(sum(sink.rejects.values()), sink.refusals.values())

    def describes(self, tables: Mapping[str, Table], agent: str | None, profile: str | None) -> None:
        """The source has these tables (another mapping object when they change), this agent and this profile."""
        self.agent, self.profile = agent, profile
        if tables is not self._described:
            self._described = tables
            self.tables = len(tables)
            self.left_out, self.omitted, self.by_version = [], [], []
            for table in tables.values():
                self.left_out += [f"{table.name}.{column}" for column in table.left_out]
                self.omitted += [f"{table.name}.{column}" for column in table.omitted]
                self.by_version += [f"{table.name}.{column}" for column in table.by_version]

    def follows(self, rules: Rules, schema: Schema) -> None:
        """The source has this schema, and mirror.json these rules. What is new of what to know of them is logged."""
        if schema is self._schema:
            return
        if self._schema is not None:
            self._begun += begun(self._schema, schema)
        self._schema = schema
        notes = [*rule_notes(rules, schema, self.profile, self.agent), *self._begun]
        for note in notes:
            if note not in self.rules:
                logger.warning("{}: mirror.json: {}: {}", self.name, note.rule, note.detail)
        self.rules = notes

    def leaves_out(self, schema: Schema, profile: Profile, rules: Rules) -> None:
        """The source has these tables. Virtual ones that hold data are logged when they are others than before.

        ``rules``: those of mirror.json.
        """
        if schema is self._schema and profile is self._left_out_by:
            return  # rules are followed with the next schema
        self._left_out_by = profile
        self.follows(rules, schema)
        virtual = left_out(schema.virtual, profile.derived)
        if virtual != (self.virtual or []):
            names = ", ".join(virtual) or "no virtual table any more"
            logger.warning("{}: left out, so their data is not in Postgres: {}", self.name, names)
        self.virtual = virtual

    def holds(self, overrides: Mapping[str, Mapping[str, ColumnType]], tables: Mapping[str, Table]) -> bool:
        """By source table and column: the types in Postgres that values have made necessary (another mapping object
        when they change). ``tables``: the source's. Returns whether they are others than before.
        """
        if overrides is self._overrides:
            return False
        self._overrides = overrides
        found = [
            (f"{name}.{column.name}", overrides[name][column.name], column_type(column, of_key=column.name in of_key))
            for name in sorted(overrides.keys() & tables.keys())
            for of_key in (tables[name].primary_key,)
            for column in tables[name].columns
            if column.name in overrides[name]
        ]
        self.escaped = [name for name, held, _ in found if held == ANY_TEXT]
        self.widened = [name for name, held, declared in found if held == ANY_VALUE != declared]
        return True

    def lacks(self, rejects: int, refusals: Iterable[Refusal]) -> None:
        """So many rows are rejected, and these tables refused."""
        self.rejects = rejects
        if (now := list(refusals)) != self._refused:
            self._refused, self.refusals = now, [RefusalReport(**asdict(refusal)) for refusal in now]

    def remembers(self, gaps: Iterable[Gap], discrepancies: int) -> None:
        """Postgres has these gaps of the source recorded, and so many discrepancies."""
        self.gaps[:] = map(gap_report, gaps)
        self.discrepancies = discrepancies

    def looks_at_reads(self, ledger: Ledger) -> None:
        """Now and then, count the differences that programs have found, which come at any time; and look for views and
        grants that are for tables that are only kept."""
        if (began := time.monotonic()) < self._next_look:
            return
        self.read_differences = ledger.read_differences()
        self.others_wrote, self.overwritten = ledger.others()
        kept = [KeptReport(table=each.table, kept=each.kept, objects=each.objects) for each in ledger.kept()]
        for report in kept:
            if report not in self.kept:
                logger.warning("{}: {}", self.name, kept_text(report))
        self.kept = kept
        ended = time.monotonic()
        self._next_look = ended + max(LOOK_SECONDS, (ended - began) / LOOK_SHARE)  # nothing is applied meanwhile

    @property
    def reads_due_at(self) -> float:
        """When :meth:`looks_at_reads` looks next, on the monotonic clock."""
        return self._next_look

    @property
    def reads_are_due(self) -> bool:
        """Whether it would look now."""
        return time.monotonic() >= self._next_look

    def look_at_reads(self) -> None:
        """Have the next :meth:`looks_at_reads` look."""
        self._next_look = 0.0

    def has_caught_up(self, held_up: str | None, behind: tuple[str, float] | None = None) -> None:
        """Postgres has all that was captured.

        ``held_up``: why capture cannot go on, which it retries by itself; None: it can. ``behind``: why it has not seen
        commits for a while, and since when (Unix time).
        """
        why, self.behind_since = (held_up, None) if behind is None else behind
        if why is None:
            if self.caught_up_at is None:
                self.lags.clear()  # of what was committed before it could follow
                self._followed_at = time.time()
            self.phase, self.caught_up_at = Phase.FOLLOWING, time.time()
            self.last_error = self.error = None
            self.lags.goes_on()
            return
        if behind is not None and why != self.last_error:
            logger.warning("{}: {}", self.name, why)
        self._set_error(Phase.WAITING, SourceError("follow the source", self.source, why, retryable=True))
        self.last_error = why

    def is_paused(self) -> None:
        """It was asked to leave the source alone."""
        self.phase, self.last_error, self.error = Phase.PAUSED, None, None
        self.behind_since = self.caught_up_at = self.progress = None

    def was_moved(self) -> None:
        """It was moved to Postgres: nothing of it waits to be applied there."""
        self.behind_since = self.caught_up_at = None
        self.reverse = self.reverse or ReverseReport()

    def carries_back(self) -> None:
        """The way back works."""
        self.phase, self.last_error, self.error = Phase.REVERSE, None, None

    def returns(self) -> str:
        """The file is the original again. Returns why it is copied whole then."""
        self.reverse = None
        return "the file is the original again"

    def has_ended(self, why: str) -> None:
        """Its move to Postgres was finalized: nothing is left to be done."""
        self.was_moved()
        assert self.reverse is not None
        self.phase, self.last_error, self.error = Phase.STOPPED, None, None
        self.reverse = replace(self.reverse, kept_open="", ended=why)

    def is_interrupted(self, error: MirrorError) -> None:
        """An error has interrupted the mirror, which retries. That the source was moved is none to report."""
        if isinstance(error, SealedError):
            self.phase = Phase.WAITING  # no more following, so that it is not published as followed
            return
        self._set_error(Phase.WAITING, error)
        self.lags.is_interrupted(error)
        self.interruptions += 1

    def has_failed(self, error: MirrorError) -> None:
        """The mirror has ended with an error that no retry can help. That its move was finalized is the planned end."""
        if isinstance(error, SealedError):
            self.has_ended(error.detail)
        else:
            self._set_error(Phase.FAILED, error)

    def _set_error(self, phase: Phase, error: MirrorError) -> None:
        self.phase, self.last_error, self.error = phase, str(error), error.to_dict()

    def add_gap(self, generation: int, reason: str, at: datetime) -> None:
        """The log was not contiguous at the end of a generation."""
        self.gaps.append(GapReport(generation=generation, reason=reason, at=at.isoformat(timespec="seconds")))

    def heals(self, rows: int | None, seconds: float | None) -> None:
        """All gaps are healed; those that were not yet have cost that."""
        cost = {"healed": True, "rows": rows, "seconds": seconds}
        self.gaps[:] = [gap if gap.healed else replace(gap, **cost) for gap in self.gaps]

    def keep(self, folder: Path) -> None:
        """Save the report for when the mirror does not run, if more than positions and counts has changed."""
        now = (
            self.phase, self.last_error, self.rejects, self.tables, self.left_out, len(self.gaps), self.refusals,
            self.escaped, self.not_json, self.widened, self.read_differences, self.virtual, self.omitted, self.ever,
            sum(gap.healed for gap in self.gaps), self.outage and replace(self.outage, tries=0),
            self.rules, self.kept, self.others_wrote, self.overwritten, self.after_copy_error,
            self.reverse and replace(self.reverse, rows=0, applied_at=None),
        )  # fmt: skip
        if now == self._kept:
            return
        self._kept = now
        # The file is only for people to read: a full disk must not end a mirror that waits for room.
        with contextlib.suppress(OSError):
            save_report(self.report(), folder)

    def _lag(self, now: float) -> float | None:
        """Seconds for which the oldest commit that is not applied has waited; None: unknown.

        That nothing captured waits means no lag only while capture works: what it has not seen may be of any age.
        """
        if self.behind_since is not None:
            return round(now - self.behind_since, 3)
        return 0.0 if self.phase is Phase.FOLLOWING else None

    def report(self) -> StatusReport:
        """The state now, with the figures that depend on the clock."""
        now = time.time()
        lag = self._lag(now)
        worst = self.lags.worst(now, lag) if lag is not None and self.caught_up_at is not None else None
        report = StatusReport(
            **{field.name: getattr(self, field.name) for field in fields(self)},
            lag_seconds=lag,
            freshness_seconds=round(now - self.committed_at, 3) if self.committed_at else None,
            worst_lag_seconds=None if worst is None else worst.seconds,
            worst_lag_at=None if worst is None else round(worst.at, 3),
            worst_lag_why="" if worst is None else worst.why,
            reads=self.reads.answers(),
            shadow_reads=self.reads.shadows(),
            changes=None if self._feed is None else self._feed.report(),
        )
        return replace(report, next_steps=next_steps(report))
