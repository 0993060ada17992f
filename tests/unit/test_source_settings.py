"""The schema of a source: remembered, read again, and proposed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from mirror.cli.options import own_schema_command, schema_of
from mirror.core.config.settings import Settings, SourceSettings
from mirror.core.errors import StateError
from mirror.core.folders import known_sources, source_folder
from mirror.core.locks import SourceLock
from mirror.core.source_settings import proposed_schema, remember_schema, remembered_schema
from mirror.core.versions import stamped


def test_remembered(tmp_path: Path) -> None:
    assert remembered_schema(tmp_path) is None
    assert remembered_schema(tmp_path / "nowhere") is None
    for schema in ("public", "a b", "ü'\"", "public"):
        remember_schema(tmp_path, schema)
        assert remembered_schema(tmp_path) == schema
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
    before = (tmp_path / "settings.json").stat()
    remember_schema(tmp_path, "public")
    assert (tmp_path / "settings.json").stat() == before, "nothing is written for nothing"


def test_what_else_is_remembered_stays(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"later": [1]}')
    remember_schema(tmp_path, "x")
    assert json.loads((tmp_path / "settings.json").read_text()) == stamped({"later": [1], "schema": "x"})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', "\x00"])
def test_damaged(tmp_path: Path, text: str) -> None:
    """No guess: another schema has other tables. Whoever names the schema writes it again."""
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(StateError, match="--schema"):
        remembered_schema(tmp_path)
    remember_schema(tmp_path, "x")
    assert remembered_schema(tmp_path) == "x"


def test_no_reader_sees_half_of_it(tmp_path: Path) -> None:
    names = ["a" * 4000, "b" * 4000]
    remember_schema(tmp_path, names[0])
    done = threading.Event()

    def write() -> None:
        for number in range(200):
            remember_schema(tmp_path, names[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert remembered_schema(tmp_path) in names
    writer.join()


def test_precedence(tmp_path: Path) -> None:
    source = tmp_path / "s.db"
    folder = source_folder(tmp_path, source)
    folder.mkdir(parents=True)

    def found(schema: str | None = None, entry: str = "") -> str:
        entries = (SourceSettings(source, schema=entry),) if entry else ()
        return schema_of(Settings((source,), None, tmp_path, schema, entries), source)

    assert found() == "public"
    remember_schema(folder, "remembered")
    assert found() == "remembered"
    assert found(entry="entry") == "entry"
    assert found("flag", entry="entry") == "flag"
    assert found("public") == "public"
    (folder / "settings.json").write_text("{")
    assert found("flag") == "flag"
    with pytest.raises(StateError):
        found()


def test_proposed() -> None:
    assert proposed_schema(Path("/a/My Shop-2.db"), "public") == "my_shop_2"
    assert proposed_schema(Path("/a/2024.db"), "public") == "mirror_2024"
    assert proposed_schema(Path("/a/pg_x.db"), "public") == "mirror_pg_x"
    assert proposed_schema(Path("/a/日本.db"), "public").startswith("mirror_")
    for stem in ("public", "mirror", "information_schema", "", "x" * 200):
        name = proposed_schema(Path(f"/a/{stem}.db"), "public")
        assert name not in ("public", "mirror", "information_schema") and 0 < len(name) < 64
    # Two of one name, in two folders, the second of which finds the first's schema taken, too.
    first, second = (proposed_schema(Path(f"/{folder}/app.db"), "app") for folder in "ab")
    assert len({"app", first, second}) == 3


def test_the_command_can_be_pasted(tmp_path: Path) -> None:
    source = tmp_path / "my shop.db"
    settings = Settings((source,), None, tmp_path, None, arguments=("--state-dir", "/a b"))
    assert own_schema_command(settings, source, "public") == f"mirror up '{source}' --state-dir '/a b' --schema my_shop"
    arguments = ("--state-dir", "/s", "--schema", "x y", "--postgres", "p")
    settings = Settings((source,), None, tmp_path, "x y", arguments=arguments)
    assert own_schema_command(settings, source, "x y").endswith(" --state-dir /s --postgres p --schema my_shop")


def test_of_a_source_that_a_mirror_has_they_are_two(tmp_path: Path) -> None:
    """It is given up first; and where that mirror has others as well, it is that one which goes on with it."""
    source, other = tmp_path / "shop.db", tmp_path / "other.db"
    settings = Settings((source,), None, tmp_path, None, arguments=("--state-dir", str(tmp_path), "--schema", "a"))
    named = f"{source} --state-dir {tmp_path}"
    lock = SourceLock(source_folder(tmp_path, source), source)
    assert own_schema_command(settings, source, "a") == f"mirror remove {named} && mirror up {named} --schema shop"
    beside = SourceLock(source_folder(tmp_path, other), other)
    assert own_schema_command(settings, source, "a") == f"mirror remove {named} && mirror add {named} --schema shop"
    beside.release()
    lock.release()
    assert own_schema_command(settings, source, "a") == f"mirror up {named} --schema shop"


def test_what_cannot_be_read_is_an_error_of_the_source(tmp_path: Path) -> None:
    """No guess, and no bug either: any error of the system, here the one of a folder in the file's place."""
    (tmp_path / "settings.json").mkdir()
    with pytest.raises(StateError, match=r"settings\.json.*: it is a directory, not a file -- .*move"):
        remembered_schema(tmp_path)


def test_a_list_of_sources_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "sources").symlink_to("sources")
    with pytest.raises(StateError, match="symbolic links"):
        known_sources(tmp_path)
