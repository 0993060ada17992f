#!/usr/bin/env bash
# SQLite 3.54.1 (apsw 3.54.1.0), Python 3.11.
#
# A text with NUL characters is valid in SQLite, and Postgres takes none. The statement that comes to mind to take them
# out, `UPDATE t SET v = replace(v, char(0), '')`, reports that it has changed the row, and leaves every NUL where it was:
# a pattern that begins with NUL counts as an empty one, for which replace() returns the text as it is. trim() does the
# same. A pattern in which the NUL comes later is found and replaced. instr() sees the NUL, but substr() sees nothing
# behind it: an expression of the two loses the rest of the text instead.
#
# Output seen:
#   before: 61006200
#   replace(v, char(0), ''): 1 row changed, 61006200
#   trim(v, char(0)): 1 row changed, 61006200
#   replace(v, 'a' || char(0), ''): 1 row changed, 6200
#   substr(v, 1, instr(v, char(0)) - 1) || substr(v, instr(v, char(0)) + 1): 1 row changed, 61
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0 || exit 2

cat >"$folder/program.py" <<'EOF'
import apsw

expressions = [
    "replace(v, char(0), '')",
    "trim(v, char(0))",
    "replace(v, 'a' || char(0), '')",
    "substr(v, 1, instr(v, char(0)) - 1) || substr(v, instr(v, char(0)) + 1)",
]
for number, expression in enumerate(expressions):
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE t (v TEXT)")
    db.execute("INSERT INTO t VALUES (?)", ("a\0b\0",))
    if not number:
        print("before:", *db.execute("SELECT hex(v) FROM t").fetchone())
    db.execute(f"UPDATE t SET v = {expression}")
    print(f"{expression}: {db.changes()} row changed,", *db.execute("SELECT hex(v) FROM t").fetchone())
EOF
"$folder/venv/bin/python" "$folder/program.py" | tee "$folder/seen"

cmp --silent "$folder/seen" <(sed -n 's/^#   //p' "$0") || { echo "This is not what was seen before." >&2; exit 1; }
