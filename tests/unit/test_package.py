"""What the package gives by its name."""

from __future__ import annotations

import mirror
from mirror.core.errors import MirrorError


def test_every_name_is_there() -> None:
    assert mirror.MirrorError is MirrorError
    assert all(getattr(mirror, name) is not None for name in mirror.__all__)
