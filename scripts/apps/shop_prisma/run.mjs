// The shop at work: fill, write SEED COUNT, look FILE, use, cross.
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { adapter } from "./adapters.mjs";

const STORE = process.env.SHOP_STORE;
const POSTGRES = STORE === "postgres";
// Milliseconds that a program waits for the file's lock while it is being moved.
const PATIENCE = 200;

async function open(store, more) {
  const { PrismaClient, Prisma } = (await import(`./${store}/client/index.js`)).default;
  return [new PrismaClient({ adapter: adapter(store, more) }), Prisma];
}

// Numbers that are drawn are the same ones for one seed (mulberry32).
function drawing(seed) {
  let state = seed + 1;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (most) => Math.floor(random() * most);
  return { random, below, choice: (from) => from[below(from.length)] };
}

// ------------------------------------------------------------------------------------------------ what it writes

const DOCUMENTS = [
  {}, [], { a: 1, b: [1.5, null, true], é: "ü😀", "": '\\ " \n' }, [1, 2.0, 0.1, -0.5], "text", "2026-01-02",
  { z: 1, a: 2 }, { deep: { x: [[], {}, [[1]]] } }, true, 5, { f: 1e300 }, { big: 12345678901234 },
];

const moment = (draw) => new Date(Date.UTC(2026, 0, 1) + draw.below(300 * 86400_000));

function thing(draw, name, Prisma) {
  const document = draw.choice([...DOCUMENTS, undefined, Prisma.DbNull, Prisma.JsonNull]);
  return {
    code: `${draw.choice(["é", "x"])}${name}-${draw.below(10 ** 6)}`,
    color: draw.choice(["RED", "BLUE", "GREEN"]),
    price: (draw.below(10_000_000) / 100).toFixed(2),
    exact: draw.choice([null, "0.123456789012345", (draw.below(10 ** 9) / 1e6).toString(), "-17"]),
    made: moment(draw),
    day: draw.choice([null, new Date("2026-02-28"), new Date("0099-01-01"), new Date("1969-12-31")]),
    meta: draw.choice(DOCUMENTS),
    ...(document === undefined ? {} : { document }),
    image: draw.choice([null, new Uint8Array(), new Uint8Array([0, 255, 92])]),
    active: draw.random() < 0.8,
    big: draw.choice([0n, -1n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)]),
    small: draw.choice([null, -32768, 7]),
    ratio: draw.choice([null, 0.1, 1e300, 5e-324, 3, draw.random()]),
    note: draw.choice([null, "", "line\nline", "ü😀".repeat(50)]),
  };
}

// What is there before the mirror comes. Prisma's own engine wrote times as integers; the drivers now write texts.
async function fill() {
  const [older, Prisma] = await open("sqlite", { timestampFormat: "unixepoch-ms" });
  await older.$queryRawUnsafe("PRAGMA journal_mode = WAL");
  const draw = drawing(99);
  const top = await older.person.create({ data: { name: "top" } });
  const people = [];
  for (let n = 0; n < 6; n++) {
    const createdAt = new Date(n === 0 ? -3000 : 1767225600007 + n);
    people.push(await older.person.create({ data: { name: `p${n}`, bossId: n % 2 ? top.id : null, createdAt } }));
  }
  const labels = [];
  for (let n = 0; n < 10; n++) labels.push(await older.label.create({ data: { word: `w${n}` } }));
  for (let n = 0; n < 30; n++) await one(older, n);
  await older.$executeRawUnsafe(`INSERT INTO "Person" (name, "updatedAt") VALUES ('by hand', CURRENT_TIMESTAMP)`);
  await older.$disconnect();
  const [newer] = await open("sqlite");
  for (let n = 30; n < 70; n++) await one(newer, n);
  await newer.label.delete({ where: { word: "w9" } });
  await newer.$disconnect();

  async function one(prisma, n) {
    const connect = [draw.choice(labels), draw.choice(labels)].map(({ id }) => ({ id }));
    const data = { ...thing(draw, `f${n}`, Prisma), ownerId: draw.choice(people).id, labels: { connect } };
    await prisma.thing.create({ data });
  }
}

// Transactions as programs have them, each told on stdout when it is done.
async function write(seed, count) {
  const [prisma, Prisma] = await open("sqlite");
  const draw = drawing(seed);
  for (let number = 1; number <= count; number++) {
    const work = draw.choice(TRANSACTIONS);
    await again(() => work(prisma, draw, `${seed}-${number}-${draw.below(10 ** 6)}`, Prisma));
    console.log(number);
  }
  await prisma.$disconnect();
}

