// @ title = "Deno node:sqlite"
// @ npm = ["deno@2.9.6"]
// @ heavy = true
// @ run = ["{folder}/node_modules/.bin/deno", "run", "--allow-all", "--quiet", "{program}"]
// @ [modes]
// @ "wal" = "equal"
// @ "delete" = "equal"
import { DatabaseSync } from "node:sqlite";
import { createInterface } from "node:readline";
import process from "node:process";

const db = new DatabaseSync(process.argv[2]);
console.log(`ready ${Deno.version.deno} ${db.prepare("select sqlite_version() as v").get().v}`);
for await (const line of createInterface({ input: process.stdin })) {
  try {
    db.prepare(line).all();
    console.log("ok");
  } catch (error) {
    console.log("error " + error.message.replaceAll("\n", " "));
  }
}
db.close();
