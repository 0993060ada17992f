// @ title = "better-sqlite3"
// @ npm = ["better-sqlite3@12.11.1"]
// @ heavy = true
// @ [modes]
// @ "wal" = "equal"
// @ "delete" = "equal"
const Database = require("better-sqlite3");
const { serve, version } = require("./_lines.cjs");

const db = new Database(process.argv[2]);
const run = (line) => {
  const statement = db.prepare(line);
  return statement.reader ? statement.all() : statement.run();
};
serve(version("better-sqlite3"), new Database(":memory:").prepare("select sqlite_version()").pluck().get(), run, () => db.close());
