#!/usr/bin/env bash
# SQLite 3.54.1 (apsw 3.54.1.0) and 3.53.4 (node-sqlite3-wasm 0.8.60, Node.js), two processes, one file, rollback mode.
#
# The WebAssembly build locks with a directory, FILE.lock, the native library with ranges of bytes of the file. Neither
# looks at the other's. SQLite warns of such pairs in general; the package's README does not say how it locks, and all
# settings are as they come. So a native program writes and commits within an immediate transaction of the WebAssembly
# one, without waiting and without an error, and after it the journal of that transaction is gone. Then the transaction
# commits as well, and the row that was committed in between is lost. The file is sound for either of them.
#
# Output seen:
#   wasm: BEGIN IMMEDIATE, inserts 'wasm', its journal is there: true
#   native: inserts 'native', commits and sees ['native']
#   wasm: its journal is there: false, commits and sees ['wasm']
#   native: sees ['wasm'], integrity ok
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv" &&
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check apsw==3.54.1.0 &&
    npm install --silent --no-audit --no-fund --prefix "$folder" node-sqlite3-wasm@0.8.60 || exit 2

cat >"$folder/native.py" <<'EOF'
import sys
import apsw

what, path = sys.argv[1:]
db = apsw.Connection(path)
done = ""
if what == "insert":
    db.execute("INSERT INTO writer VALUES ('native')")
    done = "inserts 'native', commits and "
names = [name for (name,) in db.execute("SELECT name FROM writer")]
integrity = "" if done else f", integrity {db.pragma('integrity_check')}"
print(f"native: {done}sees {names}{integrity}")
EOF
cat >"$folder/wasm.js" <<'EOF'
const { Database } = require("node-sqlite3-wasm");
const { existsSync } = require("fs");
const { spawnSync } = require("child_process");

const path = process.argv[2];
const journal = () => `its journal is there: ${existsSync(path + "-journal")}`;
const db = new Database(path);
db.run("CREATE TABLE writer(name TEXT)");
db.run("BEGIN IMMEDIATE");
db.run("INSERT INTO writer VALUES ('wasm')");
console.log(`wasm: BEGIN IMMEDIATE, inserts 'wasm', ${journal()}`);
spawnSync(`${__dirname}/venv/bin/python`, [`${__dirname}/native.py`, "insert", path], { stdio: "inherit" });
const before = journal();
db.run("COMMIT");
const names = db.all("SELECT name FROM writer").map((row) => row.name);
console.log(`wasm: ${before}, commits and sees ['${names.join("', '")}']`);
db.close();
EOF

{
    node "$folder/wasm.js" "$folder/shared.db"
    "$folder/venv/bin/python" "$folder/native.py" look "$folder/shared.db"
} | tee "$folder/seen"

cmp --silent "$folder/seen" - <<'EOF' || { echo "This is not what was seen before." >&2; exit 1; }
wasm: BEGIN IMMEDIATE, inserts 'wasm', its journal is there: true
native: inserts 'native', commits and sees ['native']
wasm: its journal is there: false, commits and sees ['wasm']
native: sees ['wasm'], integrity ok
EOF
