"""mirror.json is checked: what is wrong is reported with its path, and what was probably meant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.core.config.mirror_json import json_schema, problems, read_mirror_file
from mirror.core.config.sections import MirrorFile
from mirror.core.errors import ConfigError

EVERYTHING = {
    "$schema": "mirror.schema.json",
    "sources": ["memory.db", {"path": "dashboard.db", "agent": "main", "schema": "dash", "profile": "memustore"}],
    "stateDir": "state",
    "postgres": {"connectionString": "host=/run"},
    "sidecar": "outlives",
    "cutover": {"sequences": {"order_numbers": ["orders.number"]}},
    "http": "8080",
    "alerts": {
        "webhook": "https://example.org/hook",
        "holdSeconds": 30,
        "lagSeconds": 2.5,
        "rejects": 0,
        "parityHours": 24,
        "freeBytes": 0,
    },
    "storage": {
        "backend": "dual",
        "readFrom": "sqlite",
        "writeTo": ["sqlite", "postgres"],
        "postgres": {"connectionString": "host=/run", "maxConnections": 10},
        "redis": {"host": "127.0.0.1", "port": 6380, "db": 0},
        "reads": {"maxWaitMs": 20, "neverWait": False, "alwaysSqlite": False, "shadowPercent": 0.5},
    },
}


SIDECAR = "expected one of follows, none, outlives"
WHOLE = "expected a whole number from"
PORT = f"{WHOLE} 1 to 65535"
PERCENT = "storage.reads.shadowPercent: expected a number from 0 to 100"
GIVE = "give host and port, and the password in MIRROR_REDIS_PASSWORD"
YES = "expected true or false"
KEYS = (
    "the keys are sources, stateDir, postgres, sidecar, columns, tables, cutover, http, log, alerts, changes, storage"
)


def test_all_that_it_may_contain() -> None:
    assert problems(EVERYTHING, MirrorFile) == []
    assert problems({}, MirrorFile) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"sources": ["a", {"path": "b", "agnet": "x"}]}, "sources[1].agnet: unknown key: did you mean agent?"),
        ({"sources": [{"file": "b", "path": "b"}]}, "sources[0].file: unknown key: did you mean path?"),
        ({"state_dir": "x"}, "state_dir: unknown key: did you mean stateDir?"),
        ({"Sources": []}, "Sources: unknown key: did you mean sources?"),
        ({"storage": {"redis": {"prot": 1}}}, "storage.redis.prot: unknown key: did you mean port?"),
        ({"connectionString": "x"}, "connectionString: unknown key: did you mean postgres.connectionString?"),
        ({"postgres": {"dsn": "x"}}, "postgres.dsn: unknown key: did you mean connectionString?"),
        ({"postgres": {"sidecar": "x"}}, "postgres.sidecar: unknown key: did you mean sidecar?"),
        ({"agent": "x"}, "agent: unknown key: did you mean sources[].agent?"),
        ({"zzz": 1}, f"zzz: unknown key: {KEYS}"),
        ({"": 1}, f'"": unknown key: {KEYS}'),
        ({"postgres": {"a.b": 1}}, 'postgres."a.b": unknown key: the keys are connectionString'),
        ({"sources": [{"agent": "x"}]}, "sources[0].path: missing"),
        ({"sources": "a.db"}, "sources: expected a list, found a text"),
        ({"sources": {"path": "a.db"}}, "sources: expected a list, found an object"),
        ({"sources": ["a", 7]}, "sources[1]: expected a text or an object, found the number 7"),
        ({"sources": [["a"]]}, "sources[0]: expected a text or an object, found a list"),
        ({"sources": [""]}, "sources[0]: expected a text or an object, found an empty text"),
        ({"sources": [{"path": "a", "agent": 7}]}, "sources[0].agent: expected a text, found the number 7"),
        ({"sources": [{"path": ""}]}, "sources[0].path: expected a text, found an empty text"),
        ({"stateDir": None}, "stateDir: expected a text, found null"),
        ({"stateDir": True}, "stateDir: expected a text, found true"),
        ({"sidecar": "folows"}, f"sidecar: {SIDECAR}, found 'folows': did you mean follows?"),
        ({"sidecar": "x"}, f"sidecar: {SIDECAR}, found 'x'"),
        ({"storage": {"writeTo": ["sqlite", "m"]}}, "storage.writeTo[1]: expected one of postgres, sqlite, found 'm'"),
        ({"storage": {"redis": {"port": "6380"}}}, f"storage.redis.port: {PORT}, found a text"),
        ({"storage": {"redis": {"port": 0}}}, f"storage.redis.port: {PORT}, found the number 0"),
        ({"storage": {"redis": {"port": 1.5}}}, f"storage.redis.port: {PORT}, found the number 1.5"),
        ({"storage": {"redis": {"port": True}}}, f"storage.redis.port: {PORT}, found true"),
        ({"storage": {"redis": {"host": ""}}}, "storage.redis.host: expected a text, found an empty text"),
        ({"storage": {"redis": {"host": 7}}}, "storage.redis.host: expected a text, found the number 7"),
        ({"storage": {"redis": {"url": "x"}}}, f"storage.redis.url: unknown key: {GIVE}"),
        ({"storage": {"redis": {"connectionString": "x"}}}, f"storage.redis.connectionString: unknown key: {GIVE}"),
        ({"storage": {"redis": {"password": "x"}}}, "storage.redis.password: unknown key: set MIRROR_REDIS_PASSWORD"),
        ({"storage": []}, "storage: expected an object, found a list"),
        ({"storage": {"redis": {"db": -1}}}, f"storage.redis.db: {WHOLE} 0 to 65535, found the number -1"),
        ({"storage": {"reads": {"maxWait": 1}}}, "storage.reads.maxWait: unknown key: did you mean maxWaitMs?"),
        ({"storage": {"reads": {"neverWait": 1}}}, f"storage.reads.neverWait: {YES}, found the number 1"),
        ({"storage": {"reads": {"neverWait": "no"}}}, f"storage.reads.neverWait: {YES}, found a text"),
        ({"storage": {"reads": {"maxWaitMs": None}}}, f"storage.reads.maxWaitMs: {WHOLE} 0 to 60000, found null"),
        ({"storage": {"reads": {"shadowPercent": 101}}}, f"{PERCENT}, found the number 101"),
        ({"storage": {"reads": {"shadowPercent": float("nan")}}}, f"{PERCENT}, found the number nan"),
        ({"storage": {"reads": {"shadowPercent": True}}}, f"{PERCENT}, found true"),
        ([], "expected an object, found a list"),
        (None, "expected an object, found null"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_path(values: Any, expected: str) -> None:
    (problem,) = problems(values, MirrorFile)
    assert str(problem) == expected


@pytest.mark.parametrize(
    ("host", "what"),
    [
        ("redis://u:sekret@127.0.0.1", "is a URL"),
        ("redis://127.0.0.1:6380/0?password=sekret", "is a URL"),
        ("unix:///run/redis.sock?password=sekret", "is a URL"),
        *(
            (host, "has characters that no name of a host has")
            for host in (
                "u:sekret@127.0.0.1",
                "//u:sekret@127.0.0.1",
                "127.0.0.1 sekret",
                "127.0.0.1?password=sekret",
                "127.0.0.1/0",
                "127.0.0.1\n",
            )
        ),
    ],
)
def test_a_host_is_no_url(host: str, what: str) -> None:
    """In which there would be a password. The schema, for editors, says the same."""
    values = {"storage": {"redis": {"host": host, "port": 6380}}}
    assert [str(problem) for problem in problems(values, MirrorFile)] == [f"storage.redis.host: host {what}: {GIVE}"]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(values, MirrorFile)


@pytest.mark.parametrize(
    "host", ["cache", "cache.example.org", "10.0.0.1", "::1", "fe80::1%eth0", "/run/re dis@1.sock"]
)
def test_a_host_or_the_path_of_a_socket(host: str) -> None:
    assert problems({"storage": {"redis": {"host": host}}}, MirrorFile) == []


def test_all_problems_are_reported_at_once(folder: Path) -> None:
    path = folder / "mirror.json"
    path.write_text(json.dumps({"sources": ["a", {"agnet": "x"}, 7], "sidecar": 1, "stateDir": "x", "storag": {}}))
    with pytest.raises(ConfigError) as caught:
        read_mirror_file(path)
    assert caught.value.place == str(path) and "mirror config schema" in caught.value.next_step
    found = [part.partition(": ")[0] for part in caught.value.detail.split("; ")]
    assert found == ["sources[1].agnet", "sources[1].path", "sources[2]", "sidecar", "storag"]


def test_a_password_is_not_repeated() -> None:
    """A text where an object should be may be a connection string."""
    for values in ({"postgres": "postgres://u:secret@h/d"}, {"storage": {"postgres": ["postgres://u:secret@h/d"]}}):
        assert "secret" not in "".join(map(str, problems(values, MirrorFile)))


def test_a_file_that_is_no_text(folder: Path) -> None:
    path = folder / "mirror.json"
    path.write_bytes(b'{"stateDir": "\xff"}')
    with pytest.raises(ConfigError, match="utf-8"):
        read_mirror_file(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_mirror_file(path)
    path.write_bytes(b'\xef\xbb\xbf{"stateDir": "x"}')
    assert read_mirror_file(path).state_dir == "x"


_WORDS = "sources stateDir postgres sidecar storage path agent schema profile connectionString backend readFrom writeTo"
_OTHERS = "redis host port db reads maxConnections maxWaitMs neverWait alwaysSqlite shadowPercent other $schema"
_KEYS = st.sampled_from([*_WORDS.split(), *_OTHERS.split(), "cutover", "sequences"])
_TEXTS = st.sampled_from(["", "x", "auto", "sqlite", "postgres", "dual", "outlives", "none"])
_LEAVES = st.none() | st.booleans() | st.integers(-1, 70_000) | st.floats() | _TEXTS
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4))


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_what_has_no_problem_can_be_used(values: dict[str, Any]) -> None:
    """Two readings of one description agree: ours, which has the paths, and msgspec's."""
    try:
        msgspec.convert(values, MirrorFile)
    except msgspec.ValidationError:
        usable = False
    else:
        usable = True
    assert (problems(values, MirrorFile) == []) == usable


def test_the_schema_describes_every_key() -> None:
    schema = json_schema()
    for section in schema["$defs"].values():
        assert section["additionalProperties"] is False and section["description"]
        for key, value in section["properties"].items():
            assert "$ref" in value or "description" in value or section["title"] == "OurPostgres", key


_AT_ONCE = """
import sys, threading
from mirror.core.config.settings import load_settings

sys.setswitchinterval(1e-6)
barrier, done = threading.Barrier(16), []

def read():
    barrier.wait()
    done.append(load_settings((), None, None, None, sys.argv[1]))

threads = [threading.Thread(target=read) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(done) == 16
"""


def test_many_threads_read_it_first(tmp_path: Path) -> None:
    """The process ended with a segmentation fault, now and then."""
    path = tmp_path / "mirror.json"
    path.write_text('{"sources": ["a.db", {"path": "b.db", "agent": "ada"}], "storage": {"backend": "dual"}}')
    for _ in range(8):
        done = subprocess.run([sys.executable, "-c", _AT_ONCE, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.returncode, done.stderr)
