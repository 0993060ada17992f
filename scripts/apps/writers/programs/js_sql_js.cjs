// @ title = "sql.js"
// @ npm = ["sql.js@1.16.0"]
// @ [modes]
// @ "delete" = "equal"
// @ "on-wal-file" = "equal or told"
// The database is in memory; after each transaction the file is overwritten in place, as its users do.
// Word on-wal-file: another program has then put it into WAL mode.
const fs = require("node:fs");
const { execFileSync } = require("node:child_process");
const { serve, version } = require("./_lines.cjs");

const [, , path, ...words] = process.argv;
const TO_WAL = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode=WAL')";
const makesIt = !fs.existsSync(path);
require("sql.js")().then((SQL) => {
  const db = new SQL.Database(makesIt ? null : fs.readFileSync(path));
  const sqlite = db.exec("select sqlite_version()")[0].values[0][0];
  let inside = false;
  const run = (line) => {
    db.exec(line);
    if (line === "BEGIN") inside = true;
    else if (line === "COMMIT" || line === "ROLLBACK") inside = false;
    if (!inside) fs.writeFileSync(path, db.export());
  };
  serve(version("sql.js"), sqlite, run, () => {
    db.close();
    if (makesIt && words.includes("on-wal-file")) execFileSync("python3", ["-c", TO_WAL, path]);
  });
});
