"""The rows with the most similar embeddings: a rough look finds those that may be among them, float64 decides.

The rough look is the extension's where it is loaded, else float32's: both err by more than equal embeddings differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mirror.core.quote import quoted
from mirror.storage.jsontext import to_json
from mirror.storage.on_sqlite.drivers import Connection
from mirror.storage.places import SIMILARITY_DIGITS
from mirror.storage.statements import Near

#: Embeddings that are in memory at a time: they fit into a processor's cache, and their memory is used again.
_PART = 256


def most_similar(
    connection: Connection, statement: Near, condition: str, parameters: list[Any], *, extension: bool
) -> list[tuple[int, float]]:
    """Rowids and similarities of the best rows, by the rounded cosine and the key.

    ``condition``: of rows that have an embedding of this dimension. ``extension``: it is loaded.
    """
    name, key = quoted(statement.table.name), quoted(statement.table.key[0])
    look = _by_extension if extension else _by_float32
    among = look(connection, statement, f"FROM {name} WHERE {condition}", parameters)
    wanted = np.frombuffer(statement.embedding.to_bytes(), "<f4").astype(np.float64)
    scored: list[tuple[float, Any, int]] = []
    for part in connection.in_parts(
        f"SELECT rowid, embedding, {key} FROM {name} WHERE rowid IN (SELECT value FROM json_each(?)) AND {condition}",
        [to_json(among), *parameters],
        _PART,
    ):
        scores = np.round(_cosine(_vectors(part).astype(np.float64), wanted), SIMILARITY_DIGITS)
        scored += [(-float(score), key, rowid) for score, (rowid, _, key) in zip(scores, part, strict=True)]
    return [(rowid, -score) for score, _, rowid in sorted(scored)[: statement.limit]]


def _by_extension(connection: Connection, statement: Near, from_: str, parameters: list[Any]) -> list[int]:
    """Rowids. NULL and 0 are what the extension gives for lengths that float32 cannot square, too."""
    found = connection.execute(
        f"WITH scored AS MATERIALIZED (SELECT rowid AS at, 1 - vec_distance_cosine(embedding, ?) AS score {from_})"
        " SELECT at FROM scored WHERE coalesce(score, 0) = 0 OR score >= (SELECT min(score) FROM (SELECT score"
        " FROM scored WHERE score IS NOT NULL ORDER BY score DESC LIMIT ?)) - ?",
        [statement.embedding.to_bytes(), *parameters, statement.limit, _ROUGH],
    )
    return [rowid for (rowid,) in found]


def _by_float32(connection: Connection, statement: Near, from_: str, parameters: list[Any]) -> list[int]:
    """Rowids."""
    wanted = np.frombuffer(statement.embedding.to_bytes(), "<f4")
    rowids: list[int] = []
    squares, products = [], []
    with np.errstate(all="ignore"):
        for part in connection.in_parts(f"SELECT rowid, embedding {from_}", parameters, _PART):
            vectors = _vectors(part)
            rowids += [rowid for rowid, _ in part]
            squares.append(np.einsum("ij,ij->i", vectors, vectors))
            products.append(vectors @ wanted)
        if not rowids:
            return []
        own = np.dot(wanted, wanted)
        among = _candidates(np.concatenate(squares), np.concatenate(products), own, statement.limit)
    return [rowids[at] for at in among]


def _vectors(rows: list[tuple[Any, ...]]) -> Any:
    return np.frombuffer(b"".join([row[1] for row in rows]), "<f4").reshape(len(rows), -1)


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
    """Of each row; 0 for a row of zeros, or with what is no number."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted)
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.where(lengths > 0, vectors @ wanted / lengths, 0.0), nan=0.0)
