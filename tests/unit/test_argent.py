"""argent.json is found and read as ArgentOS finds and reads it, and only its section storage is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mirror.core.config.argent_json import Argent, config_path, read_argent, state_folder
from mirror.core.config.settings import load_settings
from mirror.core.errors import ConfigError

DSN = "storage.postgres.connectionString"


@pytest.fixture
def home(folder: Path) -> Path:
    return folder.resolve()


def write(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


def read(path: Path, values: Any, **environment: str) -> Argent:
    return read_argent(write(path, values), environment)


def connecting(dsn: str) -> dict[str, Any]:
    return {"storage": {"postgres": {"connectionString": dsn}}}


# -- which file ----------------------------------------------------------------------------------------


def test_the_first_file_that_exists(home: Path) -> None:
    """Of all folders and names, today's first; each that is made comes before those made so far."""
    environment = {"HOME": str(home)}
    assert config_path(environment) == home / ".argentos" / "argent.json", "where it would be"
    folders = (".argentos", ".clawdbot", ".moltbot", ".moldbot")
    names = ("argent.json", "clawdbot.json", "moltbot.json", "moldbot.json")
    for place in reversed([home / folder / name for folder in folders for name in names]):
        write(place, {})
        assert config_path(environment) == place


def test_the_folder_of_an_older_name(home: Path) -> None:
    environment = {"HOME": str(home)}
    assert state_folder(environment) == home / ".argentos"
    for name in (".moldbot", ".moltbot", ".clawdbot", ".argentos"):
        (home / name).mkdir()
        assert state_folder(environment) == home / name
        assert config_path(environment) == home / name / "argent.json"


def test_variables_that_name_the_folder(home: Path) -> None:
    """The files in the home directory still count after it."""
    (home / ".clawdbot").mkdir()
    both = {"HOME": str(home), "ARGENT_STATE_DIR": "~/a", "CLAWDBOT_STATE_DIR": str(home / "c")}
    only = {"HOME": str(home), "CLAWDBOT_STATE_DIR": str(home / "c")}
    assert state_folder(both) == home / "a" and state_folder(only) == home / "c"
    assert config_path(both) == home / "a" / "argent.json"
    older = write(home / ".moltbot" / "moltbot.json", {})
    assert config_path(both) == config_path(only) == older
    write(home / "c" / "clawdbot.json", {})
    assert config_path(only) == home / "c" / "clawdbot.json"
    assert config_path(both) == older, "one variable is used, not both"


