// @ title = "node-sqlite3-wasm"
// @ npm = ["node-sqlite3-wasm@0.8.60"]
// @ [modes]
// @ "delete" = "equal"
// @ "wal" = "equal"
// @ "exclusive wal" = "told or equal"
// @ "exclusive wal later" = "told or equal"
const { Database } = require("node-sqlite3-wasm");
const { serve, version } = require("./_lines.cjs");

const db = new Database(process.argv[2]);
const sqlite = new Database(":memory:").get("select sqlite_version() as v").v;
serve(version("node-sqlite3-wasm"), sqlite, (line) => db.all(line), () => db.close());
