#!/usr/bin/env bash
# DuckDB 1.5.5 with its sqlite_scanner 1.5.5, and SQLite 3.54.1 (apsw 3.54.1.0).
#
# DuckDB runs one and the same CREATE TABLE in a database of its own and in a SQLite file that it has attached. The
# file gets the default of a BOOLEAN as CAST('t' AS BOOLEAN). That is true in DuckDB, but it is SQLite that evaluates
# it, and there it is 0: DEFAULT true is false, for rows of DuckDB as for those of other programs. A DECIMAL becomes a
# VARCHAR (that DATE does is known, duckdb-sqlite issue 166); a CHECK on it is kept and compares text from then on, so
# that 9.50 is not below 1000. INTEGER PRIMARY KEY becomes BIGINT PRIMARY KEY, for SQLite a column that may be NULL.
#
# Output seen:
#   DuckDB's own:  active True, price 9.50 accepted, no id refused
#   a SQLite file: active 0, price 9.50 refused, no id accepted
#   SQLite: CREATE TABLE item(id BIGINT PRIMARY KEY, active BIGINT DEFAULT(CAST('t' AS BOOLEAN)),
#           price VARCHAR, CHECK((price < 1000)))
#   SQLite: [(1, 0, None), (None, 0, None), (3, 0, None)]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.5 \
        duckdb-extensions==1.5.5 duckdb-extension-sqlite-scanner==1.5.5 apsw==3.54.1.0 || exit 2

cat >"$folder/duck.py" <<'EOF'
import sys
import duckdb
from duckdb_extensions import import_extension

import_extension("sqlite_scanner")
duck = duckdb.connect()
duck.execute("LOAD sqlite_scanner")
duck.execute(f"ATTACH '{sys.argv[1]}' AS file (TYPE sqlite)")


def outcome(statement: str) -> str:
    try:
        duck.execute(statement)
    except duckdb.Error:
        return "refused"
    return "accepted"


for where, name in (("memory", "DuckDB's own: "), ("file", "a SQLite file:")):
    duck.execute(
        f"CREATE TABLE {where}.item(id INTEGER PRIMARY KEY, active BOOLEAN DEFAULT true,"
        " price DECIMAL(10, 2) CHECK (price < 1000))"
    )
    duck.execute(f"INSERT INTO {where}.item(id) VALUES (1)")
    (active,) = duck.execute(f"SELECT active FROM {where}.item").fetchone()
    priced = outcome(f"INSERT INTO {where}.item(id, price) VALUES (2, 9.50)")
    without = outcome(f"INSERT INTO {where}.item(price) VALUES (NULL)")
    print(f"{name} active {active}, price 9.50 {priced}, no id {without}")
EOF
cat >"$folder/sqlite.py" <<'EOF'
import sys
import apsw

db = apsw.Connection(sys.argv[1])
sql = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'item'").get
print("SQLite:", sql.replace(" price", "\n        price"))
db.execute("INSERT INTO item(id) VALUES (3)")
print("SQLite:", db.execute("SELECT id, active, price FROM item").fetchall())
EOF

{
    "$folder/venv/bin/python" "$folder/duck.py" "$folder/shop.db"
    "$folder/venv/bin/python" "$folder/sqlite.py" "$folder/shop.db"
} | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
DuckDB's own:  active True, price 9.50 accepted, no id refused
a SQLite file: active 0, price 9.50 refused, no id accepted
SQLite: CREATE TABLE item(id BIGINT PRIMARY KEY, active BIGINT DEFAULT(CAST('t' AS BOOLEAN)),
        price VARCHAR, CHECK((price < 1000)))
SQLite: [(1, 0, None), (None, 0, None), (3, 0, None)]
EOF