// SQLite refuses a transaction that has read before another one wrote, whatever the time to wait; and another writer may
// have taken a number or deleted an object that was drawn.
async function again(work) {
  for (let left = 50; ; left--) {
    try {
      return await work();
    } catch (error) {
      if (left === 0 || !(isBusy(error) || ["P2002", "P2003", "P2025"].includes(error.code))) throw error;
    }
  }
}

const isBusy = (error) =>
  ["P1008", "P2034", "P2028"].includes(error.code) || /locked|busy|SocketTimeout/i.test(String(error.message));

async function some(model, draw, count = 1) {
  const all = await model.findMany({ select: { id: true }, orderBy: { id: "asc" } });
  return Array.from({ length: count }, () => draw.choice(all).id);
}

// Things of a new person, who has a boss, in one nested write.
async function adds(prisma, draw, name, Prisma) {
  const [bossId] = await some(prisma.person, draw);
  const labels = await some(prisma.label, draw, 2);
  const things = Array.from({ length: 1 + draw.below(3) }, (_, n) => ({
    ...thing(draw, `${name}.${n}`, Prisma),
    labels: { connect: labels.map((id) => ({ id })) },
  }));
  await prisma.person.create({ data: { name, bossId, things: { create: things } } });
}

// All columns of one, and one column of many.
async function changes(prisma, draw, name, Prisma) {
  const [id] = await some(prisma.thing, draw);
  await prisma.$transaction([
    prisma.thing.update({ where: { id }, data: thing(draw, name, Prisma) }),
    prisma.thing.updateMany({ where: { active: false }, data: { price: { increment: "0.25" } } }),
  ]);
}

// Other labels, one of them new, and another boss.
async function links(prisma, draw, name) {
  const [id] = await some(prisma.thing, draw);
  const set = (await some(prisma.label, draw, 2)).map((label) => ({ id: label }));
  const [person, bossId] = await some(prisma.person, draw, 2);
  await prisma.$transaction([
    prisma.thing.update({ where: { id }, data: { labels: { set, create: { word: name } } } }),
    prisma.person.update({ where: { id: person }, data: { bossId } }),
  ]);
}

// Two unique values change places in one transaction.
async function swaps(prisma, draw, name) {
  const [one, two] = await prisma.person.findMany({ take: 2, skip: 1 + draw.below(3), orderBy: { id: "asc" } });
  await prisma.$transaction([
    prisma.person.update({ where: { id: one.id }, data: { name: `between ${name}` } }),
    prisma.person.update({ where: { id: two.id }, data: { name: one.name } }),
    prisma.person.update({ where: { id: one.id }, data: { name: two.name } }),
  ]);
}

// A thing, and a person with all that is theirs.
async function deletes(prisma, draw) {
  const [id] = await some(prisma.thing, draw);
  await prisma.thing.deleteMany({ where: { id } });
  if (draw.random() < 0.3 && (await prisma.person.count()) > 6) {
    const [person] = await some(prisma.person, draw);
    await prisma.person.deleteMany({ where: { id: person, NOT: { name: "top" } } });
  }
}

// Many rows at once, of times that SQLite gives itself, and by an upsert.
async function visits(prisma, draw) {
  const [personId] = await some(prisma.person, draw);
  const { _max } = await prisma.visit.aggregate({ where: { personId }, _max: { number: true } });
  const first = (_max.number ?? 0) + 1;
  const data = Array.from({ length: 20 }, (_, n) => ({ personId, number: first + n, began: moment(draw) }));
  await prisma.visit.createMany({ data });
  await prisma.$executeRawUnsafe(`INSERT OR IGNORE INTO visits ("personId", number) VALUES (${personId}, ${first + 20})`);
  const where = { personId_number: { personId, number: 1 } };
  await prisma.visit.upsert({ where, create: { personId, number: 1 }, update: { began: moment(draw) } });
}

const TRANSACTIONS = [adds, changes, links, swaps, deletes, visits];

// --------------------------------------------------------------------------------------------------- what it sees

// A value as JSON that tells its type.
function plain(value) {
  if (value === null || value === undefined) return null;
  if (typeof value === "bigint") return { bigint: value.toString() };
  if (value instanceof Date) return { date: value.toISOString() };
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString("hex") };
  if (typeof value === "object" && typeof value.toFixed === "function") return { decimal: value.toString() };
  return { value };
}

const columns = (row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, plain(value)]));

// All objects, by table and key.
async function seen(prisma) {
  const found = {};
  for (const [table, model] of [["Person", prisma.person], ["Thing", prisma.thing], ["Label", prisma.label]])
    found[table] = (await model.findMany()).map((row) => [[row.id], columns(row)]);
  found.visits = (await prisma.visit.findMany()).map((row) => [[row.personId, row.number], columns(row)]);
  const things = await prisma.thing.findMany({ select: { id: true, labels: { select: { id: true } } } });
  found._LabelToThing = things.flatMap(({ id, labels }) =>
    labels.map((label) => [[label.id, id], { A: plain(label.id), B: plain(id) }]),
  );
  return found;
}

