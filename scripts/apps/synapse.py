"""matrix-synapse, the real server, moved live from SQLite to the tables that its own migrations make in Postgres.

People are registered, make rooms, send, edit and redact messages, and what else a chat has, by the client API, while
the mirror copies and follows. It is moved with ``mirror cutover advance`` while one person sends on: what they sent is
there once, in its order. Then Synapse runs on Postgres, and shows the same; and new people, rooms and messages get
numbers that nobody has had, from sequences that no column has.

    python scripts/apps/synapse.py
"""

from __future__ import annotations

import json
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from typing import Any, ClassVar

import psycopg
from application import Application
from command import main, parser
from looks import Look
from moving import Move
from places import APPS
from programs import StopError
from psycopg.conninfo import conninfo_to_dict

_SEARCH = APPS / "synapse_search.sql"
_NAME = "chat.test"
#: Seconds that Synapse may take to start, and to do what it has to after its migrations.
_LIMIT = 300
_PAUSE = 0.05
_UPDATES = "SELECT count(*) FROM background_updates"
#: Of what is searched: the tables of Postgres that the mirror leaves alone.
_SEARCHED = ("event_search", "user_directory_search")
_MANY = {"per_second": 10**6, "burst_count": 10**6}


class Chat(Application):
    """See the module."""

    name = "matrix-synapse"
    packages = ("matrix-synapse==1.163.2", "psycopg2-binary==2.9.13")
    sources = APPS / "chat_synapse"
    adopt = ("--after-copy", str(_SEARCH))
    audited = "profiles"
    database = "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    transactions = 60

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is reached, on SQLite and on Postgres."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, store: str, dsn: str) -> dict[str, str]:
        """Its clients are told where the server is, and nothing of what is behind it."""
        return {"CHAT_URL": self.url, "CHAT_STORE": store, **self.more}

    def make(self, move: Move) -> None:
        """Have it make its tables on both sides, by starting there, and do all that it has to do after that."""
        self._configure(move)
        for store in ("postgres", "sqlite"):
            self.start(move, store)
            until = time.monotonic() + _LIMIT
            while self._left_to_do(move, store):
                if time.monotonic() > until:
                    raise StopError(
                        f"Synapse has not done all after its migrations on {store}:\n{self.said(move, store)}"
                    )
                time.sleep(_PAUSE)
            if store == "postgres":
                self.stop()
        move.check(True, "its own migrations have made the tables on both sides")

    def _left_to_do(self, move: Move, store: str) -> bool:
        if store == "postgres":
            with psycopg.connect(move.dsn) as conn:
                return conn.execute(_UPDATES).fetchone() != (0,)
        # By a process of its own: this one must not open the file.
        code = f"import sqlite3; print(sqlite3.connect({str(move.source)!r}).execute({_UPDATES!r}).fetchone()[0])"
        return move.run("-c", code).stdout.strip() != "0"

    def _configure(self, move: Move) -> None:
        """JSON is YAML, too."""
        place = move.program
        # A key of Ed25519 is any 32 bytes; they are written in base64 without its filling.
        code = "import base64, os; print('ed25519 a_1', base64.b64encode(os.urandom(32)).decode().rstrip('='))"
        (place / "signing.key").write_text(move.run("-c", code).stdout)
        common: dict[str, Any] = {
            "server_name": _NAME,
            "report_stats": False,
            "signing_key_path": str(place / "signing.key"),
            "media_store_path": str(place / "media"),
            "macaroon_secret_key": secrets.token_hex(),
            "form_secret": secrets.token_hex(),
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "allow_guest_access": True,
            "room_list_publication_rules": [{"action": "allow"}],
            # It talks to no other server.
            "federation_domain_whitelist": [],
            "trusted_key_servers": [],
            "suppress_key_server_warning": True,
            "background_updates": {"sleep_enabled": False},
            "caches": {"sync_response_cache_duration": "0s"},  # what is read again is not what was read before
            "listeners": [
                {
                    "port": self.port,
                    "type": "http",
                    "bind_addresses": ["127.0.0.1"],
                    "resources": [{"names": ["client"]}],
                }
            ],
        }
        common |= dict.fromkeys(("rc_message", "rc_registration", "rc_joins_per_room", "rc_room_creation"), _MANY)
        common |= {
            "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), _MANY),
            "rc_joins": dict.fromkeys(("local", "remote"), _MANY),
            "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), _MANY),
            "rc_user_directory": _MANY,
        }
        postgres = {**conninfo_to_dict(move.dsn), "cp_min": 1, "cp_max": 5}
        databases = {
            "sqlite": {"name": "sqlite3", "args": {"database": str(move.source)}},
            "postgres": {"name": "psycopg2", "args": postgres},
        }
        for store, database in databases.items():
            log = {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
                "handlers": {
                    "file": {"class": "logging.FileHandler", "filename": f"{store}.log", "formatter": "plain"}
                },
                "root": {"level": "WARNING", "handlers": ["file"]},
            }
            (place / f"{store}-log.json").write_text(json.dumps(log))
            own = {"database": database, "log_config": f"{store}-log.json"}
            (place / f"{store}.json").write_text(json.dumps(common | own))

    def start(self, move: Move, store: str) -> None:
        """Start Synapse, and wait until it answers. Raises :class:`StopError`."""
        with (move.program / "synapse.out").open("ab") as out:
            self.server = subprocess.Popen(
                [str(move.tools), "-m", "synapse.app.homeserver", "-c", f"{store}.json"],
                cwd=move.program,
                env=move.environment(store),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        until = time.monotonic() + _LIMIT
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/_matrix/client/versions", timeout=_LIMIT).close()
                return
            except OSError:
                if self.server.poll() is not None or time.monotonic() > until:
                    raise StopError(f"Synapse has not started on {store}:\n{self.said(move, store)}") from None
            time.sleep(_PAUSE)

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.server is not None:
            server, self.server = self.server, None
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(_LIMIT)
            finally:
                server.kill()
                server.wait()

    def said(self, move: Move, store: str) -> str:
        """The last that it has said on a store."""
        found = [move.program / f"{store}.log", move.program / "synapse.out"]
        return "\n".join(line for path in found if path.exists() for line in path.read_text().splitlines()[-30:])


class ChatMove(Move):
    """One that ends with ``mirror cutover``."""

    application: Chat
    #: What a person acknowledges; on a busy machine, that the mirror was behind while it copied.
    acknowledged: ClassVar = ("--acknowledge", "backups", "--acknowledge", "lag")

    def go(self) -> None:
        """All of it. Raises :class:`StopError`."""
        chat = self.application
        report, parity, before = self.mirror_live()
        copied = re.findall(r"copied into Postgres: .*", self.log())
        self.check(bool(copied), f"the first copy: {', '.join(copied)}; {parity['rows']:,} rows compared")
        in_sqlite = self.look("sqlite")
        self.check_trigger()
        self.advance()
        self.compare_looks(in_sqlite, self.look("postgres"), report, parity)
        self.use()
        self.check_search()
        self.there_and_back(report, parity)
        done = self.mirror("cutover", "finalize", self.source)
        self.check(
            done.returncode == 0, "mirror cutover finalize", *done.stderr.splitlines(), *done.stdout.splitlines()
        )
        self.check_made(before)
        chat.stop()
        chat.start(self, "postgres")
        self.check(True, "Synapse starts on Postgres once more")
        log = (self.program / "postgres.log").read_text().splitlines()
        errors = [line for line in log if " ERROR " in line or " CRITICAL " in line]
        self.check(not errors, f"{len(errors)} errors in Synapse's log on Postgres", *errors)

    def there_and_back(self, report: dict[str, Any], parity: dict[str, Any]) -> None:
        """Back to the file, which has all that was written in Postgres; it is written there; and forward again."""
        chat = self.application
        in_postgres = self.look("postgres")
        chat.stop()
        for phase in (2, 1):
            done = self.mirror("cutover", "rollback", self.source)
            self.check(done.returncode == 0, f"mirror cutover rollback to phase {phase}", *done.stderr.splitlines())
        chat.start(self, "sqlite")
        self.compare_looks(_without_search(in_postgres), _without_search(self.look("sqlite")), report, parity)
        self.run("run.py", "write", 7, 10)
        in_sqlite = self.look("sqlite")
        waited = self.mirror("wait", self.source, "--timeout", _LIMIT)
        self.check(waited.returncode == 0, "mirror wait", *waited.stderr.splitlines())
        chat.stop()
        done = self.mirror("cutover", "advance", self.source, *self.acknowledged, "--fence", "abort")
        self.check(done.returncode == 0, "mirror cutover advance, once more", *done.stderr.splitlines())
        chat.start(self, "postgres")
        self.compare_looks(_without_search(in_sqlite), _without_search(self.look("postgres")), report, parity)
        self.run("run.py", "write", 8, 10, store="postgres")

    def check_search(self) -> None:
        """Made anew, the rows that Synapse has written in Postgres are as it wrote them."""
        with psycopg.connect(self.dsn) as conn:
            for table in _SEARCHED:
                query = f"SELECT t::text FROM {table} t ORDER BY 1".encode()
                was = {row for (row,) in conn.execute(query).fetchall()}
                conn.execute(_SEARCH.read_bytes())
                now = {row for (row,) in conn.execute(query).fetchall()}
                wrong = [f"Synapse: {row}" for row in sorted(was - now)] + [f"made: {row}" for row in sorted(now - was)]
                self.check(was == now, f"{table}: {len(was)} rows as Synapse writes them", *wrong[:6])

    def advance(self) -> None:
        """The move: a person sends on meanwhile."""
        chat, until = self.application, self.program / "moved"
        waiter = subprocess.Popen(
            [str(self.tools), "run.py", "wait", "1", str(until)],
            cwd=self.program,
            env=self.environment("sqlite"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert waiter.stdout is not None
            said = [waiter.stdout.readline() for _ in range(20)]
            planned = self.mirror("cutover", "plan", self.source, *self.acknowledged, "--json")
            (plan,) = json.loads(planned.stdout)["sources"]
            names = [rail["name"] for rail in plan["rails"]]
            self.check(
                planned.returncode in (0, 1) and "free sequences" not in names,
                f"mirror cutover plan: {sum(name.startswith('sequence ') for name in names)} sequences are known",
                *(f"{rail['name']}: {rail['detail']}" for rail in plan["rails"] if rail["level"] == "problem"),
            )
            begun = time.monotonic()
            # Synapse tries again and again to write to the file: nothing that it says it has done may be lost.
            done = self.mirror("cutover", "advance", self.source, *self.acknowledged, "--fence", "abort")
            took = time.monotonic() - begun
            if done.returncode:
                raise StopError(f"mirror cutover advance ended with {done.returncode}:\n{done.stdout}{done.stderr}")
            self.check(True, f"mirror cutover advance: {took:.1f} s", *done.stdout.splitlines())
            begun = time.monotonic()
            chat.stop()
            chat.start(self, "postgres")
            self.check(True, f"Synapse was stopped, and runs on Postgres {time.monotonic() - begun:.1f} s later")
            said.append(waiter.stdout.readline())
            until.touch()
            rest, errors = waiter.communicate(timeout=_LIMIT)
            if waiter.returncode:
                raise StopError(f"the one who sent meanwhile ended with {waiter.returncode}:\n{errors}")
            found = json.loads(rest.splitlines()[-1])
        finally:
            waiter.kill()
            waiter.wait()
        self.check(
            found["in_order"] and found["each_synced"] and not found["doubled"] and not found["lost"],
            f"{found['sent']} messages were sent meanwhile: each is there once, in order, and came with a sync;"
            f" the longest pause was {found['pause']:.1f} s, {found['tries']} tries failed",
            json.dumps(found),
        )

    def close(self) -> None:
        """End what still runs."""
        super().close()
        self.application.stop()


def _without_search(look: Look) -> Look:
    """The way back leaves the file's full-text tables alone: Synapse's programs fill them, and no trigger does."""
    seen, answers = look
    return seen, {question: each for question, each in answers.items() if not question.startswith("search for")}


if __name__ == "__main__":
    given = parser(__doc__, transactions=Chat.transactions).parse_args()
    sys.exit(main(Chat(), given, ChatMove))
