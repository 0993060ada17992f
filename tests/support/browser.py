"""A page in a headless Chromium, driven over its debugging pipe.

The protocol: https://chromedevtools.github.io/devtools-protocol: JSON objects, each ended with a NUL byte. A request
has an ``id``, which its answer repeats; what comes without one is an event.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import browser_process
from tests.support.waiting import LIMIT, until

#: Names a Chromium; without it the usual commands are looked for.
VARIABLE = "MIRROR_TEST_CHROMIUM"
_COMMANDS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--no-sandbox", "--disable-extensions", "--disable-background-networking",
)  # fmt: skip


def command() -> str:
    """The browser; fails if there is none."""
    found = os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, _COMMANDS)), None)
    assert found, f"the page is tested in Chromium: install it (apt install chromium), or name it with {VARIABLE}"
    return found


class Page:
    """One page. What it writes to the console as errors, and what fails in it, is in :attr:`errors`."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="mtb", dir="/tmp")
        its_in, self._out = os.pipe()
        self._in, its_out = os.pipe()
        arguments = [str(its_in), str(its_out), command(), *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, browser_process.__file__, *arguments],
            pass_fds=(its_in, its_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(its_in)
        os.close(its_out)
        self._input = b""
        self._number = 0
        self._session: str | None = None
        self.errors: list[str] = []
        pages = until(lambda: [one for one in self._do("Target.getTargets")["targetInfos"] if one["type"] == "page"])
        self._session = self._do("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._do(f"{domain}.enable")

    def open(self, url: str, width: int = 1280, height: int = 800, *, dark: bool = False) -> None:
        """Load an address in a window of this size."""
        self.resize(width, height, dark=dark)
        self._do("Page.navigate", url=url)
        until(lambda: self.value("document.readyState") == "complete")

    def resize(self, width: int, height: int = 800, *, dark: bool = False) -> None:
        """Of a phone, if it is narrow."""
        phone = width < 600
        self._do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._do("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, expression: str) -> Any:
        """What JavaScript gives for an expression, as a JSON value; a promise is awaited. Fails for an exception."""
        answer = self._do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """A PNG of the page, of all of its height or of the window."""
        answer = self._do("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))

    def _do(self, method: str, **values: Any) -> Any:
        self._number += 1
        request = {"id": self._number, "method": method, "params": values}
        if self._session is not None:
            request["sessionId"] = self._session
        os.write(self._out, json.dumps(request).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _message(self) -> dict[str, Any]:
        deadline = time.monotonic() + LIMIT
        while b"\0" not in self._input:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._in, 1 << 20) if ready else b""
            assert data, "Chromium has ended, or does not answer"
            self._input += data
        message, _, self._input = self._input.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(str(values["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "warning", "assert"):
                self.errors.append(str(values["args"]))
            case "Log.entryAdded" if values["entry"]["level"] in ("error", "warning"):
                self.errors.append(str(values["entry"]))

    def close(self) -> None:
        """End it."""
        self._session = None
        with contextlib.suppress(OSError, AssertionError):
            self._do("Browser.close")
        self._process.wait(LIMIT)
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
