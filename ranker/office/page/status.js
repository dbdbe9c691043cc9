"use strict";
// Shows what `/events` tells. All texts come in as text, never as HTML.

const KEPT_MS = 600_000;
const STEP_SECONDS = 2;
const points = [];
let described = { models: [] };

const byId = (id) => document.getElementById(id);

/** An element with attributes and children. */
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "polyline", "line", "title"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const cell = (text, kind = "") => make("td", kind ? { class: kind } : {}, String(text));

/** A number in few digits: 0.31, 4.2, 17, 12,300. */
function short(number) {
  if (number === null || number === undefined) return "–";
  const digits = number >= 100 || number === 0 ? 0 : number >= 10 ? 1 : 2;
  return number.toLocaleString("en", { maximumFractionDigits: digits });
}

const milliseconds = (seconds) => (seconds === null || seconds === undefined ? "–" : `${short(1000 * seconds)} ms`);

// Traffic

/** Each figure: its name, its lines over time, and how a value is written. */
const FIGURES = [
  ["Requests a second", [["all", (p) => p.requests]], short],
  ["Latency in the server, p50 and p99", [["p50", (p) => p.p50], ["p99", (p) => p.p99]], milliseconds],
  ["Candidates scored a second", [["all", (p) => p.candidates]], short],
  ["Requests in a batch, the mean", [["all", (p) => p.batch_requests]], short],
  ["Candidates that wait", [["all", (p) => p.queue_rows]], short],
];

/** One more figure for each worker, how busy it is, and for each shadow, how far it agrees. */
function figures() {
  const workers = points.length ? points.at(-1).utilization.length : 0;
  const percent = (value) => (value === undefined ? "–" : `${short(100 * value)} %`);
  const busy = Array.from({ length: workers }, (_, i) => [
    `Worker ${i} is busy`, [["all", (p) => p.utilization[i]]], percent, 1,
  ]);
  const pairs = new Set(points.flatMap((p) => Object.keys(p.shadows)));
  const shadows = [...pairs].sort().map((pair) => [
    `Best ten that ${pair} agree on`, [["all", (p) => p.shadows[pair]]], percent, 1,
  ]);
  return [...FIGURES, ...busy, ...shadows];
}

/** A line for each series over the last ten minutes; from 0 to the greatest value, or to `most`. */
function sparkline(name, series, write, most) {
  const end = points.at(-1).time;
  const values = series.map(([, read]) => points.map(read).map((value) => value ?? null));
  const greatest = Math.max(...values.flat().filter((value) => value !== null), 0);
  const top = most ?? (greatest || 1);
  const picture = make("svg", { viewBox: "0 0 300 48", preserveAspectRatio: "none", role: "img" });
  picture.append(make("title", {}, `${name}: at most ${write(greatest)} in the last ten minutes`));
  picture.append(make("line", { x1: 0, y1: 47.5, x2: 300, y2: 47.5 }));
  for (const line of values) {
    const drawn = line.map((value, i) => {
      const x = 300 - (300 * 1000 * (end - points[i].time)) / KEPT_MS;
      return value === null ? "" : `${x.toFixed(1)},${(47 - (45 * value) / top).toFixed(1)}`;
    });
    picture.append(make("polyline", { points: drawn.filter(Boolean).join(" ") }));
  }
  return picture;
}

function showTraffic() {
  if (!points.length) return;
  const last = points.at(-1);
  byId("traffic").replaceChildren(
    ...figures().map(([name, series, write, most]) => make("div", {},
      make("dt", {}, name),
      make("dd", { class: "figure" }, series.map(([, read]) => write(read(last))).join(" / ")),
      make("dd", {}, sparkline(name, series, write, most)),
    )),
  );
  const serving = last.serving === 1 ? "1 worker serves" : `${last.serving} workers serve`;
  say("state", last.serving ? serving : "no worker serves", last.serving > 0);
}

/** What the metrics' reasons mean; others are status codes. */
const REASONS = {
  deadline: "refused: the deadline could not be met",
  queue_rows: "refused: too many candidates wait",
  queue_bytes: "refused: too many bytes wait",
  connection_share: "refused: the connection has its share of the queue",
  explanations: "refused: too many lists wait to be explained",
  draining: "refused: the server was draining",
  calls: "refused: too many calls in progress",
  memory: "refused: memory was short",
  "waiting: deadline": "dropped: the deadline passed while they waited",
  "waiting: cancelled": "dropped: the caller went away",
};

