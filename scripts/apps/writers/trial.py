"""One writer in one mode: alone, then beside the mirror; what came of it."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.apps.writers.beside import Mirror, Rows, apart, missing
from scripts.apps.writers.entry import Mode, Writer
from scripts.apps.writers.install import base_python, command
from scripts.apps.writers.talk import Talk
from scripts.apps.writers.workload import statements

#: The mirror says within a second or two that it may not have everything.
_GRACE_SECONDS = 2.0
_WAIT_SECONDS = (10.0, 60.0)
#: Statements that fail one after the other, each perhaps after a busy timeout of some seconds.
_ENOUGH = 5
#: What the words of a mode's name make every program run first.
_OPENING = {
    "key": "PRAGMA key='a secret'",
    "exclusive": "PRAGMA locking_mode=EXCLUSIVE",
    **{name: f"PRAGMA journal_mode={name.upper()}" for name in ("wal", "delete", "truncate", "persist", "mvcc")},
}
#: The folder in which the mirror keeps what it knows of the file.
_STATE = re.compile(r"data\.db-[0-9a-f]{10}")
_JOURNAL = {b"\x01\x01": "rollback", b"\x02\x02": "WAL"}


@dataclass(frozen=True, slots=True)
class Check:
    """What the mirror said at one moment, and whether it was so."""

    when: str
    differs: str
    """How Postgres differs from what the program has committed; empty: it does not."""
    wait: int
    said: str
    """The reason that ``status`` (or its end) gives for what is missing; empty: none."""
    ended: bool
    parity: int
    plan: int | None = None
    """How ``cutover plan`` ended, where rows are missing."""

    @property
    def word(self) -> str:
        """The kind of outcome."""
        if not self.differs:
            return "equal"
        if (self.wait == 0 and not self.said) or self.plan == 0:
            return "SILENT"
        return "refused" if self.ended else "told"

    @property
    def text(self) -> str:
        """The same with its reason."""
        if self.word == "equal":
            return "equal"
        if self.word == "SILENT":
            return f"SILENT: {self.differs} (wait {self.wait}, parity {self.parity}, plan {self.plan})"
        return f"{self.word}: {self.said or 'only by wait'}"


@dataclass(slots=True)
class Outcome:
    """What one writer in one mode came to. No dates and no paths."""

    writer: str
    mode: str
    title: str = ""
    library: str = ""
    sqlite: str = ""
    journal: str = ""
    """How the file says it is written: WAL, rollback, or its two versions."""
    word: str = ""
    outcome: str = ""
    harm: str = ""
    notes: list[str] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return it for the file of outcomes."""
        return asdict(self)


def judge(checks: Sequence[Check]) -> tuple[str, str]:
    """Return the word and the text for all checks of a trial: the worst counts, and what became of it is added."""
    order = ("equal", "refused", "told", "SILENT")
    worst = max(checks, key=lambda check: order.index(check.word))
    text = worst.text if worst.word == "equal" else f"{worst.text} [{worst.when}]"
    last = checks[-1]
    if worst.word != last.word:
        text += f"; then {last.text} [{last.when}]"
    return worst.word, text


@dataclass(slots=True)
class _Run:
    """What a run of the workload left behind."""

    errors: dict[str, str] = field(default_factory=dict)
    """The error of each statement that failed, by section and number."""
    disputed: dict[str, str] = field(default_factory=dict)
    """The same of the truth, for statements that the writer accepted."""
    ready: str = ""
    journal: str = ""
    reader: str = ""
    """The error of a stock SQLite that reads the file at the end, or an empty text."""
    checks: list[Check] = field(default_factory=list)
    left: Rows | None = None
    truth: Rows = field(default_factory=dict)


