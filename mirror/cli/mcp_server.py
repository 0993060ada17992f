"""The server of ``mirror mcp``: each call runs the command that the tool stands for, as a process of its own.

So a call can be ended at any moment, whatever it waits for; this process holds no connection to SQLite or Postgres, and
no state; and what it answers is what the command says with the settings of that moment. Standard output belongs to the
protocol: the library keeps it for itself while it serves. The log of the commands goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import msgspec
from anyio.abc import Process
from mcp import types
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

import mirror
from mirror.cli.mcp_tools import INSTRUCTIONS, TOOLS, Given, command_line, without_contents
from mirror.core.errors import MirrorError
from mirror.core.status import encode

#: Calls that are answered at the same time; others wait.
_AT_ONCE = 4
#: Seconds that a command whose call has ended may take to clean up, before it is killed.
_ENDING_SECONDS = 5.0

_Context = ServerRequestContext[Any]


def serve(given: Given) -> None:
    """Answer on standard output what comes on standard input, until that ends."""
    anyio.run(_serve, given)


async def _serve(given: Given) -> None:
    calls = _Calls(given)
    server = Server(
        "mirror",
        version=mirror.__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=_list_tools,
        on_call_tool=calls.answer,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_obey_signals, calls)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
        tasks.cancel_scope.cancel()


async def _obey_signals(calls: _Calls) -> None:
    """End with SIGINT and SIGTERM: the library would wait for the next line on standard input first."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            await calls.end()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


async def _list_tools(context: _Context, asked: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    hints = types.ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )
    return types.ListToolsResult(
        tools=[
            types.Tool(
                name=name,
                title=tool.title,
                description=tool.description,
                input_schema=tool.takes,
                output_schema=dict(tool.answer),
                annotations=hints,
            )
            for name, tool in TOOLS.items()
        ]
    )


class _Calls:
    """The calls of one client, and the commands that answer them."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._room = anyio.Semaphore(_AT_ONCE)
        self._scopes: set[anyio.CancelScope] = set()

    async def answer(self, context: _Context, asked: types.CallToolRequestParams) -> types.CallToolResult:
        """The answer to a call; an error is one, too. Raises ``MCPError`` for a tool that there is not."""
        if asked.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {asked.name}")
        try:
            words = command_line(asked.name, asked.arguments or {}, self._given)
            with self._scope():
                async with self._room:
                    code, document = await self._answer_of(words)
                    return _result(without_contents(asked.name, document), failed=code in (2, 3))
        except MirrorError as error:
            return _result({"version": 1, "error": error.to_dict()}, failed=True)
        raise MCPError(types.CONNECTION_CLOSED, "the server ends")

    async def _answer_of(self, words: list[str]) -> tuple[int, dict[str, Any]]:
        """The exit code of a command (0, 1, 2 or 3), and the document that it has printed. Raises ``MirrorError``."""
        code, out = await self._run(words)
        try:
            document: dict[str, Any] = json.loads(out)
        except ValueError as error:
            shown = f"`mirror {' '.join(word for word in words if not word.startswith('--'))}`"
            detail = f"it ended with {code}, without an answer"
            step = "look at the log, on the standard error of `mirror mcp`"
            raise MirrorError("run a command", shown, detail, next_step=step) from error
        return code, document

    async def _run(self, words: list[str]) -> tuple[int, bytes]:
        command = [sys.executable, "-P", "-m", "mirror", *words]
        async with await anyio.open_process(command, stdin=subprocess.DEVNULL, stderr=None) as process:
            assert process.stdout is not None
            try:
                out = b"".join([part async for part in process.stdout])
                return await process.wait(), out
            finally:
                await _end(process)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        """Where a call can be cancelled by ``end``, from before its command is started until that has ended."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.remove(scope)

    async def end(self) -> None:
        """Cancel all calls, and return when no command runs; none is started after this."""
        for scope in self._scopes:
            scope.cancel()
        for _ in range(_AT_ONCE):
            await self._room.acquire()


def _result(document: dict[str, Any], *, failed: bool) -> types.CallToolResult:
    """The answer as a value, and as text for clients that know no other."""
    text = encode(document).decode()
    return types.CallToolResult(
        content=[types.TextContent(text=text)], structured_content=msgspec.json.decode(text), is_error=failed
    )


async def _end(process: Process) -> None:
    """End a command whose call was cancelled, as Ctrl-C does; what does not end is killed as this block is left."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        with anyio.move_on_after(_ENDING_SECONDS, shield=True):
            await process.wait()
