"""``mirror mcp`` as the client of the protocol's own library sees it, beside a real mirror."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil
import psycopg
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError
from psycopg.conninfo import make_conninfo

from mirror.cli.mcp_tools import TOOLS
from mirror.core.folders import source_folder
from mirror.core.locks import ParityLock
from tests.support.commands import UNREACHABLE, CommandLine, stop
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT, PAUSE, until

#: In the connection string, and in rows: neither is in any answer.
PASSWORD, CONTENT = "not-to-be-seen", "only-for-the-program"
#: One row that Postgres cannot hold, and one that it can.
ROWS = (
    "CREATE TABLE odd(v TEXT PRIMARY KEY, body TEXT)",
    f"INSERT INTO odd VALUES (CAST(x'61ff62' AS TEXT), '{CONTENT}')",
    "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)",
    f"INSERT INTO notes VALUES (1, '{CONTENT}')",
)


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, make_conninfo(dsn, password=PASSWORD))


@pytest.fixture
def source(writer: Writer, database: Path) -> Path:
    writer.run(*ROWS)
    return database.resolve()


class Session:
    """A conversation with ``mirror mcp``."""

    def __init__(self, client: Client, pid: Callable[[], int]) -> None:
        self.client = client
        self._pid = pid
        self.said: list[str] = []
        """All answers, as text."""

    async def ask(self, tool: str, *, fails: bool = False, **arguments: Any) -> Any:
        """The document of a call, whose two forms are the same."""
        answer = await self.client.call_tool(tool, arguments)
        (content,) = answer.content
        assert content.type == "text" and json.loads(content.text) == answer.structured_content
        assert answer.is_error == fails, content.text
        self.said.append(content.text)
        return answer.structured_content

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._pid())

    async def commands(self, number: int) -> list[psutil.Process]:
        """The processes that answer calls, as soon as there are so many."""
        with anyio.fail_after(LIMIT):
            while len(found := self.process.children()) != number:
                await anyio.sleep(PAUSE)
        return found


def talk(cli: CommandLine, conversation: Callable[[Session], Awaitable[None]], *arguments: object) -> None:
    """Start the command as a client's configuration says, and hold the conversation."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[Session]:
        command, *before = cli.command
        here = psutil.Process()
        others = {child.pid for child in here.children()}
        words = [*before, "mcp", *map(str, arguments)]
        server = StdioServerParameters(command=command, args=words, env=cli.environment(), cwd=cli.folder)

        def pid() -> int:
            (found,) = (child.pid for child in here.children() if child.pid not in others)
            return found

        with (cli.folder / "mcp.log").open("w") as log:
            async with Client(stdio_client(server, errlog=log)) as client:
                yield Session(client, pid)

    async def hold() -> None:
        async with connected() as session:
            await conversation(session)

    anyio.run(hold)


def test_a_mirror_that_runs_and_then_does_not(
    cli: CommandLine, mirror: MirrorProcess, source: Path, writer: Writer, dsn: str
) -> None:
    """What the commands say; the contents of rows and the password in no answer, not even where they differ."""

    async def while_it_runs(session: Session) -> None:
        (status,) = (await session.ask("status"))["sources"]
        assert (status["source"], status["phase"], status["rejects"]) == (str(source), "following", 1)
        (report,) = (await session.ask("parity"))["reports"]
        assert (report["verdict"], report["rows"]) == ("equal_except_rejects", 2)
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE notes SET body = body || ' and more'")
        (found,) = (await session.ask("parity", sources=[str(source)], tables=["notes"]))["reports"]
        ((example,),) = (table["examples"] for table in found["tables"])
        assert found["verdict"] == "different" and example == {"kind": "different", "key": [1], "column": "body"}
        (rejected,) = (await session.ask("rejects"))["rejects"]
        assert (rejected["table"], rejected["source"]) == ("odd", str(source)) and "not valid" in rejected["reason"]
        plan = await session.ask("cutover_plan")
        assert not plan["ready"] and plan["sources"][0]["next_steps"]

    async def when_it_has_ended(session: Session) -> None:
        (status,) = (await session.ask("status"))["sources"]
        assert (status["phase"], status["parity"]["proof"]) == ("stopped", "different")
        assert (await session.ask("rejects", tables=["notes"]))["rejects"] == []
        (report,) = (await session.ask("parity", fails=True))["reports"]
        assert report["verdict"] == "not_checked"
        assert report["error"]["code"] == "control.not_running" and "mirror up" in report["error"]["next_step"]

    async def conversation(session: Session) -> None:
        await while_it_runs(session)
        await anyio.to_thread.run_sync(mirror.stop)
        writer.run("INSERT INTO notes VALUES (2, 'later')")
        await when_it_has_ended(session)
        for said in session.said:
            assert PASSWORD not in said and CONTENT not in said

    mirror.start()
    mirror.wait_applied()
    talk(cli, conversation, "--state-dir", mirror.state_dir)
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT body FROM notes").fetchall()
    assert found == [(f"{CONTENT} and more",)], "nothing was repaired, and nothing was started that writes"
    assert PASSWORD not in (cli.folder / "mcp.log").read_text()


