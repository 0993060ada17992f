"""``mirror config``: every setting that counts and where it comes from, without any file and with all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.core.config.mirror_json import json_schema
from mirror.core.folders import resolve, source_folder
from mirror.core.locks import SourceLock
from tests.support.commands import CommandLine
from tests.support.source import Writer

KEYS = [
    "postgres.connectionString",
    "stateDir",
    "schema",
    "columns",
    "tables",
    "cutover.sequences",
    "http",
    "log.format",
    "log.level",
    "alerts.webhook",
    "alerts.holdSeconds",
    "alerts.lagSeconds",
    "alerts.rejects",
    "alerts.parityHours",
    "alerts.freeBytes",
    "changes.keep",
    "changes.log",
    "changes.webhook.url",
    "changes.webhook.tables",
    "sidecar",
    "storage.backend",
    "storage.readFrom",
    "storage.writeTo",
    "storage.postgres.connectionString",
    "storage.postgres.maxConnections",
    "storage.redis.host",
    "storage.redis.port",
    "storage.redis.db",
    "storage.reads.maxWaitMs",
    "storage.reads.neverWait",
    "storage.reads.alwaysSqlite",
    "storage.reads.shadowPercent",
]


@pytest.fixture
def cli(folder: Path) -> CommandLine:
    return CommandLine(folder)


def write(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


def shown(cli: CommandLine, *arguments: object, **environment: str) -> dict[str, Any]:
    done = cli.run("config", "show", "--json", *arguments, env=environment)
    assert done.code == 0 and done.err == "", done
    report: dict[str, Any] = json.loads(done.out)
    assert report["version"] == 1 and [*report["settings"]] == KEYS
    assert all({*value} == {"value", "origin"} for value in report["settings"].values())
    return report


def lines(cli: CommandLine, *arguments: object, **environment: str) -> list[str]:
    done = cli.run("config", "show", *arguments, env=environment)
    assert done.code == 0 and done.err == "", done
    return done.out.splitlines()


def test_without_any_file(cli: CommandLine, folder: Path) -> None:
    report = shown(cli)
    home = folder / "argent"
    assert report["files"] == [
        {"name": name, "path": str(home / name), "exists": False} for name in ("mirror.json", "argent.json")
    ]
    assert report["sources"] == [] and report["notes"] == []
    assert report["settings"]["stateDir"] == {"value": str(cli.state_dir), "origin": "default"}
    assert report["settings"]["postgres.connectionString"]["value"] is None
    text = lines(cli)
    assert f"  {home}/mirror.json (no such file)" in text
    assert "  postgres.connectionString: none" in text
    assert "  storage.reads.neverWait: false  (default)" in text
    assert not cli.state_dir.exists(), "showing makes nothing"


def test_all_places_at_once(cli: CommandLine, folder: Path) -> None:
    ours = write(
        folder / "argent" / "mirror.json",
        {"sources": ["a.db", {"path": "b.db", "agent": "maya", "schema": "dash", "profile": "generic"}]},
    )
    theirs = write(folder / "argent" / "argent.json", "{storage: {backend: 'dual', redis: {port: 1}}} // comment")
    report = shown(cli, "--state-dir", folder / "s", ARGENT_PG_URL="postgres://u:secret@h/d")
    settings = report["settings"]
    assert settings["postgres.connectionString"] == {
        "value": "postgres://u:hidden@h/d",
        "origin": "environment ARGENT_PG_URL",
    }
    assert settings["stateDir"] == {"value": str(resolve(folder / "s")), "origin": "--state-dir"}
    assert settings["storage.backend"] == {"value": "dual", "origin": f"{theirs}: storage.backend"}
    assert settings["storage.writeTo"] == {"value": ["sqlite", "postgres"], "origin": "default"}
    assert settings["storage.redis.port"] == {"value": 1, "origin": f"{theirs}: storage.redis.port"}
    assert report["sources_origin"] == f"{ours}: sources"
    first, second = report["sources"]
    a, b = (resolve(folder / "argent" / name) for name in ("a.db", "b.db"))
    assert first == {
        "path": str(a),
        "agent": {"value": None, "origin": "default: argent, if it is a MemuStore"},
        "schema": {"value": "public", "origin": "default"},
        "profile": {"value": "auto", "origin": "default"},
        "state_dir": str(source_folder(resolve(folder / "s"), a)),
    }
    own = {"agent": "maya", "schema": "dash", "profile": "generic"}
    assert second["path"] == str(b)
    for key, value in own.items():
        assert second[key] == {"value": value, "origin": f"{ours}: sources[1].{key}"}
    named = shown(cli, b, "--schema", "flag")
    (source,) = named["sources"]
    assert source["schema"] == {"value": "flag", "origin": "--schema"} and source["agent"]["value"] == "maya"
    assert named["sources_origin"] == "arguments"


def test_no_password_is_printed(cli: CommandLine, folder: Path) -> None:
    write(folder / "argent" / "mirror.json", {"postgres": {"connectionString": "host=h password=secret"}})
    write(folder / "argent" / "argent.json", {"storage": {"postgres": {"connectionString": "postgres://u:secret@h/d"}}})
    for arguments in ((), ("--postgres", "postgres://u:secret@h/d"), ("--json",)):
        done = cli.run("config", "show", *arguments)
        assert done.code == 0 and "secret" not in done.out + done.err and "hidden" in done.out


def test_the_text_on_80_columns(cli: CommandLine, folder: Path) -> None:
    """Nothing that can be copied is cut: a path, a connection string, the JSON to write."""
    long = folder / ("a folder with a long name " * 3)
    dsn = (
        "postgresql://someone@a-server-with-a-long-name.example.org:5432/a_database?sslmode=require&application_name=m"
    )
    source = long / "memory.db"
    argent = write(
        long / "argent.json",
        {
            "storage": {
                "postgres": {"connectionString": dsn},
                "mirror": {"sources": [{"path": str(source), "agent": "x"}]},
            }
        },
    )
    text = lines(cli, "--config", argent, COLUMNS="80")
    assert f"  postgres.connectionString: {dsn}" in text
    assert f"      ({argent}: storage.postgres.connectionString)" in text
    assert f"  {resolve(source)}" in text
    assert "  sidecar: outlives  (default)" in text
    told = text[text.index("to be changed") + 1 :]
    assert told[0].startswith("  storage.mirror: ")
    begin, end = told.index("{"), told.index("}")
    assert json.loads("\n".join(told[begin : end + 1])) == {"sources": [{"path": str(source), "agent": "x"}]}
    for line in text:
        assert len(line) <= 80 or str(long) in line or dsn in line, line


def test_sources_that_the_state_directory_knows(cli: CommandLine, folder: Path) -> None:
    source = resolve(folder / "known.db")
    SourceLock(cli.source_folder(source), source).release()
    report = shown(cli)
    assert [entry["path"] for entry in report["sources"]] == [str(source)]
    assert report["sources_origin"].startswith("default")


def test_a_file_with_mistakes(cli: CommandLine, folder: Path) -> None:
    path = write(folder / "argent" / "mirror.json", {"sources": ["a", {"path": "b", "agnet": "x"}], "sidecar": "no"})
    line = cli.run("config", "show").error
    assert str(path) in line
    assert "sources[1].agnet: unknown key: did you mean agent?" in line and "sidecar: expected one of" in line
    for command in ("status", "up", "doctor"):
        assert cli.run(command).error == line


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"storage": {"backen": "dual"}}, "storage.backen: unknown key: did you mean backend?"),
        ({"storage": {"readFrom": "postgres"}}, "storage.readFrom: it is postgres, but backend sqlite has its data"),
        ({"postgres": {"connectionString": "${PG}"}}, "postgres.connectionString: it has ${PG}"),
    ],
)
def test_status_says_that_an_edit_cannot_be_used(
    cli: CommandLine, folder: Path, values: dict[str, Any], told: str
) -> None:
    """And shows the status all the same, of the sources and the state directory that the file still names."""
    source = resolve(folder / "a.db")
    SourceLock(source_folder(folder / "state", source), source).release()
    path = write(
        folder / "argent" / "mirror.json", {"sources": [str(source)], "stateDir": str(folder / "state")} | values
    )
    done = cli.run("status", "--json")
    assert done.code == 0 and done.err == "", done
    (report,) = json.loads(done.out)["sources"]
    assert report["source"] == str(source) and report["phase"] == "stopped"
    assert told in report["configuration"] and str(path) in report["configuration"]
    text = cli.run("status", env={"COLUMNS": "400"}).out
    assert f"configuration: {report['configuration']}" in text and text.count(told) == 1
    write(path, {"sources": [str(source)], "stateDir": str(folder / "state")})
    (report,) = json.loads(cli.run("status", "--json").out)["sources"]
    assert report["configuration"] is None and "configuration" not in cli.run("status").out


def test_status_beside_a_file_that_says_nothing(cli: CommandLine, folder: Path) -> None:
    """Where the default state directory is one, it is meant; otherwise nothing is guessed."""
    for path in (folder / "argent" / "mirror.json", folder / "named.json", folder / "argent.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"stateDir": "else')
        named = () if path.parent != folder else ("--config", path)
        line = cli.run("status", *named).error
        assert str(path) in line
        assert cli.run("status", folder / "a.db", *named).error == line
        source = resolve(folder / "a.db")
        SourceLock(source_folder(resolve(path.parent / "mirror"), source), source).release()
        for sources in ((), (source,)):
            (report,) = json.loads(cli.run("status", *sources, *named, "--json").out)["sources"]
            assert report["source"] == str(source) and line.removeprefix("mirror: ") == report["configuration"]
        path.unlink()
        shutil.rmtree(path.parent / "mirror")


@pytest.mark.parametrize("end", ["", ', "storage": {', "} }", ', "sources": [}', ', "storage": {"backend": "dual"'])
def test_status_of_a_state_directory_that_a_broken_file_names(cli: CommandLine, folder: Path, end: str) -> None:
    source = resolve(folder / "a.db")
    SourceLock(source_folder(folder / "state", source), source).release()
    path = write(folder / "conf" / "m.json", '{"stateDir": "../state"' + end)
    for sources in ((), (source,)):
        (report,) = json.loads(cli.run("status", *sources, "--config", path, "--json").out)["sources"]
        assert report["source"] == str(source) and str(path) in report["configuration"]
    done = cli.run("status", "--config", path, env={"COLUMNS": "400"})
    assert done.code == 0 and "a.db" in done.out
    assert done.out.count(f"configuration: read the configuration ({path})") == 1


def test_the_schema(cli: CommandLine) -> None:
    done = cli.run("config", "schema")
    assert done.code == 0 and json.loads(done.out) == json_schema()


def test_help_names_the_variables_and_defaults(cli: CommandLine) -> None:
    text = " ".join(cli.run("status", "--help").out.split())
    for told in (
        "ARGENT_PG_URL, PG_URL",
        "MIRROR_STATE_DIR",
        "MIRROR_CONFIG",
        "ARGENT_STATE_DIR or ~/.argentos]",
        "or public",
    ):
        assert told in text, told
    assert "mirror.json to read" in text


def test_variables_of_the_mirror(cli: CommandLine, folder: Path) -> None:
    named = write(folder / "conf" / "m.json", {"sources": ["a.db"], "sidecar": "none"})
    report = shown(cli, MIRROR_CONFIG=str(named), MIRROR_STATE_DIR=str(folder / "kept"))
    assert report["sources"][0]["path"] == str(resolve(folder / "conf" / "a.db"))
    assert report["settings"]["stateDir"] == {
        "value": str(resolve(folder / "kept")),
        "origin": "environment MIRROR_STATE_DIR",
    }


@pytest.fixture
def sources(folder: Path) -> Iterator[list[Path]]:
    """Two, which have a table of one name."""
    paths = [folder / "a.db", folder / "b.db"]
    writers = [Writer(path) for path in paths]
    for writer in writers:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
    yield paths
    for writer in writers:
        writer.close()


def findings(cli: CommandLine, code: int) -> list[dict[str, Any]]:
    done = cli.run("doctor", "--json")
    assert done.code == code, done
    return [finding for report in json.loads(done.out)["reports"] for finding in report["findings"]]


def test_doctor_says_what_must_move(cli: CommandLine, folder: Path, sources: list[Path]) -> None:
    """Once, whatever the number of sources."""
    older = {"sources": [{"path": str(sources[0])}, {"path": str(sources[1]), "agent": "maya"}]}
    argent = write(folder / "argent" / "argent.json", {"storage": {"mirror": older}})
    found = findings(cli, 0)
    (read,) = [finding for finding in found if finding["check"] == "configuration"]
    assert read["level"] == "ok" and str(argent) in read["detail"]
    (note,) = [finding for finding in found if finding["check"] == "storage.mirror"]
    assert note["level"] == "note" and "drops its whole configuration" in note["detail"]
    assert str(folder / "argent" / "mirror.json") in note["next_step"]
    assert json.dumps(older) in note["next_step"]
    assert "storage.mirror" in cli.run("doctor").out


def test_doctor_knows_the_schema_of_each_source(cli: CommandLine, folder: Path, sources: list[Path]) -> None:
    path = write(folder / "argent" / "mirror.json", {"sources": list(map(str, sources))})
    assert "has a table of this name, too" in str(findings(cli, 1))
    write(path, {"sources": [str(sources[0]), {"path": str(sources[1]), "schema": "dash"}]})
    assert "has a table of this name, too" not in str(findings(cli, 0))
