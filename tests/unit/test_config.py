"""Settings: which place wins, what each remembers of where it comes from, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mirror.core.config import settings as config_module
from mirror.core.config.mirror_json import json_schema
from mirror.core.config.notes import configuration_checks
from mirror.core.config.sections import SourceEntry
from mirror.core.config.settings import SIDECARS, ReadSettings, Settings, StorageSettings, load_settings
from mirror.core.errors import ConfigError
from mirror.core.folders import source_folder
from mirror.core.locks import SourceLock
from mirror.postgres.profiles import CHOICES


class Places:
    """A home directory with ArgentOS's folder, and the environment that goes with it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / ".argentos"
        self.folder.mkdir()
        self.mirror_json = self.folder / "mirror.json"
        self.argent_json = self.folder / "argent.json"
        self.environment = {"HOME": str(home)}

    def write(self, path: Path, values: Any) -> Path:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return path

    def ours(self, **values: Any) -> Path:
        return self.write(self.mirror_json, values)

    def argent(self, **values: Any) -> Path:
        return self.write(self.argent_json, {"storage": values})

    def load(
        self,
        *sources: str,
        postgres: str | None = None,
        state_dir: str | None = None,
        schema: str | None = None,
        config: Path | str | None = None,
        **environment: str,
    ) -> Settings:
        named = None if config is None else str(config)
        return load_settings(sources, postgres, state_dir, schema, named, self.environment | environment)

    def fails(self, *sources: str, **arguments: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            self.load(*sources, **arguments)
        assert caught.value.next_step
        return str(caught.value)


@pytest.fixture
def places(folder: Path) -> Places:
    return Places(folder.resolve())


# -- which place wins ----------------------------------------------------------------------------------


def test_nothing_is_configured(places: Places) -> None:
    settings = places.load()
    assert (settings.sources, settings.dsn, settings.schema) == ((), None, None)
    assert settings.state_dir == places.folder / "mirror"
    assert settings.storage == StorageSettings("sqlite", "sqlite", ("sqlite",), None, None)
    assert (settings.sidecar, settings.options, settings.config) == ("outlives", "", None)
    assert [(file.path, file.exists) for file in settings.files] == [
        (places.mirror_json, False),
        (places.argent_json, False),
    ]
    assert all(origin.startswith("default") for origin in settings.origins.values())
    assert not settings.notes


def test_postgres_by_precedence(places: Places) -> None:
    """From the last place to the first; each remembers where it was."""
    key = "postgres.connectionString"

    def found(**arguments: str) -> tuple[str | None, str]:
        settings = places.load(**arguments)
        return settings.dsn, settings.origins[key]

    assert found() == (None, "default: the embedded Postgres in the state directory")
    places.argent(postgres={"connectionString": "theirs"})
    assert found() == ("theirs", f"{places.argent_json}: storage.{key}")
    places.ours(storage={"postgres": {"connectionString": "instead"}})
    assert found() == ("instead", f"{places.mirror_json}: storage.{key}")
    places.ours(storage={"postgres": {"connectionString": "instead"}}, postgres={"connectionString": "ours"})
    assert found() == ("ours", f"{places.mirror_json}: {key}")
    assert found(PG_URL="pg") == ("pg", "environment PG_URL")
    both = {"PG_URL": "pg", "ARGENT_PG_URL": "argent"}
    assert found(**both) == ("argent", "environment ARGENT_PG_URL")
    assert found(**both, postgres="flag") == ("flag", "--postgres")


def test_where_the_program_has_its_data(places: Places) -> None:
    """The mirror may write as one user of Postgres and the program read as another."""
    places.argent(postgres={"connectionString": "program"})
    places.ours(postgres={"connectionString": "mirror"})
    settings = places.load()
    assert (settings.dsn, settings.storage.dsn) == ("mirror", "program")
    assert settings.origins["storage.postgres.connectionString"].startswith(str(places.argent_json))
    assert places.load(PG_URL="both").storage.dsn == "both"
    assert places.load(postgres="flag").storage.dsn == "program"


@pytest.mark.parametrize("blank", ["", "  "])
def test_blank_variables_count_as_unset(places: Places, blank: str) -> None:
    places.ours(postgres={"connectionString": "file"})
    names = ("PG_URL", "ARGENT_PG_URL", "MIRROR_CONFIG", "MIRROR_STATE_DIR", "ARGENT_STATE_DIR", "ARGENT_CONFIG_PATH")
    settings = places.load(**dict.fromkeys(names, blank))
    assert (settings.dsn, settings.state_dir) == ("file", places.folder / "mirror")


def test_sources_by_precedence(places: Places) -> None:
    places.argent(mirror={"sources": ["/x/older.db"]})
    settings = places.load()
    assert settings.sources == (Path("/x/older.db"),)
    assert settings.origins["sources"] == f"{places.argent_json}: storage.mirror.sources"
    places.ours(sources=["/x/a.db", {"path": "/x/b.db", "agent": "main"}])
    settings = places.load()
    assert settings.sources == (Path("/x/a.db"), Path("/x/b.db"))
    assert settings.origins["sources"] == f"{places.mirror_json}: sources"
    assert [entry.origin for entry in settings.configured] == [f"{places.mirror_json}: sources[{i}]" for i in (0, 1)]
    settings = places.load("/x/c.db")
    assert settings.sources == (Path("/x/c.db"),) and settings.origins["sources"] == "arguments"
    places.ours(sources=[])
    assert places.load().sources == (), "an empty list says none, which is not the same as nothing"


def test_state_directory_by_precedence(places: Places) -> None:
    def found(**arguments: Any) -> tuple[Path, str]:
        settings = places.load(**arguments)
        return settings.state_dir, settings.origins["stateDir"]

    assert found() == (places.folder / "mirror", "default")
    places.argent(mirror={"stateDir": str(places.home / "older")})
    assert found() == (places.home / "older", f"{places.argent_json}: storage.mirror.stateDir")
    places.ours(stateDir="state")
    assert found() == (places.folder / "state", f"{places.mirror_json}: stateDir")
    variable = {"MIRROR_STATE_DIR": str(places.home / "variable")}
    assert found(**variable) == (places.home / "variable", "environment MIRROR_STATE_DIR")
    assert found(**variable, state_dir=str(places.home / "flag")) == (places.home / "flag", "--state-dir")


def test_sidecar_by_precedence(places: Places) -> None:
    places.argent(mirror={"sidecar": "none"})
    assert places.load().sidecar == "none"
    places.ours(sidecar="follows")
    settings = places.load()
    assert (settings.sidecar, settings.origins["sidecar"]) == ("follows", f"{places.mirror_json}: sidecar")


def test_what_holds_for_one_source(places: Places) -> None:
    """Also when the source is named as an argument, and by another name."""
    entry = {"path": "b.db", "agent": "main", "schema": "dash", "profile": "memustore"}
    places.ours(sources=["a.db", entry, {"path": "c.db", "profile": "auto"}])
    b = places.folder / "b.db"
    (places.home / "link.db").symlink_to(b)
    for settings in (places.load(), places.load(str(places.home / "link.db"))):
        assert settings.agents == {b: "main"}
        assert settings.profiles == {b: "memustore"}
        assert settings.schemas == {b: "dash"}
    settings = places.load(schema="flag")
    assert settings.schema == "flag" and settings.origins["schema"] == "--schema"


def test_storage_key_by_key(places: Places) -> None:
    places.argent(backend="dual", redis={"port": 7000})
    settings = places.load()
    assert settings.storage == StorageSettings("dual", "sqlite", ("sqlite", "postgres"), None, ("127.0.0.1", 7000))
    places.ours(storage={"readFrom": "postgres", "writeTo": ["postgres"], "redis": {"host": "cache"}})
    settings = places.load()
    assert settings.storage == StorageSettings("dual", "postgres", ("postgres",), None, ("cache", 7000))
    key = "storage.redis.port"
    assert settings.origins[key] == f"{places.argent_json}: {key}"
    assert settings.origins["storage.readFrom"] == f"{places.mirror_json}: storage.readFrom"
    places.argent(backend="postgres")
    places.ours(storage={"redis": {}})
    assert places.load().storage == StorageSettings("postgres", "postgres", ("postgres",), None, ("127.0.0.1", 6380))


def test_what_only_our_file_may_have(places: Places) -> None:
    """Each key by itself, also where its value counts as false; the original's file does not know them."""
    usual = places.load().storage
    assert (usual.max_connections, usual.redis_db, usual.reads) == (10, 0, ReadSettings(20, False, False, 0))
    reads = {"maxWaitMs": 0, "neverWait": True, "shadowPercent": 2.5}
    places.ours(storage={"postgres": {"maxConnections": 3}, "redis": {"db": 2}, "reads": reads})
    settings = places.load()
    assert settings.storage.redis == ("127.0.0.1", 6380)
    assert (settings.storage.max_connections, settings.storage.redis_db) == (3, 2)
    assert settings.storage.reads == ReadSettings(0, True, False, 2.5)
    for key in ("postgres.maxConnections", "redis.db", "reads.maxWaitMs", "reads.neverWait", "reads.shadowPercent"):
        assert settings.origins[f"storage.{key}"] == f"{places.mirror_json}: storage.{key}"
    assert settings.origins["storage.reads.alwaysSqlite"] == "default"
    places.ours()
    places.argent(postgres={"maxConnections": 3}, redis={"db": 2}, reads={"neverWait": True})
    settings = places.load()
    assert settings.storage.max_connections == 10 and settings.storage.reads == ReadSettings()
    steps = {note.path: note.next_step for note in settings.notes}
    assert {*steps} == {"storage.postgres.maxConnections", "storage.redis.db", "storage.reads"}
    assert {*steps.values()} == {f"write it in {places.mirror_json} instead"}


BOTH = ["sqlite", "postgres"]


@pytest.mark.parametrize(
    ("storage", "key", "said", "step"),
    [
        (
            {"readFrom": "postgres"},
            "readFrom",
            "it is postgres, but backend sqlite has its data only in sqlite",
            "dual",
        ),
        ({"backend": "postgres", "readFrom": "sqlite"}, "readFrom", "backend postgres has its data only", "dual"),
        ({"writeTo": BOTH}, "writeTo", "it has postgres, but backend sqlite", "dual"),
        ({"backend": "postgres", "writeTo": BOTH}, "writeTo", "it has sqlite, but backend postgres", '["postgres"]'),
        ({"writeTo": []}, "writeTo", "it is empty", "sqlite, postgres or both"),
        (
            {"backend": "dual", "readFrom": "postgres", "writeTo": ["sqlite"]},
            "readFrom",
            "it is postgres, but writeTo has only sqlite",
            "set it to sqlite, or add it to storage.writeTo",
        ),
        ({"backend": "dual", "writeTo": ["postgres"]}, "readFrom", "reads would see the past", "set it to postgres"),
        (
            {"backend": "postgres", "reads": {"alwaysSqlite": True}},
            "reads.alwaysSqlite",
            "nothing is written to SQLite",
            "remove it",
        ),
    ],
)
def test_keys_that_contradict_each_other(
    places: Places, storage: dict[str, Any], key: str, said: str, step: str
) -> None:
    """An error for what uses them, with the place and the next step; mirroring goes on, and the commands say it."""
    places.ours(storage=storage)
    settings = places.load()
    with pytest.raises(ConfigError) as caught:
        settings.agreed_storage()
    where = f"{places.mirror_json}: storage.{key}" if key in storage or "." in key else "default"
    assert caught.value.place == where and f"storage.{key}: " in caught.value.detail
    assert said in caught.value.detail and step in caught.value.next_step
    (note,) = settings.notes
    assert note.path == f"storage.{key}" and said in note.detail and step in note.next_step


@pytest.mark.parametrize("backend", ["sqlite", "dual", "postgres"])
def test_what_follows_from_the_backend_agrees(places: Places, backend: str) -> None:
    places.ours(storage={"backend": backend})
    settings = places.load()
    assert settings.agreed_storage() is settings.storage and not settings.notes


def test_the_emergency_switch_agrees_with_reads_from_postgres(places: Places) -> None:
    places.argent(backend="dual", readFrom="postgres")
    places.ours(storage={"reads": {"alwaysSqlite": True}})
    assert places.load().agreed_storage().reads.always_sqlite


# -- files and paths -----------------------------------------------------------------------------------


def test_the_file_by_precedence(places: Places) -> None:
    places.ours(sidecar="none")
    variable = places.write(places.home / "v" / "v.json", {"sidecar": "follows"})
    flag = places.write(places.home / "f" / "f.json", {"postgres": {"connectionString": "flag"}})
    assert places.load().sidecar == "none"
    settings = places.load(MIRROR_CONFIG=str(variable))
    assert (settings.sidecar, settings.config) == ("follows", variable)
    settings = places.load(MIRROR_CONFIG=str(variable), config=flag)
    assert (settings.sidecar, settings.dsn, settings.config) == ("outlives", "flag", flag)
    assert settings.state_dir == flag.parent / "mirror", "beside the file that was named"


def test_a_file_that_is_named_must_be_there(places: Places) -> None:
    gone = places.home / "none.json"
    assert "no such file" in places.fails(config=gone) and "check --config" in places.fails(config=gone)
    assert "check MIRROR_CONFIG" in places.fails(MIRROR_CONFIG=str(gone))
    assert "directory" in places.fails(config=places.home).lower()


@pytest.mark.parametrize("name", ["mirror.json", "argent.json"])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.symlink_to("gone"), "a symbolic link to a file that does not exist"),
        (lambda path: path.symlink_to(path.name), "symbolic links"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "not a regular file"),
        (lambda path: path.mkdir(), "a directory"),
    ],
    ids=["dangling", "circular", "pipe", "device", "directory"],
)
def test_what_is_there_and_cannot_be_read_is_not_passed_over(
    places: Places, name: str, make: Callable[[Path], None], told: str
) -> None:
    """To go on without it would drop its sources and its Postgres in silence; a pipe would be waited for, for ever."""
    make(places.folder / name)
    failed = places.fails()
    assert told in failed and name in failed


