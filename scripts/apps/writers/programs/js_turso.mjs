// @ title = "@tursodatabase/database"
// @ npm = ["@tursodatabase/database@0.7.2"]
// @ [modes]
// @ "wal" = "equal or told"
// @ "wal later" = "equal or told"
import { createRequire } from "node:module";
import { connect } from "@tursodatabase/database";

const { serve, version } = createRequire(import.meta.url)("./_lines.cjs");
const db = await connect(process.argv[2]);
const sqlite = (await (await (await connect(":memory:")).prepare("select sqlite_version() as v")).get()).v;
const run = async (line) => (await db.prepare(line)).all();
await serve(version("@tursodatabase/database"), sqlite, run, () => db.close());
