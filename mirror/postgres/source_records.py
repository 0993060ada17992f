"""What is known of one source in Postgres, as of the last committed transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirror.core.positions import Position
from mirror.core.tables import ColumnType
from mirror.postgres.refusals import Refusal
from mirror.postgres.target import Target

if TYPE_CHECKING:
    from mirror.postgres.adopted.adoption import Adoption


class SourceRecords:
    """The records of a source, which its sink keeps current."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._agent: str | None = None
        self._profile: str | None = None
        self._source_id = 0
        self._epoch = 0
        self._position: Position | None = None
        self._lineage: str | None = None
        self._targets: dict[str, Target] = {}
        self._refusals: dict[str, Refusal] = {}
        self._rejects: dict[str, int] = {}
        self.overrides: dict[str, dict[str, ColumnType]] = {}
        """By source table and column: types that values have made necessary."""
        self.not_json: frozenset[tuple[str, str]] = frozenset()
        """Source table and column of documents that have values that are none."""
        self.adoption: Adoption | None = None
        """How it is mirrored into the tables of an application; None: its tables are the mirror's own."""

    @property
    def source_id(self) -> int:
        """Key of the source in ``mirror.sources``."""
        return self._source_id

    @property
    def epoch(self) -> int:
        """Raised by each mirror that takes the source, this one's included."""
        return self._epoch

    @property
    def position(self) -> Position | None:
        """The applied position; None: there is no snapshot yet."""
        return self._position

    @property
    def lineage(self) -> str | None:
        """The lineage that the loaded copy belongs to."""
        return self._lineage

    @property
    def profile(self) -> str | None:
        """Name of the source's profile; None: there is no snapshot yet."""
        return self._profile

    @property
    def agent(self) -> str | None:
        """The agent that the source is bound to, if there is one."""
        return self._agent

    @property
    def mappings(self) -> dict[str, Target]:
        """Where the source's tables are stored, by source table."""
        return dict(self._targets)

    @property
    def refusals(self) -> dict[str, Refusal]:
        """The tables that Postgres does not take as they are, by source table."""
        return dict(self._refusals)

    @property
    def rejects(self) -> dict[str, int]:
        """How many rows Postgres could not hold, by source table; tables without rejects are not in it."""
        return dict(self._rejects)

    def _use(self, targets: dict[str, Target]) -> None:
        if targets != self._targets:
            self.overrides = {name: made for name, target in targets.items() if (made := target.overrides)}
        self._targets = targets
