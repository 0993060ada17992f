"""What a history of operations must be: as if each had happened at one moment between its beginning and its end.

An item is a register whose versions are numbered: 1 is its creation, each change adds one (it is counted in the row
itself, so the order of its writes is SQLite's), and :data:`GONE` is its deletion. An operation must not show a version
older than one that any operation had shown, or written, when it began; nor one that nobody had begun to write when it
ended. Where that holds for each item by itself it holds for all of them together (Herlihy and Wing, 1990). Lists and
counts are of many items at one moment, and are checked besides. Pure: no files, no clock.

Times are nanoseconds of ``CLOCK_MONOTONIC``, which all processes of a host share.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, Self

#: The version of an item that was deleted.
GONE = 1 << 60


class State(NamedTuple):
    """An item, as an answer had it."""

    version: int
    digest: str
    """Of all its values."""


@dataclass(frozen=True, slots=True)
class Event:
    """One operation, with its answer."""

    session: str
    operation: str
    begin: int
    end: int
    process: int = 0
    wall: float = 0.0
    """When it began, in seconds since the epoch."""
    arguments: list[Any] = field(default_factory=list)
    store: str = ""
    """Where it was answered: postgres or sqlite."""
    reason: str = ""
    wrote: dict[str, State] = field(default_factory=dict)
    saw: dict[str, State | None] = field(default_factory=dict)
    """None: there was no such item."""
    kind: str = ""
    """Of the item that was created, or of those that were listed or counted."""
    complete: bool = False
    """It is a list of all items of its kind."""
    count: int | None = None
    token: str = ""
    """The token that was given, or, with ``at``, that was read at."""
    at: bool = False
    """It is a read at a token: not older than that, but maybe older than the newest commit."""
    claims: dict[str, int] = field(default_factory=dict)
    """With a token: versions that its holder had seen or written before."""
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Only what is not the default."""
        return {name: value for name, value in asdict(self).items() if value or value == 0}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Self:
        given = dict(value)
        for name in ("wrote", "saw"):
            states = given.get(name, {})
            given[name] = {item: None if state is None else State(*state) for item, state in states.items()}
        return cls(**given)

    def __str__(self) -> str:
        where = f" by {self.store} ({self.reason})" if self.store else ""
        return f"{self.session}: {self.operation}{tuple(self.arguments)}{where} from {self.begin} to {self.end}"


class Violation(NamedTuple):
    """What must not be."""

    kind: str
    text: str


class _Seen(NamedTuple):
    version: int
    event: Event


def check(events: Iterable[Event], final: Mapping[str, Mapping[str, State]] | None = None) -> list[Violation]:
    """All violations. ``final``: by store, all items that are there when everything has ended."""
    history = _History(events)
    found = [
        *(Violation("error", f"{event}: {event.error}") for event in history.events if event.error),
        *history.writes_in_order(),
        *history.registers(),
        *history.counts(),
        *history.lists(),
        *history.snapshots(),
        *history.tokens(),
        *history.reads_at_tokens(),
    ]
    for store, items in (final or {}).items():
        found += history.ends_as(store, items)
    return found