def test_variables_that_name_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts even if it is not there."""
    write(home / ".argentos" / "argent.json", {})
    monkeypatch.chdir(home)
    environment = {
        "HOME": str(home),
        "CLAWDBOT_CONFIG_PATH": "~/x/../c.json",
        "ARGENT_STATE_DIR": str(home / ".argentos"),
    }
    assert config_path(environment) == home / "c.json"
    assert config_path(environment | {"ARGENT_CONFIG_PATH": "a.json"}) == home / "a.json"
    assert config_path(environment | {"ARGENT_CONFIG_PATH": "  "}) == home / "c.json"


# -- what may be in it ---------------------------------------------------------------------------------


def test_json5(home: Path) -> None:
    text = """\ufeff// a comment
    {
      agents: { list: [{ id: 'main', }, ], }, /* unquoted, single quotes, trailing commas */
      storage: { backend: "dual", redis: { port: 0x18EC, }, },
    }
    """
    assert read(home / "argent.json", text).storage == {"backend": "dual", "redis": {"port": 6380}}


def test_json5_is_loaded_only_where_it_is_needed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "json5", None)
    assert read(home / "argent.json", {"storage": {"backend": "dual"}}).storage == {"backend": "dual"}
    with pytest.raises(ImportError):
        read(home / "argent.json", "{storage: {}}")


def test_nothing_else_is_looked_at(home: Path) -> None:
    values = {
        "agents": {"$include": "./gone.json5"},
        "channels": {"token": "${NOT_SET}", "more": [{"$include": 7}]},
        "env": {"shellEnv": {"enabled": True}, "NUMBER": 5, "vars": ["x"]},
        "storage": {"backend": "sqlite", "postgres": None},
        "plugins": "anything",
    }
    assert read(home / "argent.json", values) == Argent({"backend": "sqlite"})


@pytest.mark.parametrize("text", ["[]", "5", "null", "{", "", "{a: 1"])
def test_what_is_no_object_is_refused(home: Path, text: str) -> None:
    path = write(home / "argent.json", text)
    with pytest.raises(ConfigError) as caught:
        read_argent(path, {})
    assert caught.value.place == str(path) and caught.value.next_step


def test_bytes_that_are_no_text(home: Path) -> None:
    """ArgentOS reads them as replacement characters, here where they do not matter."""
    path = home / "argent.json"
    path.write_bytes(b'{"agents": {"name": "\xff"}, "storage": {"backend": "dual"}}')
    assert read_argent(path, {}).storage == {"backend": "dual"}


# -- $include ------------------------------------------------------------------------------------------


def test_includes_are_relative_to_the_file_that_has_them(home: Path) -> None:
    write(home / "conf" / "storage.json5", '{backend: "dual", postgres: {$include: "../secret/pg.json5"},}')
    write(home / "secret" / "pg.json5", '{$include: "./more/dsn.json5"}')
    write(home / "secret" / "more" / "dsn.json5", '{connectionString: "host=/run"}')
    found = read(home / "argent.json", {"storage": {"$include": "./conf/storage.json5"}})
    assert found.storage == {"backend": "dual", "postgres": {"connectionString": "host=/run"}}
    found = read(home / "argent.json", {"storage": {"$include": str(home / "conf" / "storage.json5")}})
    assert found.storage["backend"] == "dual"


def test_includes_at_the_top_are_merged(home: Path) -> None:
    """In their order, then the keys beside them: objects are merged, lists put together, the rest replaced."""
    write(home / "a.json", {"storage": {"backend": "sqlite", "writeTo": ["sqlite"], "redis": {"host": "a", "port": 1}}})
    write(home / "b.json", {"storage": {"backend": "dual", "writeTo": ["postgres"], "redis": {"port": 2}}})
    values = {"$include": ["./a.json", "./b.json"], "storage": {"readFrom": "postgres", "redis": {"host": "own"}}}
    assert read(home / "argent.json", values).storage == {
        "backend": "dual",
        "writeTo": ["sqlite", "postgres"],
        "redis": {"host": "own", "port": 2},
        "readFrom": "postgres",
    }
    assert read(home / "argent.json", {"$include": "./a.json"}).storage["backend"] == "sqlite"
    assert read(home / "argent.json", {"storage": {"$include": []}}).storage == {}


def test_sections_of_an_included_file_that_are_not_needed(home: Path) -> None:
    write(home / "a.json", {"agents": {"$include": "./gone.json"}, "storage": {"backend": "dual"}})
    assert read(home / "argent.json", {"$include": "./a.json"}).storage == {"backend": "dual"}


@pytest.mark.parametrize(
    ("include", "told"),
    [
        ("./gone.json", "no such file (it is included by"),
        ("./broken.json", "line 1"),
        (7, "neither a path nor a list of paths"),
        (["./list.json", None], "neither a path nor a list of paths"),
        ("./list.json", "it is not an object, and there are keys beside it"),
        ("./circle.json", "in a circle"),
        ("./argent.json", "in a circle"),
    ],
)
def test_includes_that_cannot_be_used(home: Path, include: Any, told: str) -> None:
    write(home / "broken.json", "{")
    write(home / "list.json", [1])
    write(home / "circle.json", {"a": {"$include": "./round.json"}})
    write(home / "round.json", {"b": [{"$include": "./circle.json"}]})
    with pytest.raises(ConfigError) as caught:
        read(home / "argent.json", {"storage": {"$include": include, "backend": "dual"}})
    assert told in str(caught.value) and caught.value.next_step
    assert caught.value.place.startswith(str(home))


def test_a_circle_names_its_files(home: Path) -> None:
    write(home / "a.json", {"$include": "./b.json"})
    write(home / "b.json", {"$include": "./a.json"})
    with pytest.raises(ConfigError) as caught:
        read(home / "argent.json", {"$include": "./a.json"})
    chain = [home / name for name in ("argent.json", "a.json", "b.json", "a.json")]
    assert " includes ".join(map(str, chain)) in caught.value.detail


def test_the_same_file_may_be_included_twice(home: Path) -> None:
    write(home / "a.json", {"storage": {"writeTo": ["sqlite"]}})
    found = read(home / "argent.json", {"$include": ["./a.json", "./a.json"]})
    assert found.storage == {"writeTo": ["sqlite", "sqlite"]}


@pytest.mark.parametrize(("depth", "fits"), [(10, True), (11, False)])
def test_how_deep_includes_may_go(home: Path, depth: int, fits: bool) -> None:
    for level in range(1, depth):
        write(home / f"{level}.json", {"$include": f"./{level + 1}.json"})
    write(home / f"{depth}.json", {"storage": {"backend": "dual"}})
    if fits:
        assert read(home / "argent.json", {"$include": "./1.json"}).storage == {"backend": "dual"}
    else:
        with pytest.raises(ConfigError, match="more than 10 files deep"):
            read(home / "argent.json", {"$include": "./1.json"})


# -- ${VAR} --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "1"),
        ("x${A}y${B_2}z${A}", "x1y2z1"),
        ("${_U}", "3"),
        ("$A ${a} ${Mixed} ${1A} ${} ${A", "$A ${a} ${Mixed} ${1A} ${} ${A"),
        ("$${A}", "${A}"),
        ("$${A}${A}$${NOT_SET}", "${A}1${NOT_SET}"),
        ("$$${A}", "$${A}"),
        ("$${a}", "$${a}"),
        ("${NESTED}", "${A}"),
        ("100%$", "100%$"),
    ],
)
def test_variables_are_put_in(home: Path, text: str, expected: str) -> None:
    variables = {"A": "1", "B_2": "2", "_U": "3", "NESTED": "${A}"}
    found = read(home / "argent.json", connecting(text), **variables)
    assert found.storage["postgres"]["connectionString"] == expected
    assert not found.missing and not found.borrowed


def test_variables_in_lists_and_included_files(home: Path) -> None:
    write(home / "storage.json", {"writeTo": ["${W}"], "redis": {"host": "${H}"}})
    found = read(home / "argent.json", {"storage": {"$include": "./storage.json"}}, W="sqlite", H="h")
    assert found.storage == {"writeTo": ["sqlite"], "redis": {"host": "h"}}


@pytest.mark.parametrize("environment", [{}, {"PW": ""}])
def test_a_variable_that_is_not_set(home: Path, environment: dict[str, str]) -> None:
    """An empty one is none. What needs it is not there; the rest is."""
    values = {"storage": {"backend": "dual", "postgres": {"connectionString": "postgres://u:${PW}@h/d"}}}
    found = read(home / "argent.json", values, **environment)
    assert found.storage == {"backend": "dual", "postgres": {}}
    assert found.missing == {DSN: "PW"}


def test_a_missing_variable_is_an_error_where_it_is_needed(home: Path) -> None:
    """Another Postgres than the one that is meant must not be used; but if another place names it, all is well."""
    path = write(home / ".argentos" / "argent.json", connecting("postgres://u:${PW}@h/d"))
    environment = {"HOME": str(home)}
    with pytest.raises(ConfigError) as caught:
        load_settings((), None, None, None, None, environment)
    assert caught.value.place == str(path)
    assert caught.value.detail == f"{DSN}: the variable PW is not set"
    assert "--postgres" in caught.value.next_step
    settings = load_settings((), "host=/run", None, None, None, environment)
    assert settings.dsn == "host=/run" and settings.storage.dsn is None
    (note,) = settings.notes
    assert note.path == DSN and "PW" in note.next_step
    assert load_settings((), None, None, None, None, environment | {"PW": "x"}).dsn == "postgres://u:x@h/d"


def test_variables_of_the_file_itself(home: Path) -> None:
    """``env`` before ``env.vars``, the environment before both; a blank one in the environment does not count."""
    values = connecting("${A} ${B} ${C} ${D}") | {
        "env": {"A": "own", "B": "own", "D": "own", "vars": {"A": "vars", "C": "vars"}}
    }
    found = read(home / "argent.json", values, B="real", D=" ")
    assert found.storage["postgres"]["connectionString"] == "own real vars own"
    assert set(found.borrowed) == {DSN} and found.exported == {}
    found = read(home / "argent.json", values, B="real", D=" ", ARGENT_ALLOW_CONFIG_ENV_VARS="Yes")
    assert found.storage["postgres"]["connectionString"] == "own real vars own"
    assert not found.borrowed and found.exported == {"A": "own", "C": "vars", "D": "own"}


def test_variables_of_the_file_that_argentos_ignores(home: Path) -> None:
    """Older versions use them; recent ones only when they are allowed to. They count, with a note."""
    path = write(home / ".argentos" / "argent.json", connecting("${DB}") | {"env": {"DB": "host=/run"}})
    environment = {"HOME": str(home)}
    settings = load_settings((), None, None, None, None, environment)
    assert settings.dsn == "host=/run"
    (note,) = settings.notes
    assert note.path == DSN and str(path) in note.detail and "DB" in note.next_step
    allowed = environment | {"ARGENT_LEGACY_CONFIG_ENV_IMPORT": "1"}
    assert not load_settings((), None, None, None, None, allowed).notes


def test_postgres_from_the_variables_of_the_file(home: Path) -> None:
    """As ArgentOS has it where it is allowed to use them: they count as environment, before its own key."""
    path = write(home / ".argentos" / "argent.json", connecting("key") | {"env": {"PG_URL": "env"}})
    environment = {"HOME": str(home)}
    assert load_settings((), None, None, None, None, environment).dsn == "key"
    settings = load_settings((), None, None, None, None, environment | {"ARGENT_ALLOW_CONFIG_ENV_VARS": "on"})
    assert settings.dsn == "env"
    assert settings.origins["postgres.connectionString"] == f"{path}: env.PG_URL"


# -- what is said of its section storage ---------------------------------------------------------------


def test_keys_that_argentos_does_not_know(home: Path) -> None:
    """They make it drop everything; they do not stop the mirror."""
    path = write(
        home / ".argentos" / "argent.json",
        {"storage": {"postgres": {"connectionString": "x", "maxConnections": 5}, "redis": {"prot": 1}, "hot": {}}},
    )
    settings = load_settings((), None, None, None, None, {"HOME": str(home)})
    assert settings.dsn == "x"
    assert [note.path for note in settings.notes] == [
        "storage.postgres.maxConnections",
        "storage.redis.prot",
        "storage.hot",
    ]
    assert all(str(path) in note.detail for note in settings.notes)
    ours, *others = (note.next_step for note in settings.notes)
    assert ours == f"write it in {path.parent / 'mirror.json'} instead", "there it has a meaning"
    assert all(step.startswith("remove it") for step in others)


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        (1, "storage: expected an object, found the number 1"),
        ({"backend": "mysql"}, "storage.backend: expected one of"),
        ({"postgres": "postgres://u:secret@h/d"}, "storage.postgres: expected an object, found a text"),
        ({"postgres": {"connectionString": 5}}, f"{DSN}: expected a text, found the number 5"),
        ({"redis": {"port": "x"}}, "storage.redis.port: expected a whole number"),
        ({"mirror": []}, "storage.mirror: expected an object, found a list"),
        ({"mirror": {"sources": "/x/a.db"}}, "storage.mirror.sources: expected a list, found a text"),
        ({"mirror": {"sources": [{}]}}, "storage.mirror.sources[0].path: missing"),
    ],
)  # fmt: skip
def test_values_of_wrong_types(home: Path, storage: Any, told: str) -> None:
    path = write(home / ".argentos" / "argent.json", {"storage": storage})
    with pytest.raises(ConfigError) as caught:
        load_settings((), None, None, None, None, {"HOME": str(home)})
    assert told in caught.value.detail and caught.value.place == str(path)
    assert "secret" not in str(caught.value)
