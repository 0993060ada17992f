#!/usr/bin/env bash
# SQLite 3.50.4 and 3.54.1 (apsw 3.50.4.0 and 3.54.1.0), two processes, one file.
#
# A column of type TEXT turns a number into text when it is stored, and a number that it is compared with as well. The
# older library writes 15 digits, the newer one as many as the number has. So two programs that run the very same
# statement with the very same number store different keys: a UNIQUE column takes both, and each program finds only its
# own row. The file is sound for either of them.
#
# Output seen:
#   3.50.4 inserts 0.1+0.2 and finds ['3.50.4']
#   3.54.1 inserts 0.1+0.2 and finds ['3.54.1']
#   3.50.4 looks for 0.1+0.2 and finds ['3.50.4']
#   in the file: [('0.3', '3.50.4'), ('0.30000000000000004', '3.54.1')], integrity ok
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/older" && python3 -m venv "$folder/newer" &&
    "$folder/older/bin/pip" install --quiet --disable-pip-version-check apsw==3.50.4.0 &&
    "$folder/newer/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0 || exit 2

cat >"$folder/program.py" <<'EOF'
import sys
import apsw

what, path = sys.argv[1:]
version = apsw.sqlite_lib_version()
db = apsw.Connection(path)
db.execute("CREATE TABLE IF NOT EXISTS sample(label TEXT NOT NULL UNIQUE, writer TEXT)")
if what == "inserts":
    db.execute("INSERT INTO sample VALUES (?, ?)", (0.1 + 0.2, version))
found = [writer for (writer,) in db.execute("SELECT writer FROM sample WHERE label = ?", (0.1 + 0.2,))]
print(f"{version} {what} 0.1+0.2 and finds {found}")
if what == "looks for":
    rows = db.execute("SELECT * FROM sample ORDER BY label").fetchall()
    print(f"in the file: {rows}, integrity {db.execute('PRAGMA integrity_check').get}")
EOF

{
    "$folder/older/bin/python" "$folder/program.py" inserts "$folder/sample.db"
    "$folder/newer/bin/python" "$folder/program.py" inserts "$folder/sample.db"
    "$folder/older/bin/python" "$folder/program.py" "looks for" "$folder/sample.db"
} | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
3.50.4 inserts 0.1+0.2 and finds ['3.50.4']
3.54.1 inserts 0.1+0.2 and finds ['3.54.1']
3.50.4 looks for 0.1+0.2 and finds ['3.50.4']
in the file: [('0.3', '3.50.4'), ('0.30000000000000004', '3.54.1')], integrity ok
EOF
