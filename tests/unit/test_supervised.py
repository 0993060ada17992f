"""One source's pipelines, one after another: what a later one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.core.faults import no_fault
from mirror.core.folders import source_folder
from mirror.sidecar.source_folder import SourceTask
from mirror.sidecar.supervised import SupervisedSource
from tests.support.source import Writer


def test_consent_to_discard_writes_counts_for_one_start(database: Path, folder: Path) -> None:
    """What programs write to Postgres alone after that, while the source has failed, is not discarded."""
    with Writer(database) as writer:
        writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    task = SourceTask(database, source_folder(folder / "state", database), "", "public", discard_writes=True)
    source = SupervisedSource(task, lambda: None, lambda: pytest.fail("not connected"), no_fault, restarts=True)
    source.open()
    assert source.error is None and source.pipeline is not None and source.pipeline.task.discard_writes
    assert source._folder is not None
    source._folder.release()
    source._open()
    assert not source.pipeline.task.discard_writes
    source._folder.release()
