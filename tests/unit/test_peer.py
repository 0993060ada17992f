"""Who is at the other end of a control socket: our own user, root, or nobody at all."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from loguru import logger

from mirror.core import peer
from mirror.core.control import ControlClient, wait_for_mirror
from mirror.core.errors import ControlError, NotRunningError
from mirror.core.peer import connect, is_trusted, peer_user
from mirror.core.sockets import control_path
from mirror.hook.outbox import Outbox
from tests.support import stranger
from tests.support.serving import serving
from tests.support.waiting import until


@pytest.fixture
def near(folder: Path) -> Path:
    """The folder of a source, with nothing in it."""
    path = folder.resolve() / "near"
    path.mkdir(mode=0o700)
    return path


def test_the_kernel_tells_whose_the_other_end_is() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_user(one) == peer_user(other) == os.geteuid()


def test_whom_we_trust() -> None:
    assert is_trusted(os.geteuid()) and is_trusted(0)
    assert not is_trusted(os.geteuid() + 1) and not is_trusted(stranger.NOBODY - 1)


@contextmanager
def listening_stranger(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Another user listens at a source's control socket, before its mirror does; gives all that it was sent.

    Without root there is no other user: then it is ours, and is taken for another's.
    """
    read: list[bytes] = []
    if stranger.IS_ROOT:
        folder.chmod(0o711)
        path.parent.chmod(0o777)
        process = stranger.start("listen", path)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield read
        out, _ = process.communicate(timeout=60)
        read.append(bytes.fromhex(out.strip()))
        return
    monkeypatch.setattr(peer, "peer_user", lambda connection: os.geteuid() + 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        own.bind(str(path))
        own.listen()

        def take() -> None:
            connection, _ = own.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    read.append(data)

        thread = threading.Thread(target=take)
        thread.start()
        yield read
        thread.join(60)


def test_a_client_says_nothing_to_another_user(folder: Path, near: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening_stranger(folder, control_path(near), monkeypatch) as read:
        with pytest.raises(ControlError, match="belongs to another user") as caught:
            ControlClient(near)
        assert not caught.value.retryable and type(caught.value) is ControlError
    assert b"".join(read) == b""


def test_rows_do_not_go_to_another_user(
    folder: Path, near: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever takes the name first gets nothing; the program is told once, through its own logging, and goes on."""
    with listening_stranger(folder, control_path(near), monkeypatch) as read:
        outbox = Outbox(near)
        outbox.put(("commit", 1, None, ("wal", 1, 2, 3), [b"secret"]), 100)
        until(lambda: outbox.error is not None)
        assert outbox.error is not None
        assert "belongs to another user" in outbox.error and outbox.sent == 0 and outbox.lost == 1
        outbox.close(30.0)
    assert b"".join(read) == b""
    (record,) = [record for record in caplog.records if record.name == "mirror"]
    assert record.levelname == "WARNING" and "another user" in record.getMessage()


def test_the_server_answers_no_other_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the directory and the socket were opened to everybody: both ends look."""
    warnings: list[str] = []
    sink = logger.add(warnings.append, level="WARNING", format="{message}")
    try:
        with serving(folder) as served:
            path = control_path(served.folder)
            assert path.stat().st_mode & 0o7777 == 0o600 and path.parent.stat().st_mode & 0o7777 == 0o700
            for _ in range(2):
                if stranger.IS_ROOT:
                    for directory in (folder, served.folder):
                        directory.chmod(0o711)
                    path.chmod(0o666)
                    assert stranger.run("say", path, b'{"op": "status"}\n'.hex()) == "\n"
                else:
                    with monkeypatch.context() as patch:
                        patch.setattr("mirror.sidecar.serve.control.peer_user", lambda connection: os.geteuid() + 1)
                        with pytest.raises(NotRunningError), ControlClient(served.folder) as client:
                            client.status()
            with ControlClient(served.folder) as client:
                assert client.status().phase == "starting", "the others go on"
    finally:
        logger.remove(sink)
    assert len(warnings) == 1 and "was turned away" in warnings[0], "once for each"


# -- what else is in the way ---------------------------------------------------------------------------


def test_nobody_listens(near: Path) -> None:
    with pytest.raises(NotRunningError, match="mirror up") as caught:
        connect(near, 1.0)
    assert caught.value.retryable
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(control_path(near)))  # as a mirror that was killed leaves it
    with pytest.raises(NotRunningError):
        connect(near, 1.0)
    with pytest.raises(NotRunningError):
        connect(near.parent / "none", 1.0)
    with pytest.raises(NotRunningError):
        connect(near.parent / ("none" * 30), 1.0)


@pytest.mark.parametrize("kind", ["a file in the way", "many callers", "no right"])
def test_any_other_trouble_is_an_error_of_ours_and_leaks_nothing(
    near: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    made: list[socket.socket] = []

    class Noted(socket.socket):
        def __init__(self, *arguments: int) -> None:
            super().__init__(*arguments)
            made.append(self)

        def connect(self, address: str) -> None:  # type: ignore[override]
            if kind == "no right":  # root may do all
                raise PermissionError(13, "Permission denied")
            super().connect(address)

    folder, retryable = near, False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        if kind == "a file in the way":
            (near / "file").touch()
            folder, retryable = near / "file", True
        if kind == "many callers":
            silent.bind(str(control_path(near)))
            silent.listen(0)
            with pytest.raises(ControlError), waiting(near):
                pass
            retryable = True
        monkeypatch.setattr(peer.socket, "socket", Noted)
        with pytest.raises(ControlError) as caught:
            connect(folder, 0.2)
    assert not isinstance(caught.value, NotRunningError) and caught.value.retryable is retryable
    assert len(made) == 1 and made[0].fileno() == -1, "closed"
    if kind == "many callers":
        assert "does not answer" in str(caught.value)


@contextmanager
def waiting(folder: Path) -> Iterator[None]:
    """Connect until nobody is let in any more."""
    callers = []
    try:
        while True:
            callers.append(connect(folder, 0.1))
    finally:
        kept.extend(callers)  # closed, they would make room
    yield


kept: list[socket.socket] = []


def test_a_mirror_that_is_busy_is_waited_for(near: Path) -> None:
    """Its queue is full for a moment: that is no error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(control_path(near)))
        server.listen(0)
        with pytest.raises(ControlError), waiting(near):
            pass
        done: list[socket.socket] = []
        thread = threading.Thread(target=lambda: done.append(connect(near, 60.0)))
        thread.start()
        accepted = []
        server.settimeout(0.1)
        while thread.is_alive():
            with suppress(TimeoutError):
                accepted.append(server.accept()[0])
        thread.join()
        assert len(done) == 1
        for each in (*accepted, *done, *kept):
            each.close()
        kept.clear()


def test_what_cannot_change_by_itself_is_not_waited_for(near: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "peer_user", lambda connection: os.geteuid() + 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(control_path(near)))
        server.listen()
        with pytest.raises(ControlError, match="another user"):
            wait_for_mirror(near, 1e6)
