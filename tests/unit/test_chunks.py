"""How texts are cut for search."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.errors import ConfigError
from mirror.storage.chunks import split


@given(st.text(alphabet="ab .\n", max_size=500), st.integers(5, 60), st.integers(0, 10))
def test_nothing_is_lost_and_no_chunk_is_too_long(text: str, size: int, overlap: int) -> None:
    if 2 * overlap >= size:
        with pytest.raises(ConfigError):
            split(text, size, overlap)
        return
    chunks = split(text, size, overlap)
    assert all(chunk and len(chunk) <= size and chunk == chunk.strip() and chunk in text for chunk in chunks)
    if overlap == 0:
        assert "".join("".join(chunks).split()) == "".join(text.split()), "all, in order, and nothing twice"
    else:
        assert sum(len(chunk) for chunk in chunks) >= len("".join(text.split()))
        first, last = ("".join(chunks[at]) if chunks else "" for at in (0, -1))
        assert text.strip().startswith(first) and text.strip().endswith(last)
    assert split(text, size, overlap) == chunks


def test_it_is_cut_between_paragraphs_before_all() -> None:
    paragraphs = ["First sentence. " * 5, "Second one. " * 6, "Third. " * 9]
    text = "\n\n".join(each.strip() for each in paragraphs)
    assert split(text, 100, 0) == [each.strip() for each in paragraphs]


def test_a_chunk_begins_with_the_end_of_the_last() -> None:
    words = " ".join(f"word{n}" for n in range(100))
    first, second, *_ = split(words, 100, 20)
    assert second.split()[0] in first.split() and second.split()[0] != first.split()[0]


def test_a_text_without_any_space() -> None:
    assert split("x" * 250, 100, 0) == ["x" * 100, "x" * 100, "x" * 50]


@pytest.mark.parametrize("text", ["", "  ", "\n\n"])
def test_nothing_has_no_chunks(text: str) -> None:
    assert split(text) == []
