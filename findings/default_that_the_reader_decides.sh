#!/usr/bin/env bash
# SQLite 3.45.3 and 3.54.1 (apsw 3.45.3.0 and 3.54.1.0), two processes, one file.
#
# A column without a type gets the default 2.0 by ALTER TABLE ADD COLUMN. The rows of before are not written, so each
# library makes their value of the default when it reads them: 3.45.3 the integer 2, 3.54.1 (as all from 3.46 on) the
# real 2.0. So 5 / parts is 2 for one program and 2.5 for another, of the same row of the same file; and within 3.45.3
# it is 2 for a row of before and 2.5 for one that was inserted afterwards, by the same default. A row that any of them
# updates keeps for good what that one saw. integrity_check says ok in both. (A column of the type REAL or NUMERIC has
# the same value everywhere.)
#
# Output seen:
#   3.45.3 makes it: before 2 (integer), 5 / parts = 2; after 2.0 (real), 5 / parts = 2.5; integrity ok
#   3.54.1 reads it: before 2.0 (real), 5 / parts = 2.5; after 2.0 (real), 5 / parts = 2.5; integrity ok
#   3.45.3 renames a row: renamed 2 (integer), 5 / parts = 2; after 2.0 (real), 5 / parts = 2.5; integrity ok
#   3.54.1 reads it: renamed 2 (integer), 5 / parts = 2; after 2.0 (real), 5 / parts = 2.5; integrity ok
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/older" && python3 -m venv "$folder/newer" &&
    "$folder/older/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: apsw==3.45.3.0 &&
    "$folder/newer/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0 || exit 2

cat >"$folder/program.py" <<'EOF'
import sys
import apsw

file, what, *statements = sys.argv[1:]
db = apsw.Connection(file)
for statement in statements:
    db.execute(statement)
rows = "; ".join(
    f"{name} {parts} ({kind}), 5 / parts = {share}"
    for name, parts, kind, share in db.execute("SELECT name, parts, typeof(parts), 5 / parts FROM item")
)
[(integrity,)] = db.execute("PRAGMA integrity_check")
version = getattr(apsw, "sqlite_lib_version", None) or apsw.sqlitelibversion
print(f"{version()} {what}: {rows}; integrity {integrity}")
EOF

older() { "$folder/older/bin/python" "$folder/program.py" "$folder/shop.db" "$@"; }
newer() { "$folder/newer/bin/python" "$folder/program.py" "$folder/shop.db" "$@"; }
{
    older "makes it" "CREATE TABLE item(name TEXT)" "INSERT INTO item VALUES ('before')" \
        "ALTER TABLE item ADD COLUMN parts DEFAULT 2.0" "INSERT INTO item(name) VALUES ('after')"
    newer "reads it"
    older "renames a row" "UPDATE item SET name = 'renamed' WHERE name = 'before'"
    newer "reads it"
} | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
3.45.3 makes it: before 2 (integer), 5 / parts = 2; after 2.0 (real), 5 / parts = 2.5; integrity ok
3.54.1 reads it: before 2.0 (real), 5 / parts = 2.5; after 2.0 (real), 5 / parts = 2.5; integrity ok
3.45.3 renames a row: renamed 2 (integer), 5 / parts = 2; after 2.0 (real), 5 / parts = 2.5; integrity ok
3.54.1 reads it: renamed 2 (integer), 5 / parts = 2; after 2.0 (real), 5 / parts = 2.5; integrity ok
EOF
