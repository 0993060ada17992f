"""The load that a running mirror has recorded: what the programs of a source have written in the last minutes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class RecordedLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Commits and rows of the last five minutes, as the mirror has applied them."""

    seconds: Annotated[int, Meta(description="seconds in which something was committed")] = 0
    commits: int = 0
    peak: Annotated[int, Meta(description="commits in the busiest of these seconds")] = 0
    tables: Annotated[
        dict[str, tuple[int, int, int]], Meta(description="by table: rows inserted, updated, deleted")
    ] = {}
