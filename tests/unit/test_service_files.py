"""The files of services: templates and what is made of them, by the rules of plutil and of systemd."""

from __future__ import annotations

import plistlib
import re
import shlex
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.cli.service.job import Job, environment
from mirror.cli.service.render import command_in, label, plist, templates, unit, unit_name

ROOT = Path(__file__).parents[2]
#: A program and arguments with all that means something to one of the managers, or to a shell.
HARD = ("/opt/a b/python", "-m", "mirror", "up", '/data/50% of $HOME/it\'s "it".db', "a\\b", "", "é;&<>`#")
JOBS = [
    Job("mirror", HARD, Path("/home/you & me/100%/service.env")),
    Job("redis", ("/usr/bin/valkey-server", "/home/you/redis.conf", "--daemonize", "no"), data=Path("/home/you")),
    Job("postgres", ("/opt/bin/postgres", "-D", "/Users/you/a <b>"), data=Path("/Users/you")),
]


# -- launchd ---------------------------------------------------------------------------------------------------------


def lint(text: bytes) -> dict[str, object]:
    """As ``plutil -lint``: XML of the property list's document type, each key once and with a value."""
    assert text.startswith(b"<?xml") and b"<!DOCTYPE plist PUBLIC" in text
    root = ET.fromstring(text)
    assert root.tag == "plist" and root.get("version") == "1.0" and [child.tag for child in root] == ["dict"]
    for element in root.iter("dict"):
        children = list(element)
        keys = [child.text for child in children[::2]]
        assert all(child.tag == "key" for child in children[::2]) and len(children) % 2 == 0
        assert all(child.tag != "key" for child in children[1::2]) and len(set(keys)) == len(keys)
    values = plistlib.loads(text)
    assert isinstance(values, dict)
    return values


@pytest.mark.parametrize("path", sorted(templates("launchd").iterdir()), ids=lambda path: path.name)
def test_a_template_is_a_property_list_itself(path: Path) -> None:
    values = lint(path.read_bytes())
    assert values["Label"] == path.stem
    assert "EnvironmentVariables" not in values, "everybody can read it"


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
@pytest.mark.parametrize("user", [None, "you"])
def test_an_agent(job: Job, user: str | None, tmp_path: Path) -> None:
    text = plist(job, user, Path("/Users/you/Library/Logs/a & b.log"))
    values = lint(text)
    assert values["Label"] == label(job.name) and values.get("UserName") == user
    assert values["KeepAlive"] == {"SuccessfulExit": False} and values["ThrottleInterval"] == 10
    assert values["RunAtLoad"] is True and values["StandardErrorPath"] == "/Users/you/Library/Logs/a & b.log"
    arguments = values["ProgramArguments"]
    assert isinstance(arguments, list) and tuple(arguments[-len(job.command) :]) == job.command
    assert Path(arguments[0]).is_absolute() and not re.search(rb"@[A-Z]+@", text)
    path = tmp_path / "a.plist"
    path.write_bytes(text)
    assert tuple(command_in(path)) == job.command


def test_an_agent_reads_its_variables_at_each_start(tmp_path: Path) -> None:
    """Run for real: its command line is a shell that takes them from the file, and becomes the program."""
    secret = "host=db password='a\"b`c$d\\e'"
    file = tmp_path / "it's" / "service.env"
    job = Job("mirror", ("/usr/bin/env",), file)
    command = plistlib.loads(plist(job, None, tmp_path / "log"))["ProgramArguments"]

    def variables() -> str:
        return subprocess.run(command, env={"HOME": "/"}, capture_output=True, text=True, check=True).stdout

    assert "PG_URL" not in variables()
    file.parent.mkdir()
    file.write_text(environment({"PG_URL": secret, "PGAPPNAME": " a", "EDITOR": "vi", "MIRROR_X": "1", "PGHOST": ""}))
    assert f"PG_URL={secret}\n" in variables() and "PGAPPNAME= a\n" in variables()
    assert file.read_text().count("\n") == 2


# -- systemd ---------------------------------------------------------------------------------------------------------

