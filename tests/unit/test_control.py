"""What comes over a control socket is data: whatever it is, it is answered, or the conversation ends; others go on."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger
from msgspec import msgpack

from mirror.cli import logs
from mirror.cli.logs import log_to
from mirror.core.control import ControlClient
from mirror.core.errors import (
    ControlError,
    MirrorError,
    NotRunningError,
    RepairError,
    RequestError,
    SourceError,
    StateError,
)
from mirror.core.messages import MOST_REQUEST_BYTES, StatusAnswer, answer_in, line_of
from mirror.core.positions import Salts
from mirror.core.sockets import control_path
from mirror.core.status import StatusReport
from mirror.hook.wire import MOST_BLOCK_BYTES, encode_block, encode_row
from mirror.sidecar.serve import control as control_module
from mirror.sidecar.serve.control import ControlServer
from tests.support.serving import Serving, serving
from tests.support.waiting import until

ENDED = "the mirror of this source has ended"
#: Nothing that is said may take longer.
SECONDS = 30.0


@pytest.fixture
def served(folder: Path) -> Iterator[Serving]:
    with serving(folder) as made:
        yield made


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One whose pipeline has ended, so that it answers everything at once."""
    with serving(tmp_path_factory.mktemp("ended")) as made:
        made.end()
        yield made


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What is logged in this process: the mirror's own log, which is on stderr otherwise."""
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


def say(served: Serving, data: bytes) -> list[bytes]:
    """Say something, and no more; the lines that are answered until the other end hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(control_path(served.folder)))
        with suppress(ConnectionError):  # it was too much
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        return _rest(connection)


def _rest(connection: socket.socket) -> list[bytes]:
    """The lines that are answered until the other end hangs up."""
    read = b""
    with suppress(ConnectionError):  # something that was sent had not been read
        while more := connection.recv(1 << 16):
            read += more
    return read.splitlines()


def codes(lines: list[bytes]) -> list[str]:
    """The codes of the errors that were answered, and the kinds of other answers."""
    answers = [json.loads(line) for line in lines]
    return [each["error"]["code"] if each["answer"] == "refused" else each["answer"] for each in answers]


def goes_on(served: Serving) -> bool:
    with ControlClient(served.folder, SECONDS) as client:
        return client.status().phase in ("starting", "failed")


# -- what is no request --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"[]", b"7", b"null", b'"status"', b"{}", b"", b" ", b"{", b"\xff\xfe", b"status", b'{"op": []}', b'{"op": 7}',
        b'{"op": "none"}', b'{"op": "mark"}', b'{"op": "mark", "timeout": "1"}', b'{"op": "mark", "timeout": -1}',
        b'{"op": "mark", "timeout": 1e999}', b'{"op": "mark", "timeout": NaN}', b'{"op": "mark", "timeout": 1e12}',
        b'{"op": "applied", "lsn": "1:1\\n", "timeout": 0}',
        b'{"op": "applied", "lsn": "1", "timeout": 1}', b'{"op": "applied", "lsn": 1, "timeout": 1}',
        b'{"op": "reach", "hold": "a", "salts": [1], "frame": 1}',
        b'{"op": "reach", "hold": "a", "salts": [1, 4294967296], "frame": 1}',
        b'{"op": "reach", "hold": 1, "salts": [1, 2], "frame": 1}', b'{"op": "release"}',
        b'{"op": "repair", "tables": "t", "timeout": 1}', b'{"op": "repair", "tables": [1], "timeout": 1}',
        b'{"op": "hook"}', b'{"op": "hook", "pid": "1", "program": "x"}', b'{"op": "hook", "pid": -1, "program": ""}',
        b"[" * 100_000, b'{"op": "status", "x": ' + b"[" * 100_000, b'{"op": "release", "hold": "\\ud800"}',
    ],
)  # fmt: skip
def test_it_is_answered_with_a_code_of_its_own(ended: Serving, line: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """And the conversation goes on."""
    assert codes(say(ended, line + b'\n{"op": "status"}\n')) == ["control.request", "status"]
    assert "Traceback" not in capfd.readouterr().err


def test_a_line_without_an_end(ended: Serving) -> None:
    long = b" " * (MOST_REQUEST_BYTES - 20) + b'{"op": "status"}'
    assert codes(say(ended, long + b"\n" + long)) == ["status", "status"]
    for data in (b" " * (MOST_REQUEST_BYTES + 1), b"x" * (3 * MOST_REQUEST_BYTES) + b'\n{"op": "status"}\n'):
        assert codes(say(ended, data)) in (["control.request"], []), "it may be gone before the answer is read"
    assert goes_on(ended)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
_ops = st.sampled_from(
    ["status", "history", "mark", "applied", "hold", "reach", "release", "retry", "repair", "hook", "x"]
)
_fields = st.sampled_from(["timeout", "lsn", "hold", "salts", "frame", "tables", "pid", "program", "y"])
_likely = st.integers(0, 5) | st.just("1:2") | st.lists(st.integers(0, 5), max_size=3) | st.text(max_size=3) | _json
_requests = st.builds(
    lambda op, more: json.dumps({**more, "op": op}).encode() + b"\n", _ops, st.dictionaries(_fields, _likely)
)
_lines = st.lists(st.binary() | _requests | _json.map(lambda value: json.dumps(value).encode() + b"\n"), max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_lines)
def test_any_bytes(ended: Serving, lines: list[bytes]) -> None:
    for line in say(ended, b"".join(lines)):
        answer = json.loads(line)
        if answer["answer"] == "refused":
            assert isinstance(MirrorError.from_dict(answer["error"]), RequestError | SourceError), answer
    assert goes_on(ended)


def test_a_request_that_does_not_end(ended: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds a thread for a limited time, also if its bytes come one by one; who says nothing may stay."""
    monkeypatch.setattr(control_module, "REQUEST_SECONDS", 0.3)
    with ControlClient(ended.folder, SECONDS) as idle, contextlib.ExitStack() as stack:
        half, slow = (stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(2))
        for connection in (half, slow):
            connection.settimeout(SECONDS)
            connection.connect(str(control_path(ended.folder)))
        half.sendall(b'{"op": "status"}\n{"op": "sta')
        deadline, answered = time.monotonic() + SECONDS, threading.Event()

        def trickle() -> None:
            with suppress(OSError):
                while not answered.wait(0.05) and time.monotonic() < deadline:
                    slow.sendall(b" ")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            for connection, said in ((half, ["status", "control.request"]), (slow, ["control.request"])):
                assert codes(_rest(connection)) == said
        finally:
            answered.set()
            thread.join()
        assert idle.status().phase == "failed"


