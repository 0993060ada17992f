"""The mirror of a source, for commands that need one."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.cli.options import Patience
from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.errors import MirrorError, NotRunningError, StateError
from mirror.core.folders import source_folder
from mirror.core.rules import NO_RULES, Rules
from mirror.core.source_settings import remembered_schema
from mirror.core.status import Phase
from mirror.postgres.failures import translated
from mirror.postgres.migrate import statement
from mirror.postgres.phase import require_unsealed
from mirror.postgres.sessions import connect

if TYPE_CHECKING:
    from mirror.sidecar.supervisor import Supervisor

#: Seconds in which a mirror that is started here must take requests.
BEGIN_SECONDS = 60.0


@contextmanager
def gate_of(
    source: Path,
    dsn: str,
    state_dir: Path,
    schema: str,
    options: str = "",
    rules: Rules = NO_RULES,
    *,
    start: bool = True,
) -> Iterator[ControlClient]:
    """The running mirror of a source, or, if none is running, one that runs for the duration of the block.

    The latter catches up from where the last one stopped, but never copies the source again: that would hide what
    parity is to find. Without ``start`` there is none: ``NotRunningError``. Raises ``StateError`` if there is no saved
    position to go on from, or the source is mirrored into another schema, ``SealedError`` if none is running and the
    source was moved to Postgres, ``ControlError`` if a mirror is running and does not answer. ``options``: what the
    command that starts the mirror needs besides the source's name, with a space in front. ``rules``: those of
    mirror.json.
    """
    folder = source_folder(state_dir, source)
    try:
        client = ControlClient(folder)
    except NotRunningError:
        if not start:
            raise
        _require_unmoved(source, dsn, schema)
        if not (folder / "shadow.json").exists():
            raise StateError(
                "check parity",
                str(source),
                "it has never been mirrored with this state directory",
                next_step=f"run `mirror up {shlex.quote(str(source))}{options}`",
            ) from None
        if remembered := remembered_schema(folder):
            _require_schema(source, remembered, schema)
        # Imported here: it loads the whole engine, which takes longer than most commands take to run.
        from mirror.sidecar.supervisor import Supervisor, SupervisorSettings

        supervisor = Supervisor(SupervisorSettings([source], dsn, state_dir, schema, rules=rules, resume_only=True))
        with supervisor, _with_its_error(supervisor), wait_for_mirror(folder, BEGIN_SECONDS) as client:
            _catch_up(supervisor, client)
            yield client
        return
    with client:
        # First a status request: a mirror that does not answer fails here, within seconds.
        _require_schema(source, str(client.status().schema), schema)
        yield client


def _require_unmoved(source: Path, dsn: str, schema: str) -> None:
    """Raise ``SealedError`` if the source was moved to Postgres: a mirror that starts would carry writes back."""
    with connect(dsn, name="mirror", raw=True) as conn, translated("read the phase", str(source)):
        if conn.execute("SELECT to_regclass('mirror.phase') IS NULL").fetchone() == (True,):
            return
        row = conn.execute(statement("reverse_read"), (str(source), schema)).fetchone()
        if row is not None:
            require_unsealed(conn, row[0], str(source))


@contextmanager
def _with_its_error(supervisor: Supervisor) -> Iterator[None]:
    """Where the mirror has ended, its own error in place of that of a conversation with it."""
    try:
        yield
    except MirrorError as error:
        if (why := supervisor.pipelines[0].error) is not None and why is not error:
            raise why from error
        raise


def _require_schema(source: Path, actual: str, asked: str) -> None:
    """Raise ``StateError`` if the source's mirror does not write into the schema that is asked for."""
    if actual != asked:
        raise StateError(
            "ask the mirror of a source",
            str(source),
            f"it mirrors into the schema {actual}, not into {asked}",
            next_step=f"leave --schema out, or use --schema {actual}",
        )


def _catch_up(supervisor: Supervisor, client: ControlClient) -> None:
    patience = Patience()
    while client.status().phase not in (Phase.FOLLOWING, Phase.FAILED):
        patience.check(supervisor.pipelines[0])
        time.sleep(0.01)
    if supervisor.pipelines[0].error is not None:
        raise supervisor.pipelines[0].error
