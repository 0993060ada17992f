// @ title = "bun:sqlite"
// @ npm = ["bun@1.4.4"]
// @ heavy = true
// @ run = ["{folder}/node_modules/bun/bin/bun.exe", "{program}"]
// @ [modes]
// @ "wal" = "equal"
// @ "persist" = "equal"
const { Database } = require("bun:sqlite");
const { serve } = require("./_lines.cjs");

const db = new Database(process.argv[2]);
const sqlite = new Database(":memory:").query("select sqlite_version() as v").get().v;
serve(Bun.version, sqlite, (line) => db.prepare(line).all(), () => db.close());