def test_errors_are_answers(cli: CommandLine, source: Path, folder: Path) -> None:
    """With a code and a next step; what a client sends cannot become an option, or another file."""

    async def conversation(session: Session) -> None:
        unreachable = (await session.ask("rejects", fails=True))["error"]
        assert unreachable["code"] == "postgres" and unreachable["operation"] and "next_step" in unreachable
        for wrong in ({"source": []}, {"sources": "x"}, {"sources": ["--help"]}, {"sources": [str(folder / "x.db")]}):
            error = (await session.ask("status", fails=True, **wrong))["error"]
            assert error["code"] == "config" and error["next_step"], error
        for wrong in ({"sample": 0}, {"repair": True}):
            assert (await session.ask("parity", fails=True, **wrong))["error"]["code"] == "config"
        with pytest.raises(MCPError, match="no tool repair"):
            await session.client.call_tool("repair", {})
        listed = (await session.client.list_tools()).tools
        assert [tool.name for tool in listed] == list(TOOLS)
        for tool in listed:
            assert tool.annotations is not None and tool.annotations.read_only_hint
            assert (
                tool.output_schema is not None and tool.output_schema["type"] == tool.input_schema["type"] == "object"
            )

    talk(cli, conversation, source, "--postgres", UNREACHABLE)


def test_a_call_that_is_cancelled_ends_what_it_began(cli: CommandLine, mirror: MirrorProcess, source: Path) -> None:
    """A comparison that waits for another one waits no more; other calls are answered meanwhile."""

    async def conversation(session: Session) -> None:
        async with anyio.create_task_group() as calls:
            calls.start_soon(session.client.call_tool, "parity", {})
            (comparison,) = await session.commands(1)
            assert "parity" in comparison.cmdline()
            assert (await session.ask("status"))["sources"][0]["phase"] == "following"
            assert comparison.is_running()
            calls.cancel_scope.cancel()
        await session.commands(0)

    mirror.start()
    mirror.settle()
    with closing(ParityLock(source_folder(mirror.state_dir, source))) as lock:
        assert lock.take(wait=True)
        talk(cli, conversation, "--state-dir", mirror.state_dir)


def call(number: int, method: str, **params: Any) -> str:
    """A message as it is on the wire."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n"


def has_ended(command: psutil.Process) -> bool:
    """One that was killed may be there for a moment after whoever has started it."""
    try:
        return bool(command.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_the_wire(cli: CommandLine, mirror: MirrorProcess, source: Path) -> None:
    """For a client of an earlier version of the protocol: nothing else is on standard output, also where a command has
    something to say on standard error; and a client that leaves ends what it began.
    """
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    process = cli.start("mcp", "--state-dir", mirror.state_dir, source, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(call(1, "initialize", **hello) + call(2, "tools/call", name="parity", arguments={}))
    process.stdin.flush()
    first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    assert (first["id"], first["result"]["serverInfo"]["name"]) == (1, "mirror")
    assert (second["id"], second["result"]["isError"]) == (2, True)
    mirror.start()
    mirror.settle()
    with closing(ParityLock(source_folder(mirror.state_dir, source))) as lock:
        assert lock.take(wait=True)
        process.stdin.write(call(3, "tools/call", name="parity", arguments={}))
        process.stdin.flush()
        (comparison,) = until(psutil.Process(process.pid).children, alive=lambda: process.poll() is None)
        out, log = process.communicate(timeout=LIMIT)
        assert process.returncode == 0 and "no mirror of this source is running" in log
        assert [json.loads(line)["id"] for line in out.splitlines()] in ([], [3]), out
        until(partial(has_ended, comparison))
        # The same by a signal, while standard input stays open; also where a command has just become a process, and
        # whoever starts it does not have its number yet.
        for _ in range(6):
            process = cli.start("mcp", "--state-dir", mirror.state_dir, stdin=subprocess.PIPE)
            assert process.stdin is not None
            process.stdin.write(call(1, "initialize", **hello) + call(2, "tools/call", name="parity", arguments={}))
            process.stdin.flush()
            here = psutil.Process(process.pid)
            while not (commands := here.children()):
                assert process.poll() is None
            assert stop(process) == -signal.SIGTERM
            until(partial(has_ended, commands[0]))
            process.communicate()


def test_without_the_extra(cli: CommandLine) -> None:
    without = "import sys; sys.modules['mcp'] = None; from mirror.cli.main import main; main()"
    done = CommandLine(cli.folder, cli.dsn, (sys.executable, "-c", without)).run("mcp")
    assert done.out == "" and "pip install 'mirror[mcp]'" in done.error
