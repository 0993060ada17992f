"""The log of the command line and of the sidecar in it: every record passes here, and goes to one place.

=========  ===========================================================================================================
form       for
=========  ===========================================================================================================
text       a terminal (in colour, unless NO_COLOR is set), or a file: date and time in UTC
journal    text, where stderr is systemd's journal, which has the time itself: each line with its priority, as ``<4>``
json       machines: one object a line, with these members
=========  ===========================================================================================================

``time``: RFC 3339, UTC. ``level``: debug, info, warning or error. ``message``: the line for people. ``source``: path of
the file that it is about. Of an error: ``code``, ``next_step`` and ``retryable`` (:mod:`mirror.core.errors`). The
periodic line has ``phase``, ``lag_seconds``, ``rejects``, ``commits``, ``rows`` and ``next_step``
(:mod:`mirror.sidecar.periodic`). ``traceback``: of a bug. What is not known is left out.

`mirror up` has one stream: stderr. On a terminal it also has lines for people there, without a time. Where stderr is no
terminal, what it says to people is a record like all others.

Libraries' records of :mod:`logging`, warnings of Python and exceptions that end a thread come here, too. No record
shows a secret (:mod:`mirror.core.redaction`). None has control characters or begins a line that it is not: messages
contain names that come from outside. Of one kind no more than :data:`MOST` are written in :data:`SECONDS`, so that what
fails for weeks does not fill the disk: a kind is one line of the program, but where a record is bound to a ``kind`` of
its own (None: one that is always written).

Loguru takes longer to load than a command that only asks a mirror takes to run. So it is not loaded here before there
is a record: the log begins when the first module that logs has it loaded (:mod:`mirror.core.imports`). So it is with
:mod:`logging`.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO, cast

import click
import msgspec

from mirror.cli.plain import printable, terminal_width, wrapped
from mirror.core.config.log_settings import LogSettings
from mirror.core.errors import MirrorError
from mirror.core.imports import WhenImported
from mirror.core.redaction import redacted

if TYPE_CHECKING:
    from loguru import Logger, Message, Record

#: Records of one kind in so many seconds.
MOST, SECONDS = 20, 300.0
#: Kinds that are known at a time.
_MOST_KINDS = 1000
_COLOURS = {"DEBUG": "blue", "INFO": None, "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
#: Of syslog(3).
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
#: What records carry for JSON, besides ``source`` and ``error``.
_FIELDS = ("phase", "lag_seconds", "rejects", "commits", "rows", "next_step")


class _Kind(msgspec.Struct):
    begun: float
    written: int = 0
    left_out: int = 0
    last: str = ""


class Limits:
    """Says which records are written. Thread: one at a time (loguru has a lock around each sink)."""

    def __init__(self) -> None:
        self._kinds: dict[object, _Kind] = {}
        self._next_look = 0.0

    def allows(self, kind: object, message: str, now: float) -> bool:
        """Whether a record of this kind is to be written; else it is counted. ``now``: seconds."""
        if kind is None:
            return True
        found = self._kinds.setdefault(kind, _Kind(now))
        if found.written < MOST:
            found.written += 1
            return True
        found.left_out += 1
        found.last = message
        return False

    def ended(self, now: float) -> list[str]:
        """What was left out of kinds whose time is over, one line each; they are counted anew."""
        full = len(self._kinds) > _MOST_KINDS
        if now < self._next_look and not full:
            return []
        self._next_look = now + 1
        over = [kind for kind, found in self._kinds.items() if full or now - found.begun >= SECONDS]
        return [
            f"{found.left_out:,} more lines like this one were left out: {found.last}"
            for found in map(self._kinds.pop, over)
            if found.left_out
        ]


_limits = Limits()
_settings = LogSettings()
#: Whether the command is one that logs while it runs.
_logs = False
#: Where records go; at first loguru's own, which it makes when it is imported.
_sink = 0


def start_log(settings: LogSettings | None = None) -> None:
    """Log as ``settings`` say from now on, to stderr: for a command that runs on. None: as before."""
    global _settings, _logs
    _settings, _logs = settings or _settings, _logs or settings is not None
    if "loguru" in sys.modules:
        log_to(sys.stderr)
    else:
        _when_loaded.begin()


#: Before whoever loads it can write a record.
_when_loaded = WhenImported("loguru", lambda _: log_to(sys.stderr))


def log_to(write: TextIO | Callable[[str], object], *, colour: bool = False) -> None:
    """Send the log to ``write``, and nowhere else.

    ``write``: a function gets one record at a time, for a terminal. ``colour``: with colours.
    """
    from loguru import logger

    level = _settings.level.upper()
    form: Callable[[Any], str]
    put: Callable[[str], object]
    if callable(write):
        form, put = (_json if is_for_machines() else _text(terminal=True, colour=colour)), write
    else:
        form, put = _form_for(write), _writer(write)

    def sink(message: Message) -> None:
        record = message.record
        now = time.monotonic()
        for line in _limits.ended(now):
            more: dict[str, Any] = {"level": logger.level("WARNING"), "message": line, "exception": None, "extra": {}}
            _put(put, form(cast("Record", dict(record) | more)))
        if record["level"].name == "DEBUG" or _limits.allows(_kind(record), record["message"], now):
            _put(put, form(record))

    global _sink
    # The form makes the whole line. Loguru's own shows secrets in tracebacks, and with `diagnose` those in variables.
    before, _sink = _sink, logger.add(sink, format="", level=level, backtrace=False, diagnose=False, catch=False)
    with suppress(ValueError):  # a test has removed it
        logger.remove(before)  # only now: no record of another thread is lost


def end_log() -> None:
    """Say what was left out and is not told yet: the process ends."""
    for line in _limits.ended(math.inf):
        _logger().warning("{}", line)


def _logger() -> Logger:
    from loguru import logger

    return logger


def _put(put: Callable[[str], object], line: str) -> None:
    # Where the log cannot be written (full disk, reader that has ended), nothing can be said, and the mirror goes on.
    with suppress(OSError, ValueError):
        put(line)


def _writer(stream: TextIO) -> Callable[[str], object]:
    def put(line: str) -> None:
        stream.write(line)
        stream.flush()

    return put


def take_over() -> None:
    """Have what libraries log, Python's warnings, and exceptions that end a thread, come into the log.

    For a process that is the command line's own.
    """
    if "logging" in sys.modules:
        _take_over_logging()
    else:
        warnings.showwarning = _warned
        _when_logging.begin()
    threading.excepthook = _thread_ended
    sys.unraisablehook = _not_raised


def _take_over_logging() -> None:
    import logging

    class Libraries(logging.Handler):
        """Hands records of :mod:`logging` on."""

        def emit(self, record: logging.LogRecord) -> None:
            """Log it, as a record of its library."""
            log = _logger().bind(library=f"{record.name}:{record.lineno}").opt(exception=record.exc_info)
            log.log(_level(record.levelno), "{}: {}", record.name, record.getMessage())

    logging.basicConfig(handlers=[Libraries()], level=logging.WARNING, force=True)
    # Of the packages that run inside programs, too.
    logging.getLogger("mirror").setLevel(logging.INFO)
    if warnings.showwarning is _warned:
        warnings.showwarning = _PYTHONS_OWN  # logging comes back to what it finds here
    logging.captureWarnings(True)


_PYTHONS_OWN = warnings.showwarning
_when_logging = WhenImported("logging", lambda _: _take_over_logging())


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning of Python as :mod:`logging` does, which shows them all from then on."""
    import_module("logging")  # which has it taken over
    warnings.showwarning(message, category, filename, lineno, file, line)


