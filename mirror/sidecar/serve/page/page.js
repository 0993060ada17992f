"use strict";
// Reads status.json every second while the page is seen, and history.json for the sources that are open; shows them. All
// text is put in as text. Few sources are cards, many are lines that can be opened, filtered and ordered.

const EVERY = 1000, SECONDS = 300;
// The next reading is not before so many times what the last one took: hundreds of sources are not read all the time.
const OFTEN = 10;
// Sources that are cards at most, and those of which the history is read at most.
const FEW = 4, MOST_OPEN = 12;
const SVG = "http://www.w3.org/2000/svg";
const AT_WORK = new Set(["following", "carrying back"]), ON_ITS_WAY = new Set(["starting", "snapshot", "catching up", "re-diff", "paused"]);
const STATES = ["bad", "care", "good"];
// What the words of the page mean: beside each for those who point at it, and all of them at the foot.
const WORDS = {
  "lag": "for how long what was committed to SQLite is not in Postgres yet",
  "last commit": "when a program last committed to SQLite",
  "commits": "commits of programs to SQLite that are in Postgres, since the mirror started",
  "rows": "rows written to Postgres since the mirror started",
  "tables": "tables of the file that are in Postgres",
  "compared": "the last comparison of every value of every row, and what it found: mirror parity",
  "reads": "reads of programs on storage adapters that Postgres has answered",
  "rejects": "rows that Postgres cannot hold; they are kept whole in mirror.rejects: mirror rejects list",
  "tx/s": "transactions of the mirror in Postgres, each second",
  "gaps": "times that the log did not lead on from where the mirror was; the whole file was compared then, and nothing is missing",
  "copies": "times that the whole file was copied again, with the reason",
  "captured": "the newest commit that was read, as generation:frame of SQLite's write-ahead log",
  "applied": "the newest commit that is in Postgres, as generation:frame",
  "capture": "how commits are noticed: by the write-ahead log, or by comparing the pages of the file",
  "profile": "how the tables are stored: those of a known program, or of any",
  "refused": "tables that Postgres does not take, with the reason",
  "widened": "columns that became jsonb because of a value that their type does not hold",
  "left out": "what is not mirrored",
  "carried back": "rows of Postgres that were written to the file, after a move",
  "strays": "rows that programs have written to the file although it was moved",
};
// The last comparison, in the words that mirror parity says.
const PROOFS = {
  "verified": "equal", "verified except rejects": "equal except rejects", "stale": "more than a day old", "never": "never compared",
};
const cards = new Map();  // by source: its element, what it was last time, and whether somebody has opened or closed it
const byId = (id) => document.getElementById(id);

const number = (value) => value.toLocaleString("en");
const since = (seconds) => {
  if (seconds === null || seconds === undefined) return "-";
  // The spaces keep a figure and its unit on one line.
  if (seconds < 1) return `${Math.round(seconds * 1000)}\u00a0ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)}\u00a0s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)}\u00a0min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)}\u00a0h`;
  return `${Math.round(seconds / 86400)}\u00a0days`;
};

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// A command, each of its words in an element of its own: a line is broken between them, not after a hyphen.
function command(text) {
  const made = element("code");
  text.split(" ").forEach((word, at) => made.append(...(at ? [" "] : []), element("span", word)));
  return made;
}

// Text with commands in backticks, as next steps have them; or it is a command.
function withCommands(text) {
  const made = document.createDocumentFragment();
  if (text.startsWith("mirror ") && !text.includes("`")) text = `\`${text}\``;
  text.split("`").forEach((part, at) => made.append(at % 2 ? command(part) : part));
  return made;
}

function state(source) {
  if (source.reverse && source.reverse.ended) return "good";
  if (source.error || source.phase === "failed" || source.phase === "waiting") return "bad";
  if (source.rejects || source.refusals.length || source.parity.proof === "different") return "care";
  return AT_WORK.has(source.phase) ? "good" : ON_ITS_WAY.has(source.phase) ? "care" : "bad";
}

function progress(source) {
  const found = source.progress;
  if (!found) return "";
  const total = found.total ? ` of ${number(found.total)}` : "";
  return `${found.what}: ${number(found.done)}${total} ${found.unit}`;
}

