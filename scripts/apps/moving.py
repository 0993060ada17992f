"""The move of a real application, step by step, and what is said of each step.

An application is moved as a person would move it. Its own migrations make the tables of both stores; ``mirror adopt``
and ``mirror up`` fill those in Postgres while its own writers work on SQLite, and the mirror is killed once; then its
own objects are read from both stores and compared, value by value. In the end the tables are given back, or programs
are moved by ``mirror cutover advance`` while one of them writes on, and the application's own calls are made in
Postgres.

The application runs in an environment of its own, in a temporary folder, with pinned packages; Postgres is the embedded
one. Both programs connect as the owner of the database, who is no superuser: foreign keys are set aside and
made again. Nothing is left behind.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import catalogue
from application import Application
from catalogue import Made
from looks import SHOWN, Look, compare, declared_by, shown
from programs import LIMIT, Programs, StopError


class Move(Programs):
    """One application on its way."""

    def __init__(self, application: Application, folder: Path, tools: Path, dsn: str) -> None:
        super().__init__(application, folder, tools, dsn)
        self.failed = 0

    def check(self, good: bool, said: str, *details: str) -> None:
        """Say whether something is as it should be."""
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {said}", flush=True)
        for detail in details:
            print(f"       {detail}", flush=True)

    def go(self) -> None:
        """All of it. Raises :class:`StopError`."""
        application = self.application
        report, parity, before = self.mirror_live()
        self.compare_looks(self.look("sqlite"), self.look("postgres"), report, parity)
        if application.by_cutover:
            self._advance(report)
            self._end_for_good(before)
        else:
            self._give_back(before)
            application.set_sequences(self)
        application.after(self)
        self.use()

    def mirror_live(self) -> tuple[dict[str, Any], dict[str, Any], Made]:
        """Adopt it, and mirror its writes until all is in Postgres.

        Returns the reports of ``mirror adopt`` and ``mirror parity``, and what its migrations have made.
        """
        application = self.application
        if application.by_cutover:
            self.config.parent.mkdir()
            storage = {"backend": "dual", "readFrom": "sqlite"}
            self.config.write_text(json.dumps({"sources": [str(self.source)], "storage": storage}))
        shutil.copytree(application.sources, self.program, ignore=shutil.ignore_patterns("__pycache__"))
        application.make(self)
        catalogue.audit(self.dsn, application.audited)
        self.call("fill")
        before = catalogue.made(self.dsn)
        report = self._adopt()
        self._mirror_its_writes()
        return report, self._compare(), before

    def _adopt(self) -> dict[str, Any]:
        arguments = ("adopt", self.source, *self.application.adopt)
        dry = self.mirror(*arguments, "--dry-run", "--json")
        if dry.returncode:
            plain = self.mirror(*arguments, "--dry-run")
            raise StopError(f"mirror adopt --dry-run ended with {dry.returncode}:\n{plain.stdout}{dry.stderr}")
        self.check(not catalogue.is_adopted(self.dsn), "mirror adopt --dry-run has left Postgres alone")
        self.application.heed(self, json.loads(dry.stdout)["reports"][0])
        done = self.mirror(*arguments, "--json")
        if done.returncode:
            raise StopError(f"mirror adopt ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        report: dict[str, Any] = json.loads(done.stdout)["reports"][0]
        found = [
            f"{table['table']}.{each['column']}: {each['what']}, {each['rows']} rows: {each['reason']}"
            for table in report["tables"]
            for each in table["findings"]
        ]
        self.check(report["adopted"], f"mirror adopt: {len(report['tables'])} tables, {report['presets']}", *found)
        return report

    def _mirror_its_writes(self) -> None:
        self.start_mirror()
        count = self.application.transactions
        writers = [self.start("write", seed, count) for seed in range(self.application.writers)]
        try:
            first = writers[0].stdout
            assert first is not None
            done = 0
            for line in first:
                done = int(line)
                if done == count // 2:
                    code = self.end_mirror(signal.SIGKILL)
                    self.check(code == -signal.SIGKILL, f"the mirror was killed after {done} transactions of a writer")
                    self.start_mirror()
            for writer in writers:
                _, errors = writer.communicate(timeout=LIMIT)
                self.check(not writer.returncode, f"a writer has made {count} transactions", *errors.splitlines()[-9:])
            self.check(done == count, f"the first of them has counted {done}")
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()

    def _compare(self) -> dict[str, Any]:
        waited = self.mirror("wait", self.source, "--timeout", 300)
        if waited.returncode:
            raise StopError(f"mirror wait ended with {waited.returncode}: {waited.stderr}\n{self.log_tail()}")
        self.check(True, "mirror wait")
        done = self.mirror("parity", self.source, "--json")
        if done.returncode not in (0, 1, 4):
            raise StopError(f"mirror parity ended with {done.returncode}: {done.stderr}\n{self.log_tail()}")
        reports: list[dict[str, Any]] = json.loads(done.stdout)["reports"]
        (report,) = reports
        wrong = [table for table in report["tables"] if table["status"] == "different"]
        said = f"mirror parity: {report['verdict']}, {report['rows']} rows, {report['rejected']} rejected,"
        said += f" {report['lost']} values with a declared loss"
        self.check(done.returncode in (0, 4), said, *map(str, wrong))
        return report

    def compare_looks(
        self, in_sqlite: Look, in_postgres: Look, report: Mapping[str, Any], parity: Mapping[str, Any]
    ) -> None:
        """Compare what the application finds on both sides, but for what the reports declare."""
        declared = declared_by(report, parity, self.application.said_by_hints)
        listed = json.loads(self.mirror("rejects", "list", self.source, "--json").stdout)["rejects"]
        for each in compare(in_sqlite, in_postgres, declared, listed):
            self.check(each.good, each.said, *each.details)

    def look(self, store: str) -> Look:
        """The objects, and the answers to its questions."""
        path = self.folder / f"{store}.seen"
        self.call("look", path, store=store)
        return self.application.read(path)

    def _advance(self, report: Mapping[str, Any]) -> None:
        """Move programs while one of them writes: each of its writes must be in Postgres, and in the file as well."""
        crossing = self.start("cross")
        said: list[dict[str, Any]] = []
        try:
            assert crossing.stdout is not None
            self._until(crossing.stdout, said, "writes")
            if self.application.reads_first:
                self._cutover("advance", "--acknowledge", "backups", "--reads")
                self._until(crossing.stdout, said, "reads in Postgres")
            began = time.monotonic()
            self._cutover("advance", "--acknowledge", "backups")
            took = time.monotonic() - began
            self._until(crossing.stdout, said, "has ended")
            _, errors = crossing.communicate(timeout=LIMIT)
            last = said[-1]
            self.check(
                not crossing.returncode,
                f"a program went on writing: {shown(str(last['wrote']))}",
                *errors.splitlines()[-9:],
            )
            self.check(not last["wrong"], "it never read the past, and lost no write", *map(str, last["wrong"][:SHOWN]))
            print(f"     mirror cutover advance took {took:.1f} s; the program saw a pause of {last['pause']:.2f} s")
        finally:
            crossing.kill()
            crossing.wait()
        fired = catalogue.audited(self.dsn)
        self.check(fired > 0, f"a trigger has fired {fired} times, for what the program wrote in Postgres")
        waited = self.mirror("wait", self.source, "--timeout", 300)
        self.check(
            waited.returncode == 0, "mirror wait: what it wrote is in the file, too", *waited.stderr.splitlines()
        )
        self.compare_looks(self.look("sqlite"), self.look("postgres"), report, {"tables": []})

    def _until(self, lines: IO[str], said: list[dict[str, Any]], what: str) -> None:
        """Read what the program says until it is that."""
        for line in lines:
            said.append(json.loads(line))
            if said[-1]["now"] == what:
                return
        raise StopError(f"the program ended before it said that it {what}\n{self.log_tail()}")

    def _cutover(self, *command: object) -> None:
        done = self.mirror("cutover", command[0], self.source, *command[1:])
        if done.returncode:
            raise StopError(f"mirror cutover {command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        self.check(True, f"mirror cutover {' '.join(map(str, command))}")

    def _end_for_good(self, before: Made) -> None:
        self._cutover("finalize")
        code = self.end_mirror(None)
        self.check(code == 0, f"the mirror has ended by itself, with {code}", *self.log_tail().splitlines()[-1:])
        self.check_made(before)

    def check_trigger(self) -> None:
        """No trigger has fired yet."""
        fired = catalogue.audited(self.dsn)
        self.check(not fired, f"{fired} times a trigger has fired for what the mirror wrote")

    def _give_back(self, before: Made) -> None:
        self.check(self.end_mirror(signal.SIGTERM) == 0, "the mirror has ended", *self.log_tail().splitlines()[-1:])
        self.check_trigger()
        done = self.mirror("remove", self.source, "--drop-tables", "--yes")
        self.check(done.returncode == 0, "mirror remove gives the tables back", *done.stderr.splitlines())
        self.check_made(before)

    def check_made(self, before: Made) -> None:
        """What the application's migrations have made is as it was, and its foreign keys hold."""
        for kind, wrong in catalogue.apart(before, catalogue.made(self.dsn)):
            self.check(not wrong, f"{len(before[kind])} {kind} are as they were", *wrong)
        count, wrong = catalogue.validate(self.dsn)
        self.check(not wrong, f"{count} foreign keys hold", *wrong)

    def use(self) -> None:
        """Have it do in Postgres what it does."""
        fired = catalogue.audited(self.dsn)
        done = self.call("use", store="postgres", fine=False)
        steps = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for step in steps:
            self.check(not step["error"], f"in Postgres: {step['step']}", *step["error"].splitlines()[-5:])
        self.check(done.returncode == 0 and bool(steps), f"{len(steps)} steps ran", *done.stderr.splitlines()[-9:])
        fired = catalogue.audited(self.dsn) - fired
        self.check(fired > 0, f"the trigger has fired {fired} times for its own writes")
