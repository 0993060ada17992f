"""Whether the file of a source that was moved has what Postgres has."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a comparison of all rows of the file with the snapshot of Postgres that it should show."""

    rows: Annotated[int, Meta(description="rows that were compared")]
    snapshot: Annotated[str, Meta(description="of Postgres, that the file was compared with; empty: it was not")] = ""
    rejects: Annotated[int, Meta(description="rows that the file does not take")] = 0
    strays: Annotated[int, Meta(description="rows that programs have written to it, and that were known")] = 0
    unknown: Annotated[int, Meta(description="such rows that were not known; they are now")] = 0
    not_carried: Annotated[int, Meta(description="rows that the file has otherwise, though no program wrote them")] = 0
    named: Annotated[list[str], Meta(description="some of the last two")] = []
