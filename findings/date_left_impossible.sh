#!/usr/bin/env bash
# SQLite 3.54.1 (apsw 3.54.1.0).
#
# date() corrects a day that its month does not have: 30 February is 2 March. With a modifier that has nothing to do,
# the day comes out as it went in: 'auto' (the value is no number), 'subsec' (date() shows no seconds), 'start of day'
# (it is that). '+0 days' corrects it again. What is computed from the two texts, julianday() and unixepoch(), is the
# same all the while, so a column that date(x, 'auto') filled does not join, group or sort with one that date(x) did,
# and Postgres refuses it as a date.
#
# Output seen:
#   date(d)                 2026-03-02
#   date(d, 'auto')         2026-02-30
#   date(d, 'subsec')       2026-02-30
#   date(d, 'start of day') 2026-02-30
#   date(d, '+0 days')      2026-03-02
#   seconds between date(d) and date(d, 'auto'): 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0 || exit 2

cat >"$folder/program.py" <<'EOF'
import apsw

db = apsw.Connection(":memory:")
for call in ("date(d)", "date(d, 'auto')", "date(d, 'subsec')", "date(d, 'start of day')", "date(d, '+0 days')"):
    value = db.execute(f"SELECT {call} FROM (SELECT '2026-02-30' AS d)").get
    print(f"{call:23} {value}")
apart = db.execute("SELECT unixepoch(date(d)) - unixepoch(date(d, 'auto')) FROM (SELECT '2026-02-30' AS d)").get
print(f"seconds between date(d) and date(d, 'auto'): {apart}")
EOF

"$folder/venv/bin/python" "$folder/program.py" | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
date(d)                 2026-03-02
date(d, 'auto')         2026-02-30
date(d, 'subsec')       2026-02-30
date(d, 'start of day') 2026-02-30
date(d, '+0 days')      2026-03-02
seconds between date(d) and date(d, 'auto'): 0
EOF
