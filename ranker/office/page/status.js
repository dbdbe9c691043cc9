"use strict";
// Shows what `/events` tells. All texts come in as text, never as HTML.

const KEPT_MS = 600_000;
const STEP_SECONDS = 2;
const points = [];
let described = { models: [] };

const byId = (id) => document.getElementById(id);

/** An element with attributes and children. */
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "polyline", "line", "rect", "title"].includes(tag);
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
  quota: "refused: the caller is over its quota",
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
  say("failure", described.failure ? `What the configuration wants can't be served: ${described.failure}` : "", false);
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

// Drift

const share = (value) => (value === null ? "–" : `${short(100 * value)} %`);
const index = (value) => cell(value === null ? "–" : value.toFixed(2), value > 0.25 ? "number bad" : "number");

/** What can be said of a version before its features are. */
function aboutDrift({ reference, enough, rows, scores }) {
  const counted = `${rows.toLocaleString("en")} candidates counted`;
  if (!enough) return `${counted}; that is too few to tell.`;
  if (!reference) return `${counted}. Its file has no reference, so that drift can’t be told: export it with --reference.`;
  return `${counted}. Index of the scores: ${scores === null ? "–" : scores.toFixed(2)}.`;
}

function showDrift(models) {
  const table = (model, title) => make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Drift of ${title}, a table` },
    make("table", {},
      make("thead", {}, make("tr", {},
        make("th", { scope: "col" }, "Feature"),
        ...["Index", "Missing now", "In training"].map((name) => make("th", { scope: "col", class: "number" }, name)),
        make("th", { scope: "col" }, "What is wrong"),
      )),
      make("tbody", {}, ...model.features.map((feature) => make("tr", {},
        make("th", { scope: "row" }, feature.name), index(feature.psi),
        cell(share(feature.missing), "number"), cell(share(feature.missing_before), "number"),
        cell(feature.finding, feature.finding ? "reason bad" : "reason"),
      ))),
    ));
  byId("drift").replaceChildren(...(models.length ? models.flatMap((model) => {
    const title = `${model.model}@${model.version}`;
    return [
      make("h3", {}, title), make("p", { class: "note" }, aboutDrift(model)),
      ...(model.features.length ? [table(model, title)] : []),
      ...(model.others ? [make("p", { class: "note" }, `And ${model.others} features that drift less.`)] : []),
    ];
  }) : [make("p", {}, "Nothing was counted yet.")]));
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
  source.addEventListener("drift", (event) => showDrift(JSON.parse(event.data)));
  source.addEventListener("errors", (event) => showErrors(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    // A stream ends each minute, and the browser opens another; what is refused it gives up.
    if (source.readyState === EventSource.CLOSED) {
      say("state", "no connection to the server; trying again", false);
      setTimeout(follow, 5000);
    }
  });
}

showErrors({ requests: [], incidents: [] });
showDrift([]);
follow();