function showRefused() {
  const refused = new Map();
  for (const point of points) {
    for (const [reason, rate] of Object.entries(point.refused)) {
      refused.set(reason, (refused.get(reason) ?? 0) + rate * STEP_SECONDS);
    }
  }
  const rows = [...refused].sort((a, b) => b[1] - a[1]);
  const most = Math.max(...refused.values(), 1);
  byId("refused").replaceChildren(
    ...rows.map(([reason, number]) => make("li", {},
      make("span", {}, `${Math.round(number).toLocaleString("en")} ${REASONS[reason] ?? reason}`),
      make("progress", { max: most, value: number, "aria-label": reason }),
    )),
    ...(rows.length ? [] : [make("li", {}, "None.")]),
  );
}

// Models

function showModels() {
  const latest = points.at(-1)?.models ?? {};
  byId("models-note").textContent = described.error
    ? `No worker describes them: ${described.error}`
    : `Generation ${described.generation ?? "–"}: it goes up with each change of what is served.`;
  const models = described.models ?? [];
  byId("models").replaceChildren(...models.map((model) => {
    const now = latest[`${model.name}@${model.version}`] ?? {};
    const state = model.state.replace("MODEL_STATE_", "").toLowerCase();
    return make("tr", {},
      make("th", { scope: "row" }, model.name), cell(model.version),
      cell(model.state_reason ? `${state}: ${model.state_reason}` : state, state === "failed" ? "reason bad" : "reason"),
      cell(model.labels.join(", ")), cell(`${short(model.traffic_percent)} %`, "number"),
      cell(short(now.requests), "number"), cell(milliseconds(now.p50), "number"),
      cell(milliseconds(now.p99), "number"), cell(model.engine), cell(model.num_trees, "number"),
    );
  }));
  offerModels(models.filter((model) => model.state === "MODEL_STATE_AVAILABLE"));
}

// Errors

function showErrors({ requests, incidents }) {
  const clock = (time) => new Date(time).toLocaleTimeString();
  const bugs = incidents.map((each) => [each.time, make("tr", {},
    cell(clock(each.time)), cell(`bug: ${each.what}`, "reason bad"), cell(each.process), cell(`[${each.incident}]`),
  )]);
  const failed = requests.map((each) => [each.time, make("tr", {},
    cell(clock(each.time)), cell(`${each.code}, ${each.candidates} candidates, ${milliseconds(each.total_seconds)}`, "reason"),
    cell([each.model, each.version].filter(Boolean).join("@")), cell(each.request_id),
  )]);
  const all = [...bugs, ...failed].sort((a, b) => (a[0] < b[0] ? 1 : -1));
  byId("errors").replaceChildren(...all.map(([, row]) => row));
  byId("errors-note").textContent = all.length
    ? "The last thirty bugs, and the last thirty requests that failed, as the access log has them."
    : "None since the office started.";
}

// Try it

function offerModels(models) {
  const offered = models.map((model) => `${model.name}@${model.version}`);
  const choice = byId("model");
  if (offered.join() === [...choice.options].map((each) => each.value).join()) return;
  const before = choice.value;
  choice.replaceChildren(...offered.map((name) => make("option", { value: name }, name)));
  if (offered.includes(before)) choice.value = before;
}

const path = (chosen) => {
  const at = chosen.lastIndexOf("@");
  return `/v1/models/${encodeURIComponent(chosen.slice(0, at))}/versions/${encodeURIComponent(chosen.slice(at + 1))}`;
};

async function json(answer) {
  const read = await answer.json();
  if (answer.ok) return read;
  const fields = (read.errors ?? []).map((each) => `${each.field}: ${each.detail}`);
  throw new Error(fields.join("; ") || read.detail);
}

/** Texts and integers that a categorical feature may have, by its name. */
function categories(model) {
  const known = new Map();
  for (const each of model.categories ?? []) {
    const values = each.texts.length ? each.texts : each.integers;
    known.set(model.feature_names[each.feature], values.map(String));
  }
  return known;
}

/** A few candidates with values made up at random, as CSV. */
async function makeExample() {
  const model = await json(await fetch(path(byId("model").value)));
  const names = model.feature_names.length ? model.feature_names : Array.from({ length: model.num_features }, (_, i) => `f${i}`);
  const known = categories(model);
  const value = (name) => {
    const values = known.get(name);
    if (values) return values[Math.floor(Math.random() * values.length)];
    return Math.random() < 0.1 && !model.required_feature_names.includes(name) ? "" : (10 * Math.random()).toFixed(2);
  };
  const rows = Array.from({ length: 8 }, (_, i) => [`item-${i + 1}`, ...names.map(value)]);
  byId("candidates").value = [["id", ...names], ...rows].map((row) => row.map(quoted).join(",")).join("\n");
}

