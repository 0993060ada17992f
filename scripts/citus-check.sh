#!/usr/bin/env bash
# Proves on a Citus cluster that a mirror keeps distributed tables equal: see --help.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'END'
usage: scripts/citus-check.sh DSN

Mirrors the memory stores of two agents, which it makes, into a Citus cluster, and distributes their tables with
sql/citus/distribute.sql. DSN: a database on the coordinator, as a user that may create a schema and act as argent_app,
and is a superuser or owns the extension vector, because Citus asks for that. It works in a schema of its own, which it
drops again, with what the schema mirror has about it. Each step is one line; it ends at the first that does not hold
(exit code 1), and takes some minutes.

  --rows N    rows of the large transactions; 60000
  --keep      leave the schema and the stores as they are at the end
  --help

PYTHON names the Python that has the mirror (python3), PSQL the psql (psql).
END
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    if [[ -n ${2-} ]]; then
        printf '%s\n' "$2" >&2
    fi
    exit 1
}

dsn="" rows=60000 keep=0
while (($#)); do
    case $1 in
        --rows)
            rows=${2-}
            [[ $rows =~ ^[1-9][0-9]*$ ]] || fail "--rows: not a number"
            shift
            ;;
        --keep) keep=1 ;;
        --help | -h) usage && exit ;;
        -*) fail "unknown option: $1" "  next: ${0##*/} --help" ;;
        *)
            [[ -z $dsn ]] || fail "there is one DSN"
            dsn=$1
            ;;
    esac
    shift
done
[[ -n $dsn ]] || fail "the DSN of the coordinator is missing" "  next: ${0##*/} --help"

python=${PYTHON:-python3}
place=$(mktemp -d "${TMPDIR:-/tmp}/citus-check.XXXXXX")
place=$(cd "$place" && pwd -P)
schema=citus_check_$$
# Whoever lists the processes shall see no password. Tests' settings of a mirror are none of its business.
export ARGENT_PG_URL=$dsn MIRROR_CONFIG=$place/mirror.json
unset MIRROR_STATE_DIR PG_URL
printf '{"changes": {"log": 100000}}\n' >"$MIRROR_CONFIG"

# sql STATEMENTS: as the tables' owner; prints rows without a frame. They are read from a pipe, and run in autocommit.
sql() {
    printf 'SET search_path = %s;\n%s;\n' "$schema" "$1" |
        PGOPTIONS='-c client_min_messages=warning' "${PSQL:-psql}" "$dsn" -XqAt -v ON_ERROR_STOP=1
}

# as_agent NAME QUERY: as a program of that agent.
as_agent() {
    sql "SET ROLE argent_app; SET citus.propagate_set_commands = 'local'; BEGIN; SET LOCAL app.agent_id = '$1'; $2; COMMIT"
}

# write AGENT SQL: into the agent's store, in one transaction.
write() {
    "$python" - "$place/$1.db" "$2" <<'END'
import sqlite3
import sys

store = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
store.execute("PRAGMA foreign_keys = ON")
store.executescript(f"BEGIN IMMEDIATE; {sys.argv[2]}; COMMIT")
END
}

mirror() {
    "$python" -m mirror "$@"
}

# start AGENT: a mirror of its store, in the background.
pids=()
started=""
start() {
    # Not through the function: what is started, and ended, is the mirror itself and no shell around it.
    "$python" -m mirror up "$place/$1.db" --agent "$1" --schema "$schema" --state-dir "$place/state-$1" \
        >>"$place/$1.log" 2>&1 &
    pids+=($!)
    started=$!
}

# loaded AGENT PID: returns when its new mirror has loaded the store.
loaded() {
    until mirror wait "$place/$1.db" --schema "$schema" --state-dir "$place/state-$1" >"$place/wait.log" 2>&1; do
        kill -0 "$2" 2>/dev/null || fail "the mirror of $1 has ended" "$(tail -n 20 "$place/$1.log")"
        sleep 0.2
    done
}

