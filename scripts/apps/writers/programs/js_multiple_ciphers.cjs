// @ title = "better-sqlite3-multiple-ciphers"
// @ npm = ["better-sqlite3-multiple-ciphers@12.11.1"]
// @ heavy = true
// @ [modes]
// @ "wal" = "equal"
// @ "key wal" = "refused"
const Database = require("better-sqlite3-multiple-ciphers");
const { serve, version } = require("./_lines.cjs");

const db = new Database(process.argv[2]);
const run = (line) => {
  if (line.startsWith("PRAGMA key")) return db.pragma(line.slice("PRAGMA ".length));
  const statement = db.prepare(line);
  return statement.reader ? statement.all() : statement.run();
};
const sqlite = new Database(":memory:").prepare("select sqlite_version()").pluck().get();
serve(version("better-sqlite3-multiple-ciphers"), sqlite, run, () => db.close());
