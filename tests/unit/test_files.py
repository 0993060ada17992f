"""A file is replaced whole or not at all, whoever else writes it or reads it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mirror.core.files import write_atomically
from mirror.parity import proof as verified
from mirror.parity.proof import LastRun


@pytest.mark.parametrize("durable", [True, False])
def test_the_content_and_the_mode(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    for data in (b"one", b"", b"three" * 100_000):
        write_atomically(path, data, durable=durable)
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("durable", [True, False])
def test_what_cannot_be_written_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"after", durable=durable)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["file"]
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "file", b"after", durable=durable)


def test_two_who_keep_the_outcome_of_a_comparison_at_once(tmp_path: Path) -> None:
    """As the run in the background and ``mirror parity`` may: neither fails, and every reader finds one of the two."""
    runs = [LastRun("equal", 1.0, rows, "x" * (20_000 * rows)) for rows in (1, 2)]
    verified.keep(tmp_path, runs[0])
    problems: list[BaseException] = []

    def keep(run: LastRun) -> None:
        try:
            for _ in range(300):
                verified.keep(tmp_path, run)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=keep, args=(run,)) for run in runs for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert verified.last_run(tmp_path) in runs
    for thread in threads:
        thread.join()
    assert problems == []
    assert os.listdir(tmp_path) == ["parity.json"]