stop() {
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# applied AGENT: returns when Postgres has all that is committed.
applied() {
    mirror wait "$place/$1.db" --schema "$schema" --state-dir "$place/state-$1" --timeout 300 >"$place/wait.log" 2>&1 ||
        fail "the mirror of $1 does not get there" "$(cat "$place/wait.log" "$place/$1.log")"
}

# is_equal AGENT: compares every value.
is_equal() {
    mirror parity "$place/$1.db" --schema "$schema" --state-dir "$place/state-$1" >"$place/parity.log" 2>&1 ||
        fail "parity of $1 is not equal" "$(cat "$place/parity.log" "$place/$1.log")"
    expect "rows and tables that are refused" "$(sql "
        SELECT (SELECT count(*) FROM mirror.rejects WHERE source_id = s.source_id)
               + (SELECT count(*) FROM mirror.refusals WHERE source_id = s.source_id)
          FROM mirror.sources s WHERE path = '$place/$1.db' AND schema_name = '$schema'")" 0
}

# expect WHAT FOUND WANTED
expect() {
    [[ $2 == "$3" ]] || fail "$1: found '$2', not '$3'" "$(cat "$place"/a*.log "$place"/b*.log)"
}

end() {
    local code=$?
    trap - EXIT
    local pid
    for pid in "${pids[@]-}"; do
        [[ -z $pid ]] || stop "$pid"
    done
    if ((keep)); then
        say "kept: the schema $schema, and $place"
        exit "$code"
    fi
    sql "
        DROP SCHEMA IF EXISTS $schema CASCADE;
        DO \$\$ BEGIN
            IF to_regclass('mirror.sources') IS NOT NULL THEN
                DELETE FROM mirror.changes c USING mirror.sources s
                      WHERE s.source_id = c.source_id AND s.schema_name = '$schema';
                DELETE FROM mirror.sources WHERE schema_name = '$schema';
                DELETE FROM mirror.profile_migrations WHERE schema_name = '$schema';
                DELETE FROM mirror.vector_dimensions WHERE schema_name = '$schema';
            END IF;
        END \$\$" >"$place/end.log" 2>&1 || say "the schema $schema could not be dropped: $(tail -n 1 "$place/end.log")" >&2
    rm -rf "$place"
    exit "$code"
}
trap end EXIT
trap 'exit 130' INT TERM

# ---------------------------------------------------------------------------------------------- load

mirror --help >/dev/null 2>&1 || fail "$python has no mirror" "  next: PYTHON=.venv/bin/python $0 ..."
nodes=$("${PSQL:-psql}" "$dsn" -XqAt -v ON_ERROR_STOP=1 -c \
    "CREATE EXTENSION IF NOT EXISTS citus" -c "SELECT count(*) FROM citus_get_active_worker_nodes()" 2>"$place/sql.log" |
    tail -n 1) || fail "the coordinator cannot be used" "$(cat "$place/sql.log")"
say "ok  $(sql "SELECT substring(citus_version() FROM '^\S+ \S+')") with $nodes worker nodes"

for agent in ada bob; do
    "$python" - "$place/$agent.db" <<'END'
import sqlite3
import sys
from importlib import resources

store = sqlite3.connect(sys.argv[1])
store.execute("PRAGMA journal_mode = WAL")
store.executescript(resources.files("mirror.cli.demo").joinpath("memory_store.sql").read_text())
store.execute("INSERT INTO memu_meta VALUES ('schema_version', '11')")
store.commit()
END
    write "$agent" "
        INSERT INTO memory_categories(id, name) VALUES ('work', 'work'), ('home', 'home');
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700)
        INSERT INTO memory_items(id, memory_type, summary, embedding, extra)
             SELECT 'item-' || i, 'fact', '$agent has seen tea number ' || i, x'0000803f0000004000004040',
                    CASE WHEN i <= 3 THEN '{\"visibility\": \"family\"}' ELSE '{}' END FROM n;
        INSERT INTO category_items SELECT id, 'work' FROM memory_items"
