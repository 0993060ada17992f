#!/usr/bin/env bash
# libsql 0.1.11, whose SQLite is 3.45.1, and SQLite 3.54.1 (apsw 3.54.1.0), one file, x86_64.
#
# Some short decimal numbers mean another double as a literal than as a bound parameter: the library reads the literal
# one unit in the last place too high or too low, also that of a coordinate with six decimals. So a UNIQUE column takes
# the same number twice, once as a literal, once bound; the library shows both as the very same text, and finds each of
# them in one of the two ways only. Another library finds by the literal what this one finds by the parameter.
# integrity_check of either says ok. (SQLite 3.40.1 to 3.46.0 read some literals in this way as well, 3.47.0 and newer
# read 20,000 samples exactly.)
#
# Output seen:
#   libsql, of 100000 literals from 14.000000 to 14.099999: 45 are not the nearest double
#   libsql, both in the column: [('literal', '14.07721'), ('parameter', '14.07721')]
#   libsql finds by the literal: ['literal'], by the parameter: ['parameter'], integrity ok
#   3.54.1 finds by the literal: ['parameter'], by the parameter: ['parameter'], integrity ok
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check libsql==0.1.11 apsw==3.54.1.0 || exit 2

cat >"$folder/program.py" <<'EOF'
import sys

what, path = sys.argv[1:]
if what == "libsql":
    import libsql as library

    db = library.connect(path)
    name = "libsql"
else:
    import apsw as library

    db = library.Connection(path)
    name = library.sqlite_lib_version()
if what == "libsql":
    literals = [f"14.{number:06}" for number in range(100_000)]
    wrong = sum(db.execute(f"SELECT {literal}").fetchone()[0] != float(literal) for literal in literals)
    print(f"libsql, of 100000 literals from 14.000000 to 14.099999: {wrong} are not the nearest double")
    db.execute("CREATE TABLE place(longitude REAL UNIQUE, written TEXT)")
    db.execute("INSERT INTO place VALUES (14.07721, 'literal')")
    db.execute("INSERT INTO place VALUES (?, 'parameter')", (14.07721,))
    db.commit()
((integrity,),) = db.execute("PRAGMA integrity_check").fetchall()
if what == "libsql":
    both = db.execute("SELECT written, CAST(longitude AS TEXT) FROM place ORDER BY written").fetchall()
    print(f"libsql, both in the column: {both}")
query = "SELECT written FROM place WHERE longitude = "
literal = [written for (written,) in db.execute(f"{query}14.07721").fetchall()]
parameter = [written for (written,) in db.execute(f"{query}?", (14.07721,)).fetchall()]
print(f"{name} finds by the literal: {literal}, by the parameter: {parameter}, integrity {integrity}")
db.close()
EOF

{
    "$folder/venv/bin/python" "$folder/program.py" libsql "$folder/places.db"
    "$folder/venv/bin/python" "$folder/program.py" apsw "$folder/places.db"
} | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
libsql, of 100000 literals from 14.000000 to 14.099999: 45 are not the nearest double
libsql, both in the column: [('literal', '14.07721'), ('parameter', '14.07721')]
libsql finds by the literal: ['literal'], by the parameter: ['parameter'], integrity ok
3.54.1 finds by the literal: ['parameter'], by the parameter: ['parameter'], integrity ok
EOF
