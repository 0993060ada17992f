"""``changes`` in mirror.json: what it means, and what is said of what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mirror.cli.changes import changes_settings
from mirror.core.config.settings import load_settings
from mirror.core.errors import ConfigError
from mirror.sidecar.changes.hub import ChangesSettings

SECRET = {"MIRROR_WEBHOOK_SECRET": "not to be seen"}


def wished(
    folder: Path, changes: Any, environment: dict[str, str] | None = None, **more: Any
) -> ChangesSettings | None:
    path = folder / "mirror.json"
    path.write_text(json.dumps({**more, **({} if changes is None else {"changes": changes})}))
    found = {"HOME": str(folder), **(environment or {})}
    return changes_settings(load_settings((), None, None, None, str(path), found), found)


def test_what_it_means(folder: Path) -> None:
    assert wished(folder, None) is None
    assert wished(folder, {}) == ChangesSettings(None, 10_000, 0, None)
    redis = {"host": "redis.example", "port": 6381, "db": 3}
    found = wished(folder, {"keep": 500, "log": 20}, {"MIRROR_REDIS_PASSWORD": "hidden"}, storage={"redis": redis})
    assert found is not None and found.redis is not None
    assert (found.keep, found.log, found.redis.place) == (500, 20, "redis redis.example:6381/3")
    webhook = {"url": "https://example.org:8443/in?key=hidden", "tables": ["notes"]}
    found = wished(folder, {"webhook": webhook}, SECRET)
    assert found is not None and found.webhook is not None
    assert found.webhook.address.place == "https://example.org:8443" and found.webhook.tables == {"notes"}
    assert "not to be seen" not in repr(found) and "hidden" not in repr(found)


@pytest.mark.parametrize(
    ("changes", "environment", "said"),
    [
        ({"log": -1}, {}, "changes.log: expected a whole number"),
        ({"keep": 5}, {}, "changes.keep: expected a whole number from 100"),
        ({"kep": 1}, {}, "changes.kep: unknown key: did you mean keep?"),
        ({"webhook": {}}, {}, "changes.webhook.url: missing"),
        ({"webhook": {"url": "ftp://x/hidden"}}, SECRET, "changes.webhook.url): no address with http:// or https://"),
        ({"webhook": {"url": "http://"}}, SECRET, "no address with http:// or https://"),
        ({"webhook": {"url": "https://me:hidden@x/"}}, SECRET, "it has a user or password"),
        ({"webhook": {"url": "https://example.org/"}}, {}, "MIRROR_WEBHOOK_SECRET"),
    ],
)
def test_what_cannot_be_used(folder: Path, changes: Any, environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wished(folder, changes, environment)
    assert said in str(caught.value) and "hidden" not in str(caught.value)