const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** The lines of a CSV text as lists of texts; RFC 4180. */
function readCsv(text) {
  const rows = [[""]];
  let inside = false;
  for (let i = 0; i < text.length; i += 1) {
    const letter = text[i];
    const row = rows.at(-1);
    if (inside ? letter === '"' && text[i + 1] === '"' : false) {
      row[row.length - 1] += '"';
      i += 1;
    } else if (letter === '"') inside = !inside;
    else if (inside || !",\r\n".includes(letter)) row[row.length - 1] += letter;
    else if (letter === ",") row.push("");
    else if (letter === "\n") rows.push([""]);
  }
  return rows.filter((row) => row.length > 1 || row[0].trim() !== "");
}

/** What was pasted: candidates as JSON has them, and their ids. */
function readCandidates(text, known) {
  if (/^\s*[[{]/.test(text)) {
    const read = JSON.parse(text);
    return { candidates: read.candidates ?? read, ids: read.ids ?? [], context: read.context ?? {} };
  }
  const [names, ...rows] = readCsv(text);
  const ids = [];
  const candidates = rows.map((row, i) => {
    if (row.length !== names.length) throw new Error(`line ${i + 2} has ${row.length} fields, the first ${names.length}`);
    const candidate = {};
    names.map((name) => name.trim()).forEach((name, column) => {
      const field = row[column].trim();
      if (name === "id") ids.push(field);
      else candidate[name] = read(name, field, i + 2);
    });
    return candidate;
  });
  return { candidates, ids, context: {} };

  function read(name, field, line) {
    if (field === "") return null;
    const code = known.get(name)?.indexOf(field) ?? -1;
    const number = code >= 0 ? code : Number(field);
    if (Number.isNaN(number)) throw new Error(`line ${line}: ${name}: ${field} is not a number`);
    return number;
  }
}

async function rank() {
  const chosen = byId("model").value;
  const model = await json(await fetch(path(chosen)));
  const asked = readCandidates(byId("candidates").value, categories(model));
  const began = performance.now();
  const answer = await json(await fetch(`${path(chosen)}:rank`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...asked, top_k: Number(byId("top-k").value) }),
  }));
  const took = performance.now() - began;
  showRanking(asked, answer);
  say("try-state", `Ranked ${asked.candidates.length} candidates with ${answer.model}@${answer.model_version}, ${short(took)} ms from here.`, true);
}

function showRanking({ candidates, ids }, { indices, scores }) {
  const named = !Array.isArray(candidates[0]);
  const names = named ? [...new Set(candidates.flatMap(Object.keys))] : candidates[0].map((_, i) => i);
  const number = (text) => make("th", { scope: "col", class: "number" }, String(text));
  byId("ranking-head").replaceChildren(
    number("Rank"), make("th", { scope: "col" }, ids.length ? "Id" : "Position"), number("Score"), ...names.map(number),
  );
  byId("ranking-body").replaceChildren(...indices.map((index, place) => make("tr", {},
    cell(place + 1, "number"),
    make("th", { scope: "row" }, String(ids.length ? ids[index] : index)),
    cell(scores[place].toPrecision(6), "number"),
    ...names.map((name) => cell(candidates[index][name] ?? "", "number")),
  )));
  byId("ranking").hidden = false;
}

/** Does what a button asks for, and says so if that fails. */
async function attempt(work) {
  try {
    say("try-state", "…", true);
    await work();
  } catch (error) {
    byId("ranking").hidden = true;
    say("try-state", error.message, false);
  }
}

function say(id, text, good) {
  const place = byId(id);
  const kind = good ? "good" : "bad";
  if (place.textContent !== text) place.textContent = text;
  if (place.className !== kind) place.className = kind;
}

// Events

function follow() {
  const source = new EventSource("/events");
  source.addEventListener("points", (event) => {
    points.push(...JSON.parse(event.data));
    while (points.length && 1000 * points[0].time < 1000 * points.at(-1).time - KEPT_MS) points.shift();
    showTraffic();
    showRefused();
    showModels();
  });
  source.addEventListener("models", (event) => {
    described = JSON.parse(event.data);
    showModels();
  });
  source.addEventListener("errors", (event) => showErrors(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    // A stream ends each minute, and the browser opens another; what is refused it gives up.
    if (source.readyState === EventSource.CLOSED) {
      say("state", "no connection to the server; trying again", false);
      setTimeout(follow, 5000);
    }
  });
}

byId("example").addEventListener("click", () => attempt(async () => {
  await makeExample();
  say("try-state", "", true);
}));
byId("try").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(rank);
});
showErrors({ requests: [], incidents: [] });
follow();
