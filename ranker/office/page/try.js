// Ranks a list that is pasted, and shows why each candidate is where it is.

const MOST_EXPLAINED = 20;
const MOST_FEATURES = 8;

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
  const topK = Number(byId("top-k").value);
  const began = performance.now();
  const answer = await json(await fetch(`${path(chosen)}:rank`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...asked, top_k: topK, explain: model.explainable ? Math.min(topK, MOST_EXPLAINED) : 0 }),
  }));
  const took = performance.now() - began;
  showRanking(asked, answer);
  say("try-state", `Ranked ${asked.candidates.length} candidates with ${answer.model}@${answer.model_version}, ${short(took)} ms from here.`, true);
}

/** What moved a candidate most, the strongest first, then all that is left and the bias. */
function reasons({ bias, contributions }) {
  const named = Array.isArray(contributions) ? contributions.map((value, i) => [`f${i}`, value]) : Object.entries(contributions);
  const strongest = [...named].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const rest = strongest.slice(MOST_FEATURES);
  const others = rest.length ? [[`${rest.length} other features`, rest.reduce((sum, [, value]) => sum + value, 0)]] : [];
  return [...strongest.slice(0, MOST_FEATURES), ...others, ["What any candidate has", bias]];
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

/** A bar from the middle to the right, or to the left if the value is negative. */
function bar(value, most) {
  const length = (100 * Math.abs(value)) / most;
  const picture = make("svg", { viewBox: "0 0 200 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(
    make("rect", { x: value < 0 ? 100 - length : 100, y: 1, width: length, height: 8, class: value < 0 ? "down" : "up" }),
    make("line", { x1: 100, y1: 0, x2: 100, y2: 10 }),
  );
  return picture;
}

/** A row under a candidate's: what each feature adds to its score. */
function why(explanation, columns, most) {
  const lines = reasons(explanation);
  const first = lines.slice(0, 2).map(([name, value]) => `${name} ${signed(value)}`).join(", ");
  return make("tr", { class: "why" }, make("td", { colspan: columns }, make("details", {},
    make("summary", {}, `Why: ${first}, …`),
    make("ul", {}, ...lines.map(([name, value]) => make("li", {},
      make("span", {}, name), make("span", { class: "number" }, signed(value)), bar(value, most),
    ))),
  )));
}

function showRanking({ candidates, ids }, { indices, scores, explanations = [] }) {
  const named = !Array.isArray(candidates[0]);
  const names = named ? [...new Set(candidates.flatMap(Object.keys))] : candidates[0].map((_, i) => i);
  const number = (text) => make("th", { scope: "col", class: "number" }, String(text));
  byId("ranking-head").replaceChildren(
    number("Rank"), make("th", { scope: "col" }, ids.length ? "Id" : "Position"), number("Score"), ...names.map(number),
  );
  const most = Math.max(...explanations.flatMap((each) => reasons(each).map(([, value]) => Math.abs(value)))) || 1;
  const rows = indices.map((index, place) => make("tr", {},
    cell(place + 1, "number"),
    make("th", { scope: "row" }, String(ids.length ? ids[index] : index)),
    cell(scores[place].toPrecision(6), "number"),
    ...names.map((name) => cell(candidates[index][name] ?? "", "number")),
  ));
  byId("ranking-body").replaceChildren(...rows.flatMap((row, place) => (
    place < explanations.length ? [row, why(explanations[place], row.children.length, most)] : [row]
  )));
  byId("ranking-body").querySelector("details")?.setAttribute("open", "");
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

byId("example").addEventListener("click", () => attempt(async () => {
  await makeExample();
  say("try-state", "", true);
}));
byId("try").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(rank);
});
