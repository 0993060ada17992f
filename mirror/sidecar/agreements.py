"""Comparisons of the file with Postgres that others ask for, while what is written there is carried back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from mirror.core.agreement import Agreement
from mirror.core.errors import ControlError, MirrorError
from mirror.reverse.follower import ReverseFollower


class Agreements:
    """Those of one source. Thread: the loop's."""

    def __init__(self) -> None:
        self._open = False
        self._asked: list[tuple[Future[Agreement], str, bool, str]] = []

    def ask(self, future: Future[Agreement], since: str, touched: bool, after: str) -> None:
        """Have the future be answered after the next step of the way back; see ``ReverseFollower.agree``."""
        if self._open:
            self._asked.append((future, since, touched, after))
        else:
            future.set_exception(_not_now())

    @contextmanager
    def served(self) -> Iterator[None]:
        """What is asked meanwhile is answered, by :meth:`answer` and :meth:`refuse`."""
        self._open = True
        try:
            yield
        finally:
            self._open = False
            self.refuse(_not_now())

    def answer(self, follower: ReverseFollower) -> None:
        """Compare, for all that have asked. The follower has made a step since. Raises as its ``agree`` does."""
        while self._asked:
            future, since, touched, after = self._asked[0]
            if (found := follower.agree(since, touched=touched, after=after)) is None:
                return
            del self._asked[0]
            future.set_result(found)

    def refuse(self, error: MirrorError) -> None:
        """The way back has met an error, or is over."""
        asked, self._asked = self._asked, []
        for future, *_ in asked:
            if not future.done():
                future.set_exception(error)


def _not_now() -> ControlError:
    return ControlError(
        "compare with the file", detail="nothing is carried back just now", next_step="try again", retryable=True
    )