class _History:
    def __init__(self, events: Iterable[Event]) -> None:
        self.events = sorted(events, key=lambda event: event.begin)
        self._writes: defaultdict[str, list[tuple[State, Event]]] = defaultdict(list)
        self._kinds: dict[str, str] = {}
        for event in self.events:
            for item, state in event.wrote.items():
                self._writes[item].append((state, event))
                if state.version == 1:
                    self._kinds[item] = event.kind
        self._written = {
            (item, state.version): (state, event) for item, writes in self._writes.items() for state, event in writes
        }

    def writes_in_order(self) -> list[Violation]:
        """Each version was written once, and none is missing: else a write has undone another."""
        found = []
        for item, writes in self._writes.items():
            number = Counter(state.version for state, _ in writes)
            found += [
                Violation("two writes", f"{item}: version {version} was written {times} times")
                for version, times in number.items()
                if times > 1
            ]
            versions = {version for version in number if version != GONE}
            found += [
                Violation("lost write", f"{item}: nobody wrote version {version}, but a later one is there")
                for version in range(1, max(versions, default=0))
                if version not in versions
            ]
        return found

    def registers(self) -> list[Violation]:
        """What each operation has shown of each item."""
        shown: defaultdict[str, list[tuple[State | None, bool, Event]]] = defaultdict(list)
        for event in self.events:
            for item, state in event.wrote.items():
                shown[item].append((state, True, event))
            for item, seen in event.saw.items():
                shown[item].append((seen, False, event))
        return [violation for item, looks in shown.items() for violation in self._register(item, looks)]

    def _register(self, item: str, looks: Sequence[tuple[State | None, bool, Event]]) -> list[Violation]:
        found = []
        # Whatever was not there is gone if it was there before: which of the two shows in what had ended by then.
        known = _Newest((state.version, event) for state, _, event in looks if state is not None)
        sessions: defaultdict[str, list[tuple[int, Event]]] = defaultdict(list)
        resolved = []
        for state, wrote, event in looks:
            before = known.before(event.begin)
            version = state.version if state is not None else GONE if before is not None else 0
            resolved.append((state, version, wrote, event))
            if not event.at:
                sessions[event.session].append((version, event))
        newest = _Newest((version, event) for _, version, _, event in resolved)
        own = {session: _Newest(seen) for session, seen in sessions.items()}
        for state, version, wrote, event in resolved:
            if state is not None and not wrote:
                found += self._is_real(item, state, event)
            if state is None and version == GONE:
                found += self._was_deleted(item, event)
            if event.at:
                continue
            earlier = own[event.session].before(event.begin)
            kind = "session"
            if earlier is None or version >= earlier.version:
                earlier, kind = newest.before(event.begin), "past"
            if earlier is not None and version < earlier.version + wrote:
                kind = "resurrected" if earlier.version == GONE else kind
                name = "gone" if earlier.version == GONE else f"version {earlier.version}"
                found.append(Violation(kind, f"{item}: {event} had version {version} after {name} of {earlier.event}"))
        return found

    def _is_real(self, item: str, state: State, event: Event) -> list[Violation]:
        written = self._written.get((item, state.version))
        if written is None or written[1].begin > event.end:
            return [Violation("nowhere", f"{item}: {event} had version {state.version}, which nobody had written")]
        if written[0].digest != state.digest:
            return [Violation("value", f"{item}: {event} had another version {state.version} than {written[1]} wrote")]
        return []

    def _was_deleted(self, item: str, event: Event) -> list[Violation]:
        written = self._written.get((item, GONE))
        if written is None or written[1].begin > event.end:
            return [Violation("lost write", f"{item}: {event} did not have it, but nobody had deleted it")]
        return []

    def counts(self) -> list[Violation]:
        """A count is between what must and what can have been there."""
        made: defaultdict[str, list[Event]] = defaultdict(list)
        gone: defaultdict[str, list[Event]] = defaultdict(list)
        for item, writes in self._writes.items():
            for state, event in writes:
                if state.version == 1:
                    made[self._kinds.get(item, "")].append(event)
                elif state.version == GONE:
                    gone[self._kinds.get(item, "")].append(event)
        times = {
            kind: (
                sorted(event.begin for event in made[kind]),
                sorted(event.end for event in made[kind]),
                sorted(event.begin for event in gone[kind]),
                sorted(event.end for event in gone[kind]),
            )
            for kind in [*made]
        }
        found = []
        for event in self.events:
            if event.count is None:
                continue
            created, there, deleted, away = times.get(event.kind, ([], [], [], []))
            least = bisect_left(there, event.begin) - bisect_right(deleted, event.end)
            most = bisect_right(created, event.end) - bisect_left(away, event.begin)
            if not least <= event.count <= most:
                found.append(Violation("count", f"{event}: {event.count} is not between {least} and {most}"))
        return found

    def lists(self) -> list[Violation]:
        """A complete list lacks nothing that was there all the time. (What it has is checked as other answers are.)"""
        made = sorted(
            (
                (event.end, item)
                for item, writes in self._writes.items()
                for state, event in writes
                if state.version == 1
            )
        )
        found = []
        alive: dict[str, Event | None] = {}
        at = 0
        for event in self.events:
            if not event.complete or event.at:
                continue
            while at < len(made) and made[at][0] < event.begin:
                item = made[at][1]
                written = self._written.get((item, GONE))
                alive[item] = None if written is None else written[1]
                at += 1
            for item in [item for item, deletion in alive.items() if deletion and deletion.end < event.begin]:
                del alive[item]
            found += [
                Violation("list", f"{item} is not in {event}, which began after it was made")
                for item, deletion in alive.items()
                if self._kinds[item] == event.kind
                and item not in event.saw
                and (deletion is None or deletion.begin > event.end)
            ]
        return found

    def snapshots(self) -> list[Violation]:
        """Of two complete lists of one kind one is the earlier: in each item, not in some."""
        found = []
        lists: defaultdict[str, list[tuple[dict[str, int], Event]]] = defaultdict(list)
        for event in self.events:
            if event.complete:
                lists[event.kind].append(({item: state.version for item, state in event.saw.items() if state}, event))
        for kind, answers in lists.items():
            items = [item for item, known in self._kinds.items() if known == kind]
            vectors = []
            for versions, event in answers:
                # An item that is not there was not made yet, or is gone: as the others show, and the registers check.
                vectors.append(([versions.get(item) for item in items], event))
            vectors.sort(key=lambda one: sum(version or 0 for version in one[0]))
            if any(self._written.get((item, GONE)) for item in items):
                continue
            for (one, first), (two, second) in pairwise(vectors):
                if any((a or 0) > (b or 0) for a, b in zip(one, two, strict=True)):
                    found.append(Violation("snapshots", f"{first} and {second}: each has what the other lacks"))
        return found

    def tokens(self) -> list[Violation]:
        """A session's tokens do not go back, and are of one copy of the source."""
        found = []
        last: dict[str, tuple[str, tuple[int, int], Event]] = {}
        for event in self.events:
            if not event.token or event.at:
                continue
            _, lineage, generation, frame = event.token.split("+")[0].split(".")
            position = int(generation), int(frame)
            before = last.get(event.session)
            if before is not None and (lineage != before[0] or position < before[1]) and before[2].end < event.begin:
                found.append(Violation("token", f"{event}: {event.token} after {before[2].token}"))
            last[event.session] = lineage, position, event
        return found

    def reads_at_tokens(self) -> list[Violation]:
        """A read at a token has what its holder had seen."""
        found = []
        for event in self.events:
            if not event.at:
                continue
            for item, claim in event.claims.items():
                state = event.saw.get(item)
                version = GONE if state is None else state.version
                if version < claim:
                    found.append(Violation("token read", f"{item}: {event} had version {version}, not {claim}"))
        return found

    def ends_as(self, store: str, items: Mapping[str, State]) -> list[Violation]:
        """Each item is at the end what was written last."""
        found = []
        for item, writes in self._writes.items():
            last = max(state for state, _ in writes)
            state = items.get(item)
            if last.version == GONE:
                if state is not None:
                    found.append(Violation("resurrected", f"{item} is in {store} at the end"))
            elif state is None or state.version < last.version:
                has = "does not have it" if state is None else f"has version {state.version}"
                found.append(Violation("lost write", f"{item}: {store} {has} at the end, not {last.version}"))
            elif state.version > last.version:
                found.append(Violation("nowhere", f"{item}: {store} has version {state.version}, not {last.version}"))
            elif state.digest != last.digest:
                found.append(Violation("value", f"{item}: {store} has another version {last.version} at the end"))
        for item in items.keys() - self._writes.keys():
            found.append(Violation("nowhere", f"{item} is in {store}, but nobody has made it"))
        return found


