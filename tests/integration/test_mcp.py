"""``mirror mcp`` as the client of the protocol's own library sees it, beside a real mirror."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
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

from mirror.core.locks import ParityLock
from tests.support.commands import UNREACHABLE, CommandLine
from tests.support.source import Writer
from tests.support.waiting import LIMIT, PAUSE, until

ROOT = Path(__file__).parents[2]
#: In the connection string, and in rows: neither is in any answer.
PASSWORD, CONTENT = "not-to-be-seen", "only-for-the-program"
TOOLS = ["status", "cutover_plan", "parity", "rejects"]
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


def talk(
    cli: CommandLine, conversation: Callable[[Session], Awaitable[None]], *arguments: object, mode: str = "auto"
) -> None:
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
            async with Client(stdio_client(server, errlog=log), mode=mode) as client:
                yield Session(client, pid)

    async def hold() -> None:
        async with connected() as session:
            await conversation(session)

    anyio.run(hold)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_what_is_offered(cli: CommandLine, folder: Path, mode: str) -> None:
    """To clients of this year's protocol and of the one before; and nothing that is not only read."""

    async def conversation(session: Session) -> None:
        listed = (await session.client.list_tools()).tools
        assert [tool.name for tool in listed] == TOOLS
        for tool in listed:
            assert tool.annotations is not None and tool.annotations.read_only_hint
            assert tool.title and tool.description and tool.input_schema["type"] == "object"
            assert tool.input_schema["additionalProperties"] is False
            assert tool.output_schema is not None and tool.output_schema["type"] == "object"
        assert "next_steps" in (session.client.instructions or "")
        nothing = await session.ask("status", fails=True)
        assert nothing["error"]["code"] == "config" and "mirror up" in nothing["error"]["next_step"]
        with pytest.raises(MCPError, match="no tool repair"):
            await session.client.call_tool("repair", {})

    talk(cli, conversation, mode=mode)


def test_a_running_mirror(cli: CommandLine, source: Path, dsn: str) -> None:
    """What the commands say; the contents of rows and the password in no answer, not even where they differ."""

    async def conversation(session: Session) -> None:
        (status,) = (await session.ask("status"))["sources"]
        assert (status["source"], status["phase"], status["rejects"]) == (str(source), "following", 1)
        (report,) = (await session.ask("parity"))["reports"]
        assert (report["verdict"], report["rows"]) == ("equal", 2)
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE notes SET body = body || ' and more'")
        found = await session.ask("parity", sources=[str(source)], tables=["notes"])
        ((example,),) = (table["examples"] for table in found["reports"][0]["tables"])
        assert found["reports"][0]["verdict"] == "different"
        assert example == {"kind": "different", "key": "[1]", "column": "body"}
        (rejected,) = (await session.ask("rejects"))["rejects"]
        assert (rejected["table"], rejected["source"]) == ("odd", str(source)) and "not valid" in rejected["reason"]
        assert (await session.ask("rejects", tables=["notes"]))["rejects"] == []
        plan = await session.ask("cutover_plan")
        assert not plan["ready"] and plan["sources"][0]["next_steps"]
        (after,) = (await session.ask("status"))["sources"]
        assert after["parity"]["proof"] == "different" and any("--repair" in step for step in after["next_steps"])
        for said in session.said:
            assert PASSWORD not in said and CONTENT not in said

    with cli.up(source):
        talk(cli, conversation)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT body FROM notes").fetchall() == [(f"{CONTENT} and more",)]
    assert PASSWORD not in (cli.folder / "mcp.log").read_text()


def test_no_mirror_runs(cli: CommandLine, source: Path, writer: Writer, dsn: str) -> None:
    """What was saved is told; a comparison would have to start a mirror, which would write to Postgres."""
    assert cli.run("up", source, "--once").code == 0
    writer.run("INSERT INTO notes VALUES (2, 'later')")

    async def conversation(session: Session) -> None:
        (status,) = (await session.ask("status"))["sources"]
        assert status["phase"] == "stopped"
        assert not (await session.ask("cutover_plan"))["ready"]
        assert len((await session.ask("rejects"))["rejects"]) == 1
        (report,) = (await session.ask("parity", fails=True))["reports"]
        assert report["verdict"] == "not checked"
        assert report["error"]["code"] == "control.not_running" and "mirror up" in report["error"]["next_step"]

    talk(cli, conversation, source)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchall() == [(1,)]


