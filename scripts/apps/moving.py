"""What the scripts share that move a real application: a place to work in, the mirror, the checks.

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
from typing import IO, Any, ClassVar

APPS = Path(__file__).resolve().parent
ROOT = APPS.parents[1]
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402
from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: E402

from mirror.postgres.embedded import start_embedded  # noqa: E402

#: Seconds that any single step may take on a busy machine.
_LIMIT = 900
#: Settings of the person who runs a script, which would change what the mirror does.
_FOREIGN = ("ARGENT_", "CLAWDBOT_", "MIRROR_", "PG", "SHOP_", "DJANGO_", "PRISMA_")
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
    """The folder of its program, which is copied. ``run.py`` in it has the commands fill, write, look, use; and cross,
    where it is moved by ``mirror cutover``."""
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
    extensions: tuple[str, ...] = ()
    """Extensions of Postgres that only a superuser can make."""
    by_cutover = False
    """Whether programs are moved by ``mirror cutover advance``; else the tables are given back."""
    reads_first = False
    """Whether reads are moved first: its program has a read router."""
    writers = 2
    transactions = 120

    def make(self, move: Move) -> None:
        """Have its tools write its migrations, and run them on both stores."""
        raise NotImplementedError

    def set_sequences(self, move: Move) -> None:
        """Set the sequences in Postgres by the application's own means, or by SQL where it has none; for one whose
        tables are given back.
        """
        raise NotImplementedError

    def install(self, folder: Path) -> Path:
        """Make its environment; return what :attr:`Move.tools` is: a Python that has its packages."""
        return _environment(folder / "venv", self.packages)

    def command(self, move: Move) -> tuple[str, ...]:
        """What runs its program; its arguments follow."""
        return (str(move.tools), "run.py")

    def heed(self, move: Move, report: Mapping[str, Any]) -> None:
        """Do what the report of ``mirror adopt --dry-run`` calls for."""

    def after(self, move: Move) -> None:
        """What its tools must find in Postgres once it was moved."""

    def read(self, path: Path) -> tuple[Seen, dict[str, str]]:
        """What its program has written for look: the objects, and the answers to its questions."""
        found: tuple[Seen, dict[str, str]] = pickle.loads(path.read_bytes())
        return found

    def environment(self, store: str, dsn: str) -> dict[str, str]:
        """What its program is told of where it runs; ``store``: sqlite or postgres."""
        return {"SHOP_STORE": store, "SHOP_PG": json.dumps(conninfo_to_dict(dsn)), **self.more}


class Move:
    """One application on its way."""

    def __init__(self, application: Application, folder: Path, tools: Path, dsn: str) -> None:
        self.application = application
        self.folder = folder
        self.program = folder / "app"
        self.source = self.program / "shop.db"
        self.tools = tools
        self.dsn = dsn
        self.failed = 0
        self._mirror: subprocess.Popen[bytes] | None = None
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        self._log = folder / "mirror.log"
        self._config = folder / ".argentos" / "mirror.json"

    # -------------------------------------------------------------------------------------------- what is said

    def check(self, good: bool, said: str, *details: str) -> None:
        """Say whether something is as it should be."""
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {said}", flush=True)
        for detail in details:
            print(f"       {detail}", flush=True)

    # ------------------------------------------------------------------------------------------- what is started

    def run(self, *command: object, store: str = "sqlite", fine: bool = True) -> subprocess.CompletedProcess[str]:
        """Run its Python, in its folder; ``fine``: it must succeed."""
        return self.execute(self.tools, *command, store=store, fine=fine)

    def call(self, *arguments: object, store: str = "sqlite", fine: bool = True) -> subprocess.CompletedProcess[str]:
        """Run its program."""
        return self.execute(*self.application.command(self), *arguments, store=store, fine=fine)

    def execute(
        self, *command: object, store: str = "sqlite", fine: bool = True, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run anything in the folder of its program, with ``more`` variables."""
        done = subprocess.run(
            [*map(str, command)],
            cwd=self.program,
            env=self.environment(store) | (more or {}),
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
        if fine and done.returncode:
            said = " ".join(map(str, command))
            raise StopError(f"{said} on {store} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start its program on SQLite."""
        return subprocess.Popen(
            [*self.application.command(self), *map(str, arguments)],
            cwd=self.program,
            env=self.environment("sqlite"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment(self, store: str) -> dict[str, str]:
        """Of a program of the application."""
        ours = {"SHOP_STATE": str(self.folder / "state"), "SHOP_CONFIG": str(self._config)}
        return self._environment | ours | self.application.environment(store, self.dsn)

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

    def end_mirror(self, number: signal.Signals | None) -> int:
        """End it by a signal, or have it end by itself; its exit code."""
        assert self._mirror is not None
        process, self._mirror = self._mirror, None
        if number is not None:
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

    def mirror_live(self) -> tuple[dict[str, Any], dict[str, Any], list[list[str]]]:
        """Adopt it, and mirror its writes until all is in Postgres; the reports of both, and what was :meth:`made`."""
        application = self.application
        if application.by_cutover:
            self._config.parent.mkdir()
            storage = {"backend": "dual", "readFrom": "sqlite"}
            self._config.write_text(json.dumps({"sources": [str(self.source)], "storage": storage}))
        shutil.copytree(application.sources, self.program, ignore=shutil.ignore_patterns("__pycache__"))
        application.make(self)
        with psycopg.connect(self.dsn) as conn:
            conn.execute(_AUDIT.format(application.audited))
        self.call("fill")
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
        path = self.folder / f"{store}.seen"
        self.call("look", path, store=store)
        return self.application.read(path)

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
            _, errors = crossing.communicate(timeout=_LIMIT)
            last = said[-1]
            self.check(
                not crossing.returncode,
                f"a program went on writing: {_shown(str(last['wrote']))}",
                *errors.splitlines()[-9:],
            )
            self.check(
                not last["wrong"], "it never read the past, and lost no write", *map(str, last["wrong"][:_SHOWN])
            )
            print(f"     mirror cutover advance took {took:.1f} s; the program saw a pause of {last['pause']:.2f} s")
        finally:
            crossing.kill()
            crossing.wait()
        fired = self._audited()
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

    def _end_for_good(self, before: list[list[str]]) -> None:
        self._cutover("finalize")
        code = self.end_mirror(None)
        self.check(code == 0, f"the mirror has ended by itself, with {code}", *self.log_tail().splitlines()[-1:])
        self.check_made(before)

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

    def check_made(self, before: list[list[str]]) -> None:
        """What the application's migrations have made is as it was, and its foreign keys hold."""
        after = self.made()
        kinds = ("constraints", "triggers", "columns", "indexes")
        for kind, was, now in zip(kinds, before, after, strict=True):
            wrong = [f"lost: {each}" for each in was if each not in now]
            wrong += [f"left: {each}" for each in now if each not in was]
            self.check(not wrong, f"{len(was)} {kind} are as they were", *wrong)
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
        fired = self._audited()
        done = self.call("use", store="postgres", fine=False)
        steps = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for step in steps:
            self.check(not step["error"], f"in Postgres: {step['step']}", *step["error"].splitlines()[-5:])
        self.check(done.returncode == 0 and bool(steps), f"{len(steps)} steps ran", *done.stderr.splitlines()[-9:])
        fired = self._audited() - fired
        self.check(fired > 0, f"the trigger has fired {fired} times for its own writes")


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
        "--python",
        dest="tools",
        metavar="PYTHON",
        help="a Python that has the packages; default: a new environment is made",
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
        tools = Path(options.tools).absolute() if options.tools else application.install(folder)
        with _postgres(folder, application, superuser=options.superuser) as dsn:
            move = kind(application, folder, tools, dsn)
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
def _postgres(folder: Path, application: Application, *, superuser: bool) -> Iterator[str]:
    """A database, for its owner, who is no superuser, or for one who is."""
    with start_embedded(folder / "server") as server:
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute(f"CREATE ROLE {_OWNER} LOGIN")
            conn.execute(f"CREATE DATABASE {_OWNER} OWNER {_OWNER} {application.database}".encode())
        with psycopg.connect(make_conninfo(server.dsn, dbname=_OWNER), autocommit=True) as conn:
            for extension in application.extensions:
                conn.execute(f"CREATE EXTENSION {extension}")
        yield make_conninfo(server.dsn, dbname=_OWNER, **({} if superuser else {"user": _OWNER}))