done

start ada
ada=$started
loaded ada "$ada"
is_equal ada
say "ok  load: a store is in plain tables, equal"

# ---------------------------------------------------------------------------------------------- distribute

for time in once twice; do
    sql "\\i $here/../sql/citus/distribute.sql" >"$place/distribute.log" 2>&1 ||
        fail "distribute.sql does not run $time" "$(tail -n 5 "$place/distribute.log")"
done
expect "distributed tables" "$(sql "
    SELECT count(*) FROM pg_dist_partition JOIN pg_class c ON c.oid = logicalrelid
     WHERE c.relnamespace = '$schema'::regnamespace AND partmethod = 'h'")" 24
expect "rows left behind on the coordinator" "$(sql "
    SELECT count(*) FROM pg_dist_partition JOIN pg_class c ON c.oid = logicalrelid
     WHERE c.relnamespace = '$schema'::regnamespace AND pg_relation_size(c.oid) > 0")" 0
is_equal ada
say "ok  distribute: 24 tables by agent, while a mirror runs; twice; equal"

# ---------------------------------------------------------------------------------------------- follow

write ada "UPDATE memory_items SET summary = 'green tea' WHERE id = 'item-7'; DELETE FROM memory_items WHERE id = 'item-8'"
applied ada
expect "a small commit" "$(sql "
    SELECT string_agg(summary, ',') FROM memory_items WHERE agent_id = 'ada' AND id IN ('item-7', 'item-8')")" "green tea"
is_equal ada
say "ok  follow: small commits, equal"

write ada "
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $rows)
    INSERT INTO memory_items(id, memory_type, summary, extra)
         SELECT 'many-' || i, 'event', 'many cups, number ' || i, '{\"n\": ' || i || '}' FROM n;
    INSERT INTO category_items SELECT id, 'home' FROM memory_items WHERE memory_type = 'event'"
applied ada
expect "many inserts" "$(sql "SELECT count(*) FROM memory_items WHERE agent_id = 'ada' AND memory_type = 'event'")" "$rows"
is_equal ada
write ada "
    UPDATE memory_items SET summary = summary || ', again', reinforcement_count = 2 WHERE memory_type = 'event';
    UPDATE category_items SET category_id = 'work' WHERE category_id = 'home'"
applied ada
expect "many updates" "$(sql "
    SELECT count(*) FROM memory_items JOIN category_items c USING (agent_id)
     WHERE agent_id = 'ada' AND id = c.item_id AND category_id = 'work' AND summary LIKE '%again'")" "$rows"
is_equal ada
write ada "
    UPDATE memory_items SET summary = 'left' WHERE id = 'many-1';
    DELETE FROM memory_items WHERE memory_type = 'event' AND summary <> 'left'"
applied ada
expect "many deletes" "$(sql "SELECT count(*) FROM memory_items WHERE agent_id = 'ada' AND memory_type = 'event'")" 1
is_equal ada
say "ok  large batches: $rows rows inserted, updated with their keys, deleted; equal"

write ada "ALTER TABLE memory_items ADD COLUMN note INTEGER; UPDATE memory_items SET note = 7 WHERE id LIKE 'item-1%'"
applied ada
write ada "UPDATE memory_items SET note = 'seven' WHERE id = 'item-1'"
applied ada
expect "a column that takes another type" "$(sql "
    SELECT note::text FROM memory_items WHERE agent_id = 'ada' AND id IN ('item-1', 'item-10') ORDER BY 1")" '"seven"
7'
is_equal ada
say "ok  columns: one is added, and takes another type; equal"

# ---------------------------------------------------------------------------------------------- two agents

start bob
loaded bob "$started"
write bob "UPDATE memory_items SET summary = 'black tea', embedding = x'00004040000000400000803f' WHERE id = 'item-7'"
write ada "UPDATE memory_items SET summary = 'white tea' WHERE id = 'item-7'"
applied ada
applied bob
expect "two agents" "$(sql "
    SELECT string_agg(summary, ',' ORDER BY agent_id) FROM memory_items WHERE id = 'item-7'")" "white tea,black tea"
