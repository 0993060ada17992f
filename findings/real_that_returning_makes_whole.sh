#!/usr/bin/env bash
# SQLite 3.54.1 (apsw 3.54.1.0).
#
# SQLite keeps a whole number in a REAL column as an integer, and makes a real of it again when it is read. RETURNING
# leaves that out where the column stands in coalesce(), CASE, iif() or max(): they give the integer 3 for a price of
# 3.0, while RETURNING of the column alone gives 3.0, and SELECT of the same expression gives 3.0, too. typeof() of the
# column says real in either case. So the same statement brings an integer or a real, depending on the value: a driver,
# or a program that takes the type of a column from what comes back, meets another type for each price that is whole.
#
# Output seen:
#   3.0: RETURNING gives (3.0, 3, 3, 'real'), SELECT (3.0, 3.0, 3.0, 'real')
#   3.5: RETURNING gives (3.5, 3.5, 3.5, 'real'), SELECT (3.5, 3.5, 3.5, 'real')
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0 || exit 2

cat >"$folder/program.py" <<'EOF'
import apsw

SHOWN = "price, coalesce(price, 0.0), CASE WHEN price > 0 THEN price END, typeof(price)"
for price in (3.0, 3.5):
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, price REAL)")
    [returned] = db.execute(f"INSERT INTO item(price) VALUES (?) RETURNING {SHOWN}", (price,))
    [selected] = db.execute(f"SELECT {SHOWN} FROM item")
    print(f"{price}: RETURNING gives {returned}, SELECT {selected}")
EOF

"$folder/venv/bin/python" "$folder/program.py" | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
3.0: RETURNING gives (3.0, 3, 3, 'real'), SELECT (3.0, 3.0, 3.0, 'real')
3.5: RETURNING gives (3.5, 3.5, 3.5, 'real'), SELECT (3.5, 3.5, 3.5, 'real')
EOF
