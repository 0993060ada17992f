"""Calls of the tools of ``mirror mcp`` become command lines, of which nothing that a client sends can be an option."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from mirror.cli.mcp_tools import TOOLS, Given, chosen, command_line, printed, without_contents
from mirror.core.errors import ConfigError, UnknownSourceError
from tests.unit.test_help import parsed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def given(tmp_path: Path) -> Given:
    (tmp_path / "-a.db").touch()
    return Given((str(tmp_path / "-a.db"),), "host=db", str(tmp_path / "state"), None, None)


@pytest.mark.parametrize("name", TOOLS)
def test_each_is_a_command_that_there_is(name: str, given: Given) -> None:
    words = command_line(name, {"sources": list(given.sources)}, given)
    assert parsed(["mirror", *words]) == tuple(word for word in TOOLS[name].command if not word.startswith("-"))
    assert words[-2:] == ["--", *given.sources] and "--json" in words


def test_what_a_client_sends_is_no_option(given: Given) -> None:
    words = command_line("parity", {"tables": ["--repair"], "sample": 7}, given)
    assert "--repair" not in words and "--table=--repair" in words and "--sample=7" in words
    for tool, arguments in (
        ("status", {"sources": ["--postgres=x"]}),
        ("status", {"tables": ["t"]}),
        ("parity", {"sample": True}),
        ("parity", {"repair": True}),
        ("rejects", {"tables": "t"}),
    ):
        with pytest.raises(ConfigError) as raised:
            command_line(tool, arguments, given)
        assert raised.value.next_step


def test_no_server_is_made_to_look_at(given: Given) -> None:
    """Where the embedded Postgres was never started, no tool has it started."""
    own = given._replace(postgres=None)
    for name, tool in TOOLS.items():
        if tool.asks_postgres:
            with pytest.raises(UnknownSourceError, match="never started"):
                command_line(name, {}, own)
    assert command_line("status", {}, own)


def test_sources_are_named_as_they_are_shown() -> None:
    odd = Path(os.fsdecode(b"/data/\xff.db"))
    assert printed(odd) == "/data/\\xff.db"
    assert chosen([printed(odd), printed(odd)], [Path("/data/a.db"), odd]) == [odd]


def test_contents_of_rows_are_left_out() -> None:
    example = {"kind": "different", "key": [1], "source_value": "a", "target_value": "b"}
    reports: dict[str, Any] = {"reports": [{"tables": [{"examples": [example]}]}, {"verdict": "not_checked"}]}
    found = without_contents("parity", reports)
    assert found["reports"][0]["tables"] == [{"examples": [{"kind": "different", "key": [1]}]}]
    assert without_contents("rejects", {"rejects": [{"key": "1", "row": "x"}]}) == {"rejects": [{"key": "1"}]}
    assert without_contents("parity", {"error": {}}) == {"error": {}}
    status = {"sources": [{"widenings": [{"column": "t.v", "value": "x"}]}]}
    assert without_contents("status", status) == {"sources": [{"widenings": [{"column": "t.v"}]}]}


def test_the_configuration_in_the_readme_starts_it() -> None:
    blocks = re.findall(r"^```json\n(.*?)^```", (ROOT / "mirror" / "README.md").read_text(), re.M | re.DOTALL)
    (servers,) = [found["mcpServers"] for found in map(json.loads, blocks) if "mcpServers" in found]
    (entry,) = servers.values()
    assert parsed([Path(entry["command"]).name, *entry["args"]]) == ("mcp",)