is_equal ada
is_equal bob
say "ok  two agents: a second store is loaded beside the first and followed, equal"

# ---------------------------------------------------------------------------------------------- a lost state directory

stop "$ada"
rm -rf "$place/state-ada"
write ada "
    DELETE FROM memory_items WHERE id BETWEEN 'item-2' AND 'item-3';
    UPDATE memory_items SET summary = 'other' WHERE id BETWEEN 'item-4' AND 'item-5';
    INSERT INTO memory_items(id, memory_type, summary) VALUES ('late', 'fact', 'late')"
start ada
ada=$started
loaded ada "$ada"
is_equal ada
is_equal bob
say "ok  a lost state directory: the store is compared with the distributed tables, equal"

sql "UPDATE memory_items SET summary = 'by hand' WHERE agent_id = 'ada' AND id LIKE 'item-6%';
     DELETE FROM category_items WHERE agent_id = 'ada' AND item_id LIKE 'item-5%'"
if mirror parity "$place/ada.db" --schema "$schema" --state-dir "$place/state-ada" >"$place/parity.log" 2>&1; then
    fail "parity does not see what was changed by hand" "$(tail -n 20 "$place/parity.log")"
fi
mirror parity "$place/ada.db" --schema "$schema" --state-dir "$place/state-ada" --repair >"$place/parity.log" 2>&1 ||
    fail "a repair does not make it equal" "$(cat "$place/parity.log" "$place/ada.log")"
is_equal ada
is_equal bob
say "ok  repair: rows that were changed by hand are repaired, equal"

# ---------------------------------------------------------------------------------------------- row security

expect "an agent sees its rows" "$(as_agent ada "SELECT count(*) FROM memory_items WHERE agent_id = 'ada'")" \
    "$(sql "SELECT count(*) FROM memory_items WHERE agent_id = 'ada'")"
expect "and what others share" "$(as_agent ada "SELECT count(*) FROM memory_items WHERE agent_id = 'bob'")" 3
expect "and nothing else of theirs" "$(as_agent ada "SELECT count(*) FROM category_items WHERE agent_id = 'bob'")" 0
expect "an unknown agent sees nothing" "$(as_agent nobody "SELECT count(*) FROM memory_items")" 0
expect "no agent sees nothing" "$(sql "SET ROLE argent_app; SELECT count(*) FROM memory_items")" 0
if as_agent ada "INSERT INTO memory_categories (agent_id, id, name) VALUES ('bob', 'x', 'x')" >"$place/sql.log" 2>&1; then
    fail "an agent can write rows of another"
fi
grep -q 'row-level security' "$place/sql.log" || fail "it was refused for another reason" "$(cat "$place/sql.log")"
expect "an agent cannot change rows of another" "$(as_agent ada "
    WITH u AS (UPDATE memory_items SET summary = 'mine' WHERE agent_id = 'bob' RETURNING 1) SELECT count(*) FROM u")" 0
expect "search by words" "$(as_agent bob "SELECT id FROM search_memories('black', p_limit => 5)")" item-7
expect "search by words and nearness" "$(as_agent bob "SELECT id FROM search_memories('black', '[3,2,1]', 1, 'own')")" item-7
say "ok  row security and search, on the nodes"

# ---------------------------------------------------------------------------------------------- change feed

expect "stores of which the last change that is logged is the one that was applied last" "$(sql "
    SELECT count(*) FROM mirror.sources s
     WHERE s.schema_name = '$schema'
       AND (s.generation, s.frame) = (SELECT c.generation, c.frame FROM mirror.changes c
                                       WHERE c.source_id = s.source_id ORDER BY 1 DESC, 2 DESC LIMIT 1)")" 2
say "ok  the log of changes, in the same transactions"
say "all of it holds"
