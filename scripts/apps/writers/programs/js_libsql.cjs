// @ title = "libsql (npm)"
// @ npm = ["libsql@0.5.29"]
// @ [modes]
// @ "wal" = "equal"
// @ "delete" = "equal"
const Database = require("libsql");
const { serve, version } = require("./_lines.cjs");

const db = new Database(process.argv[2]);
const run = (line) => {
  const statement = db.prepare(line);
  return statement.reader ? statement.all() : statement.run();
};
const sqlite = new Database(":memory:").prepare("select sqlite_version() as v").get().v;
serve(version("libsql"), sqlite, run, () => db.close());
