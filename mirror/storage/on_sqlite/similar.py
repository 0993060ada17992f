"""The rows with the most similar embeddings, without an extension that compares them. Exact."""

from __future__ import annotations

from typing import Any

import numpy as np

from mirror.storage.jsontext import to_json
from mirror.storage.on_sqlite.drivers import Connection
from mirror.storage.statements import Near

#: Embeddings that are in memory at a time: they fit into a processor's cache, and their memory is used again.
_PART = 256


def most_similar(connection: Connection, statement: Near, sql_: str, parameters: list[Any]) -> list[tuple[int, float]]:
    """The best rows, exactly: float32 finds those that may be, and float64 says which of these are, and how similar.

    ``sql_``: gives rowids and embeddings.
    """
    wanted = np.frombuffer(statement.embedding.to_bytes(), "<f4")
    rowids: list[int] = []
    squares, products = [], []
    with np.errstate(all="ignore"):
        for part in connection.in_parts(sql_, parameters, _PART):
            vectors = _vectors(part)
            rowids += [rowid for rowid, _ in part]
            squares.append(np.einsum("ij,ij->i", vectors, vectors))
            products.append(vectors @ wanted)
        if not rowids:
            return []
        own = np.dot(wanted, wanted)
        among = _candidates(np.concatenate(squares), np.concatenate(products), own, statement.limit)
    chosen = to_json([rowids[at] for at in among])
    scored: list[tuple[float, int]] = []
    for part in connection.in_parts(
        f"SELECT * FROM ({sql_}) WHERE rowid IN (SELECT value FROM json_each(?))", [*parameters, chosen], _PART
    ):
        scores = _cosine(_vectors(part).astype(np.float64), wanted.astype(np.float64))
        scored += [(-float(score), rowid) for score, (rowid, _) in zip(scores, part, strict=True)]
    return [(rowid, -score) for score, rowid in sorted(scored)[: max(0, statement.limit)]]


def _vectors(rows: list[tuple[Any, ...]]) -> Any:
    return np.frombuffer(b"".join([blob for _, blob in rows]), "<f4").reshape(len(rows), -1)


#: More than float32 can be off for a cosine of some thousand dimensions.
_ROUGH = 1e-3
#: Squares of lengths that float32 has room around.
_LEAST, _MOST = 1e-20, 1e20


def _candidates(squares: Any, products: Any, own: Any, limit: int) -> Any:
    """Places of all rows that may be among the best, by the squares of their lengths and their products with the query.

    ``own``: the square of the query's length.
    """
    if 0 < limit < len(squares) and _LEAST < own < _MOST:
        rough = products / np.sqrt(squares * own)
        known = (squares > _LEAST) & (squares < _MOST)
        if np.count_nonzero(known) > limit:
            least = np.partition(rough[known], -limit)[-limit] - _ROUGH
            return np.flatnonzero(~known | (rough >= least))
    return np.arange(len(squares))


def _cosine(vectors: Any, wanted: Any) -> Any:
    """Of each row; 0 for a row of zeros."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lengths > 0, vectors @ wanted / lengths, 0.0)
