"""Locks between processes: the two that are files in a source's folder, and a table of all locks of the mirror.

F: an exclusive ``flock`` on a file, which the kernel drops when its process ends in any way. S: an advisory lock of a
Postgres session, which Postgres drops when the session ends. T: an advisory lock of a Postgres transaction, which
Postgres drops at COMMIT or ROLLBACK. Advisory locks are per database. A server notices that a client process was killed
when it next reads from or writes to the connection, so after the statement that runs; that a machine is gone, by TCP
keep-alives within a minute.

Source lock: F, ``lock`` in the source's folder (:class:`SourceLock`)
    Protects the folder (shadow, spool, socket): one mirror of a source per state directory. Taken without waiting by
    the sidecar for each source (``sidecar/source_folder.py``), kept while its pipeline runs; another mirror gets
    ``StateError`` with the process id. Taken for a moment also by ``mirror rename`` and ``mirror remove``, while they
    change or remove the folder. Released, the file is empty. Holder killed: the next mirror takes it at once.
Parity lock: F, ``parity.lock`` in the source's folder (:class:`ParityLock`)
    Protects a comparison's holds: one comparison of a source at a time. Taken by ``mirror parity``, which waits, for a
    whole run with its repair, and by the comparison in the background, which does not wait, for one hold (some 20 ms
    of reading, and the apply up to there; without a WAL there is no hold, and it takes no lock). Holder killed: the
    next one takes it at once; the hold itself ends with the killed process's control connection.
Spool lock: F, ``lock`` in the spool's folder (``capture/spool.py``)
    Protects the segments: one process appends. Taken by the capture process, from opening a spool until closing it; it
    tries for 5 s, then reports ``StateError`` and tries again. Holder killed: the next capture process takes it and
    cuts off what follows the last whole commit. The reader takes no lock.
Configuration: an ``flock`` of the folder in which ``mirror.json`` is (``core/config/json_edit.py``)
    Protects reading, changing and replacing that file: by ``mirror add`` and ``remove``, and by a move that flips its
    flags. Taken, with waiting, for these milliseconds. Holder killed: the file is the old one, or the new one.
Embedded server: a *shared* ``flock`` on ``postgres.lock`` in the state directory (``postgres/embedded.py``)
    Protects a running server from being stopped. Taken by every process that uses the server, for as long as it does.
    A process that ends tries to turn it into an exclusive one: if that succeeds it was the last, and stops the server
    (others wait for that). Holder killed: the server runs on, and the next start attaches to it.
Start of the embedded server: F, ``postgres.start.lock`` in the state directory (``postgres/embedded.py``)
    Protects making and starting a server. Taken, with waiting, while a process looks for the server, makes its
    directory or starts it. Holder killed: a directory half made has another name, and the next one removes it.
Source in Postgres: S, two keys, ``0x6D697272`` and the source's id (``postgres/lease.py``)
    Protects a source's tables: one mirror writes them, also across machines and state directories. Taken by
    ``Sink.open``, kept until its connection closes, or by the session that keeps those of many sources with nothing to
    do (``postgres/keeper.py``); another mirror gets ``FencedError`` (at once where the holder is
    known, else after 5 s). Holder killed: a mirror in the same boot and process namespace ends the session that is
    left; others get it when the server notices. Behind a pooler in transaction mode a session, and so each lock of
    kind S, is nobody's: such a pooler is refused when the connection is made (``postgres/sessions.py``).
    A storage adapter that writes to Postgres alone *shares* it (T, without waiting) in each transaction that writes
    what a mirror would fill (``storage/on_postgres/session.py``): beside a mirror the write gets ``StorageError``. A
    mirror that starts waits for such transactions, and while it waits none gets a share, or they would never end.
Handing over a source: S, two keys, ``0x6D697261`` and the source's id (``postgres/keeper.py``)
    Protects the lock above while it goes from one session of a mirror to another, for which nobody holds it for a
    moment. Taken by the source's own session, which waits for 0.2 s, and kept until the other has the lock; by whoever
    else wants the lock, without waiting, before it tries that one. Holder killed: Postgres drops it.
Way back: S, two keys, ``0x6D697262`` and the source's id (``reverse/follower.py``)
    Protects the file of a source that was moved to Postgres: one mirror carries writes back. Taken without waiting,
    kept until the connection closes; another mirror gets ``FencedError`` and tries again. Holder killed: Postgres
    drops it when it notices.
Move of a source: S, two keys, ``0x6D69726D`` and the source's id (``postgres/moving.py``)
    Protects a source from being moved by two commands, and tells that the one which has begun (``mirror.phase``) is
    still there. Taken by ``mirror cutover advance``, ``rollback`` and ``finalize``, kept until their session ends;
    another such command gets ``FencedError`` after 10 s. Holder killed: Postgres drops it when it notices, and the next
    command undoes or completes what was left. A mirror takes it, without waiting, to switch off what a killed command
    has left capturing (``reverse/capture.py``).
Epoch of a source: no lock but a number, ``epoch`` in ``mirror.sources`` (``postgres/lease.py``, ``mirror.advance``)
    Protects the position from a mirror that has lost the lock above without noticing. Raised by each ``Sink.open``,
    checked by the statement that moves the position in every transaction; a mirror with an older one gets
    ``FencedError`` (SQLSTATE MR001 from ``mirror.advance``), and its transaction is rolled back. Nothing to release:
    the next mirror raises it.
Rehearsal: F, ``lock`` in its folder, and S, two keys, ``0x6D697268`` and its name (``cutover/rehearsal/place.py``)
    Protect what a rehearsal has made, on this machine and in Postgres, from being removed as left over. Taken without
    waiting as it begins, kept to its end; what removes left-overs passes over one that has them. Holder killed: the
    next rehearsal takes both, and removes it.
Migrations: S, one key, ``0x6D6972726F72`` (``postgres/migrate.py``)
    Protects the schema ``mirror``. Taken, with waiting, by each ``Sink.open`` while it looks for and applies missing
    migrations. Holder killed: the migration that ran is rolled back with its transaction, and the next one applies it.
Profile's tables: T, one key, ``0x6D6972726F73`` (``postgres/migrate.py``)
    Protects a profile's tables while they are made. Taken, with waiting, only where migrations of the profile are
    missing; kept until the first load's transaction ends. Holder killed: rolled back, and the next one makes them.
Index builds: S, one key, ``0x6D6972726F74`` (``postgres/vectors.py``)
    Protects vector indexes: one mirror of a database builds at a time. Taken by the indexer's own connection, which
    tries every 0.2 s, for all builds of one pass. Holder killed: an index that was not completed stays invalid, and
    the next pass drops it and builds it again.
Name of a table: T, one key, ``mirror.name_key(schema, table)`` (``postgres/target.py``, ``postgres/shared_tables.py``)
    Protects a name in a schema that a source is about to create or rename a table to. Taken without waiting for a
    source's own table (another source gets ``NameTakenError``, and the table is tried again), with waiting for a table
    that agents share; kept until the transaction ends. Holder killed: rolled back, and the name is free.

Locks between threads of one process are not in this table. No lock of SQLite is taken that a writer of the source
waits for (hazards 2 and 17, mirror/HAZARDS.md).
"""

