"""A conversation with a program that writes: a statement a line, an answer a line."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

#: No statement of the workload takes as long, on a busy machine and with a busy timeout.
_SECONDS = 120.0


class Talk:
    """A program that first says ``ready``, then answers each line with ``ok`` or ``error …``; other lines are ignored.

    At the end of its input it closes the database and ends.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._stderr = folder / "program.err"
        with self._stderr.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                cwd=folder,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.failed = ""
        """Why it takes no more statements; empty: it does."""
        self.ready = self._answer("ready")
        """What it said of itself: its version and SQLite's."""

    def say(self, line: str) -> str:
        """Run a statement; return its error, or an empty text."""
        if self.failed:
            return self.failed
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended: the answer says how
        answer = self._answer("ok")
        return answer if answer.startswith("error") else ""

    def ask(self, line: str) -> str:
        """Return the answer to a line that is not ``ok``: for programs of the harness."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer("ok")

    def close(self) -> str:
        """End it as a program ends; return its error, or an empty text."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass  # it has ended already
        try:
            code = self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return "error it did not end"
        return "" if self.failed or not code else self._ended()

    def kill(self) -> None:
        """End it at once."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _answer(self, good: str) -> str:
        while True:
            try:
                line = self._lines.get(timeout=_SECONDS)
            except queue.Empty:
                self.failed = "error it does not answer"
                return self.failed
            if line is None:
                self._process.wait(_SECONDS)
                self.failed = self._ended()
                return self.failed
            if line == good or line.startswith(good + " "):
                return line.removeprefix(good).strip()
            if line.startswith("error"):
                if good == "ready":
                    self.failed = line
                return line

    def _ended(self) -> str:
        lines = [line.strip() for line in self._stderr.read_text(errors="replace").splitlines() if line.strip()]
        reasons = [line for line in lines if "rror" in line] or lines or [""]
        return f"error it ended with {self._process.returncode}: {reasons[-1]}".rstrip(": ")