def test_variables_are_not_put_into_our_file(places: Places) -> None:
    """Unlike argent.json's. Taken literally it would be a folder or a host of that name."""
    for values, place in (
        ({"stateDir": "${HOME}/state"}, "stateDir: it has ${HOME}"),
        ({"postgres": {"connectionString": "host=${PGH}"}}, "postgres.connectionString: it has ${PGH}"),
        ({"sources": ["a.db", {"path": "${DATA}/b.db"}]}, "sources[1].path: it has ${DATA}"),
    ):
        places.ours(**values)
        assert place in places.fails()
    places.ours(postgres={"connectionString": "host=h password=a$b{c}"})
    assert places.load().dsn == "host=h password=a$b{c}"


def test_a_link_to_a_file_is_followed(places: Places) -> None:
    places.write(places.home / "kept.json", {"sidecar": "none"})
    places.mirror_json.symlink_to(places.home / "kept.json")
    assert places.load().sidecar == "none"


def test_beside_argent_json(places: Places) -> None:
    """Where ArgentOS looks for it, whether it is there or not."""
    elsewhere = places.home / "elsewhere"
    places.write(elsewhere / "mirror.json", {"sidecar": "none"})
    assert places.load(ARGENT_STATE_DIR=str(elsewhere)).sidecar == "none"
    assert places.load(ARGENT_STATE_DIR=str(elsewhere)).state_dir == elsewhere / "mirror"
    assert places.load(CLAWDBOT_STATE_DIR=str(elsewhere)).sidecar == "none"
    settings = places.load(ARGENT_CONFIG_PATH=str(elsewhere / "my.json"))
    assert settings.sidecar == "none"
    assert settings.state_dir == places.folder / "mirror", "ArgentOS, too, keeps its data in its own folder"


