"""``mirror psql``: the right database and schema, and no password where others can read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mirror.cli import psql
from mirror.core.errors import ConfigError
from tests.support.commands import CommandLine
from tests.support.source import Writer


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def source(writer: Writer, database: Path) -> Path:
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO t(v) VALUES ('a')")
    return database


def test_the_schema_of_the_source(cli: CommandLine, source: Path, folder: Path) -> None:
    """Also one with a name that needs quotes; psql's own arguments, codes and errors are handed on."""
    name = 'My "shop" \\ 1'
    with cli.up(source, "--schema", name):
        shown = cli.run("psql", source, "--", "-At", "-c", "SELECT v FROM t", "-c", "SELECT current_schema()")
        assert (shown.code, shown.out) == (0, f"a\n{name}\n"), shown
    assert cli.run("psql", "--", "-Atc", "SELECT v FROM t").out == "a\n", "the only source"
    assert cli.run("psql", source, "-Atc", "SELECT v FROM t").out == "a\n", "without --"
    assert cli.run("psql", "--schema", name, "-A", "-t", "--command", "SELECT current_schema()").out == f"{name}\n"
    assert "'--schema'?) -- `mirror psql --help`" in cli.run("psql", source, "--shema", name).err
    assert cli.run("psql", "--schema", "public", "--", "-Atc", "SELECT current_schema()").out == "public\n"
    failed = cli.run("psql", source, "--", "-v", "ON_ERROR_STOP=1", "-c", "SELECT 1/0", "-c", "SELECT 2")
    assert failed.code == 1 and "division by zero" in failed.err
    script = folder / "script.sql"
    script.write_text("SELECT 1/0;")
    assert cli.run("psql", source, "--", "-v", "ON_ERROR_STOP=1", "-f", script).code == 3
    assert "it takes one source" in cli.run("psql", source, folder / "other.db").error
    assert "no such file" in cli.run("psql", folder / "other.db").error


def test_no_password_on_the_command_line(dsn: str, cli: CommandLine, folder: Path) -> None:
    """A psql that tells what it was given: the password is in its environment alone."""
    told = folder / "bin" / "psql"
    told.parent.mkdir()
    told.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "env $PGPASSWORD"\n')
    told.chmod(told.stat().st_mode | stat.S_IXUSR)
    given = make_conninfo(dsn, password="p'w 1", options="-c work_mem=8MB")
    path = {"PATH": f"{told.parent}:{os.environ['PATH']}", "ARGENT_PG_URL": given}
    shown = cli.run("psql", "--schema", "x", "--", "-c", "SELECT 1", env=path)
    flag, connection, *rest = shown.out.splitlines()
    assert flag == "--dbname" and rest == ["-c", "SELECT 1", "env p'w 1"]
    values = conninfo_to_dict(connection)
    assert "password" not in values and values["options"] == '-c work_mem=8MB -c search_path="x",public'


def test_none_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psql, "psql_of_package", lambda: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ConfigError, match="no psql is installed here -- install it"):
        psql._program(embedded=False)
