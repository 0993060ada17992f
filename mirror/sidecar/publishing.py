"""Publishing the applied position for the programs that read Postgres (:mod:`mirror.core.published`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from loguru import logger

from mirror.core.errors import SealedError
from mirror.core.published import Publisher
from mirror.core.status import Phase
from mirror.postgres.sink import Sink
from mirror.sidecar.status import SourceStatus


class Publishing:
    """What one source's loop publishes. Thread: the loop's."""

    def __init__(self, folder: Path, name: str) -> None:
        """``folder``: the source's, locked. ``name``: the source's, for the log. Raises ``OSError``."""
        self._publisher = Publisher(folder)
        self._name = name
        self._problem = ""
        self._sink: Sink | None = None
        """That of a source which is followed."""
        self._wal = False
        self._unsure = False
        """Whether a move has ended, and it is not known how."""

    def update(self, sink: Sink | None, status: SourceStatus, *, agreed: bool) -> None:
        """Publish how far Postgres is; or, while that may be wrong, that it is not to be waited for.

        ``agreed``: whether Postgres and the state directory are known to be at one position. To be called after each
        commit and each change of the phase, and once a second at least; it writes only what is new. What cannot be
        written holds nothing up: readers wait for less, and prove each answer by itself.
        """
        if self._unsure and sink is not None:  # which was opened since, and has seen that the source is not sealed
            self._publisher.moving = self._unsure = False
        follows = sink is not None and sink.position is not None and agreed and status.phase is Phase.FOLLOWING
        self._sink, self._wal = sink if follows else None, status.capture == "WAL"
        if self._sink is None:
            self._publisher.withdraw()
        else:
            self._publish(self._sink)

    def _publish(self, sink: Sink) -> None:
        assert sink.position is not None
        known = sink.source_id, sink.epoch, sink.lineage, sink.position
        self._write(partial(self._publisher.publish, *known, wal=self._wal, in_phases=sink.in_phases))

    def beat(self) -> None:
        """Say that the mirror is there, of a source that rests; to be called every second."""
        if self._sink is None:
            return
        try:
            again = not self._publisher.beat()
        except OSError:
            again = True  # which logs it
        if again:
            self._publish(self._sink)

    @property
    def moving(self) -> bool:
        """Whether a move has begun, and it is not known that it has ended."""
        return self._publisher.moving or self._unsure

    def say_moved(self, *, sealed: bool, source_id: int | None = None) -> None:
        """Say that Postgres is the original, or the file again: programs go there.

        ``source_id``: None: that of the last sink.
        """
        self._sink, self._unsure = None, False
        self._write(partial(self._publisher.say_moved, sealed=sealed, source_id=source_id))

    def was_asked(self) -> bool:
        """Whether a move has ended since the last call, or :meth:`say_moved`."""
        asked, self._unsure = self._unsure, False
        return asked

    def begin_move(self) -> bool:
        """Say that programs are being moved: they write nothing to the file until :meth:`end_move`.

        Returns whether that is said: not while the source is not followed.
        """
        if self._sink is None:
            return False
        self._publisher.moving, self._unsure = True, False
        self._publish(self._sink)
        return not self._problem

    def end_move(self) -> None:
        """The move has ended, or the command that does it was killed: see in Postgres whether programs were moved.

        Where that cannot be seen now, programs wait until it can. Raises ``SealedError`` if they were, ``SinkError``.
        """
        self._unsure = True
        if self._sink is not None and self._sink.fileno() >= 0:  # else one that is opened sees it
            try:
                self._sink.require_unsealed()
            except SealedError:
                self.say_moved(sealed=True)  # at once: programs wait for it
                raise
            self._publisher.moving = self._unsure = False
            self._publish(self._sink)

    def _write(self, write: Callable[[], None]) -> None:
        """Write, and say once if that cannot be done."""
        try:
            write()
            self._problem = ""
        except OSError as error:
            if str(error) != self._problem:
                logger.warning("{}: its position cannot be published, so reads go to SQLite: {}", self._name, error)
            self._problem = str(error)

    def renew(self) -> None:
        """Make the file again in a folder that was made again. Raises ``OSError``."""
        self._publisher.renew()

    def close(self) -> None:
        """Publish that the source is not followed any longer."""
        self._publisher.close()
