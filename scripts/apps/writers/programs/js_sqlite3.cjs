// @ title = "sqlite3 (npm)"
// @ npm = ["sqlite3@6.0.1"]
// @ heavy = true
// @ [modes]
// @ "wal" = "equal"
// @ "delete" = "equal"
const sqlite3 = require("sqlite3");
const { promisify } = require("node:util");
const { serve, version } = require("./_lines.cjs");

const db = new sqlite3.Database(process.argv[2]);
const run = promisify(db.all.bind(db));
new sqlite3.Database(":memory:").get("select sqlite_version() as v", (_, row) =>
  serve(version("sqlite3"), row.v, run, promisify(db.close.bind(db))));
