"""The copy of a source from which tables are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.core.errors import SourceError
from mirror.postgres.source_copy import open_copy


def test_a_copy_that_was_deleted_is_no_damage(folder: Path) -> None:
    """With the state directory, which the mirror then makes again; any other error would end it."""
    with pytest.raises(FileNotFoundError), open_copy(folder / "state" / "shadow.db"):
        pass


def test_a_copy_that_is_no_database(folder: Path) -> None:
    (folder / "shadow.db").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(SourceError, match="open the snapshot"), open_copy(folder / "shadow.db"):
        pass
