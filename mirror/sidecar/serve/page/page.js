"use strict";
// Reads status.json and history.json every second while the page is seen, and shows them. All text is put in as text.

const EVERY = 1000, SECONDS = 300;
const AT_WORK = new Set(["following", "carrying back"]), ON_ITS_WAY = new Set(["starting", "snapshot", "catching up", "re-diff", "paused"]);
const cards = new Map();

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

// Text with commands in backticks, as next steps have them.
function withCommands(text) {
  const made = document.createDocumentFragment();
  text.split("`").forEach((part, at) => made.append(at % 2 ? element("code", part) : part));
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
  return proof === "never" ? "never compared" : `${proof}, ${since(age)} ago`;
}

function pairs(list, values) {
  list.replaceChildren(...values.filter(([, value]) => value !== "" && value !== null && value !== undefined).map(([name, value]) => {
    const one = element("div");
    one.append(element("dt", name), element("dd", value));
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
    if (pen === "M") path += `h0.01`;
    pen = "L";
  });
  const name = "http://www.w3.org/2000/svg";
  let drawing = figure.querySelector("svg");
  if (!drawing) {
    drawing = document.createElementNS(name, "svg");
    drawing.setAttribute("viewBox", `0 0 ${SECONDS} 101`);
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("role", "img");
    const ground = document.createElementNS(name, "line");
    for (const [key, value] of [["x1", 0], ["x2", SECONDS], ["y1", 100.5], ["y2", 100.5]]) ground.setAttribute(key, value);
    drawing.append(ground, document.createElementNS(name, "path"));
    figure.append(drawing);
    figure.querySelector("figcaption").append(element("span"));
  }
  drawing.querySelector("path").setAttribute("d", path);
  const said = most ? `at most ${shown(most)} in five minutes` : "nothing in five minutes";
  drawing.setAttribute("aria-label", said);
  figure.querySelector("span").textContent = said;
}

function show(source, seconds, now) {
  let card = cards.get(source.source);
  if (!card) {
    card = document.getElementById("source").content.firstElementChild.cloneNode(true);
    cards.set(source.source, card);
    document.getElementById("sources").append(card);
  }
  const one = (selector) => card.querySelector(selector);
  one(".name").textContent = source.source.split("/").pop();
  one(".path").textContent = `${source.source} → ${source.schema}` + (source.agent ? `, ${source.agent}` : "");
  one(".phase").textContent = source.phase;
  one(".phase").className = `phase ${state(source)}`;
  one(".said").textContent = source.last_error || (source.reverse && source.reverse.ended) || progress(source);
  pairs(one(".figures"), [
    ["lag", since(source.lag_seconds)],
    ["last commit", source.freshness_seconds === null ? "-" : `${since(source.freshness_seconds)} ago`],
    ["commits", number(source.commits)],
    ["rows", number(source.rows)],
    ["tables", number(source.tables)],
    ["compared", parity(source)],
    ["rejects", source.rejects ? number(source.rejects) : ""],
    ["carried back", source.reverse ? `${number(source.reverse.rows)} rows` : ""],
    ["strays", source.reverse && source.reverse.strays ? number(source.reverse.strays) : ""],
  ]);
  plot(one(".lag"), seconds, now, (second) => second[1], null, since);
  plot(one(".rate"), seconds, now, (second) => second[2], 0, (value) => number(value));
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
    ["vector index", source.index_error || source.indexing],
  ]);
}

async function read(name) {
  const answer = await fetch(name, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.json();
}

async function turn() {
  const summary = document.getElementById("summary");
  try {
    const [status, history] = await Promise.all([read("status.json"), read("history.json")]);
    const now = Math.floor(Date.now() / 1000);
    for (const source of status.sources) show(source, history.sources[source.source] || [], now);
    for (const [name, card] of cards) {
      if (!status.sources.some((source) => source.source === name)) { card.remove(); cards.delete(name); }
    }
    const states = status.sources.map(state), good = states.filter((one) => one === "good").length;
    const many = status.sources.length === 1 ? "source" : "sources";
    summary.textContent = `${good} of ${number(status.sources.length)} ${many} well`;
    summary.className = states.includes("bad") ? "bad" : states.includes("care") ? "care" : "good";
    document.title = `${states.includes("bad") ? "✗" : "✓"} mirror`;
    document.getElementById("when").textContent = `as of ${new Date().toLocaleTimeString()}`;
    document.body.classList.remove("gone");
  } catch (error) {
    summary.textContent = `the mirror does not answer (${error.message}): what is shown is old`;
    summary.className = "bad";
    document.title = "✗ mirror";
    document.body.classList.add("gone");
  }
}

async function loop() {
  if (!document.hidden) await turn();
  setTimeout(loop, EVERY);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) turn(); });
loop();
