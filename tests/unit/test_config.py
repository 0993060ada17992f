"""Settings: which place wins, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mirror.config import Settings, load_settings
from mirror.errors import ConfigError
from mirror.statedir import SourceLock, source_folder


class Places:
    """A home with an argent.json, and the environment that points there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {"ARGENT_STATE_DIR": str(home)}
        self.config: str | None = None

    def write(self, values: Any, path: Path | None = None) -> Path:
        path = path or self.home / "argent.json"
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return path

    def load(
        self, *sources: str, postgres: str | None = None, state_dir: str | None = None, **environment: str
    ) -> Settings:
        return load_settings(sources, postgres, state_dir, "public", self.config, self.environment | environment)


@pytest.fixture
def places(folder: Path) -> Places:
    return Places(folder.resolve())


def storage(**values: Any) -> dict[str, Any]:
    return {"storage": values}


def test_nothing_is_configured(places: Places) -> None:
    assert places.load() == Settings((), None, places.home / "mirror", "public")


def test_postgres_by_precedence(places: Places) -> None:
    assert places.load().dsn is None
    places.write(storage(postgres={"connectionString": "file"}))
    assert places.load().dsn == "file"
    assert places.load(PG_URL="pg").dsn == "pg"
    assert places.load(PG_URL="pg", ARGENT_PG_URL="argent").dsn == "argent"
    assert places.load(PG_URL="pg", ARGENT_PG_URL="argent", postgres="flag").dsn == "flag"


def test_empty_variables_count_as_unset(places: Places) -> None:
    places.write(storage(postgres={"connectionString": "file"}))
    assert places.load(PG_URL="", ARGENT_PG_URL="").dsn == "file"


def test_sources_by_precedence(places: Places) -> None:
    places.write(storage(mirror={"sources": [{"path": "/x/a.db", "agent": "main"}, "/x/b.db"]}))
    assert places.load().sources == (Path("/x/a.db").resolve(), Path("/x/b.db").resolve())
    assert places.load("/x/c.db").sources == (Path("/x/c.db").resolve(),)


def test_state_directory_by_precedence(places: Places) -> None:
    assert places.load().state_dir == places.home / "mirror"
    places.write(storage(mirror={"stateDir": str(places.home / "file")}))
    assert places.load().state_dir == places.home / "file"
    assert places.load(state_dir=str(places.home / "flag")).state_dir == places.home / "flag"


def test_a_file_named_by_flag(places: Places, folder: Path) -> None:
    """It stands in for the one in the home, and the state directory lies beside it."""
    places.write(storage(postgres={"connectionString": "home"}))
    (folder / "elsewhere").mkdir()
    named = places.write(storage(postgres={"connectionString": "named"}), folder / "elsewhere" / "mine.json")
    places.config = str(named)
    settings = places.load()
    assert settings.dsn == "named"
    assert settings.state_dir == places.home / "elsewhere" / "mirror"


def test_the_home_of_the_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert load_settings((), None, None, "public", None, {}).state_dir == folder.resolve() / ".argentos" / "mirror"
    assert load_settings(("~/a.db",), None, "~/state", "public", None, {}) == Settings(
        (folder.resolve() / "a.db",),
        None,
        folder.resolve() / "state",
        "public",
        options=f" --state-dir {folder.resolve()}/state",
    )


def test_a_source_named_twice(places: Places) -> None:
    (places.home / "link.db").symlink_to("a.db")
    with pytest.raises(ConfigError, match="named twice"):
        places.load(str(places.home / "a.db"), str(places.home / "link.db"))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("{", "mend the file"),
        ("[]", "not a JSON object"),
        ({"storage": 1}, "storage is not an object"),
        (storage(mirror=[]), "storage.mirror is not an object"),
        (storage(postgres="dsn"), "storage.postgres is not an object"),
        (storage(postgres={"connectionString": 5}), "connectionString is not a text"),
        (storage(mirror={"stateDir": 5}), "stateDir is not a text"),
        (storage(mirror={"sources": "/x/a.db"}), "sources is not a list"),
        (storage(mirror={"sources": [{"file": "/x/a.db"}]}), "without a path"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(places: Places, values: Any, told: str) -> None:
    path = places.write(values)
    with pytest.raises(ConfigError) as caught:
        places.load()
    assert told in str(caught.value) and str(path) in str(caught.value)


def test_only_a_file_that_was_named_must_be_there(places: Places) -> None:
    places.load()
    places.config = str(places.home / "none.json")
    with pytest.raises(ConfigError, match="no such file"):
        places.load()


def test_known_sources(places: Places) -> None:
    with pytest.raises(ConfigError, match="none is named"):
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


def test_agents_of_sources(places: Places) -> None:
    """As argent.json has them, also for sources that are named."""
    places.write(storage(mirror={"sources": [{"path": "/x/a.db", "agent": "main"}, "/x/b.db", {"path": "/x/c.db"}]}))
    for settings in (places.load(), places.load("/x/a.db")):
        assert settings.agents == {Path("/x/a.db"): "main"}
    places.write(storage(mirror={"sources": [{"path": "/x/a.db", "agent": 7}]}))
    with pytest.raises(ConfigError):
        places.load()