// Questions of which both stores must have one answer.
async function answers(prisma, Prisma) {
  const path = POSTGRES ? ["a"] : "$.a";
  const listed = async (where) => (await prisma.thing.findMany({ where, select: { id: true } })).map(({ id }) => id).sort();
  const asked = {
    things: prisma.thing.count(),
    "red ones": prisma.thing.count({ where: { color: "RED" } }),
    "green ones": prisma.thing.count({ where: { color: "GREEN" } }),
    "active ones": prisma.thing.count({ where: { active: true } }),
    "with a price": prisma.thing.count({ where: { price: { gte: "50000.5" } } }),
    "with a = 1": listed({ meta: { path, equals: 1 } }),
    "large ones": listed({ big: { gt: 2n ** 53n } }),
    "with no document": listed({ document: { equals: Prisma.DbNull } }),
    "with the JSON null": listed({ document: { equals: Prisma.JsonNull } }),
    "of a text": listed({ meta: { equals: "text" } }),
    "below the top": prisma.person.count({ where: { boss: { name: "top" } } }),
    "with labels": prisma.thing.count({ where: { labels: { some: { word: { startsWith: "w" } } } } }),
    "by color": prisma.thing.groupBy({ by: ["color"], _count: true, orderBy: { color: "asc" } })
      .then((groups) => groups.map(({ color, _count }) => `${color} ${_count}`).sort()),
    "last visit": prisma.visit.aggregate({ _max: { number: true } }),
  };
  const found = {};
  for (const [question, answer] of Object.entries(asked)) found[question] = JSON.stringify(await answer);
  return found;
}

async function look(path) {
  const [prisma, Prisma] = await open(STORE);
  writeFileSync(path, JSON.stringify([await seen(prisma), await answers(prisma, Prisma)]));
  await prisma.$disconnect();
}

// -------------------------------------------------------------------------------------------------- over the move

// Write people until 60 of them are in Postgres; tell how it went. Whether programs were moved is in mirror.json.
async function cross() {
  const say = (now, more = {}) => console.log(JSON.stringify({ now, ...more }));
  const moved = () => JSON.parse(readFileSync(process.env.SHOP_CONFIG, "utf8")).storage.backend === "postgres";
  let [prisma] = await open("sqlite", { timeout: PATIENCE });
  let [store, after, refused, pause, last] = ["sqlite", 0, 0, 0, performance.now()];
  const wrong = [];
  let number = 0;
  while (after < 60) {
    number++;
    for (;;) {
      if (store === "sqlite" && moved()) {
        await prisma.$disconnect();
        [prisma] = await open("postgres");
        store = "postgres";
      }
      try {
        await prisma.person.create({ data: { name: `crossing ${number}` } });
        break;
      } catch (error) {
        if (store !== "sqlite" || !isBusy(error)) throw error;
        refused++;
      }
    }
    const now = performance.now();
    [pause, last] = [Math.max(pause, now - last), now];
    const read = await prisma.person.findUnique({ where: { name: `crossing ${number}` } });
    if (read === null) wrong.push(`${number} was not read from ${store}`);
    if (store === "postgres") after++;
    if (number === 20) say("writes");
  }
  const there = new Set((await prisma.person.findMany({ where: { name: { startsWith: "crossing " } } })).map((p) => p.name));
  for (let n = 1; n <= number; n++) if (!there.has(`crossing ${n}`)) wrong.push(`${n} is not in Postgres`);
  say("has ended", { pause: pause / 1000, wrong, wrote: { writes: number, "in Postgres": after, refused } });
  await prisma.$disconnect();
}

// ---------------------------------------------------------------------------------------- its own calls in Postgres

function holds(condition, said) {
  if (!condition) throw new Error(`it does not hold: ${said}`);
}

async function refused(code, work) {
  try {
    await work();
  } catch (error) {
    if (error.code === code) return;
    throw error;
  }
  throw new Error(`it was not refused with ${code}`);
}

