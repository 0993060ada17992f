"""What parity needs of the running mirror: to apply up to one commit, and to stop there for a moment."""

from __future__ import annotations

from typing import Protocol

from mirror.core.positions import Lsn, Salts


class Gate(Protocol):
    """Stops the apply side at an exact commit.

    Every method may raise :class:`mirror.core.errors.MirrorError` or ``OSError``; the comparison then
    ends as "not checked". A gate must end a hold by itself when its caller ends.
    """

    def hold(self) -> str:
        """Apply nothing from now on; returns the name of this hold, once nothing is being applied.

        Only a caller that has the name can use the hold, or end it. Raises a retryable error while there is another.
        """

    def reach(self, hold: str, salts: Salts, frame: int) -> Lsn:
        """Apply up to exactly the commit that ends at ``frame`` of the WAL with ``salts``; the hold goes on.

        ``frame`` 0 is the state in which the generation starts, so the last commit of the generation
        before; salts (0, 0) with frame 0 are a WAL that has no frame and no header yet. Returns the
        position that Postgres now has for this commit.
        """

    def settle(self) -> Lsn:
        """Apply all that is committed now; return its position. Without a hold."""

    def release(self, hold: str) -> None:
        """Apply again; harmless when the hold has ended."""
