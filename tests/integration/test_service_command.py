"""``mirror service`` with commands in the managers' places that write down how they are called."""

from __future__ import annotations

import json
import os
import plistlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from mirror.cli.service.render import command_in
from tests.support.commands import CommandLine, Done, stop
from tests.support.manager import Manager
from tests.support.setups import files
from tests.support.source import Writer
from tests.support.stubs import Stubs
from tests.support.waiting import until

UNIT = "argent-mirror.service"
LABEL = "ai.argent.mirror"
PASSWORD = "se'cret"


class Machine:
    """A home directory, and a ``PATH`` on which only one manager is."""

    def __init__(self, folder: Path) -> None:
        self.stubs = Stubs(folder)
        self.home = folder
        self.cli = CommandLine(folder)

    def run(self, *words: object, **more: str) -> Done:
        return self.cli.run("service", *words, env={"PATH": str(self.stubs.bin), **more})

    def good(self, *words: object, **more: str) -> str:
        done = self.run(*words, **more)
        assert done.code == 0, done
        return done.out

    def told(self) -> list[str]:
        """What the manager was told since the last call, without what it was only asked."""
        asked = re.compile(r"launchctl print |systemctl (--user )?(show|is-active|--version)")
        lines = [shlex.join(call) for call in self.stubs.calls]
        self.stubs.forget()
        return [line for line in lines if not asked.match(line)]


@pytest.fixture
def database(folder: Path) -> Path:
    path = folder / "my files" / "source.db"
    path.parent.mkdir()
    with Writer(path) as writer:
        writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    return path


@pytest.fixture
def linux(folder: Path) -> Machine:
    machine = Machine(folder)
    state = folder / "active"
    machine.stubs.add(
        "systemctl",
        f'case "$*" in\n'
        f"*--version) echo 'systemd 257 (257.9)' ;;\n"
        f"*is-active*) [ -e {state} ] ;;\n"
        f"*show*) if [ -e {state} ]; then printf 'ActiveState=active\\nSubState=running\\nMainPID=12\\nNRestarts=2\\n"
        f"Result=success\\nStatusText=following; lag under 1 s\\n';\n"
        f"  else printf 'ActiveState=inactive\\nSubState=dead\\nMainPID=0\\nNRestarts=0\\nResult=watchdog\\n'; fi ;;\n"
        f"*start*) : >{state} ;;\n"
        f"*disable*) /bin/rm -f {state} ;;\n"
        f"esac",
    )
    machine.stubs.add("journalctl", "echo a line of the log")
    return machine


@pytest.fixture
def mac(folder: Path) -> Machine:
    """Logged in at its screen; launchd lets go of a job only a while after it was told."""
    machine = Machine(folder)
    loaded, going = folder / "loaded", folder / "going"
    (folder / "screen").touch()
    machine.stubs.add(
        "launchctl",
        f'case "$1 $2" in\n'
        f'"print gui/{os.getuid()}") [ -e {folder}/screen ] ;;\n'
        f'"print "*) if [ -e {going} ]; then /bin/rm -f {going} {loaded}; exit 0; fi\n'
        f"  [ -e {loaded} ] && printf '\\tstate = running\\n\\truns = 3\\n\\tpid = 77\\n\\tlast exit code = 0\\n' ;;\n"
        f'"bootstrap "*) [ ! -e {loaded} ] || exit 5; : >{loaded} ;;\n'
        f'"bootout "*) : >{going}; exit 36 ;;\n'
        f"esac",
    )
    (machine.stubs.bin / "tail").symlink_to("/usr/bin/tail")
    return machine


def test_systemd_from_install_to_uninstall(linux: Machine, database: Path) -> None:
    said = linux.good("install", database, "--agent", "one", "--state-dir", "state")
    path = linux.home / ".config/systemd/user" / UNIT
    assert "loginctl enable-linger" in said and "Next: `mirror service status`" in said
    assert linux.told() == [
        "systemctl --user daemon-reload",
        f"systemctl --user enable {UNIT}",
        f"systemctl --user --no-block restart {UNIT}",
    ]
    program = [sys.executable, "-P", "-m", "mirror", "up"]
    state = linux.home / "state"
    assert command_in(path) == [*program, str(database), "--state-dir", str(state), "--agent", "one"]
    assert "Type=notify-reload" in path.read_text() and path.stat().st_mode & 0o777 == 0o644

    before = files(path.parent)
    linux.good("install", database, "--agent", "one", "--state-dir", "state")
    assert files(path.parent) == before, "a second run changes nothing"
    assert linux.told()[-1] == f"systemctl --user --no-block start {UNIT}"

    shown = linux.good("status")
    assert "active (running)" in shown and "following; lag under 1 s" in shown and "process 12" in shown
    document = json.loads(linux.good("status", "--json"))
    assert document["active"] and document["pid"] == 12 and document["command"][0] == sys.executable
    assert linux.good("logs", "--lines", "7") == "a line of the log\n"
    assert f"journalctl --user --unit {UNIT} --lines 7 --no-pager" in linux.told()

    linux.good("uninstall")
    assert not path.exists()
    assert linux.told() == [
        f"systemctl --user disable --now {UNIT}",
        "systemctl --user daemon-reload",
        f"systemctl --user reset-failed {UNIT}",
    ]
    assert "not installed" in linux.good("uninstall")
    done = linux.run("status")
    assert done.code == 1 and "ended by: watchdog" in done.out and "next: mirror service install" in done.out


