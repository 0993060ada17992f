"""What the scripts share that move a real application: a place to work in, the mirror, the checks.

An application is moved as a person would move it. Its own migrations make the tables of both stores; ``mirror adopt``
and ``mirror up`` fill those in Postgres while its own writers work on SQLite, and the mirror is killed once; then its
own objects are read from both stores and compared, value by value. In the end the tables are given back and the
application's own calls are made in Postgres.

The application runs in a virtual environment of its own, in a temporary folder, with pinned packages; Postgres is the
embedded one. Both programs connect as the owner of the database, who is no superuser: foreign keys are set aside and
made again. Nothing is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

APPS = Path(__file__).resolve().parent
ROOT = APPS.parents[1]
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402
from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: E402

from mirror.postgres.embedded import start_embedded  # noqa: E402

#: Seconds that any single step may take on a busy machine.
_LIMIT = 900
#: Settings of the person who runs a script, which would change what the mirror does.
_FOREIGN = ("ARGENT_", "CLAWDBOT_", "MIRROR_", "PG", "SHOP_", "DJANGO_")
_OWNER = "shop"
_SHOWN, _LONGEST = 3, 60
_CONSTRAINTS = (
    "SELECT conrelid::regclass || ': ' || conname || ' ' || replace(pg_get_constraintdef(oid), ' NOT VALID', '')"
    " FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1"
)
_TRIGGERS = (
    "SELECT c.relname || ': ' || tgname || ' ' || tgenabled::text FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid"
    " WHERE NOT tgisinternal AND relnamespace = 'public'::regnamespace ORDER BY 1"
)
_COLUMNS = (
    "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable"
    " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1"
)
_INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
#: What others have added to one of the application's tables.
_AUDIT = """
    CREATE SCHEMA audit;
    CREATE TABLE audit.changes (at timestamptz NOT NULL DEFAULT now(), what text NOT NULL);
    CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO audit.changes (what) VALUES (TG_OP); RETURN NULL; END $$;
    CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON public.{} FOR EACH ROW EXECUTE FUNCTION audit.note();
"""
_TO_VALIDATE = (
    "SELECT format('ALTER TABLE %s VALIDATE CONSTRAINT %I', conrelid::regclass, conname)"
    " FROM pg_constraint WHERE NOT convalidated AND connamespace = 'public'::regnamespace"
)

#: By table, by key, the values of the object's columns, as the ORM gives them.
Seen = dict[str, dict[Any, dict[str, Any]]]


class StopError(Exception):
    """The rest cannot be tried."""


class Application:
    """One application: its sources, its tools. The scripts say more."""

    name = ""
    packages: tuple[str, ...] = ()
    sources: Path
    """The folder of its program, which is copied. ``run.py`` in it has the commands fill, write, look, use."""
    adopt: tuple[str, ...] = ()
    """Options of ``mirror adopt``."""
    said_by_hints: ClassVar[Mapping[tuple[str, str], str]] = {}
    """By table and column, the words of a hint of the report that tell of a difference."""
    more: ClassVar[Mapping[str, str]] = {}
    """Variables for its programs."""
    audited = ""
    """A table that gets a trigger in Postgres, which must not fire for what the mirror writes."""
    database = ""
    """Options of CREATE DATABASE that it needs."""
    writers = 2
    transactions = 120

    def make(self, move: Move) -> None:
        """Have its tools write its migrations, and run them on both stores."""
        raise NotImplementedError

    def set_sequences(self, move: Move) -> None:
        """Set the sequences in Postgres by the application's own means, or by SQL where it has none."""
        raise NotImplementedError

    def environment(self, store: str, dsn: str) -> dict[str, str]:
        """What its program is told of where it runs; ``store``: sqlite or postgres."""
        return {"SHOP_STORE": store, "SHOP_PG": json.dumps(conninfo_to_dict(dsn)), **self.more}


