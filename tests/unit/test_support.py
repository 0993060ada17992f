"""What the tests' own helpers promise: waits that leave the processor alone and hold beside other work."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import waiting
from tests.support.terminal import terminal
from tests.support.waiting import ended, until

SUPPORT = Path(waiting.__file__).parent
#: A wait with a limit below this fails where much else runs.
LEAST_LIMIT = 30.0


def test_until_returns_what_it_saw() -> None:
    seen = iter([0, "", [], "at last"])
    assert until(lambda: next(seen)) == "at last"


def test_until_ends_in_vain() -> None:
    with pytest.raises(AssertionError, match="not within 0 s"):
        until(lambda: False, seconds=0.05)
    with pytest.raises(AssertionError, match="ended before"):
        until(lambda: None, alive=lambda: False)


def test_until_leaves_the_processor_alone() -> None:
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        return False

    used = time.process_time()
    with pytest.raises(AssertionError):
        until(look, seconds=0.5)
    assert looks <= 0.5 / waiting.PAUSE + 2
    assert time.process_time() - used < 0.25


def test_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process.stdin is not None and not ended(process.pid) and not ended(os.getpid())
    process.stdin.close()
    until(lambda: ended(process.pid))  # a zombie: nobody has asked for it
    process.wait()
    assert ended(process.pid)


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """Of all helpers but the programs that they start (``…_process.py``), which have a life of their own."""
    for path in sorted(set(SUPPORT.glob("*.py")) - set(SUPPORT.glob("*_process.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            yield f"{path.name}:{getattr(node, 'lineno', 0)}", node


def test_no_helper_looks_without_a_pause() -> None:
    """A loop that does nothing but look again is for :func:`until`."""
    assert [
        place
        for place, node in nodes()
        if isinstance(node, ast.While) and all(isinstance(each, ast.Pass | ast.Assert) for each in node.body)
    ] == []


def test_every_limit_of_a_helper_is_generous() -> None:
    """Of waiting for a process, a thread or an answer."""

    def limits(call: ast.Call) -> Iterator[ast.expr]:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name in ("wait", "join", "communicate", "wait_applied", "wait_for_mirror", "until"):
            yield from call.args
        yield from (word.value for word in call.keywords if word.arg in ("timeout", "seconds"))

    found = [
        (place, limit.value)
        for place, node in nodes()
        if isinstance(node, ast.Call)
        for limit in limits(node)
        if isinstance(limit, ast.Constant) and isinstance(limit.value, int | float)
    ]
    assert [(place, limit) for place, limit in found if limit < LEAST_LIMIT] == []
    assert waiting.LIMIT >= LEAST_LIMIT


def test_a_terminal_shows_what_a_person_sees(folder: Path) -> None:
    """What is overwritten is gone, and what has scrolled away is remembered."""
    program = "import os; print('\\n'.join(map(str, range(100)))); print('half\\rdone'); print(os.get_terminal_size())"
    with terminal([sys.executable, "-c", program], {}, folder, columns=61) as shown:
        assert shown.end() == 0
        assert shown.lines[:2] == ["0", "1"] and shown.lines[-2] == "done" and "columns=61" in shown.lines[-1]


def test_a_terminal_is_awaited(folder: Path) -> None:
    with terminal(
        [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"], {}, folder
    ) as shown:
        assert shown.until(lambda text: "begun" in text) == "begun"
        assert shown.end(signal.SIGINT) == -signal.SIGINT
        with pytest.raises(AssertionError, match="ended before"):
            shown.until(lambda text: "never" in text)