def test_launchd_from_install_to_uninstall(mac: Machine, database: Path) -> None:
    gui = f"gui/{os.getuid()}"
    path = mac.home / f"Library/LaunchAgents/{LABEL}.plist"
    mac.good("install", database)
    assert mac.told() == [
        f"launchctl enable {gui}/{LABEL}",
        f"launchctl bootstrap {gui} {path}",
        f"launchctl kickstart {gui}/{LABEL}",
    ]
    values = plistlib.loads(path.read_bytes())
    assert values["ProgramArguments"][4:][:6] == [sys.executable, "-P", "-m", "mirror", "up", str(database)]
    mac.good("install", database)
    assert mac.told() == [f"launchctl enable {gui}/{LABEL}", f"launchctl kickstart {gui}/{LABEL}"]

    mac.good("install", database, "--agent", "two")  # waits until launchd has let go of the old one
    assert [line.split()[1] for line in mac.told()] == ["bootout", "enable", "bootstrap", "kickstart"]

    assert "state running; runs 3; last exit code 0, process 77" in mac.good("status")
    log = mac.home / "Library/Logs/argent-mirror.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n")
    assert values["StandardOutPath"] == values["StandardErrorPath"] == str(log)
    assert mac.good("logs", "--lines", "1") == "two\n"

    mac.told()
    mac.good("uninstall")
    assert not path.exists() and mac.told() == [f"launchctl bootout {gui}/{LABEL}"]
    assert mac.run("status").code == 1


def test_what_a_service_runs_mirrors(mac: Machine, linux: Machine, dsn: str, database: Path) -> None:
    """The very command lines of both files, as the managers start them: Postgres is named in the variables alone."""
    state = mac.home / "state"
    mac.good("install", database, "--state-dir", state, PG_URL=dsn)
    (mac.stubs.bin / "launchctl").unlink()
    linux.good("install", database, "--state-dir", state)
    agent = plistlib.loads((mac.home / f"Library/LaunchAgents/{LABEL}.plist").read_bytes())["ProgramArguments"]
    unit = ["/bin/sh", "-c", 'set -a; . "$0"; exec "$@"', str(state / "service.env")]
    unit += command_in(linux.home / ".config/systemd/user" / UNIT)
    for command in (agent, unit):
        with Manager(mac.home / "notify") as manager:
            environment = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": manager.name}
            process = subprocess.Popen(command, env=environment, cwd="/", stderr=subprocess.PIPE, text=True)
            try:
                manager.hears("READY")
                assert any(message.get("STATUS") == "following; lag under 1 s" for message in manager.messages)
            finally:
                assert stop(process) == 0
                _, said = process.communicate()
        assert f"Postgres: {dsn}" in said
        (mac.home / "notify").unlink()
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_over_ssh_an_agent_belongs_to_the_user(mac: Machine, database: Path) -> None:
    (mac.home / "screen").unlink()
    mac.good("install", database)
    assert all(f"user/{os.getuid()}" in line for line in mac.told())


def test_a_dry_run_does_nothing(linux: Machine, database: Path) -> None:
    before = {path for path in files(linux.home) if path.name != "calls"}
    said = linux.good("install", database, "--dry-run", PG_URL=f"password={PASSWORD}")
    assert "ExecStart=" in said and f"+ systemctl --user enable {UNIT}" in said and PASSWORD not in said
    assert {path for path in files(linux.home) if path.name != "calls"} == before and linux.told() == []
    said = linux.good("install", database, "--dry-run", "--system")
    assert "+ write /etc/systemd/system/argent-mirror.service" in said and "ProtectSystem=full" in said
    assert f"User={database.owner()}" in said and "EnvironmentFile=-/etc/argent-mirror.env" in said


def test_no_secret_is_in_a_file_that_others_can_read(linux: Machine, database: Path) -> None:
    done = linux.run("install", database, "--postgres", f"host=db password={PASSWORD}")
    assert "~/.pgpass" in done.error and PASSWORD not in done.error
    said = linux.good("install", database, "--state-dir", "state", ARGENT_PG_URL=f"host=db password={PASSWORD}")
    file = linux.home / "state/service.env"
    assert file.stat().st_mode & 0o777 == 0o600 and PASSWORD in file.read_text() and PASSWORD not in said
    unit = (linux.home / ".config/systemd/user" / UNIT).read_text()
    assert PASSWORD not in unit and f"EnvironmentFile=-{file}" in unit
    assert "left as it is" in linux.good("install", database, "--state-dir", "state", ARGENT_PG_URL="host=other")
    assert PASSWORD in file.read_text()
    assert f"{file} is left" in linux.good("uninstall")
    file.chmod(0o644)
    assert "chmod 600" in linux.run("install", database, "--state-dir", "state").error


