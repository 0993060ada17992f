#!/usr/bin/env bash
# SQLite 3.54.1 (apsw 3.54.1.0) and Turso (pyturso 0.8.3), one after the other, one file.
#
# A program was killed in the middle of a transaction in rollback mode: its journal is there, and any SQLite that opens
# the file next takes the half transaction back. Turso's documentation says that it supports SQLite's file format and
# has no rollback journals; not, that it opens such a file all the same. It sets it to WAL mode (bytes 18 and 19) and
# reads the half transaction as if it had been committed; its integrity_check says ok. The journal stays where it is.
# So the next SQLite takes back the pages that it holds, and with them what Turso has committed to them in the meantime.
#
# Output seen:
#   SQLite before:       100 accounts, 100000 in all, account 1 has 1000, header [1, 1]
#   killed in a transaction that takes 100 from each account, journal there: True
#   Turso:               100 accounts, 91000 in all, account 1 has 900, header [2, 2]
#   Turso, 5000 added:   100 accounts, 96000 in all, account 1 has 5900, header [2, 2]
#   Turso's integrity: ok, journal there: True
#   SQLite after:        100 accounts, 100000 in all, account 1 has 1000, header [2, 2]
#   SQLite's integrity: ok, journal there: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0 pyturso==0.8.3 || exit 2

cat >"$folder/program.py" <<'EOF'
import os
import pathlib
import signal
import sys

what, path = sys.argv[1:]
TOTALS = "SELECT count(*), sum(cents), min(cents) FILTER (WHERE id = 1) FROM account"
if what.startswith("Turso"):
    import turso as library

    db = library.connect(path)
else:
    import apsw as library

    db = library.Connection(path)
if what.startswith("SQLite before"):
    db.execute("CREATE TABLE account(id INTEGER PRIMARY KEY, cents INTEGER, note TEXT)")
    with db:
        db.executemany("INSERT INTO account VALUES (?, 1000, ?)", [(key, "-" * 400) for key in range(1, 101)])
if what == "killed":
    db.pragma("cache_size", 5)  # pages go to the file before the commit, as in any large transaction
    db.execute("BEGIN; UPDATE account SET cents = cents - 100")
    os.kill(os.getpid(), signal.SIGKILL)
if what.startswith("Turso, 5000 added"):
    db.execute("UPDATE account SET cents = cents + 5000 WHERE id = 1")
    db.commit()
if what.endswith("integrity:"):
    ((answer,),) = db.execute("PRAGMA integrity_check").fetchall()
    print(f"{what} {answer}, journal there: {pathlib.Path(f'{path}-journal').exists()}")
else:
    ((count, cents, one),) = db.execute(TOTALS).fetchall()
    header = list(pathlib.Path(path).read_bytes()[18:20])
    print(f"{what:20} {count} accounts, {cents} in all, account 1 has {one}, header {header}")
db.close()
EOF

run() { "$folder/venv/bin/python" "$folder/program.py" "$1" "$folder/bank.db"; }
{
    run "SQLite before:"
    run killed 2>"$folder/killed" || true
    [ -s "$folder/bank.db-journal" ] && there=True || there=False
    echo "killed in a transaction that takes 100 from each account, journal there: $there"
    run "Turso:"
    run "Turso, 5000 added:"
    run "Turso's integrity:"
    run "SQLite after:"
    run "SQLite's integrity:"
} | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
SQLite before:       100 accounts, 100000 in all, account 1 has 1000, header [1, 1]
killed in a transaction that takes 100 from each account, journal there: True
Turso:               100 accounts, 91000 in all, account 1 has 900, header [2, 2]
Turso, 5000 added:   100 accounts, 96000 in all, account 1 has 5900, header [2, 2]
Turso's integrity: ok, journal there: True
SQLite after:        100 accounts, 100000 in all, account 1 has 1000, header [2, 2]
SQLite's integrity: ok, journal there: False
EOF