from __future__ import annotations

import fcntl
import os
import shlex
import time
from contextlib import suppress
from pathlib import Path

from mirror.core.errors import StateError
from mirror.core.files import make_folder
from mirror.core.folders import LOCK, holder, write_name
from mirror.core.process_name import this_process
from mirror.core.state_errors import state_error

#: First key of the lock of a source in Postgres; the second is the source's number. ("mirr")
SOURCE_IN_POSTGRES = 0x6D697272
#: That of the lock under which the one above goes from one session of a mirror to another. ("mira")
SOURCE_HANDED_OVER = 0x6D697261
#: That of the lock under which a source that was moved to Postgres is carried back. ("mirb")
SOURCE_IN_REVERSE = 0x6D697262
#: That of the lock of a command that waits to move a source. ("mirm")
SOURCE_IN_MOVE = 0x6D69726D


class SourceLock:
    """The right to mirror a source with this state directory; the kernel drops it when the process ends."""

    def __init__(self, folder: Path, source: Path, *, named: bool = True) -> None:
        """Take it; raises ``StateError`` at once if another mirror has it.

        ``named``: a mirror takes it: the folder counts as that of a known source from then on, and the file says who
        has it, and once it is released that nobody was killed. Else it stays as the last mirror has left it.
        """
        self._named = named
        self._folder = folder
        self._source = source
        self._descriptor = self._take()

    def _take(self) -> int:
        folder = self._folder
        try:
            self._make_folder()
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._named:
                said = f"{os.getpid()}\n{this_process()}\n".encode()
                os.pwrite(descriptor, said, 0)
                os.ftruncate(descriptor, len(said))  # not before: an empty file says that the mirror was stopped
            self._write_name()
        except BlockingIOError:
            os.close(descriptor)
            raise StateError(
                "mirror a source",
                str(self._source),
                f"another mirror of it is running (pid {holder(folder) or 'unknown'})",
                next_step=f"stop that one first; `mirror status {shlex.quote(str(self._source))}"
                f" --state-dir {shlex.quote(str(folder.parent.parent))}` shows it",
            ) from None
        except OSError as error:
            with suppress(OSError):
                if self._named:
                    os.ftruncate(descriptor, 0)  # else this process would seem to have it
            os.close(descriptor)
            raise self._unusable(error) from error
        return descriptor

    def _make_folder(self) -> None:
        """Make the folder and its spool folder, if they are missing. Raises ``OSError``."""
        make_folder(self._folder / "spool", 0o700)
        self._folder.chmod(0o700)  # it contains a copy of the source, which may be private

    def _write_name(self) -> None:
        """Write the source's path into its file; the lock must be held. Raises ``OSError``."""
        if self._named:
            write_name(self._folder, self._source)

    def _unusable(self, error: OSError) -> StateError:
        return state_error(error, self._folder)

    @property
    def intact(self) -> bool:
        """Whether the file that is locked is still the one in the folder."""
        try:
            return os.path.samestat(os.stat(self._folder / LOCK), os.fstat(self._descriptor))
        except OSError:
            return False

    def renew(self) -> None:
        """Make a folder that was deleted again, and take its lock; raises ``StateError`` as ``__init__`` does."""
        if self.intact:
            try:
                self._make_folder()
                self._write_name()
            except OSError as error:
                raise self._unusable(error) from error
            return
        descriptor = self._take()
        os.close(self._descriptor)
        self._descriptor = descriptor

    def sign_off(self, seconds: float = 0.0) -> None:
        """Write down that the mirror ends, and was not killed (:func:`~mirror.core.folders.ending`).

        ``seconds``: since when it has read nothing more: the file's time says that moment.
        """
        with suppress(OSError):  # a disk that is read-only now
            if self._named:
                os.ftruncate(self._descriptor, 0)
                at = time.time() - seconds
                os.utime(self._descriptor, (at, at))

    def release(self, seconds: float = 0.0) -> None:
        """Release it, as with :meth:`sign_off`. May be called once."""
        self.sign_off(seconds)
        os.close(self._descriptor)


_LOCK = "parity.lock"


class ParityLock:
    """The right to compare a source: for a run of ``mirror parity``, or for one round of a background comparison."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self, *, wait: bool) -> bool:
        """Take it; False if another process has it and ``wait`` is not set."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def give(self) -> None:
        """Release it; it can be taken again."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release it, if it is taken, and close its file."""
        os.close(self._descriptor)