def test_beside_the_argent_json_that_is_read(places: Places) -> None:
    """A folder that has none: ArgentOS reads the one in the home directory, and ours is beside that."""
    places.argent(postgres={"connectionString": "home"})
    places.ours(sidecar="none")
    empty = places.home / "empty"
    settings = places.load(ARGENT_STATE_DIR=str(empty))
    assert (settings.dsn, settings.sidecar, settings.state_dir) == ("home", "none", empty / "mirror")
    places.write(empty / "mirror.json", {"sidecar": "follows"})
    assert places.load(ARGENT_STATE_DIR=str(empty)).sidecar == "follows"


def test_paths_are_relative_to_the_file(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    (places.home / "work").mkdir()
    monkeypatch.chdir(places.home / "work")
    named = places.write(
        places.home / "conf" / "m.json",
        {"sources": ["a.db", {"path": "../b.db"}, "~/c.db", "/x/d.db"], "stateDir": "~/state"},
    )
    for config in (named, "../conf/m.json"):
        settings = places.load(config=config)
        found = (named.parent / "a.db", places.home / "b.db", places.home / "c.db", Path("/x/d.db"))
        assert settings.sources == found
        assert settings.state_dir == places.home / "state"
    settings = places.load("a.db", state_dir="s", config=named)
    assert settings.sources == (places.home / "work" / "a.db",), "arguments are relative to the working directory"
    assert settings.state_dir == places.home / "work" / "s"


def test_the_home_of_the_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    home = folder.resolve()
    assert load_settings((), None, None, None, None, {}).state_dir == home / ".argentos" / "mirror"
    settings = load_settings(("~/a.db",), None, "~/state", None, None, {})
    assert (settings.sources, settings.state_dir) == ((home / "a.db",), home / "state")
    assert settings.options == f" --state-dir {home}/state"


def test_comments_are_allowed(places: Places) -> None:
    places.write(places.mirror_json, "// ours\n{sources: ['a.db',], /* later */ sidecar: 'none'}")
    assert places.load().sources == (places.folder / "a.db",)


def test_what_a_command_needs_to_mean_the_same_mirror(places: Places) -> None:
    named = places.write(places.home / "my conf.json", {})
    dsn = "host=/run dbname=x"
    settings = places.load(state_dir="/s", schema="n", config=named, postgres=dsn)
    assert settings.options == f" --state-dir /s --config '{named}' --schema n --postgres '{dsn}'"
    again = places.load(
        state_dir=settings.arguments[1],
        config=settings.arguments[3],
        schema=settings.arguments[5],
        postgres=settings.arguments[7],
    )
    assert again == settings
    shown = places.load(postgres="postgres://u:secret@h/d").options
    assert shown == " --postgres postgres://u@h/d", "the same server, and no password is printed"
    assert places.load(ARGENT_PG_URL=dsn).options == ""
    settings = places.load(MIRROR_CONFIG=str(named), MIRROR_STATE_DIR="/s")
    assert settings.options == f" --state-dir /s --config '{named}'", "another terminal does not have the variables"
    assert places.load(ARGENT_STATE_DIR=str(places.home)).options == ""


# -- what is refused -----------------------------------------------------------------------------------


def test_a_source_named_twice(places: Places) -> None:
    (places.home / "link.db").symlink_to("a.db")
    both = [str(places.home / "a.db"), str(places.home / "link.db")]
    assert "named twice" in places.fails(*both)
    places.ours(sources=["/x/b.db", *both])
    assert f"({places.mirror_json}): sources[2]: the same file as sources[1]" in places.fails()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("{", "line 1"),
        ("[]", "expected an object, found a list"),
        ('{"sidecar": "none", "sidecar": "none"}', "the key 'sidecar' is twice"),
        ({"stateDirr": "/x"}, "stateDirr: unknown key: did you mean stateDir?"),
        ({"stateDir": 5}, "stateDir: expected a text, found the number 5"),
        ({"sources": ["~nobody-of-this-name/a.db"]}, "write the whole path"),
        ({"sources": ["a\0b.db"]}, "check the path"),
    ],
)
def test_a_damaged_file_of_ours(places: Places, values: Any, told: str) -> None:
    path = places.write(places.mirror_json, values)
    line = places.fails()
    assert told in line
    assert str(path) in line or "find a file" in line


