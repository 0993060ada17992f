"""What an adapter outlives, and what ends it: forks, replaced files, other settings, closing."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable

import mirror
from tests.integration.test_storage_adapter import Program, program, until_counted
from tests.support.waiting import LIMIT

__all__ = ["program"]

#: Seconds after which a child counts as one that hangs.
CHILD_SECONDS = 60


def in_child(work: Callable[[], object]) -> int:
    """Fork, and run ``work`` there; the child's status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(CHILD_SECONDS, exit=True)
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def test_forks_while_threads_read_and_write(program: Program) -> None:
    """Whatever a thread of the parent has at that moment, the child reads and writes."""
    program.configure(readFrom="postgres")
    ended = threading.Event()
    errors: list[BaseException] = []
    with mirror.get_storage_adapter(config=program.config) as adapter:
        ids = [adapter.memory.create_item("event", f"number {number}").id for number in range(4)]
        until_counted("postgres:fresh", adapter.memory.count_items)

        def work(number: int) -> None:
            try:
                while not ended.is_set():
                    assert adapter.memory.get_item(ids[number]) is not None
                    adapter.tasks.list(limit=1)
            except BaseException as error:
                errors.append(error)

        def child() -> None:
            made = adapter.memory.create_item("event", "of a child")
            assert adapter.memory.get_item(made.id) == made and adapter.memory.get_item(ids[0]) is not None
            adapter.tasks.list(limit=1)
            with mirror.get_storage_adapter(config=program.config) as other:
                assert other.memory.get_item(made.id) == made

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            statuses = [in_child(child) for _ in range(60)]
        finally:
            ended.set()
            for thread in threads:
                thread.join(LIMIT)
        assert statuses == [0] * 60 and not errors
        assert adapter.memory.count_items() == 64