class Trial:
    """One run: the program, the truth beside it, and perhaps the mirror."""

    def __init__(self, writer: Writer, mode: Mode, installed: Path, folder: Path, dsn: str | None) -> None:
        """``dsn``: Postgres of the mirror; None: without a mirror."""
        self._mode = mode
        self._folder = folder.resolve()
        self._file = self._folder / "data.db"
        self._command, self._environment = command(writer, installed)
        self._dsn = dsn
        self._mirror = Mirror(self._file, self._folder, dsn) if dsn is not None else None
        self._sections = statements()
        self._truth = self._rows(":memory:")
        self.run = _Run()

    def perform(self) -> _Run:
        """Run all of it."""
        try:
            (self._mirror_later if "later" in self._mode.words else self._mirror_first)()
            self.run.truth = json.loads(self._truth.ask(".rows"))["tables"]
            reader, _ = self._read()
            if self._mirror is not None:
                self._mirror.stop()
            self.run.reader, self.run.left = reader, self._read()[1]
        finally:
            self._truth.close()
            if self._mirror is not None:
                self._mirror.stop()
        self.run.errors = {place: self._plain(error) for place, error in self.run.errors.items()}
        return self.run

    def _mirror_first(self) -> None:
        with self._program(1) as program:
            self._section(program, "make")
        self.run.journal = _journal(self._file)
        self._start()
        with self._program(2) as program:
            self._section(program, "early")
            self._check("followed")
            self._section(program, "middle")
            if self._mirror is not None:
                self._mirror.kill()
            self._section(program, "dark")
            self._start()
            self._rekey(program)
            self._section(program, "late")
            self._check("after the kill")
        with self._program(3) as program:
            self._section(program, "change")
        self._check("closed")

    def _mirror_later(self) -> None:
        with self._program(1) as program:
            for name in ("make", "early", "middle"):
                self._section(program, name)
            self.run.journal = _journal(self._file)
            self._start()
            for name in ("dark", "late"):
                self._section(program, name)
            self._check("followed")
            self._section(program, "change")
        self._check("closed")

    @contextmanager
    def _program(self, number: int) -> Iterator[Talk]:
        arguments = [*self._command, str(self._file), *self._mode.words]
        talk = Talk(arguments, self._environment, self._folder)
        try:
            if talk.failed:
                self.run.errors[f"open {number}"] = talk.failed
            else:
                self.run.ready = self.run.ready or talk.ready
            later_key = ["key"] if "rekey" in self._mode.words and number == 3 else []
            for word in (*later_key, *self._mode.words):
                if word in _OPENING:
                    self._say(talk, f"open {number}: {word}", _OPENING[word])
            yield talk
            if error := talk.close():
                self.run.errors[f"close {number}"] = error
        finally:
            talk.kill()

    def _rekey(self, program: Talk) -> None:
        if "rekey" in self._mode.words:
            self._say(program, "rekey", _OPENING["key"].replace("key", "rekey", 1))

    def _section(self, program: Talk, name: str) -> None:
        """Run a section; a transaction in which a statement fails is rolled back, as programs do.

        A program that can do nothing, because the file is locked, say, does not try all of it.
        """
        inside = skipping = False
        in_a_row = 0
        for number, statement in enumerate(self._sections[name]):
            verb = statement.split()[0] if "ROLLBACK TO" not in statement else "ROLLBACK TO"
            if skipping:
                skipping = verb not in ("COMMIT", "ROLLBACK")
                continue
            if self._say(program, f"{name} {number}: {verb}", statement):
                if error := self._truth.say(statement):
                    self.run.disputed[f"{name} {number}: {verb}"] = error
                if verb not in ("BEGIN", "SAVEPOINT"):
                    in_a_row = 0
                inside = verb == "BEGIN" or (inside and verb not in ("COMMIT", "ROLLBACK"))
                continue
            if inside:
                program.say("ROLLBACK")
                self._truth.say("ROLLBACK")
            skipping = verb == "BEGIN" or (inside and verb not in ("COMMIT", "ROLLBACK"))
            inside = False
            in_a_row += 1
            if program.failed or in_a_row == _ENOUGH:
                return

    def _say(self, program: Talk, place: str, statement: str) -> bool:
        error = program.say(statement)
        if error:
            self.run.errors[place] = error
        return not error

    def _start(self) -> None:
        if self._mirror is not None:
            self._mirror.start()

    def _check(self, when: str) -> None:
        if self._mirror is None or self._dsn is None:
            return
        time.sleep(_GRACE_SECONDS)
        waited = self._wait()
        truth = json.loads(self._truth.ask(".rows"))["tables"]
        differs = missing(self._dsn, truth)
        status = self._mirror.status()
        parity = self._mirror.run("parity", "--json").code
        plan = self._mirror.run("cutover plan", "--acknowledge", "backups").code if differs else None
        ended = not self._mirror.runs or status.get("phase") == "failed"
        said = _reason(status) if self._mirror.runs or status.get("last_error") else self._mirror.log_says()
        self.run.checks.append(Check(when, differs, waited, self._plain(said), ended, parity, plan))

    def _plain(self, text: str) -> str:
        """Take the places of this run out of a text."""
        text = _STATE.sub(self._file.name, text)
        return text.replace(str(self._file), "FILE").replace(str(self._folder), "FOLDER")

    def _wait(self) -> int:
        """Wait as a person would: longer only where the mirror says that all is well."""
        assert self._mirror is not None
        code = 1
        for seconds in _WAIT_SECONDS if self._mirror.runs else (1.0,):
            code = self._mirror.run("wait", "--timeout", str(seconds)).code
            if code == 0 or not self._mirror.runs or _reason(self._mirror.status()):
                break
        return code

    def _read(self) -> tuple[str, Rows | None]:
        """Read the file as any other program does."""
        reader = self._rows(str(self._file))
        try:
            answer = reader.ask(".rows")
            if answer.startswith("error"):
                return answer, None
            found = json.loads(answer)
            return "" if found["check"] == "ok" else f"error integrity_check: {found['check']}", found["tables"]
        finally:
            reader.close()

    def _rows(self, path: str) -> Talk:
        return Talk([base_python(), str(Path(__file__).with_name("_rows.py")), path], {}, self._folder)


