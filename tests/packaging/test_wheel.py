"""The wheel has all that it needs: built, installed without the checkout, and used from elsewhere."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import psycopg
import pytest

import mirror
from tests.support.commands import CommandLine
from tests.support.source import Writer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    if importlib.util.find_spec("hatchling") is not None:
        command.append("--no-isolation")  # what would be fetched is here already
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; what it depends on comes from the environment of the tests."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
    )
    (packages,) = folder.glob("lib/*/site-packages")
    # Read after the venv's own packages; an editable install's link in there is not followed.
    paths = dict.fromkeys(path for path in sys.path if Path(path).name in ("site-packages", "dist-packages"))
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in paths))
    return python


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (
        ("mirror", "mirror"),
        ("sql", "mirror/sql"),
        ("launchd", "mirror/launchd"),
        ("scripts/systemd", "mirror/systemd"),
    ):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in (".py", ".sql", ".typed", ".plist", ".service", ".conf"):
                assert f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" in names
    assert not [name for name in names if not name.startswith(("mirror/", "mirror-"))]


def test_extras_and_versions(wheel: Path) -> None:
    files = zipfile.ZipFile(wheel)
    (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = HeaderParser().parsestr(files.read(name).decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Version"] == project["version"] == mirror.__version__
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    assert f"[{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_wheel_without_the_checkout(python: Path, dsn: str, folder: Path) -> None:
    cli = CommandLine(folder, dsn, [str(python.with_name("mirror"))])
    where = subprocess.run(
        [python, "-c", "import mirror; print(mirror.__file__)"],
        cwd=folder,
        env=cli.environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert where.startswith(str(python.parents[1])), where
    assert mirror.__version__ in cli.run("--version").out

    store = folder / "memory.db"
    subprocess.run(
        [python, "-m", "mirror.cli.demo.writer", store, "0.2"],
        cwd=folder,
        env=cli.environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    done = cli.run("up", store, "--once")
    assert done.code == 0, done
    done = cli.run("parity", store)
    assert done.code == 0, done
    with Writer(store) as writer, psycopg.connect(dsn) as connection:
        count = "SELECT count(*) FROM memory_items"
        assert [tuple(row) for row in writer.run(count)] == connection.execute(count).fetchall()


def test_the_templates_of_services_are_found_in_it(python: Path, folder: Path) -> None:
    (folder / "bin").mkdir()
    manager = folder / "bin" / "systemctl"
    manager.write_text("#!/bin/sh\necho systemd 257\n")
    manager.chmod(0o755)
    cli = CommandLine(folder, command=(str(python), "-m", "mirror"))
    done = cli.run("service", "install", "a.db", "--dry-run", env={"PATH": str(manager.parent)})
    assert done.code == 0 and f"ExecStart={python} -P -m mirror up" in done.out, done