class Move:
    """One application on its way."""

    def __init__(self, application: Application, folder: Path, python: Path, dsn: str) -> None:
        self.application = application
        self.folder = folder
        self.program = folder / "app"
        self.source = self.program / "shop.db"
        self.python = python
        self.dsn = dsn
        self.failed = 0
        self._mirror: subprocess.Popen[bytes] | None = None
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self._log = folder / "mirror.log"

    # -------------------------------------------------------------------------------------------- what is said

    def check(self, good: bool, said: str, *details: str) -> None:
        """Say whether something is as it should be."""
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {said}", flush=True)
        for detail in details:
            print(f"       {detail}", flush=True)

    # ------------------------------------------------------------------------------------------- what is started

    def run(self, *command: object, store: str = "sqlite", fine: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of the application, by its Python, in its folder; ``fine``: it must succeed."""
        done = subprocess.run(
            [str(self.python), *map(str, command)],
            cwd=self.program,
            env=self.environment(store),
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
        if fine and done.returncode:
            said = " ".join(map(str, command))
            raise StopError(f"{said} on {store} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def environment(self, store: str) -> dict[str, str]:
        """Of a program of the application."""
        return self._environment | self.application.environment(store, self.dsn)

    def mirror(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a command of the mirror."""
        return subprocess.run(
            [sys.executable, "-m", "mirror", *map(str, arguments)],
            cwd=self.folder,
            env=self._of_mirror(),
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )

    def _of_mirror(self) -> dict[str, str]:
        more = {"PYTHONPATH": str(ROOT), "ARGENT_PG_URL": self.dsn, "MIRROR_STATE_DIR": str(self.folder / "state")}
        return self._environment | more | {"HOME": str(self.folder)}

    def start_mirror(self) -> None:
        """``mirror up``."""
        with self._log.open("ab") as log:
            self._mirror = subprocess.Popen(
                [sys.executable, "-m", "mirror", "up", str(self.source)],
                cwd=self.folder,
                env=self._of_mirror(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end_mirror(self, number: signal.Signals) -> int:
        """End it by a signal; its exit code."""
        assert self._mirror is not None
        process, self._mirror = self._mirror, None
        process.send_signal(number)
        try:
            return process.wait(_LIMIT)
        finally:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End what still runs."""
        if self._mirror is not None:
            self._mirror.kill()
            self._mirror.wait()

    def log_tail(self) -> str:
        """The last lines of the mirror's log."""
        return "\n".join(self.log().splitlines()[-15:])

    def log(self) -> str:
        """The mirror's log."""
        return self._log.read_text() if self._log.exists() else ""

    # ------------------------------------------------------------------------------------------------ the move

    def go(self) -> None:
        """All of it. Raises :class:`StopError`."""
        report, parity, before = self.mirror_live()
        self.compare_looks(self.look("sqlite"), self.look("postgres"), report, parity)
        self._give_back(before)
        self.application.set_sequences(self)
        self.use()

    def mirror_live(self) -> tuple[dict[str, Any], dict[str, Any], list[list[str]]]:
        """Adopt it, and mirror its writes until all is in Postgres; the reports of both, and what was :meth:`made`."""
        application = self.application
        shutil.copytree(application.sources, self.program, ignore=shutil.ignore_patterns("__pycache__"))
        application.make(self)
        with psycopg.connect(self.dsn) as conn:
            conn.execute(_AUDIT.format(application.audited))
        self.run("run.py", "fill")
        before = self.made()
        report = self._adopt()
        self._mirror_its_writes()
        return report, self._compare(), before

    def _adopt(self) -> dict[str, Any]:
        arguments = ("adopt", self.source, *self.application.adopt)
        dry = self.mirror(*arguments, "--dry-run", "--json")
        if dry.returncode:
            shown = self.mirror(*arguments, "--dry-run")
            raise StopError(f"mirror adopt --dry-run ended with {dry.returncode}:\n{shown.stdout}{dry.stderr}")
        with psycopg.connect(self.dsn) as conn:
            untouched = conn.execute("SELECT to_regclass('mirror.adoptions') IS NULL").fetchone() == (True,)
        self.check(untouched, "mirror adopt --dry-run has left Postgres alone")
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
        writers = [
            subprocess.Popen(
                [str(self.python), "run.py", "write", str(seed), str(count)],
                cwd=self.program,
                env=self.environment("sqlite"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for seed in range(self.application.writers)
        ]
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
                _, errors = writer.communicate(timeout=_LIMIT)
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
        found: dict[str, Any] = json.loads(done.stdout)
        (report,) = found["reports"]
        wrong = [table for table in report["tables"] if table["status"] == "different"]
        said = f"mirror parity: {report['verdict']}, {report['rows']} rows, {report['rejected']} rejected,"
        said += f" {report['lost']} values with a declared loss"
        self.check(done.returncode in (0, 4), said, *map(str, wrong))
        return report

    def compare_looks(
        self,
        in_sqlite: tuple[Seen, dict[str, str]],
        in_postgres: tuple[Seen, dict[str, str]],
        report: Mapping[str, Any],
        parity: Mapping[str, Any],
    ) -> None:
        """Compare what the application finds on both sides, but for what the reports declare."""
        (ours, asked), (theirs, answered) = in_sqlite, in_postgres
        self.check(ours.keys() == theirs.keys(), f"{len(ours)} models on both sides")
        declared = {
            (table["table"], each["column"]): each["reason"]
            for table in report["tables"]
            for each in table["findings"]
            if each["what"] == "loss"
        }
        declared |= {
            (table["table"], column["column"]): column["losses"][0]["how"]
            for table in parity["tables"]
            for column in table["columns"]
            if column["losses"]
        }
        for place, words in self.application.said_by_hints.items():
            if any(words in hint for hint in report["hints"]):
                declared[place] = words
        listed = json.loads(self.mirror("rejects", "list", self.source, "--json").stdout)["rejects"]
        for table in sorted(ours):
            rejected = {key_of(each["key"]) for each in listed if each["table"] == table}
            self._compare_model(table, ours[table], theirs.get(table, {}), declared, rejected)
        for question, answer in asked.items():
            there = answered.get(question)
            more = [] if there == answer else [f"Postgres: {there}"]
            self.check(not more, f"{question}: {_shown(answer)}", *more)

    def _compare_model(
        self,
        table: str,
        ours: Mapping[Any, Mapping[str, Any]],
        theirs: Mapping[Any, Mapping[str, Any]],
        declared: Mapping[tuple[str, str], str],
        rejected: set[str],
    ) -> None:
        missing = [key for key in ours if key not in theirs]
        undeclared = [f"missing: {key}" for key in missing if key_of(key) not in rejected]
        undeclared += [f"only in Postgres: {key}" for key in theirs if key not in ours]
        differing: dict[str, list[str]] = {}
        for key in ours.keys() & theirs.keys():
            for column, value in ours[key].items():
                there = theirs[key].get(column)
                if not same(value, there):
                    differing.setdefault(column, []).append(f"{key}: {_shown(value)} became {_shown(there)}")
        details = [f"{key}: among the rejects, as the mirror says" for key in missing if key_of(key) in rejected]
        for column, each in sorted(differing.items()):
            said = declared.get((table, column))
            if said is None:
                undeclared += [f"{column}: {one}" for one in each]
            else:
                details.append(f"{column}: {len(each)} differ, declared: {said}; {min(each)}")
        equal = sum(key in theirs for key in ours)
        self.check(not undeclared, f"{table}: {equal} objects", *undeclared[:_SHOWN], *details)

    def look(self, store: str) -> tuple[Seen, dict[str, str]]:
        """The objects, and the answers to its questions."""
        path = self.folder / f"{store}.pickle"
        self.run("run.py", "look", path, store=store)
        found: tuple[Seen, dict[str, str]] = pickle.loads(path.read_bytes())
        return found

    def made(self) -> list[list[str]]:
        """Constraints, triggers, columns and indexes of the application's tables."""
        with psycopg.connect(self.dsn) as conn:
            queries = (_CONSTRAINTS, _TRIGGERS, _COLUMNS, _INDEXES)
            return [[text for (text,) in conn.execute(query).fetchall()] for query in queries]

    def _audited(self) -> int:
        """How often the trigger has fired."""
        with psycopg.connect(self.dsn) as conn:
            (count,) = conn.execute("SELECT count(*) FROM audit.changes").fetchone() or (0,)
            return int(count)

    def check_made(self, before: list[list[str]]) -> None:
        """What the migrations made is there, and nothing else."""
        kinds = ("constraints", "triggers", "columns", "indexes")
        for kind, was, now in zip(kinds, before, self.made(), strict=True):
            wrong = [f"lost: {each}" for each in was if each not in now]
            wrong += [f"left: {each}" for each in now if each not in was]
            self.check(not wrong, f"{len(was)} {kind} are as they were", *wrong)

    def check_trigger(self) -> None:
        """No trigger has fired yet."""
        fired = self._audited()
        self.check(not fired, f"{fired} times a trigger has fired for what the mirror wrote")

    def _give_back(self, before: list[list[str]]) -> None:
        self.check(self.end_mirror(signal.SIGTERM) == 0, "the mirror has ended", *self.log_tail().splitlines()[-1:])
        self.check_trigger()
        done = self.mirror("remove", self.source, "--drop-tables", "--yes")
        self.check(done.returncode == 0, "mirror remove gives the tables back", *done.stderr.splitlines())
        self.check_made(before)
        wrong = []
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            steps = [step for (step,) in conn.execute(_TO_VALIDATE).fetchall()]
            for step in steps:
                try:
                    conn.execute(step)
                except psycopg.Error as error:
                    wrong.append(f"{step}: {error}")
        self.check(not wrong, f"{len(steps)} foreign keys hold", *wrong)

    def use(self) -> None:
        """Have it do in Postgres what it does."""
        done = self.run("run.py", "use", store="postgres", fine=False)
        steps = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for step in steps:
            self.check(not step["error"], f"in Postgres: {step['step']}", *step["error"].splitlines()[-5:])
        self.check(done.returncode == 0 and bool(steps), f"{len(steps)} steps ran", *done.stderr.splitlines()[-9:])
        self.check(self._audited() > 0, f"the trigger has fired {self._audited()} times for its own writes")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text)} characters)"


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values of Python are equal and of one type, in all depths."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


def key_of(key: Any) -> str:
    """A key as it is compared with those of rejects, which are SQLite's values."""
    parts = key if isinstance(key, list | tuple) else [key]
    return " ".join(str(part).replace("-", "") for part in parts)


# ------------------------------------------------------------------------------------------------ the command line


def parser(description: str | None, transactions: int = 120) -> argparse.ArgumentParser:
    """A parser with the options that the scripts share; the module's text is its help."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--python", metavar="PYTHON", help="a Python that has the packages; default: a new environment is made"
    )
    made.add_argument(
        "--superuser", action="store_true", help="connect as one: the mirror then needs no table's foreign keys away"
    )
    said = "of each writer (default: %(default)s)"
    made.add_argument("--transactions", type=int, default=transactions, metavar="N", help=said)
    return made


def main(application: Application, options: argparse.Namespace, kind: type[Move] = Move) -> int:
    """Move an application, in the order of ``kind``; the exit code: 1 if anything is not as it should be."""
    application.transactions = options.transactions
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mv", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)  # the server may run as a user of its own
        given = options.python and Path(options.python).absolute()
        python = given or _environment(folder / "venv", application.packages)
        with _postgres(folder, application.database, superuser=options.superuser) as dsn:
            move = kind(application, folder, python, dsn)
            try:
                move.go()
            except StopError as error:
                move.check(False, str(error))
            finally:
                move.close()
    said = f"{move.failed} checks failed" if move.failed else "all is as it should be"
    print(f"{application.name}: {said}, {time.monotonic() - begun:.0f} s")
    return 1 if move.failed else 0


def _environment(folder: Path, packages: tuple[str, ...]) -> Path:
    print(f"making an environment with {', '.join(packages)}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


@contextmanager
def _postgres(folder: Path, options: str, *, superuser: bool) -> Iterator[str]:
    """A database, for its owner, who is no superuser, or for one who is."""
    with start_embedded(folder / "server") as server:
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute(f"CREATE ROLE {_OWNER} LOGIN")
            conn.execute(f"CREATE DATABASE {_OWNER} OWNER {_OWNER} {options}".encode())
        yield make_conninfo(server.dsn, dbname=_OWNER, **({} if superuser else {"user": _OWNER}))
