"""A control server in the test's own process, with a pipeline that has no source file: it ends when it is run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirror.capture.link import CaptureLink
from mirror.sidecar.pipeline import Pipeline
from mirror.sidecar.serve.control import ControlServer
from mirror.sidecar.source_folder import SourceFolder, SourceTask
from tests.support.commands import UNREACHABLE


class Serving:
    """The pipeline, and the folder under which it is reached."""

    def __init__(self, folder: Path) -> None:
        source = folder / "none.db"
        self.folder = folder / "s"
        self.home = SourceFolder(self.folder, source)
        task = SourceTask(source, self.folder, UNREACHABLE, "public", resume_only=True)
        self.pipeline = Pipeline(task, self.home, _no_link)
        self._thread = threading.Thread(target=lambda: list(self.pipeline.turns()))

    def end(self) -> None:
        """Have the pipeline run, which ends it: it has nothing to follow."""
        self._thread.start()
        self._thread.join(60)
        assert not self._thread.is_alive() and self.pipeline.error is not None


@contextmanager
def serving(folder: Path) -> Iterator[Serving]:
    """Serve one until the end of the block."""
    made = Serving(folder)
    server = ControlServer(made.folder, made.pipeline)
    try:
        yield made
    finally:
        server.close()
        made.home.release()


def _no_link() -> CaptureLink:
    raise AssertionError("there is nothing to capture")