const STEPS = {
  "relations in both directions": async (prisma) => {
    const top = await prisma.person.findUnique({ where: { name: "top" }, include: { staff: { include: { boss: true } } } });
    holds(top.staff.every((one) => one.boss.id === top.id), "each of the staff has that boss");
    const things = await prisma.thing.findMany({ include: { labels: { include: { things: true } }, owner: true } });
    holds(things.every((one) => one.labels.every((label) => label.things.some(({ id }) => id === one.id))), "labels");
    holds(things.every((one) => one.owner.id === one.ownerId), "owners");
  },
  "new objects get keys that are free, and all types are given back": async (prisma, Prisma) => {
    const last = async (model) => (await model.aggregate({ _max: { id: true } }))._max.id;
    const before = [await last(prisma.person), await last(prisma.label)];
    const given = thing(drawing(5), "new", Prisma);
    Object.assign(given, { meta: { a: [1, { b: null }] }, image: new Uint8Array([1, 0]), big: 2n ** 62n, color: "GREEN" });
    const data = { name: "new", things: { create: { ...given, labels: { create: { word: "new" } } } } };
    const person = await prisma.person.create({ data, include: { things: { include: { labels: true } } } });
    const [made] = person.things;
    holds(person.id > before[0] && made.labels[0].id > before[1], `${person.id}, ${made.labels[0].id} after ${before}`);
    holds(made.big === 2n ** 62n && made.price.equals(given.price) && made.color === "GREEN", "types");
    holds(JSON.stringify(made.meta) === '{"a":[1,{"b":null}]}' && Buffer.from(made.image).equals(Buffer.from([1, 0])), "JSON");
    holds(made.made.getTime() === given.made.getTime(), "times");
  },
  "times are compared in Postgres": async (prisma) => {
    const june = new Date("2026-06-01");
    const all = await prisma.thing.findMany();
    const later = await prisma.thing.count({ where: { made: { gte: june } } });
    holds(later > 0 && later === all.filter(({ made }) => made >= june).length, `${later} since June`);
    const people = await prisma.person.findMany({ where: { createdAt: { lt: new Date(0) } } });
    holds(people.every(({ createdAt }) => createdAt.getTime() === -3000), "before 1970");
  },
  "documents are searched": async (prisma) => {
    const found = await prisma.thing.findMany({ where: { meta: { path: ["deep", "x"], array_contains: [[[1]]] } } });
    holds(found.every(({ meta }) => meta.deep), "deep ones");
    holds((await prisma.$queryRaw`SELECT count(*) FROM "Thing" WHERE meta @> '{"a": 1}'`)[0].count > 0n, "by @>");
  },
  "an upsert finds what is there": async (prisma) => {
    const { id } = await prisma.label.findUnique({ where: { word: "w1" } });
    const found = await prisma.label.upsert({ where: { word: "w1" }, create: { word: "w1" }, update: { word: "w1!" } });
    holds(found.id === id && found.word === "w1!", "the same one");
  },
  "what belongs to somebody goes with them": async (prisma) => {
    const { id } = await prisma.person.findUnique({ where: { name: "new" } });
    await prisma.person.delete({ where: { id } });
    holds((await prisma.thing.count({ where: { ownerId: id } })) === 0, "no things");
    const { id: top } = await prisma.person.findUnique({ where: { name: "top" }, include: { things: true, staff: true } });
    const staff = await prisma.person.findMany({ where: { bossId: top } });
    await prisma.person.delete({ where: { id: top } });
    for (const each of staff) holds((await prisma.person.findUnique({ where: { id: each.id } })).bossId === null, "no boss");
  },
  "a second of what is unique is refused": async (prisma, Prisma) => {
    await refused("P2002", () => prisma.label.create({ data: { word: "w2" } }));
    const one = await prisma.thing.findFirst();
    const twin = { ...thing(drawing(6), "twin", Prisma), ownerId: one.ownerId, code: one.code };
    await refused("P2002", () => prisma.thing.create({ data: twin }));
  },
  "what refers to nothing is refused": async (prisma, Prisma) => {
    const data = { ...thing(drawing(7), "orphan", Prisma), id: randomUUID(), ownerId: 10 ** 9 };
    await refused("P2003", () => prisma.thing.create({ data }));
    await refused("P2003", () => prisma.visit.create({ data: { personId: 10 ** 9, number: 1 } }));
  },
  "the enum takes nothing else": async (prisma) => {
    await refused("P2010", () => prisma.$executeRaw`UPDATE "Thing" SET color = 'GREEN'`);
  },
};

async function use() {
  const [prisma, Prisma] = await open("postgres");
  for (const [step, work] of Object.entries(STEPS)) {
    let error = "";
    try {
      await work(prisma, Prisma);
    } catch (found) {
      error = `${found.name} ${found.code ?? ""}: ${found.message}`;
    }
    console.log(JSON.stringify({ step, error }));
  }
  await prisma.$disconnect();
}

const [command, ...given] = process.argv.slice(2);
await { fill, write: () => write(Number(given[0]), Number(given[1])), look: () => look(given[0]), use, cross }[command]();