def _reason(status: dict[str, Any]) -> str:
    """Return what the status says about rows that Postgres may not have; empty: that all is well."""
    if status.get("last_error"):
        return str(status["last_error"])
    for refusal in status.get("refusals", []):
        return f"{refusal['table']}: {refusal['reason']}"
    if status.get("rejects"):
        return f"{status['rejects']} rejects"
    phase = status.get("phase")
    return "" if phase == "following" else f"the phase is {phase}"


def _journal(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            header = opened.read(20)
    except OSError:
        return "no file"
    if not header.startswith(b"SQLite format 3\0"):
        return "no SQLite header" if header else "empty"
    return _JOURNAL.get(header[18:], f"versions {header[18]}/{header[19]}")


def try_out(writer: Writer, mode: Mode, installed: Path, dsn: str) -> Outcome:
    """Run a writer alone and beside the mirror, and judge."""
    runs = []
    for given in (None, dsn):
        with tempfile.TemporaryDirectory(prefix="mw", dir="/tmp", ignore_cleanup_errors=True) as name:
            runs.append(Trial(writer, mode, installed, Path(name), given).perform())
    alone, beside = runs
    word, text = judge(beside.checks)
    library, _, sqlite = (alone.ready or beside.ready).partition(" ")
    made = Outcome(writer.name, mode.name, writer.title, library, sqlite, alone.journal, word, text)
    made.harm = _harm(alone, beside)
    made.checks = [asdict(check) for check in beside.checks]
    if alone.errors:
        place, error = next(iter(alone.errors.items()))
        made.notes.append(f"alone too: {len(alone.errors)} statements fail, first {place}: {error[6:160]}")
    for place, error in beside.disputed.items():
        made.notes.append(f"a stock SQLite refuses what it accepted, {place}: {error[6:160]}")
    if beside.left is None:
        made.notes.append(f"a stock SQLite cannot read the file: {beside.reader[6:]}")
    elif differing := apart(beside.left, beside.truth):
        made.notes.append(f"the file does not hold what was acknowledged: {differing}")
    return made


def _harm(alone: _Run, beside: _Run) -> str:
    """Return the errors that there are only beside the mirror, or an empty text."""
    new = {place: error for place, error in beside.errors.items() if place not in alone.errors}
    said = []
    if new:
        place, error = next(iter(new.items()))
        said.append(f"{len(new)} errors, first at {place}: {error.removeprefix('error ')[:200]}")
    if beside.reader and not alone.reader:
        said.append(f"another program that reads the file: {beside.reader.removeprefix('error ')}")
    return "; ".join(said)
