"""The capture process: one small loop that follows the files of all sources of one mirror.

It runs apart from decoding and Postgres so that nothing can make it late, and holds no SQLite connection (hazard 17,
mirror/HAZARDS.md). It is started as ``python -m mirror.capture.process DESCRIPTOR`` with one inherited socket.
Conversations, one a source, come over this socket at any time: each is a line ``{"database", "spool", "limit"}`` and
with it the descriptor of a socket. When the other end of a conversation is closed, the files and the spool of its
source are closed too; when the other end of the inherited socket is closed, the mirror is gone and the process ends.

Lines from the mirror            answered by (JSON, one object a line)
``attach <floor> [<reason>]``    ``{"attached": true, "gap": ..., "lsn": ..., "salts": ..., "place": ...}``
``look``                         (nothing: it looks more often for a while, as after a commit)
``mark <id> [now]``              ``{"mark": id, "lsn": "g:f"}`` once all that was committed is spooled
``locate <id> <s1> <s2> <f>``    ``{"mark": id, "lsn": "g:f"}`` once that frame is spooled, or
                                 ``{"mark": id, "unknown": text}`` if these salts were not seen for some seconds
(unasked)                        ``c <generation> <frame> <segment> <offset>`` after new commits: no JSON, as it is the
                                 line of which there are many
(unasked)                        ``{"error": text, "retry": bool, "replaced": bool, "private": bool}`` when following
                                 failed; ``private``: a program has a WAL index of its own
(unasked)                        ``{"behind": text, "since": Unix time}`` when commits cannot be seen for a while, as
                                 the file never stands still; ``{"behind": null}`` when they can again

No source holds up another: where one has to wait (another process has the spool, a file does not stand still), the
condition is tested again at the next turn; long work (a large commit, the end of a spool) is done in short steps; an
error in one source is reported for that source alone. ``retry`` is false for what must be a bug: then the
conversation ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import selectors
import signal
import socket
import struct
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from mirror.capture.conversation import SHARED_TURN, Conversation
from mirror.capture.resting import Resting
from mirror.core.faults import Faults, no_fault

#: Seconds between two looks at the WAL index while commits come, and after a quiet while. Unpaced
#: writers fill a generation of 1,000 frames in about 10 ms, so even the slow pace misses none.
BUSY_INTERVAL, QUIET_INTERVAL = 0.0003, 0.002
#: Seconds between two looks at the sockets while commits come.
READ_INTERVAL = 0.001
#: Seconds between two turns of a source of which such a look finds nothing: for all that is no commit.
TURN_INTERVAL = 0.005
#: Seconds without a commit after which a source rests (:mod:`mirror.capture.resting`); one that cannot is looked at
#: at the slow pace, and tries it again after some time.
QUIET_AFTER, REST_AGAIN = 1.0, 1.0
#: Seconds for which a source that was just woken is looked at often: frames are written right before their commit is to
#: be seen, unless they are synced in between. One that was woken by a line of the mirror rests again after that.
JUST_WOKEN = 0.05
#: Seconds for which a source that is alone is followed before messages are read.
LONE_TURN = 0.008
#: Descriptors that one message on the inherited socket may bring.
_MOST_DESCRIPTORS = 16


class Capture:
    """All conversations of this process."""

    def __init__(self, mirror: socket.socket, faults: Faults) -> None:
        """``mirror``: the socket over which conversations come."""
        self._mirror = mirror
        self._mirror.setblocking(False)
        self._faults = faults
        self._selector = selectors.DefaultSelector()
        self._selector.register(mirror, selectors.EVENT_READ, self._accept)
        self._awake: dict[Conversation, None] = {}
        """The conversations that get turns, in that order."""
        self._resting: Resting[Conversation] = Resting()
        if self._resting.events.fileno() >= 0:
            self._selector.register(self._resting.events, selectors.EVENT_READ, self._take_events)
        self._input = b""
        self._sockets: list[socket.socket] = []
        """Descriptors of conversations that have not sent their line yet."""
        self._often_until = 0.0
        """Until when sources are looked at often."""
        self._read_due = self._all_due = 0.0
        """When the sockets are looked at, and when each that is awake has a turn, whether it has news or not."""
        self._ended = False

    def run(self) -> None:
        """Follow until the mirror is gone."""
        due: list[Conversation] = []
        while not self._ended:
            if self._give_turns(due):
                self._read(0.0)
                due = list(self._awake)
            elif self._awake:
                due = self._watch()
            else:
                self._read(self._resting.seconds(time.monotonic()))
                due = list(self._awake)
            due += self._wake(self._resting.look(time.monotonic()))
            self._drop_closed()

    def _give_turns(self, due: list[Conversation]) -> bool:
        """Give each a turn; True if there may be more for one of them."""
        seconds = SHARED_TURN if len(self._awake) > 1 else LONE_TURN
        now = time.monotonic()
        if len(due) == len(self._awake):
            self._all_due = now + TURN_INTERVAL
        more = False
        for conversation in due:
            if conversation.closed:
                continue
            more |= conversation.turn(seconds)
            if conversation.lively:
                conversation.lively = False
                conversation.rests_at = self._often_until = now + QUIET_AFTER
            elif now > conversation.rests_at:
                self._lay_down(conversation, now)
        return more

    def _watch(self) -> list[Conversation]:
        """Look at those that are awake until some have news, or it is time for all; whose turn it is then."""
        now = time.monotonic()
        interval = BUSY_INTERVAL if now < self._often_until else QUIET_INTERVAL
        while True:
            pause = min(conversation.stream.waits_until for conversation in self._awake) - now
            if pause <= interval:
                time.sleep(interval)  # not epoll, which waits for whole milliseconds
            elif self._read(pause):
                return list(self._awake)  # somebody may wait for what is committed by now
            now = time.monotonic()
            if now >= self._read_due:
                self._read_due = now + READ_INTERVAL
                if self._read(0.0) or now >= self._all_due:
                    return list(self._awake)
            if found := [conversation for conversation in self._awake if conversation.has_news(now)]:
                return found

    def _lay_down(self, conversation: Conversation, now: float) -> None:
        if self._resting.lay_down(conversation):
            del self._awake[conversation]
        else:
            conversation.rests_at = now + REST_AGAIN

    def _take_events(self) -> None:
        self._wake(self._resting.take_events())

    def _wake(self, roused: list[Conversation]) -> list[Conversation]:
        """These rest no more, because something was written; returns them."""
        now = time.monotonic()
        for conversation in roused:
            self._awake[conversation] = None
            conversation.rests_at = now + QUIET_AFTER
            self._often_until = max(self._often_until, now + JUST_WOKEN)
        return roused

    def _take_lines(self, conversation: Conversation) -> None:
        if self._resting.rouse(conversation):
            self._awake[conversation] = None
            conversation.rests_at = time.monotonic() + JUST_WOKEN
        conversation.read()

    def _read(self, seconds: float | None) -> bool:
        """Wait at most ``seconds`` for messages and events, and take them; None: until there is one. False: none."""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            key.data()
        return bool(ready)

    def _accept(self) -> None:
        """Begin the conversations that have come. Lines and descriptors come in the same order."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._mirror, 1 << 16, _MOST_DESCRIPTORS)
        except BlockingIOError:
            return
        except ConnectionError:
            data, descriptors = b"", []
        self._ended = not data
        self._sockets += [socket.socket(fileno=descriptor) for descriptor in descriptors]
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            if self._sockets:
                self._begin(self._sockets.pop(0), json.loads(line))
            # Otherwise this process can have no more descriptors, and the mirror sees that the other end is closed.

    def _begin(self, sock: socket.socket, source: dict[str, Any]) -> None:
        conversation = Conversation(
            sock, Path(source["database"]), Path(source["spool"]), source["limit"], self._faults
        )
        self._selector.register(sock, selectors.EVENT_READ, partial(self._take_lines, conversation))
        self._awake[conversation] = None

    def _drop_closed(self) -> None:
        for conversation in [each for each in self._awake if each.closed]:
            del self._awake[conversation]
            self._selector.unregister(conversation.socket)
            conversation.close()


