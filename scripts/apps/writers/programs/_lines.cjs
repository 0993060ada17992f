// What the JavaScript writers share: run each line of standard input, one after the other.
const readline = require("node:readline");

exports.serve = async function (library, sqlite, run, close) {
  console.log(`ready ${library} ${sqlite}`);
  for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    try {
      await run(line);
      console.log("ok");
    } catch (error) {
      console.log("error " + String(error.message ?? error).replaceAll("\n", " "));
    }
  }
  await close();
};

exports.version = (name) => {
  const path = require("node:path");
  const text = require("node:fs").readFileSync(path.join(__dirname, "node_modules", name, "package.json"));
  return JSON.parse(text).version;
};
