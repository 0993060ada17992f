"""The most similar embeddings of a SQLite file: found in float32 or by the extension, decided in float64."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from mirror.storage.models.memory import ITEMS
from mirror.storage.on_sqlite.drivers import connect
from mirror.storage.on_sqlite.similar import most_similar
from mirror.storage.places import SIMILARITY_DIGITS
from mirror.storage.statements import Near
from mirror.storage.tables import Embedding


def exactly(vectors: list[list[float]], wanted: list[float], limit: int) -> list[tuple[int, float]]:
    """By the definition, in float64 throughout, of the float32 values."""
    rows = np.array(vectors, "f4").astype("f8")
    one = np.array(wanted, "f4").astype("f8")
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    scores = [float(row @ one / length) if length else 0.0 for row, length in zip(rows, lengths, strict=True)]
    rounded = [round(score, SIMILARITY_DIGITS) for score in scores]
    return sorted(enumerate(rounded), key=lambda each: (-each[1], each[0]))[:limit]


def found(
    vectors: list[list[float]], wanted: list[float], limit: int, *, extension: bool = False
) -> list[tuple[int, float]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.db"
        path.touch()
        connection = connect(path)
        assert not extension or connection.load_vectors()
        connection.execute("CREATE TABLE memory_items (id INTEGER PRIMARY KEY, embedding BLOB)")
        for at, vector in enumerate(vectors):
            connection.execute("INSERT INTO memory_items VALUES (?, ?)", [at, Embedding(vector).to_bytes()])
        near = Near(ITEMS, Embedding(wanted), limit)
        made = most_similar(connection, near, "rowid >= ?", [0], extension=extension)
        connection.close()
    return made


@pytest.mark.parametrize("extension", [False, True], ids=["float32", "extension"])
@pytest.mark.parametrize("limit", [1, 7, 20, 499, 500, 900])
def test_it_is_exact(limit: int, extension: bool) -> None:
    random = np.random.default_rng(limit)
    middle = random.normal(size=64)
    # Closer together than a sum of float32 tells apart.
    vectors = (middle + 1e-3 * random.normal(size=(500, 64))).tolist()
    vectors[3], vectors[9] = [0.0] * 64, vectors[8]
    assert found(vectors, middle.tolist(), limit, extension=extension) == exactly(vectors, middle.tolist(), limit)


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e-15, 1e15, 1e25, 3e37])
def test_numbers_that_float32_cannot_multiply(scale: float) -> None:
    random = np.random.default_rng(5)
    vectors = random.normal(size=(50, 8))
    vectors[::2] *= scale
    wanted = random.normal(size=8)
    for one in (wanted, wanted * scale):
        made, known = found(vectors.tolist(), one.tolist(), 5), exactly(vectors.tolist(), one.tolist(), 5)
        assert [at for at, _ in made] == [at for at, _ in known]


def test_nothing_to_compare_with() -> None:
    assert found([], [1.0], 5) == []
    assert found([[0.0, 0.0], [1.0, 0.0]], [0.0, 0.0], 1) == [(0, 0.0)]
    assert found([[1.0]], [1.0], 0) == []
