// @ title = "@libsql/client"
// @ npm = ["@libsql/client@0.18.0"]
// @ [modes]
// @ "wal" = "equal"
// @ "delete" = "equal"
// Transactions are objects of this client, so BEGIN, COMMIT and ROLLBACK become its calls.
const { serve, version } = require("./_lines.cjs");

(async () => {
  const { createClient } = await import("@libsql/client");
  const client = createClient({ url: "file:" + process.argv[2] });
  const memory = createClient({ url: "file::memory:" });
  const sqlite = (await memory.execute("select sqlite_version() as v")).rows[0].v;
  let transaction = null;
  const run = async (line) => {
    if (line === "BEGIN") transaction = await client.transaction("write");
    else if (transaction && (line === "COMMIT" || line === "ROLLBACK")) {
      const ended = transaction;
      transaction = null;
      await (line === "COMMIT" ? ended.commit() : ended.rollback());
    } else await (transaction ?? client).execute(line);
  };
  await serve(version("@libsql/client"), sqlite, run, () => client.close());
})();