def test_a_large_request_in_many_parts(ended: Serving) -> None:
    """As long as its time is not up it may come in parts, of which one ends a line and begins the next."""
    line = b'{"op": "status", "x": "' + b"y" * 100_000 + b'"}\n'
    assert codes(say(ended, line * 3 + b'{"op": "history"}\n')) == ["status"] * 3 + ["history"]


# -- what a hook says ----------------------------------------------------------------------------------

HELLO = b'{"op": "hook", "pid": 7, "program": "some.py"}\n'
_ROW = encode_row(("INSERT", "t", 1, 1, None, (1, "x", 2.5, None, b"\0")))
_COMMIT = ("commit", 1, "ada", ("wal", 1, 2, 3), [_ROW])


def test_what_a_hook_tells_comes_in(ended: Serving) -> None:
    hooked = ended.pipeline.hooks.hooked
    hooked.take(), hooked.take_of_files()
    other = ("commit", 2, None, ("file", 7, 8, 9), None)
    assert codes(say(ended, HELLO + encode_block([_COMMIT, other, ("lost", 3)]))) == ["done"]
    (commit,), (of_file,) = hooked.take(), hooked.take_of_files()
    assert (str(commit.writer), commit.agent, commit.sent_at) == ("some.py (pid 7)", "ada", 1)
    assert commit.previous == (Salts(1, 2), 3) and commit.rows == [_ROW]
    assert of_file.previous == (7, 8, 9) and of_file.rows is None and hooked.lost >= 3


