"""One line in the program: :func:`enable_mirror`.

What it sets up in this process: a thread that keeps a sidecar running, and, if the program is on APSW, hooks on each
connection to a mirrored file. If APSW is not loaded, it is not loaded here either: the standard ``sqlite3`` module
brings its own copy of SQLite, and two copies on one file in one process drop each other's locks (hazard 17,
mirror/HAZARDS.md). Such a program has no hooks, and needs none: the sidecar captures all that it writes.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from msgspec import to_builtins
from msgspec.structs import replace

from mirror.core.config.settings import DEFAULT_SCHEMA, SIDECARS, Settings, load_settings
from mirror.core.control import ControlClient
from mirror.core.errors import ConfigError, MirrorError, NotRunningError
from mirror.core.folders import resolve, source_folder
from mirror.core.imports import WhenImported
from mirror.core.saved_status import saved_report
from mirror.core.status import Phase, StatusReport
from mirror.core.words import counted
from mirror.hook.budget import Budget
from mirror.hook.child import ANSWER_SECONDS, Sidecar, missing
from mirror.hook.keys import KeyHooks
from mirror.hook.outbox import Outbox
from mirror.hook.watch import ConnectionHooks, agent
from mirror.hook.wire import MOST_NAME

if TYPE_CHECKING:
    import apsw

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")

#: Seconds for which :func:`disable_mirror` waits at most until everything that hooks have queued is sent.
_FLUSH_SECONDS = 0.2
#: Seconds that the mirrors of all sources have to say what a ``repr`` shows.
_REPR_SECONDS = 0.5
_AGENTS_UNHEARD = (
    "as_agent() records nothing: this program is on the standard sqlite3 module, which does not tell who commits; open"
    " the file by apsw.Connection (it was installed with mirror) to have mirror.writes name the agent of each commit"
)

_guard = threading.RLock()
_current: Mirror | None = None


def enable_mirror(
    sources: Sequence[Path | str] = (),
    *,
    postgres: str | None = None,
    state_dir: Path | str | None = None,
    schema: str | None = None,
    config: Path | str | None = None,
    sidecar: str | None = None,
    connections: Iterable[apsw.Connection] = (),
) -> Mirror:
    """Mirror what this process writes, from now on. Call it once, at startup.

    ``sources``: SQLite files, or one; empty: those that mirror.json lists. ``postgres``, ``state_dir``, ``schema``,
    ``config``: as for ``mirror up``. ``sidecar``: "outlives" the program (the default), "follows" it to its end, or
    "none": it is not started here. ``connections``: APSW connections that are open already and should be watched, too;
    no session of the session extension may be open on them.

    Returns at once and never raises: what is wrong is logged, and shown by :meth:`Mirror.status`. Called again, it
    returns the same mirror, with the connections added.

    The sidecar writes its log to ``sidecar.log`` in the state directory. One that outlives the program is ended by
    ``mirror down``, when the program has ended or has called :func:`disable_mirror`; before, another one would be
    started. ``sidecar`` in :meth:`Mirror.status` has both, ``log`` and ``stop``, as they are here.
    """
    global _current
    with _guard:
        if _current is None:
            _current = Mirror(sources, postgres, state_dir, schema, config, sidecar)
        made = _current
    try:
        for connection in connections:
            made.watch(connection)
    except TypeError as error:
        logger.warning("connections are not watched: %s", error)
    return made


def disable_mirror() -> None:
    """Leave this process as it was: no hooks, no threads. A sidecar that outlives the program goes on."""
    if _current is not None:
        _current.disable()


@contextmanager
def as_agent(name: str) -> Iterator[None]:
    """What is committed in the block is recorded in ``mirror.writes`` as the work of this agent.

    Rows there sum up a second, so they come up to two seconds after the commits themselves, and after
    :meth:`Mirror.wait`. It takes hooks, and so APSW: with the standard ``sqlite3`` module nothing is recorded, which is
    logged once.
    """
    if _current is not None:
        _current.expect_agents()
    token = agent.set(str(name)[:MOST_NAME].encode(errors="replace").decode())  # it must be text
    try:
        yield
    finally:
        agent.reset(token)


class Mirror:
    """What :func:`enable_mirror` has set up."""

    def __init__(
        self,
        sources: Sequence[Path | str],
        postgres: str | None,
        state_dir: Path | str | None,
        schema: str | None,
        config: Path | str | None,
        sidecar: str | None,
    ) -> None:
        self.error: str | None = None
        """Why it does not work at all; None if it does."""
        self._settings: Settings | None = None
        self._sidecar: Sidecar | None = None
        self._outboxes: dict[Path, Outbox] = {}
        self._watches: WeakSet[ConnectionHooks] = WeakSet()
        self._budget = Budget()
        self._rows = True
        """Whether the preupdate hook may be used."""
        self._watcher: WhenImported | None = None
        self._session: Any = None
        self._enabled = True
        self._told_of_agents = False
        try:
            if sidecar not in (None, *SIDECARS):
                raise ConfigError("enable the mirror", "sidecar", f"{sidecar!r} is not one of {', '.join(SIDECARS)}")
            if isinstance(sources, str | os.PathLike):
                sources = [sources]
            names, directory = [os.fspath(source) for source in sources], None if state_dir is None else str(state_dir)
            named = load_settings(names, postgres, directory, schema, None if config is None else str(config))
            self._settings = replace(named, sidecar=sidecar or named.sidecar)
        except (MirrorError, TypeError, ValueError, RuntimeError, OSError) as error:  # arguments may be anything
            self.error = str(error)
            logger.warning("the mirror is not enabled: %s", error)
            return
        if not self._settings.sources:
            self.error = "no source is named: name SQLite files, or list them as sources in mirror.json"
            logger.warning("the mirror is not enabled: %s", self.error)
            return
        for source in self._settings.sources:
            if (reason := missing(source)) is not None:
                # A program may make its file only after this; anything else is a wrong path.
                later = os.path.isdir(source.parent) and not os.path.lexists(source)
                logger.log(logging.INFO if later else logging.WARNING, "%s is not mirrored: %s", source, reason)
        self._begin()
        if "apsw" in sys.modules:
            self._hook_apsw(sys.modules["apsw"])
        else:
            self._watcher = WhenImported("apsw", self._hook_apsw)
            self._watcher.begin()

    def _begin(self) -> None:
        settings = self._settings
        assert settings is not None
        if settings.sidecar != "none":
            self._sidecar = Sidecar(settings)
        self._outboxes = {}

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files that are mirrored."""
        return () if self._settings is None else self._settings.sources

    # -- for the program ---------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What the mirror is doing, as JSON values: ``sources`` by path, as ``mirror status --json`` prints them; and
        ``hook``, about this process; ``sidecar``, about those that it has started: the ``pid`` of one, the last
        ``error``, where their ``log`` is, and the command to ``stop`` them. For a source that no mirror answers for,
        what was saved last, with the phase "starting", "stopped", "failed" or "not answering", and, but for the first,
        the reason in ``last_error``. Never raises.
        """
        report: dict[str, Any] = {"enabled": self._enabled and self.error is None, "error": self.error, "sources": {}}
        for source in self.sources:
            report["sources"][str(source)] = to_builtins(self._report_of(source))
        if self._sidecar is not None:
            report["sidecar"] = {
                "pid": self._sidecar.pid,
                "error": self._sidecar.error,
                "log": str(self._sidecar.log),
                "stop": self._sidecar.stop,
            }
        report["hook"] = self._hook_report()
        return report

    def __repr__(self) -> str:
        """What it does now, in a few words: ``<Mirror app.db following, lag 0 ms>``."""
        if self.error is not None:
            return f"<Mirror not enabled: {self.error}>"
        name = self.sources[0].name if len(self.sources) == 1 else f"{len(self.sources)} sources"
        if not self._enabled:
            return f"<Mirror {name} disabled>"
        deadline = time.monotonic() + _REPR_SECONDS
        reports = [self._report_of(source, max(deadline - time.monotonic(), 0.01)) for source in self.sources]
        if len(reports) == 1:
            return f"<Mirror {name} {_in_words(reports[0])}>"
        phases = Counter(f"{report.phase}{' with refused tables' * bool(report.refusals)}" for report in reports)
        if len(phases) == 1:
            return f"<Mirror {name}, all {next(iter(phases))}>"
        return f"<Mirror {name}: {', '.join(f'{number} {phase}' for phase, number in phases.most_common())}>"

    def _report_of(self, source: Path, seconds: float = ANSWER_SECONDS) -> StatusReport:
        try:
            with self._client(source, seconds) as client:
                return client.status()
        except MirrorError as error:
            silent = error
        assert self._settings is not None
        folder = source_folder(self._settings.state_dir, source)
        report = saved_report(source, self._settings.schema or DEFAULT_SCHEMA, folder)
        if not isinstance(silent, NotRunningError):
            return replace(report, phase=Phase.SILENT, last_error=str(silent), error=silent.to_dict())
        ended = None if self._sidecar is None else self._sidecar.error_of(source)
        reason: str | None
        if (reason := missing(source)) is not None:
            phase = Phase.STOPPED
        elif self._sidecar is not None and self._sidecar.is_starting(source):
            report, phase, reason = replace(report, error=None, next_steps=[]), Phase.STARTING, None
        elif report.phase is Phase.FAILED or ended is not None:
            phase, reason = Phase.FAILED, report.last_error or ended or ""
        else:
            phase, reason = Phase.STOPPED, report.last_error or str(silent)
        # How far it is behind is not known while nothing runs.
        return replace(
            report, phase=phase, last_error=reason, behind_since=None, lag_seconds=None, worst_lag_seconds=None
        )

    def _hook_report(self) -> dict[str, Any]:
        watches = [watch for watch in list(self._watches) if watch.connection_is_open]
        with_rows = sum(watch.with_rows for watch in watches)
        if "apsw" in sys.modules and self._watcher is None:
            how = "hooks on every APSW connection to a mirrored file"
            if not self._rows:
                how = "hooks that send only the keys of rows: there is no preupdate hook, or sessions need it"
        else:
            how = "no hooks: this program is not on APSW; the sidecar captures all that it writes"
        return {
            "how": how,
            "connections": len(watches),
            "with_rows": with_rows,
            "sent": sum(outbox.sent for outbox in self._outboxes.values()),
            "let_go": sum(outbox.lost for outbox in self._outboxes.values()),
            "failures": sum(watch.failures for watch in watches),
            "agents": _AGENTS_UNHEARD if "apsw" not in sys.modules else None,
            "error": next((outbox.error for outbox in self._outboxes.values() if outbox.error is not None), None),
        }

    def expect_agents(self) -> None:
        """Log, once, that :func:`as_agent` has no effect, if that is so."""
        unheard = "sqlite3" in sys.modules and "apsw" not in sys.modules
        if unheard and self._enabled and self.error is None and not self._told_of_agents:
            self._told_of_agents = True
            logger.warning("%s", _AGENTS_UNHEARD)

    def wait(self, timeout: float) -> bool:
        """Wait until Postgres has all that is committed now; False if it takes longer than ``timeout`` seconds, no
        sidecar starts, or Postgres refuses a table, which so is not there: :meth:`status` says which, and why.
        """
        deadline = time.monotonic() + timeout
        for source in self.sources:
            while True:
                try:
                    with self._client(source) as client:
                        if not client.wait(max(0.0, deadline - time.monotonic()), slack=0.2):
                            return False
                        if client.status().refusals:
                            return False
                    break
                except MirrorError:
                    if time.monotonic() > deadline:
                        return False
                    time.sleep(0.02)
        return bool(self.sources)

    def watch(self, connection: apsw.Connection) -> None:
        """Set the hooks on a connection that was open before; nothing happens if its file is not mirrored."""
        self._hook(connection, opened_now=False)

    def disable(self) -> None:
        """See :func:`disable_mirror`."""
        global _current
        with _guard:
            if not self._enabled:
                return
            self._enabled = False
            if _current is self:
                _current = None
        if self._watcher is not None:
            self._watcher.end()
        apsw: Any = sys.modules.get("apsw")
        if apsw is not None and self._hook in apsw.connection_hooks:
            apsw.connection_hooks.remove(self._hook)
        if apsw is not None and self._session is not None:
            apsw.Session = self._session
        for watch in list(self._watches):
            watch.remove()
        self._watches.clear()
        for outbox in self._outboxes.values():
            outbox.close(_FLUSH_SECONDS)
        if self._sidecar is not None:
            self._sidecar.close()

    def _client(self, source: Path, seconds: float = ANSWER_SECONDS) -> ControlClient:
        assert self._settings is not None
        return ControlClient(source_folder(self._settings.state_dir, source), seconds)

    # -- in this process ---------------------------------------------------------------------------

    def _hook_apsw(self, apsw: Any) -> None:
        """Watch each connection that is opened from now on, if it is to a mirrored file."""
        self._watcher = None
        self._rows = hasattr(apsw, "PreUpdate") and not _holds_session(apsw)
        session = getattr(apsw, "Session", None)
        if self._rows and session is not None:
            self._session = session
            apsw.Session = _guarded(session, self._give_rows_up)
        # First in the list, so that an update hook of the program replaces ours, and not the other way round.
        apsw.connection_hooks.insert(0, self._hook)

    def _hook(self, connection: apsw.Connection, *, opened_now: bool = True) -> None:
        """Set the hooks on a connection if its file is mirrored."""
        try:
            name = connection.filename
            source = resolve(name) if name else None
            if source is None or source not in self.sources or not self._enabled:
                return
            if any(watch.watches(connection) for watch in list(self._watches)):
                return
            with _guard:
                if source not in self._outboxes:
                    assert self._settings is not None
                    self._outboxes[source] = Outbox(source_folder(self._settings.state_dir, source))
                kind = ConnectionHooks if self._rows or not opened_now else KeyHooks
                watch = kind(connection, self._outboxes[source], self._budget, rows=self._rows)
            self._watches.add(watch)
        except Exception as error:  # no error of ours may reach the program
            logger.warning("a connection is not watched, the sidecar captures what it writes: %s", error)

    def _give_rows_up(self, connection: apsw.Connection) -> None:
        for watch in list(self._watches):
            if watch.watches(connection):
                watch.give_rows_up()

    def after_fork(self) -> None:
        """In a forked child: the threads do not exist here, and their sockets belong to the parent."""
        if not self._enabled or self._settings is None:
            return
        for outbox in self._outboxes.values():
            outbox.abandon()
        if self._sidecar is not None:
            self._sidecar.abandon()
        self._watches = WeakSet()  # a connection must not be used on both sides of a fork
        self._begin()


def _after_fork() -> None:
    global _guard
    _guard = threading.RLock()  # a thread that does not exist here may have held it
    if _current is not None:
        _current.after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _in_words(report: StatusReport) -> str:
    """What the mirror of a source does, in a few words."""
    if report.phase is Phase.FOLLOWING:
        lag, refused = report.lag_seconds, len(report.refusals)
        if refused:
            return f"following, but for {refused:,} of {counted(report.tables, 'table')}, which Postgres refuses"
        return f"following, lag {'unknown' if lag is None else f'{lag * 1000:,.0f} ms'}"
    return str(report.phase) if report.last_error is None else f"{report.phase}: {report.last_error}"


def _holds_session(apsw: ModuleType) -> bool:
    """Whether a module has a reference of its own to APSW's session class, so that its use cannot be noticed."""
    session = getattr(apsw, "Session", None)
    for name, module in list(sys.modules.items()):
        if session is not None and name.partition(".")[0] != "apsw" and getattr(module, "Session", None) is session:
            return True
    return False


def _guarded(session: Any, before: Any) -> Any:
    """A session class that takes the preupdate hook of its connection over without a crash.

    The session extension believes that an earlier preupdate hook belongs to a session, too, so ``before(connection)``
    must remove ours.
    """

    class Session(session):  # type: ignore[misc]
        def __new__(cls, db: Any, *arguments: Any, **more: Any) -> Any:
            before(db)
            return super().__new__(cls, db, *arguments, **more)

    Session.__qualname__, Session.__module__, Session.__doc__ = "Session", session.__module__, session.__doc__
    return Session
