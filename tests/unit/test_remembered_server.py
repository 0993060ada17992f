"""The server that a state directory remembers: what is kept of a connection string, and when it counts."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from mirror.cli.config import report_of
from mirror.cli.remembering import to_remember
from mirror.core.config.notes import configuration_checks
from mirror.core.config.settings import Settings, load_settings
from mirror.core.errors import ConfigError, NewerStateError, StateError
from mirror.core.remembered_server import SERVER_FILE, RememberedServer, remember_server, remembered_server
from mirror.core.versions import STATE_FORMAT, stamped
from mirror.storage.flags import LiveSettings
from tests.support.waiting import until

SERVER = RememberedServer("host=db dbname=app", True)


def load(state_dir: Path, postgres: str | None = None, *, lenient: bool = False, **environment: str) -> Settings:
    home = {"HOME": str(state_dir.parent), **environment}
    return load_settings((), postgres, str(state_dir), None, None, home, lenient=lenient)


def test_kept_and_read(tmp_path: Path) -> None:
    """For the owner's eyes, whole or not at all."""
    assert remembered_server(tmp_path) is remembered_server(tmp_path / "nowhere") is None
    remember_server(tmp_path, SERVER)
    assert remembered_server(tmp_path) == SERVER
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == stamped({"connectionString": "host=db dbname=app", "password": True})
    assert remembered_server(file) is None, "no directory at all"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"connectionString": " "}', '{"connectionString": 1}', "\x00"])
def test_damaged(tmp_path: Path, text: str) -> None:
    """No guess: another server has other tables. Whoever names it writes it again; status answers all the same."""
    (tmp_path / SERVER_FILE).write_text(text)
    with pytest.raises(StateError, match="--postgres"):
        load(tmp_path)
    assert load(tmp_path, "host=db").dsn == "host=db"
    assert load(tmp_path, lenient=True).dsn is None


def test_newer(tmp_path: Path) -> None:
    values = {"connectionString": "host=db", "format": STATE_FORMAT + 1, "mirror": "0.9.0"}
    (tmp_path / SERVER_FILE).write_text(json.dumps(values))
    with pytest.raises(NewerStateError, match=r"made by mirror 0\.9\.0"):
        load(tmp_path)


def test_what_is_given_comes_first(tmp_path: Path) -> None:
    """Flag, variable, file; then what is remembered; then the embedded one."""
    state = tmp_path / "state"
    state.mkdir()
    key = "postgres.connectionString"
    assert (load(state).dsn, load(state).remembered) == (None, None)
    remember_server(state, SERVER)
    found = load(state)
    assert (found.dsn, found.remembered) == (SERVER.dsn, SERVER)
    assert found.origins[key] == "remembered from the last `mirror up`"
    assert found.options == f" --state-dir {state}", "steps need no --postgres"
    assert report_of(found)["settings"][key] == {"value": SERVER.dsn, "origin": found.origins[key]}
    assert any("remembered from the last" in detail for _, _, detail, _ in configuration_checks(found))
    for given in (load(state, "host=flag"), load(state, PG_URL="host=variable")):
        assert given.dsn in ("host=flag", "host=variable") and given.remembered is None
    (tmp_path / ".argentos").mkdir()
    (tmp_path / ".argentos" / "mirror.json").write_text('{"postgres": {"connectionString": "host=file"}}')
    assert load(state).dsn == "host=file"
    (tmp_path / ".argentos" / "mirror.json").unlink()
    (tmp_path / ".argentos" / "argent.json").write_text(
        '{"storage": {"postgres": {"connectionString": "host=${NONE}"}}}'
    )
    with pytest.raises(ConfigError, match="NONE is not set"):
        load(state)


def test_a_program_follows_it(tmp_path: Path) -> None:
    """Adapters that are open find the server once `mirror up` has begun in it."""
    state = tmp_path / "state"
    state.mkdir()
    with LiveSettings(None, {"HOME": str(tmp_path), "MIRROR_STATE_DIR": str(state)}) as live:
        assert live.current.dsn is None
        remember_server(state, SERVER)
        until(lambda: live.current.dsn == SERVER.dsn)
        (state / SERVER_FILE).write_text("{")
        until(lambda: live.problem is not None)
        assert live.current.dsn == SERVER.dsn


@pytest.mark.parametrize(
    ("dsn", "kept", "secret"),
    [
        ("postgresql://me:s3cr3t@db:5433/app?sslmode=allow", "user=me dbname=app host=db port=5433 sslmode=allow", 1),
        ("postgresql://me@db/app", "user=me dbname=app host=db", 0),
        ("host=db password='s3cr3t more' sslpassword=s3cr3t dbname='a b'", "dbname='a b' host=db", 1),
        ("postgresql:///app?password=s3cr3t&host=/run/pg", "dbname=app host=/run/pg", 1),
        ("postgresql://a:1,b:2/app", "dbname=app host=a,b port=1,2", 0),
        ("service=shop password=s3cr3t", "service=shop", 1),
    ],
)  # fmt: skip
def test_what_is_kept(dsn: str, kept: str, secret: int) -> None:
    found = to_remember(dsn, {})
    assert (conninfo_to_dict(found.dsn), found.needs_password) == (conninfo_to_dict(kept), secret)
    assert "s3cr3t" not in found.dsn


def test_what_variables_add() -> None:
    """Another shell may have others, or none."""
    variables = {"PGHOST": "db", "PGPORT": "5433", "PGUSER": "me", "PGPASSWORD": "s3cr3t", "PGAPPNAME": "x"}
    found = to_remember("dbname=app port=1", variables)
    assert conninfo_to_dict(found.dsn) == {"dbname": "app", "port": "1", "host": "db", "user": "me"}
    assert found.needs_password
    named = to_remember("dbname=app", variables | {"PGSERVICE": "shop"})
    assert conninfo_to_dict(named.dsn) == {"dbname": "app", "service": "shop"}


def test_no_reader_sees_half_of_it(tmp_path: Path) -> None:
    servers = [RememberedServer(f"host={name * 4000}", False) for name in "ab"]
    remember_server(tmp_path, servers[0])
    done = threading.Event()

    def write() -> None:
        for number in range(100):
            remember_server(tmp_path, servers[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert remembered_server(tmp_path) in servers
    writer.join()