def _level(number: int) -> str:
    """That of loguru, for a number of :mod:`logging`."""
    levels = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"))
    return next((name for least, name in levels if number >= least), "DEBUG")


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        name = "a thread" if ended.thread is None else ended.thread.name
        _logger().opt(exception=ended.exc_value).error("{} has ended: {}", name, ended.exc_value)


def _not_raised(what: sys.UnraisableHookArgs) -> None:
    _logger().opt(exception=what.exc_value).error("{}: {}", what.err_msg or "an exception was ignored", what.exc_value)


# -- what commands say themselves ----------------------------------------------------------------------


def is_for_machines() -> bool:
    """Whether the log is JSON."""
    return _settings.format == "json"


def is_quiet() -> bool:
    """Whether only warnings and errors are told."""
    return _settings.level in ("warning", "error")


def _is_logged() -> bool:
    """Whether what is said to people is a record of the log."""
    return is_for_machines() or (_logs and not sys.stderr.isatty())


def writes_lines() -> bool:
    """Whether people are told by lines of their own, and all that is good, too."""
    return not _is_logged() and not is_quiet()


def announce(line: str, *, bad: bool = False, depth: int = 0, wrap: bool = True) -> None:
    """Tell people something on stderr; where that is no terminal, and for machines, it is a record of the log.

    ``bad``: they may have to do something. ``depth``: how many callers away the line is that says it. ``wrap``: break
    it between words; else it is a command, to be copied.
    """
    if _is_logged():
        _logger().opt(depth=depth + 1).log("WARNING" if bad else "INFO", "{}", line)
    elif bad or not is_quiet():
        click.echo("\n".join(_lines(line) if wrap else [printable(redacted(line))]), err=True)