def _block(message: object) -> bytes:
    data = msgpack.encode(message)
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    "block",
    [
        (MOST_BLOCK_BYTES + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        _block(7),
        _block(["commit"]),
        _block([["other", 1]]),
        _block([["lost", -1]]),
        _block([["lost", 1]] * 2_000),
        _block([["commit", 1, None, ["wal", 1, 2, 1 << 32], None]]),
        _block([["commit", 1, None, ["x", 1, 2, 3], None]]),
        _block([["commit", 1, None, None, [b"x"]]]),
        _block([["commit", 1, None, None, [b"\x91" * 100_000]]]),
        _block([["commit", 1, None, None, [encode_row(("INSERT", "t", 1, 1, (1,), (1,)))]]]),
        _block([["commit", 1, None, None, [encode_row(("UPDATE", "t", 1, 1, None, (1,)))]]]),
        _block([["commit", 1, None, None, [encode_row(("DELETE", "t", 1, 1, None, None))]]]),
        _block([["commit", 1, None, None, [encode_row(("DROP", "t", 1))]]]),
        _block([["commit", 1, None, None, [encode_row(("INSERT", "t", 1, 1, None, (1 << 63,)))]]]),
        _block([["commit", 1, None, None, [encode_row(("INSERT", "t", 1, 1, None, (float("nan"),)))]]]),
        _block([["commit", 1, None, None, [encode_row(("INSERT", "t", 1, 1, None, ([1],)))]]]),
        _block([["commit", 1, None, None, [encode_row(("INSERT", "t", 1, None, None, (1,)))]]]),
        _block([["commit", 1, None, None, [encode_row(("INSERT", "t", 1 << 63, 1, None, (1,)))]]]),
    ],
)
def test_a_block_that_no_hook_sends_ends_the_conversation(
    ended: Serving, block: bytes, log: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    hooked = ended.pipeline.hooks.hooked
    hooked.take()
    assert codes(say(ended, HELLO + block + encode_block([_COMMIT]))) in (["done"], [])
    until(lambda: log and not hooked.writers)
    assert hooked.take() == [], "nothing of it, nor of what came behind it, is taken"
    (line,) = log
    assert (
        "some.py (pid 7)" in line
        and "sent an invalid message" in line
        and "Traceback" not in line + capfd.readouterr().err
    )
    assert goes_on(ended)


def test_a_program_with_a_name_that_is_no_name(ended: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot begin a line of its own in the log, nor give the terminal a command."""
    monkeypatch.setattr(logs, "_limits", logs.Limits())  # other tests have sent such messages, too
    lines: list[str] = []
    log_to(lines.append)
    try:
        name = "\x1b[2Jx.py\n12:00:00.000 ERROR   all is lost\r\u202e"
        hello = json.dumps({"op": "hook", "pid": 7, "program": name}).encode()
        say(ended, hello + b"\n" + _block(7))
        until(lambda: lines)
    finally:
        logger.remove()
    (line,) = lines
    assert line.endswith("\n"), line
    line = line[:-1].replace("\n  ", " ")  # broken between words, as a terminal is not wider
    assert line.isprintable(), line
    assert "\\x1b[2Jx.py\\n12:00" in line and "sent an invalid message" in line


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_blocks(ended: Serving, data: st.DataObject) -> None:
    """Also such as are nearly right."""
    good = bytearray(encode_block([_COMMIT, ("lost", 1)] * 3))
    for _ in range(data.draw(st.integers(1, 5))):
        good[data.draw(st.integers(4, len(good) - 1))] = data.draw(st.integers(0, 255))
    say(ended, HELLO + data.draw(st.sampled_from([b"", bytes(good)])) + data.draw(st.binary()))
    for commit in (*ended.pipeline.hooks.hooked.take(), *ended.pipeline.hooks.hooked.take_of_files()):
        assert commit.rows is None or all(isinstance(row, bytes) for row in commit.rows)
    assert goes_on(ended)


# -- answers -------------------------------------------------------------------------------------------


def test_every_request_of_a_mirror_that_has_ended_is_answered(ended: Serving) -> None:
    with ControlClient(ended.folder, SECONDS) as client:
        assert client.status().phase == "failed" and client.history() == []
        for ask in (
            lambda: client.wait(3600.0),
            client.settle,
            client.hold,
            lambda: client.reach("token", Salts(1, 2), 3),
            lambda: client.retry(3600.0),
            lambda: client.repair(["t"], 3600.0),
        ):
            with pytest.raises(SourceError, match=ENDED) as caught:
                ask()
            assert caught.value.retryable and caught.value.code == "source"
        client.release("token")


def test_who_waits_is_told_of_the_end(served: Serving) -> None:
    """At once, instead of when their time is up; each by the kind of error that it is."""
    errors: list[BaseException] = []

    def ask(what: str) -> None:
        try:
            with ControlClient(served.folder, SECONDS) as client:
                {
                    "wait": lambda: client.wait(3600.0),
                    "hold": client.hold,
                    "repair": lambda: client.repair(["t"], 3600.0),
                }[what]()
        except MirrorError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(what,)) for what in ("wait", "hold", "repair")]
    for thread in threads:
        thread.start()
    served.end()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert [(type(error), ENDED in str(error)) for error in errors] == [(SourceError, True)] * 3


def test_an_error_keeps_its_kind(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(tables: list[str], *, replace: bool) -> None:
        raise RepairError("repair a table", "t", "a trigger changes it", sqlstate="P0001", next_step="drop the trigger")

    monkeypatch.setattr(served.pipeline.requests, "retry", refuse)
    with ControlClient(served.folder, SECONDS) as client:
        with pytest.raises(RepairError, match="a trigger changes it -- drop the trigger") as caught:
            client.repair(["t"], 60.0)
        assert not caught.value.retryable and caught.value.sqlstate == "P0001"
        assert client.status().phase == "starting", "the conversation goes on"


def test_a_bug_is_answered_too(
    served: Serving, monkeypatch: pytest.MonkeyPatch, log: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("oh")

    with ControlClient(served.folder, SECONDS) as client:
        with monkeypatch.context() as patch:
            patch.setattr(served.pipeline.status, "report", fail)
            with pytest.raises(MirrorError, match="ZeroDivisionError: oh") as caught:
                client.status()
        assert caught.value.code == "mirror" and not caught.value.retryable
        assert client.status().phase == "starting"
    (line,) = log
    assert "a request on the control socket failed" in line and "in fail" in line, "said once, with its place"
    assert "Exception occurred during processing" not in capfd.readouterr().err


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """A file's name may have any bytes."""
    line = line_of(StatusAnswer(StatusReport(source="/x/caf\udce9.db", schema="public", resyncs=["\udcff"])))
    answer = answer_in(line)
    assert isinstance(answer, StatusAnswer)
    assert (answer.status.source, answer.status.resyncs) == ("/x/caf\\xe9.db", ["\\xff"])


def test_the_end_of_the_server_ends_its_conversations(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also of those who hold, and of hooks; nothing is left of it, and nothing is raised."""
    with serving(folder) as served:
        served.end()
        clients = [ControlClient(served.folder, SECONDS) for _ in range(3)]
        for client in clients:
            client.status()
        hook = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        hook.settimeout(SECONDS)
        hook.connect(str(control_path(served.folder)))
        hook.sendall(HELLO)
        assert hook.recv(100) == b'{"answer":"done"}\n'
    for client in clients:
        with pytest.raises(NotRunningError, match="it has ended"):
            client.status()
        with pytest.raises(ControlError, match="the connection was closed"):
            client.status()
    assert hook.recv(100) == b""
    hook.close()
    assert not control_path(served.folder).exists()
    assert "Traceback" not in capfd.readouterr().err


def test_a_socket_that_is_put_back_ends_no_conversation(folder: Path, served: Serving) -> None:
    """As when the state directory was deleted: whoever waits for something goes on to do so."""
    with ControlClient(served.folder, SECONDS) as client:
        assert client.status().phase == "starting"
        control_path(served.folder).unlink()
        first = ControlServer(served.folder, served.pipeline)
        with ControlClient(served.folder, SECONDS) as other:
            assert other.status().phase == "starting"
            first.close()
            assert client.status().phase == other.status().phase == "starting"


# -- time limits ---------------------------------------------------------------------------------------


class Silent:
    """Listens as a mirror does, and answers what it is told to, when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._connections: list[socket.socket] = []
        folder.mkdir(mode=0o700)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(control_path(folder)))
        self._server.listen()

    def accept(self) -> socket.socket:
        self._connections.append(self._server.accept()[0])
        return self._connections[-1]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._server.close()


@pytest.fixture
def silent(folder: Path) -> Iterator[Silent]:
    made = Silent(folder / "silent")
    yield made
    made.close()


def test_a_mirror_that_does_not_answer(silent: Silent) -> None:
    """Each call has a limit; and an answer that comes too late is not taken for another's."""
    (silent.folder / "lock").write_text("4711\n")
    client = ControlClient(silent.folder, 0.1)
    with pytest.raises(ControlError, match=r"it does not answer within 0\.1 seconds -- look at its process .pid 4711"):
        client.status()
    with suppress(BrokenPipeError):
        silent.accept().sendall(b'{"answer":"history","seconds":[]}\n')
    with pytest.raises(ControlError, match="the connection was closed") as caught:
        client.history()
    assert caught.value.retryable
    client.close()


@pytest.mark.parametrize(
    "answer", [b"{}\n", b"[]\n", b"\xff\n", b'{"answer":"done"}\n', b'{"answer":"refused","error":{}}\n']
)
def test_an_answer_that_is_none(silent: Silent, answer: bytes) -> None:
    with ControlClient(silent.folder, SECONDS) as client:
        silent.accept().sendall(answer)
        with pytest.raises(ControlError, match="understand the mirror") as caught:
            client.status()
        assert not caught.value.retryable


def test_an_interrupted_conversation_is_over(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    """The late answer is none to the next request, and to end a hold is no error that hides the interruption."""

    def interrupted(line: bytes, seconds: float) -> bytes:
        raise KeyboardInterrupt

    with ControlClient(silent.folder) as client:
        with monkeypatch.context() as patched:
            patched.setattr(client, "_exchange", interrupted)
            with pytest.raises(KeyboardInterrupt):
                client.reach("hold", Salts(1, 2), 3)
        client.release("hold")
        with pytest.raises(ControlError, match="the connection was closed"):
            client.status()


def test_an_answer_in_pieces(silent: Silent) -> None:
    answer = line_of(StatusAnswer(StatusReport(source="x" * 300_000, schema="public")))
    with ControlClient(silent.folder, SECONDS) as client:
        connection = silent.accept()

        def send() -> None:
            for at in range(0, len(answer), 50_000):
                connection.sendall(answer[at : at + 50_000])

        thread = threading.Thread(target=send)
        thread.start()
        assert client.status().source == "x" * 300_000
        thread.join()


@pytest.mark.parametrize("timeout", [float("inf"), 1e12, -5.0])
def test_any_timeout_is_one(ended: Serving, timeout: float) -> None:
    with ControlClient(ended.folder, SECONDS) as client, pytest.raises(SourceError, match=ENDED):
        client.wait(timeout)


# -- where the socket lies -----------------------------------------------------------------------------


def test_a_socket_that_cannot_be_made(folder: Path, served: Serving) -> None:
    other = folder / "other"
    other.mkdir(mode=0o700)
    (other / "control.sock").mkdir()
    (other / "control.sock" / "file").touch()
    with pytest.raises(StateError, match="make the control socket"):
        ControlServer(other, served.pipeline)
    other.chmod(0o755)
    with pytest.raises(StateError, match="other users may open it"):
        ControlServer(other, served.pipeline)


def test_no_process_wide_setting_is_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The umask is every thread's: others make folders meanwhile."""

    def refuse(mask: int) -> int:
        raise AssertionError("umask")

    monkeypatch.setattr("os.umask", refuse)
    with serving(folder) as served:
        assert control_path(served.folder).stat().st_mode & 0o7777 == 0o600


def test_many_conversations_at_once(ended: Serving) -> None:
    """As many callers as a busy machine has are not turned away."""
    clients: list[Any] = [ControlClient(ended.folder, SECONDS) for _ in range(60)]
    for client in clients:
        assert client.status().phase == "failed"
        client.close()