#: The settings that are used, by section, with what a value must look like (systemd.unit(5), .service(5), .exec(5)).
_YES = r"yes|no"
_TIME = r"\d+"
SETTINGS = {
    "Unit": {"Description": r".+", "Wants": r"[\w.-]+( [\w.-]+)*", "After": r"[\w.-]+( [\w.-]+)*"},
    "Service": {
        "Type": r"notify-reload|notify|exec", "ExecStart": r"(/|\"/).+", "ExecReload": r"/bin/kill -HUP \$MAINPID",
        "EnvironmentFile": r"-/.+", "Restart": r"on-failure", "RestartSec": _TIME, "TimeoutStartSec": _TIME,
        "TimeoutStopSec": _TIME, "WatchdogSec": _TIME, "KillMode": r"mixed", "User": r"\w+", "NoNewPrivileges": _YES,
        "LockPersonality": _YES, "RestrictNamespaces": _YES, "RestrictSUIDSGID": _YES, "ProtectSystem": r"full",
        "SystemCallArchitectures": r"native", "RestrictAddressFamilies": r"AF_UNIX AF_INET AF_INET6",
        "ProtectKernelLogs": _YES, "ProtectKernelModules": _YES, "ProtectKernelTunables": _YES,
        "ProtectControlGroups": _YES, "ProtectClock": _YES, "ProtectHostname": _YES,
    },
    "Install": {"WantedBy": r"default\.target"},
}  # fmt: skip


def settings(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, name and value of each setting of a unit."""
    section = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = found[1]
            continue
        name, equals, value = line.partition("=")
        assert section and equals, line
        yield section, name, value


def words(command: str) -> list[str]:
    """The words of ExecStart, as systemd reads them: quotes, then backslashes, then ``%%`` and ``$$``."""
    found: list[str] = []
    for part in re.findall(r'"(?:[^"\\]|\\.)*"|\S+', command):
        text = re.sub(r"\\(.)", r"\1", part[1:-1]) if part.startswith('"') else part
        assert not re.search(r"(?<!%)%(?!%)(?:%%)*(?=[^%]|$)", re.sub("%%", "", text)), text
        found.append(text.replace("%%", "%").replace("$$", "$"))
    return found


@pytest.mark.parametrize("job", JOBS[:2], ids=lambda job: job.name)
@pytest.mark.parametrize("user", [None, "you"])
@pytest.mark.parametrize("version", [252, 257])
def test_a_unit(job: Job, user: str | None, version: int, tmp_path: Path) -> None:
    text = unit(job, user, version)
    has = {}
    for section, name, value in settings(text):
        assert re.fullmatch(SETTINGS[section][name], value), (section, name, value)
        assert name not in has, name
        has[name] = value
    assert tuple(words(has["ExecStart"])) == job.command
    assert has.get("User") == user and ("ProtectSystem" in has) == (user is not None)
    if job.name == "mirror":
        assert has["Type"] == ("notify" if version < 253 else "notify-reload")
        assert ("ExecReload" in has) == (version < 253)
        assert has["EnvironmentFile"] == "-/home/you & me/100%%/service.env"
    assert "PrivateTmp" not in has and "ProtectHome" not in has and "ProtectProc" not in has
    path = tmp_path / unit_name(job.name)
    path.write_text(text)
    assert tuple(command_in(path)) == job.command


@pytest.mark.slow
@pytest.mark.linux
@pytest.mark.parametrize("job", JOBS[:2], ids=lambda job: job.name)
@pytest.mark.parametrize("user", [None, "root"])
def test_systemd_finds_nothing_wrong(job: Job, user: str | None, tmp_path: Path) -> None:
    subprocess.run(["apt-get", "install", "-y", "-q", "systemd"], check=True, capture_output=True)
    (version,) = re.findall(
        r"^systemd (\d+)", subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout
    )
    program = tmp_path / "a b"
    program.symlink_to("/usr/bin/env")
    path = tmp_path / unit_name(job.name)
    path.write_text(unit(Job(job.name, (str(program), *job.command[1:]), job.environment_file), user, int(version)))
    mode = [] if user else ["--user"]
    done = subprocess.run(
        ["systemd-analyze", *mode, "verify", "--man=no", path],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    about = [line for line in (done.stdout + done.stderr).splitlines() if path.name in line]
    assert done.returncode == 0 and not about, done


def test_the_templates_hold_no_secret_and_name_no_machine() -> None:
    for path in (*templates("launchd").iterdir(), *templates("systemd").iterdir()):
        text = path.read_text()
        assert not re.search(r"password=|PASSWORD|/home/\w|/Users/\w|/root", text), path


def test_shlex_and_systemd_read_a_command_alike() -> None:
    text = unit(JOBS[0], None, 257)
    (line,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
    assert [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)] == words(line)