class _Newest:
    """The newest version that operations had shown by a moment."""

    def __init__(self, seen: Iterable[tuple[int, Event]]) -> None:
        self._ends: list[int] = []
        self._best: list[_Seen] = []
        for version, event in sorted(seen, key=lambda one: one[1].end):
            if version and (not self._best or version > self._best[-1].version):
                self._ends.append(event.end)
                self._best.append(_Seen(version, event))

    def before(self, moment: int) -> _Seen | None:
        """Of those that had ended before it."""
        at = bisect_left(self._ends, moment)
        return self._best[at - 1] if at else None


def figures(events: Sequence[Event]) -> dict[str, Any]:
    """How many operations there were, and where reads were answered."""
    reads = Counter((event.store, event.reason) for event in events if event.store)
    from_postgres = sum(number for (store, _), number in reads.items() if store == "postgres")
    return {
        "operations": dict(sorted(Counter(event.operation for event in events).items())),
        "total": len(events),
        "reads": sum(reads.values()),
        "by postgres": round(from_postgres / max(1, sum(reads.values())), 3),
        "by reason": {f"{store}:{reason}": number for (store, reason), number in sorted(reads.items())},
        "tokens": sum(1 for event in events if event.token and not event.at),
        "reads at tokens": sum(1 for event in events if event.at),
    }
