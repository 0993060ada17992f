#!/usr/bin/env bash
# SQLite 3.40.1 and 3.54.1 (apsw 3.40.1.0 and 3.54.1.0), two processes, one file, x86_64; needs Python 3.11.
#
# round() of 2.675 is 2.68 in the older library and 2.67 in the newer one. SQLite documents that an index on an
# expression can become stale in this way, and 3.53 and newer put up with it: they delete such a row all the same,
# REINDEX EXPRESSIONS rebuilds the index, integrity_check tells of it. None of this holds for the WHERE of a partial
# index. The newer library thinks that the row was never in the index and leaves its entry there when it deletes the
# row. From then on the row is counted and listed where the index alone answers, its name stays taken, a query that also
# wants a column of the table says that the file is malformed, and integrity_check says ok all the while. A REINDEX of
# everything helps.
#
# Output seen:
#   3.40.1 inserts lamp for 2.675 and desk for 80, integrity ok
#   3.54.1 integrity before: ok
#   3.54.1 deletes lamp, in the table: ['desk']
#   3.54.1 where round(price, 2) >= 2.68: 2 rows, ['desk', 'lamp']
#   3.54.1 with the price as well: CorruptError
#   3.54.1 inserts another lamp for 90: ConstraintError
#   3.54.1 integrity after: ok
#   3.54.1 after REINDEX EXPRESSIONS: 2 rows, after REINDEX: 1 row
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/older" && python3 -m venv "$folder/newer" &&
    "$folder/older/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: apsw==3.40.1.0 &&
    "$folder/newer/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0 || exit 2

cat >"$folder/older.py" <<'EOF'
import sys
import apsw

db = apsw.Connection(sys.argv[1])
cursor = db.cursor()
cursor.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, price REAL)")
cursor.execute("CREATE UNIQUE INDEX dear ON item(name) WHERE round(price, 2) >= 2.68")
cursor.execute("INSERT INTO item(name, price) VALUES ('lamp', 2.675), ('desk', 80)")
((integrity,),) = cursor.execute("PRAGMA integrity_check").fetchall()
print(f"{apsw.sqlitelibversion()} inserts lamp for 2.675 and desk for 80, integrity {integrity}")
EOF
cat >"$folder/newer.py" <<'EOF'
import sys
import apsw

db = apsw.Connection(sys.argv[1])
DEAR = "FROM item WHERE round(price, 2) >= 2.68"
me = apsw.sqlite_lib_version()


def outcome(statement: str) -> str:
    try:
        return str(db.execute(statement).fetchall())
    except apsw.Error as error:
        return type(error).__name__


print(f"{me} integrity before: {db.pragma('integrity_check')}")
db.execute("DELETE FROM item WHERE name = 'lamp'")
print(f"{me} deletes lamp, in the table: {[name for (name,) in db.execute('SELECT name FROM item')]}")
listed = sorted(name for (name,) in db.execute(f"SELECT name {DEAR}"))
print(f"{me} where round(price, 2) >= 2.68: {db.execute(f'SELECT count(*) {DEAR}').get} rows, {listed}")
print(f"{me} with the price as well: {outcome(f'SELECT name, price {DEAR} ORDER BY name')}")
print(f"{me} inserts another lamp for 90:", outcome("INSERT INTO item(name, price) VALUES ('lamp', 90)"))
print(f"{me} integrity after: {db.pragma('integrity_check')}")
counts = []
for statement in ("REINDEX EXPRESSIONS", "REINDEX"):
    db.execute(statement)
    counts.append(db.execute(f"SELECT count(*) {DEAR}").get)
print(f"{me} after REINDEX EXPRESSIONS: {counts[0]} rows, after REINDEX: {counts[1]} row")
EOF

{
    "$folder/older/bin/python" "$folder/older.py" "$folder/shop.db"
    "$folder/newer/bin/python" "$folder/newer.py" "$folder/shop.db"
} | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
3.40.1 inserts lamp for 2.675 and desk for 80, integrity ok
3.54.1 integrity before: ok
3.54.1 deletes lamp, in the table: ['desk']
3.54.1 where round(price, 2) >= 2.68: 2 rows, ['desk', 'lamp']
3.54.1 with the price as well: CorruptError
3.54.1 inserts another lamp for 90: ConstraintError
3.54.1 integrity after: ok
3.54.1 after REINDEX EXPRESSIONS: 2 rows, after REINDEX: 1 row
EOF