def test_errors_are_answers(cli: CommandLine, source: Path, folder: Path) -> None:
    """With a code and a next step; what the client sends cannot become an option, or another file."""

    async def conversation(session: Session) -> None:
        unreachable = (await session.ask("rejects", fails=True))["error"]
        assert unreachable["code"] == "postgres" and unreachable["operation"] and "next_step" in unreachable
        for wrong in ({"source": []}, {"sources": "x"}, {"sources": ["--help"]}, {"sources": [str(folder / "x.db")]}):
            error = (await session.ask("status", fails=True, **wrong))["error"]
            assert error["code"] == "config" and error["next_step"], error
        for wrong in ({"sample": 0}, {"repair": True}):
            assert (await session.ask("parity", fails=True, **wrong))["error"]["code"] == "config"
        (folder / "mirror.json").write_text("{")
        (status,) = (await session.ask("status"))["sources"]
        assert "mirror.json" in status["configuration"]

    assert cli.run("up", source, "--once").code == 0
    (folder / "mirror.json").write_text("{}")
    config = ("--config", folder / "mirror.json", "--state-dir", cli.state_dir)
    talk(cli, conversation, *config, "--postgres", UNREACHABLE)


def test_no_server_is_made_to_look_at(folder: Path, source: Path) -> None:
    """Where the embedded Postgres was never started, nothing starts it."""

    async def conversation(session: Session) -> None:
        for tool in ("cutover_plan", "parity", "rejects"):
            error = (await session.ask(tool, fails=True))["error"]
            assert error["code"] == "postgres.unknown_source" and error["next_step"] == "start `mirror up`"

    cli = CommandLine(folder)
    talk(cli, conversation, source)
    assert not (cli.state_dir / "postgres").exists()


def test_a_call_that_is_cancelled_ends_what_it_began(cli: CommandLine, source: Path) -> None:
    """A comparison that waits for another one waits no more; other calls are answered meanwhile, and afterwards."""

    async def conversation(session: Session) -> None:
        async with anyio.create_task_group() as calls:
            calls.start_soon(session.client.call_tool, "parity", {})
            (comparison,) = await session.commands(1)
            assert "parity" in comparison.cmdline()
            assert (await session.ask("status"))["sources"][0]["phase"] == "following"
            assert comparison.is_running()
            calls.cancel_scope.cancel()
        await session.commands(0)
        assert (await session.ask("status"))["sources"][0]["phase"] == "following"

    with cli.up(source), closing(ParityLock(cli.source_folder(source))) as lock:
        assert lock.take(wait=True)
        talk(cli, conversation)


def call(number: int, method: str, **params: Any) -> str:
    """A message as it is on the wire."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n"


HELLO = call(1, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "t", "version": "1"})


def test_nothing_but_the_protocol_is_on_standard_output(cli: CommandLine, source: Path) -> None:
    """Also where a command has something to say on standard error."""
    process = cli.start("mcp", source, stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(HELLO + call(2, "tools/call", name="parity", arguments={}))
    process.stdin.flush()
    first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    assert (first["id"], first["result"]["serverInfo"]["name"]) == (1, "mirror")
    assert (second["id"], second["result"]["isError"]) == (2, True)
    out, log = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (0, "") and "no mirror of this source is running" in log


def test_a_client_that_leaves_ends_everything(cli: CommandLine, source: Path) -> None:
    with cli.up(source), closing(ParityLock(cli.source_folder(source))) as lock:
        assert lock.take(wait=True)
        process = cli.start("mcp", stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(HELLO + call(2, "tools/call", name="parity", arguments={}))
        process.stdin.flush()
        (comparison,) = until(psutil.Process(process.pid).children, alive=lambda: process.poll() is None)
        process.communicate(timeout=LIMIT)
        assert process.returncode == 0 and not comparison.is_running()


def test_without_the_extra(cli: CommandLine) -> None:
    without = "import sys; sys.modules['mcp'] = None; from mirror.cli.main import main; main()"
    done = CommandLine(cli.folder, cli.dsn, (sys.executable, "-c", without)).run("mcp")
    assert done.out == "" and "pip install 'mirror[mcp]'" in done.error


def test_the_configuration_in_the_readme(cli: CommandLine, source: Path, folder: Path) -> None:
    (block,) = re.findall(r"^```json\n(.*?)^```", (ROOT / "mirror" / "README.md").read_text(), re.M | re.DOTALL)
    (entry,) = json.loads(block)["mcpServers"].values()
    assert Path(entry["command"]).name == "mirror"
    arguments = [str(folder / Path(word).name) if word.startswith("/") else word for word in entry["args"]]
    (folder / "mirror.json").write_text(json.dumps({"sources": [str(source)]}))

    async def conversation(session: Session) -> None:
        assert (await session.ask("status"))["sources"][0]["source"] == str(source)

    assert arguments.pop(0) == "mcp"
    talk(cli, conversation, *arguments)