def test_the_sources_of_the_configuration_are_read_at_each_start(linux: Machine, database: Path) -> None:
    assert "no source is named" in linux.run("install").error
    config = linux.home / "mirror.json"
    config.write_text(json.dumps({"sources": [str(database)]}))
    linux.good("install", "--config", "mirror.json")
    command = command_in(linux.home / ".config/systemd/user" / UNIT)
    assert str(database) not in command and command[5:] == [
        "--config", str(config), "--state-dir", str(linux.home / "mirror"),
    ]  # fmt: skip


def test_another_installation_is_found_and_not_replaced(linux: Machine, database: Path) -> None:
    path = linux.home / ".config/systemd/user" / UNIT
    linux.good("install", database)
    other = linux.home / "other" / "python"
    other.parent.mkdir()
    other.symlink_to(sys.executable)
    path.write_text(path.read_text().replace(sys.executable, str(other)))
    text = path.read_text()
    assert str(other) in linux.run("install", database).error and path.read_text() == text
    done = linux.cli.run("doctor", database)
    assert done.code == 0 and "runs another installation of the mirror" in done.out, done

    other.unlink()
    done = linux.cli.run("doctor", database, "--json")
    (report,) = json.loads(done.out)["reports"]
    (finding,) = (each for each in report["findings"] if each["code"] == "service")
    assert done.code == 1 and finding["level"] == "problem" and "which is not there" in finding["detail"]
    linux.good("install", database)
    done = linux.cli.run("doctor", database)
    assert done.code == 0 and f"✓ service: {path} runs {sys.executable}" in done.out, done


def test_doctor_finds_an_agent_and_a_file_of_variables_that_is_open(mac: Machine, database: Path) -> None:
    mac.good("install", database, PG_URL="host=db")
    path = mac.home / f"Library/LaunchAgents/{LABEL}.plist"
    path.write_bytes(path.read_bytes().replace(sys.executable.encode(), b"/no/such/python"))
    (mac.cli.state_dir / "service.env").chmod(0o640)
    done = mac.cli.run("doctor", database)
    assert done.code == 1 and "/no/such/python, which is not there" in done.out and "chmod 600" in done.out, done


def test_a_server_goes_over_to_the_manager(linux: Machine, folder: Path) -> None:
    """The one that the setup script has started ends first: two cannot have its files."""
    data = folder / "redis"
    assert "run scripts/setup-redis.sh" in linux.run("install", "--server", "redis", "--data", data).error
    data.mkdir()
    (data / "redis.conf").write_text(f"# program: {sys.executable}\nport 1\n")
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], cwd=data)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], cwd=folder)
    try:
        (data / "redis.pid").write_text(f"{stranger.pid}\n")
        assert "kill" not in linux.good("install", "--server", "redis", "--data", data, "--dry-run")
        (data / "redis.pid").write_text(f"{server.pid}\n")
        assert f"+ kill -TERM {server.pid}" in linux.good("install", "--server", "redis", "--data", data, "--dry-run")
        assert server.poll() is None
        linux.good("install", "--server", "redis", "--data", data)
        assert until(lambda: server.poll() is not None) and stranger.poll() is None
    finally:
        for each in (server, stranger):
            each.kill()
            each.wait()
    unit = linux.home / ".config/systemd/user/argent-mirror-redis.service"
    assert command_in(unit)[:2] == [sys.executable, str(data / "redis.conf")]
    assert "argent-mirror-redis.service" in linux.good("status", "--server", "redis")


def test_a_postgres_of_homebrew_is_started_as_it_was_before(mac: Machine, linux: Machine, folder: Path) -> None:
    data = folder / "pg data"
    assert "run scripts/setup-postgres.sh" in mac.run("install", "--server", "postgres", "--data", data).error
    data.mkdir()
    (data / "postgresql.conf").write_text("mirror.made_by = setup_postgres\n")
    (data / "postmaster.opts").write_text(f'/opt/pg/bin/postgres "-D" "{data}"\n')
    mac.good("install", "--server", "postgres", "--data", data)
    path = mac.home / f"Library/LaunchAgents/{LABEL}.postgres.plist"
    assert command_in(path) == ["/opt/pg/bin/postgres", "-D", str(data)]
    (mac.stubs.bin / "launchctl").unlink()
    assert "starts a cluster" in linux.run("install", "--server", "postgres", "--data", data).error


def test_what_the_manager_refuses_is_told(linux: Machine, database: Path) -> None:
    linux.stubs.add(
        "systemctl", 'case "$*" in *--version) echo systemd 257 ;; *) echo "No medium found" >&2; exit 1 ;; esac'
    )
    assert "No medium found" in linux.run("install", database).error
    assert "No medium found" in linux.run("status").error


def test_without_a_manager_it_says_so(folder: Path, database: Path) -> None:
    assert "neither systemd nor launchd" in Machine(folder).run("install", database).error