def main(argument: str, faults: Faults = no_fault) -> None:
    """Follow the sources that come over the socket with this descriptor, until its other end is closed.

    ``faults`` is called with the name of each place at which tests kill the process.
    """
    # A terminal's Ctrl-C, `timeout` and systemd signal all processes of a group. The mirror, which has the signal, too,
    # stops us when it needs us no more; without the mirror the socket's other end is closed, and we end by that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _be_prompt()
    Capture(socket.socket(fileno=int(argument)), faults).run()


def _be_prompt() -> None:
    """Ask Linux (6.12 and newer) to run this process soon after it wakes, for a short slice each time.

    A process with a slice of 0.1 ms runs before others that compute for milliseconds without a pause; it
    gets no more processor time than any other. Needs no privilege. On other systems nothing happens: capture
    is then as prompt as the scheduler makes it.

    Its niceness is to be that of the mirror's process, not of the thread that started it, which has a lower priority.
    Without a privilege it stays as it is.
    """
    number = {"x86_64": 314, "aarch64": 274}.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return
    for process in (os.getppid(), 0):
        # struct sched_attr: size, policy (0: normal), flags, nice, priority, runtime (ns), deadline, period
        niceness = os.getpriority(os.PRIO_PROCESS, process)
        attributes = struct.pack("=IIQiIQQQ", 48, 0, 0, niceness, 0, 100_000, 0, 0)
        if ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0:
            return


if __name__ == "__main__":
    main(sys.argv[1])