def test_known_sources(places: Places) -> None:
    with pytest.raises(ConfigError, match="no source is named"):
        places.load().known()
    gone, there = places.home / "gone.db", places.home / "there.db"
    there.touch()
    settings = places.load(str(gone))
    with pytest.raises(ConfigError, match="no such file"):
        settings.known()
    SourceLock(source_folder(settings.state_dir, gone), gone).release()
    assert settings.known() == places.load().known() == (gone,)
    assert places.load(str(there)).known() == (there,)
    with pytest.raises(ConfigError, match="it is a directory"):
        places.load(str(places.home)).known()


# -- storage.mirror, where our settings were before ----------------------------------------------------


def test_older_settings_are_understood(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were: relative to the working directory. The note has the file that means the same."""
    (places.home / "work").mkdir()
    monkeypatch.chdir(places.home / "work")
    older = {"sources": ["a.db", {"path": "~/b.db", "agent": "main"}], "stateDir": "kept", "sidecar": "follows"}
    places.argent(mirror=older, backend="sqlite")
    settings = places.load()
    assert settings.sources == (places.home / "work" / "a.db", places.home / "b.db")
    (note,) = settings.notes
    assert note.path == "storage.mirror"
    assert str(places.argent_json) in note.detail and "drops its whole configuration" in note.detail
    assert f"write this to {places.mirror_json}" in note.next_step and "remove storage.mirror" in note.next_step
    (read, (level, name, detail, step)) = configuration_checks(settings)
    assert read[:2] == ("ok", "configuration") and str(places.argent_json) in read[2]
    assert (level, name, detail) == ("note", "storage.mirror", note.detail)
    assert json.dumps(json.loads(note.content)) in step

    places.write(places.mirror_json, note.content)
    places.argent(backend="sqlite")
    monkeypatch.chdir(places.home)
    moved = places.load()
    assert not moved.notes
    assert [(entry.path, entry.agent) for entry in moved.configured] == [
        (entry.path, entry.agent) for entry in settings.configured
    ]
    assert (moved.sources, moved.state_dir, moved.sidecar) == (settings.sources, settings.state_dir, settings.sidecar)


def test_what_is_left_to_move(places: Places) -> None:
    places.argent(mirror={"sources": ["/x/a.db"], "sidecar": "follows"})
    places.ours(sidecar="none")
    (note,) = places.load().notes
    assert note.next_step.startswith("add this to") and json.loads(note.content) == {"sources": ["/x/a.db"]}
    places.ours(sidecar="none", sources=["/x/a.db"])
    (note,) = places.load().notes
    assert note.next_step.startswith("remove it") and not note.content


@pytest.mark.parametrize("name", ["argent.json", "mine.json"])
def test_an_argent_json_that_is_named(places: Places, name: str) -> None:
    """``--config`` named one until now; it is still read, from there."""
    places.argent(postgres={"connectionString": "home"})
    named = places.write(
        places.home / "conf" / name,
        {"agents": {}, "storage": {"postgres": {"connectionString": "named"}, "mirror": {"sources": ["/x/a.db"]}}},
    )
    settings = places.load(config=named)
    assert (settings.dsn, settings.sources) == ("named", (Path("/x/a.db"),))
    assert settings.state_dir == named.parent / "mirror" and settings.options == f" --config {named}"
    (note,) = settings.notes
    assert note.path == "storage.mirror" and str(named.parent / "mirror.json") in note.next_step
    places.write(named.parent / "mirror.json", {"sources": ["/x/b.db"]})
    assert places.load(config=named).sources == (Path("/x/b.db"),)


def test_an_argent_json_that_is_named_and_has_nothing_of_ours(places: Places) -> None:
    named = places.write(places.home / "conf" / "argent.json", {"agents": {}})
    (note,) = places.load(config=named).notes
    assert note.path == "--config" and "belongs to ArgentOS" in note.detail


def test_unknown_keys_of_an_older_section(places: Places) -> None:
    places.argent(mirror={"stateDirr": "/x", "sources": [{"file": "/x/a.db"}]})
    line = places.fails()
    assert "storage.mirror.stateDirr: unknown key: did you mean stateDir?" in line
    assert "storage.mirror.sources[0].file: unknown key: did you mean path?" in line


def test_a_password_that_others_can_read(places: Places) -> None:
    for values in (
        {"postgres": {"connectionString": "postgres://u:secret@h/d"}},
        {"storage": {"postgres": {"connectionString": "host=h password=secret"}}},
    ):
        places.ours(**values).chmod(0o640)
        (note,) = places.load().notes
        assert note.next_step == f"chmod 600 {places.mirror_json}" and "secret" not in note.detail
        places.mirror_json.chmod(0o600)
        assert not places.load().notes
    places.ours(postgres={"connectionString": "postgres://u@h/d"}).chmod(0o644)
    assert not places.load().notes


# -- the description -----------------------------------------------------------------------------------


def test_every_key_is_documented_with_its_places() -> None:
    """The table in the module's docstring has the keys of the schema, no more and no fewer."""
    schema = json_schema()

    def keys(part: dict[str, Any], path: str) -> list[str]:
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
        if "properties" in part:
            inner = [keys(value, f"{path}.{key}" if path else key) for key, value in part["properties"].items()]
            return [key for found in inner for key in found]
        if part.get("type") == "array":
            below = keys(part["items"], f"{path}[]")
            return [path, *below] if below != [f"{path}[]"] else [path]
        if "anyOf" in part:
            return [key for option in part["anyOf"] if "$ref" in option for key in keys(option, path)]
        return [path]

    assert config_module.__doc__ is not None
    lines = config_module.__doc__.split("\n")
    table = [line.split("``")[1] for line in lines if line.startswith("``") and "``  " in line]
    assert sorted(table) == sorted(keys(schema, ""))


def test_names_that_are_written_in_two_places() -> None:
    """The description of the file must not load the engine, so it repeats them."""
    schema = json_schema()
    assert set(schema["$defs"]["MirrorFile"]["properties"]["sidecar"]["enum"]) == set(SIDECARS)
    entry = schema["$defs"][SourceEntry.__name__]["properties"]
    assert set(entry["profile"]["enum"]) == {"auto", *CHOICES}