def complain(text: str, error: MirrorError | None = None) -> None:
    """Tell people what went wrong, in red on stderr; where a command logs, and for machines, it is a record of the log.

    ``error``: what the text is about, if it is one.
    """
    if _is_logged():
        _logger().bind(**({} if error is None else {"error": error})).opt(depth=1).error("{}", text)
    else:
        priority = f"<{_PRIORITIES['ERROR']}>" if _is_journal(sys.stderr) else ""
        said = "\n".join(_lines(f"mirror: {text}")) if sys.stderr.isatty() else f"mirror: {redacted(text)}"
        click.secho(f"{priority}{said}", fg="red", err=True, color=colour_of(sys.stderr))


def _lines(line: str) -> list[str]:
    """A line for people, as it is shown on a terminal."""
    return wrapped(printable(redacted(line)), terminal_width())


def colour_of(stream: TextIO) -> bool:
    """Whether what is written there may have colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# -- lines ---------------------------------------------------------------------------------------------


def _kind(record: Record) -> object:
    """What it counts as; None: it is always written, as it says what comes once, like a table that was dropped."""
    extra = record["extra"]
    if "kind" in extra:
        return extra["kind"]
    return extra.get("library") or (record["name"], record["function"], record["line"])


def _form_for(stream: TextIO) -> Callable[[Any], str]:
    if is_for_machines():
        return _json
    if _is_journal(stream):
        return _journal
    return _text(terminal=stream.isatty(), colour=colour_of(stream))


def _text(*, terminal: bool, colour: bool) -> Callable[[Any], str]:
    def text(record: Record) -> str:
        level = record["level"].name
        at = _time(record)
        head = f"{level:<7}"
        message = [_message(record)]
        if terminal:
            message = wrapped(message[0], terminal_width(), len(at) + len(head) + 2)
        if colour:
            at, head = click.style(at, dim=True), click.style(head, fg=_COLOURS.get(level), bold=True)
        return "".join(f"{line}\n" for line in (f"{at} {head} {message[0]}", *message[1:], *_traceback(record)))

    return text


def _is_journal(stream: TextIO) -> bool:
    """Whether it is the one that systemd has connected to its journal: JOURNAL_STREAM has its device and inode."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _journal(record: Record) -> str:
    level = record["level"].name
    priority = _PRIORITIES.get(level, 6)
    return "".join(f"<{priority}>{line}\n" for line in (f"{level:<7} {_message(record)}", *_traceback(record)))


def _json(record: Record) -> str:
    extra = record["extra"]
    made: dict[str, Any] = {"time": _time(record), "level": record["level"].name.lower(), "message": _message(record)}
    if "source" in extra:
        made["source"] = printable(redacted(str(extra["source"])))
    made |= {name: extra[name] for name in _FIELDS if extra.get(name) is not None}
    error = extra.get("error")
    if isinstance(error, MirrorError):
        made |= {"code": error.code, "retryable": error.retryable}
        if error.next_step:
            made["next_step"] = redacted(error.next_step)
    if lines := _traceback(record):
        made["traceback"] = "\n".join(lines)
    return json.dumps(made, ensure_ascii=False).encode(errors="backslashreplace").decode() + "\n"


def _time(record: Record) -> str:
    return record["time"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _message(record: Record) -> str:
    return printable(redacted(record["message"]))


def _traceback(record: Record) -> list[str]:
    found = record["exception"]
    if found is None or found.value is None:
        return []
    return traceback_of(found.value)


def traceback_of(error: BaseException) -> list[str]:
    """The lines of an exception's traceback, for people to see."""
    text = redacted("".join(traceback.format_exception(error)))
    return [printable(line) for line in text.splitlines()]