function parity(source) {
  const { proof, age_seconds: age } = source.parity;
  return proof === "never" ? PROOFS.never : `${PROOFS[proof] || proof}, ${since(age)} ago`;
}

function pairs(list, values) {
  list.replaceChildren(...values.filter(([, value]) => value !== "" && value !== null && value !== undefined).map(([name, value]) => {
    const one = element("div");
    const term = element("dt"), word = element("span", name);
    if (WORDS[name]) word.title = WORDS[name];
    term.append(word);
    one.append(term, element("dd", value));
    return one;
  }));
}

// One value a second, the newest at the right; a second in which nothing came is `empty`, null: a gap in the line.
function plot(figure, seconds, now, pick, empty, shown) {
  const values = Array(SECONDS).fill(empty);
  for (const second of seconds) {
    const at = SECONDS - 1 - (now - second[0]);
    if (at >= 0 && at < SECONDS) values[at] = pick(second);
  }
  const most = Math.max(...values.filter((value) => value !== null), 0);
  let path = "", pen = "M";
  values.forEach((value, at) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${at} ${most ? (100 - 96 * value / most).toFixed(1) : 100}`;
    if (pen === "M") path += "h.9";
    pen = "L";
  });
  let chart = figure.querySelector(".chart");
  if (!chart) {
    chart = element("div", undefined, "chart");
    const drawing = document.createElementNS(SVG, "svg");
    for (const [key, value] of [["viewBox", `0 0 ${SECONDS} 101`], ["preserveAspectRatio", "none"], ["role", "img"]]) drawing.setAttribute(key, value);
    drawing.append(document.createElementNS(SVG, "path"));
    const ends = [["most"], ["least", shown(0)], ["from", `${SECONDS / 60}\u00a0min ago`], ["to", "now"]];
    chart.append(drawing, ...ends.map(([kind, text]) => element("span", text, kind)));
    figure.append(chart, element("p", "none in the last five minutes"));
  }
  // Nothing is told by an empty chart.
  chart.hidden = !most;
  figure.querySelector("p").hidden = most > 0;
  chart.querySelector("path").setAttribute("d", path);
  chart.querySelector("svg").setAttribute("aria-label", `in the last five minutes at most ${shown(most)}`);
  put(chart.querySelector(".most"), shown(most));
}

// Changes a text only where it is another: hundreds of lines are looked at every second.
function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// A short name for each path: of the file, with as many of its folders as make it differ from the others.
function namesApart(paths) {
  const names = new Map();
  let rest = paths.map((path) => [path, path.split("/")]);
  for (let parts = 1; rest.length; parts += 1) {
    const ends = new Map(rest.map(([path, words]) => [path, words.slice(-parts).join("/")])), count = new Map();
    for (const end of ends.values()) count.set(end, (count.get(end) || 0) + 1);
    rest = rest.filter(([path, words]) => {
      if (count.get(ends.get(path)) > 1 && parts < words.length) return true;
      names.set(path, ends.get(path));
      return false;
    });
  }
  return names;
}

function made(source) {
  const element = byId("source").content.firstElementChild.cloneNode(true);
  const card = { element, parts: {}, before: null, rate: null, touched: false };
  for (const name of ["name", "phase", "lag", "rate", "parity", "rejects"]) card.parts[name] = element.querySelector(`.${name}`);
  element.querySelector("summary").addEventListener("click", () => { card.touched = true; });
  element.addEventListener("toggle", () => { if (element.open) details(card, null, 0); });
  element.dataset.source = source.source;
  cards.set(source.source, card);
  return card;
}

// A line of the source; what is below it only while it is open.
function show(source, name, many, at) {
  const card = cards.get(source.source) || made(source), before = card.before;
  // A mirror that was started anew counts from 0.
  if (before && at > before.at) card.rate = Math.max(0, source.transactions - before.transactions) / (at - before.at);
  card.before = { at, transactions: source.transactions };
  card.source = source;
  card.state = state(source);
  put(card.parts.name, name);
  card.parts.name.title = source.source;
  put(card.parts.phase, source.phase);
  if (card.parts.phase.className !== `phase ${card.state}`) card.parts.phase.className = `phase ${card.state}`;
  if (many) {
    put(card.parts.lag, since(source.lag_seconds));
    put(card.parts.rate, card.rate === null ? "-" : number(Math.round(card.rate)));
    put(card.parts.parity, parity(source));
    put(card.parts.rejects, source.rejects ? number(source.rejects) : "");
  }
  if (!card.touched && card.element.open === many) card.element.open = !many;
  return card;
}

function reads(source) {
  const total = source.reads.reduce((sum, one) => sum + one.count, 0);
  if (!total) return "";
  const postgres = source.reads.reduce((sum, one) => sum + (one.store === "postgres" ? one.count : 0), 0);
  return `${Math.floor(100 * postgres / total)}\u00a0% Postgres`;
}

function details(card, seconds, now) {
  const source = card.source, one = (selector) => card.element.querySelector(selector);
  put(one(".path"), `${source.source} → ${source.schema}` + (source.agent ? `, ${source.agent}` : ""));
  put(one(".said"), source.last_error || (source.reverse && source.reverse.ended) || progress(source) || "");
  one(".said").className = source.last_error ? "said bad" : "said";
  pairs(one(".figures"), [
    ["lag", since(source.lag_seconds)],
    ["last commit", source.freshness_seconds === null ? "-" : `${since(source.freshness_seconds)} ago`],
    ["commits", number(source.commits)],
    ["rows", number(source.rows)],
    ["tables", number(source.tables)],
    ["compared", parity(source)],
    ["reads", reads(source)],
    ["rejects", source.rejects ? number(source.rejects) : ""],
    ["carried back", source.reverse ? `${number(source.reverse.rows)} rows` : ""],
    ["strays", source.reverse && source.reverse.strays ? number(source.reverse.strays) : ""],
  ]);
  if (seconds) {
    plot(one(".lags"), seconds, now, (second) => second[1], null, since);
    plot(one(".rates"), seconds, now, (second) => second[2], 0, (value) => `${number(value)}/s`);
  }
  one(".steps").hidden = !source.next_steps.length;
  one(".steps ol").replaceChildren(...source.next_steps.map((step) => {
    const line = element("li");
    line.append(withCommands(step));
    return line;
  }));
  pairs(one(".more"), [
    ["capture", source.capture],
    ["profile", source.profile],
    ["captured", source.captured],
    ["applied", source.applied],
    ["gaps", source.gaps.length ? `${source.gaps.length}, all healed` : ""],
    ["copies", source.resyncs.join("; ")],
    ["refused", source.refusals.map((one) => `${one.table}: ${one.reason}`).join("; ")],
    ["widened", source.widened.join(", ")],
    ["left out", [...source.left_out, ...(source.virtual || [])].join(", ")],
    ["programs with hooks", source.hook.writers.join(", ")],
    ["reads of programs", source.reads.map((one) => `${one.store}, ${one.reason}: ${number(one.count)}`).join("; ")],
    ["reads on both stores", source.shadow_reads.map((one) =>
      `${one.result}${one.reason && ", "}${one.reason}: ${number(one.count)}`).join("; ")],
    ["vector index", source.index_error || source.indexing],
  ]);
}

function bytes(value) {
  return value < 1e9 ? `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)}\u00a0MB` : `${(value / 1e9).toFixed(1)}\u00a0GB`;
}

// What is around the mirrors: a line each.
function around(redis, alerts) {
  const lines = [];
  if (redis && redis.error) lines.push([`${redis.place} does not answer: ${redis.error}`, "bad"]);
  else if (redis && redis.ping_seconds !== null) {
    const parts = [`${redis.place} answers in ${(redis.ping_seconds * 1000).toFixed(1)}\u00a0ms`];
    if (redis.used_bytes !== null) parts.push(bytes(redis.used_bytes) + (redis.max_bytes ? ` of ${bytes(redis.max_bytes)}` : ""));
    if (redis.policy) parts.push(redis.policy);
    if (redis.append_only !== null) parts.push(redis.append_only ? "append-only" : "not append-only");
    if (redis.agents !== null) parts.push(`${number(redis.agents)} agents online`);
    if (redis.write_error) parts.push(`it cannot write ${redis.write_error}`);
    lines.push([parts.join(", "), redis.write_error ? "bad" : ""]);
  }
  if (redis && redis.next_step) lines.push([`next: ${redis.next_step}`, "care"]);
  if (alerts && alerts.error) lines.push([`alerts cannot be delivered to ${alerts.place}: ${alerts.error}`, "bad"]);
  else if (alerts) lines.push([`alerts go to ${alerts.place}`, ""]);
  byId("around").replaceChildren(...lines.map(([text, kind]) => element("li", text, kind)));
}

const ORDERS = {
  state: (one) => STATES.indexOf(one.state),
  lag: (one) => -(one.source.lag_seconds === null ? Infinity : one.source.lag_seconds),
  rate: (one) => -(one.rate || 0),
  name: () => 0,
};

// Puts those that are wanted in order; elements are moved only where it has changed.
function arrange() {
  const wanted = byId("wanted").value.toLowerCase(), key = ORDERS[byId("order").value], list = byId("sources");
  const all = [...cards.values()].map((card) => [key(card), card]);
  all.sort(([a, one], [b, other]) => (a === b ? (one.source.source < other.source.source ? -1 : 1) : a < b ? -1 : 1));
  let shown = 0, next = list.firstElementChild;
  for (const [, card] of all) {
    card.element.hidden = !card.source.source.toLowerCase().includes(wanted) || (byId("wrong").checked && card.state === "good");
    shown += !card.element.hidden;
    if (card.element === next) next = next.nextElementSibling;
    else list.insertBefore(card.element, next);
  }
  byId("none").hidden = shown > 0;
}

async function read(name) {
  const answer = await fetch(name, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.json();
}

async function turn() {
  const summary = byId("summary");
  try {
    const status = await read("status.json"), at = performance.now() / 1000;
    const many = status.sources.length > FEW;
    document.body.classList.toggle("many", many);
    byId("choice").hidden = byId("heads").hidden = !many;
    const names = namesApart(status.sources.map((source) => source.source));
    for (const source of status.sources) show(source, names.get(source.source), many, at);
    const there = new Set(status.sources.map((source) => source.source));
    for (const [name, card] of cards) {
      if (!there.has(name)) { card.element.remove(); cards.delete(name); }
    }
    arrange();
    const open = [...cards.values()].filter((card) => card.element.open && !card.element.hidden).slice(0, MOST_OPEN);
    if (open.length) {
      const asked = new URLSearchParams(open.map((card) => ["source", card.source.source]));
      const history = await read(`history.json?${asked}`), now = Math.floor(Date.now() / 1000);
      for (const card of open) details(card, history.sources[card.source.source] || [], now);
    }
    around(status.redis, status.alerts);
    const states = status.sources.map(state), good = states.filter((one) => one === "good").length;
    put(summary, `${number(good)} of ${number(status.sources.length)} ${status.sources.length === 1 ? "source" : "sources"} well`);
    summary.className = states.includes("bad") ? "bad" : states.includes("care") ? "care" : "good";
    document.title = `${states.includes("bad") ? "✗" : "✓"} mirror`;
    put(byId("when"), `as of ${new Date().toLocaleTimeString("en", {hour12: false, timeZoneName: "short"})}`);
    document.body.classList.remove("gone");
  } catch (error) {
    put(summary, `the mirror does not answer (${error.message}): what is shown is old`);
    summary.className = "bad";
    document.title = "✗ mirror";
    document.body.classList.add("gone");
  }
}

for (const [word, meaning] of Object.entries(WORDS)) byId("words").querySelector("dl").append(element("dt", word), element("dd", meaning));
for (const head of byId("heads").children) if (WORDS[head.textContent]) head.title = WORDS[head.textContent];
let begun = 0;
async function loop() {
  begun = performance.now();
  if (!document.hidden && !byId("paused").checked) await turn();
  setTimeout(loop, Math.max(EVERY, OFTEN * (performance.now() - begun)));
}
document.addEventListener("visibilitychange", () => { if (!document.hidden && !byId("paused").checked) turn(); });
byId("choice").addEventListener("input", arrange);
byId("choice").addEventListener("submit", (event) => event.preventDefault());
loop();
