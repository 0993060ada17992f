"""What a place in a list of results counts, and how two lists become one.

Places count, not ranks: what stores give matches of words as ranks cannot be compared, and what embeddings give cannot
be added to it. The first place counts 1, the sixth one half. Postgres does the same in SQL
(:mod:`mirror.storage.on_postgres.joined`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: To how many digits similarities are rounded before they are ordered, ties by the key. float32 tells no more apart;
#: what is beyond differs from store to store, and even from row to row.
SIMILARITY_DIGITS = 6


def by_rank(place: int) -> float:
    """What a place in a list of results counts: 1 the first (0), one half the sixth."""
    return 1 / (1 + place / 5)


def score(near: int | None, words: int | None, weight: float) -> float:
    """What two places count together; None: not in that list. ``weight``: of the place by embeddings, 0 to 1."""
    by_embedding = 0.0 if near is None else weight * by_rank(near)
    return (0.0 if words is None else (1 - weight) * by_rank(words)) + by_embedding


def merged(
    near: Sequence[tuple[Any, ...]], words: Sequence[tuple[Any, ...]], weight: float, limit: int
) -> list[tuple[Any, ...]]:
    """The best of two lists as :class:`~mirror.storage.statements.Merged` has them; ties by the rows' ``id``.

    ``near``: (row, similarity, *along) in their order; ``words``: (row, rank, *along). A row that counts 0 is left out.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for place, (row, similarity, *along) in enumerate(near):
        found[row.id] = (row, place, similarity, None, None, *along)
    for place, (row, rank, *along) in enumerate(words):
        known = found.get(row.id)
        found[row.id] = (row, *((None, None) if known is None else known[1:3]), place, rank, *along)
    scored = [(score(one[1], one[3], weight), one) for one in found.values()]
    best = sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: (-pair[0], pair[1][0].id))
    return [one for _, one in best[:limit]]
