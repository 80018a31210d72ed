// Asks for the topic of one text after the other, and hands the answers out as a corpus. Nothing leaves the page otherwise.

speak({
  en: {
    label: "What is this about?", undo: "Undo (u, ←)", skip: "Skip (s, space, →)", again: "Go through the skipped ones",
    download: "Download the labels", filter: "Find a topic, or name a new one …", add: "New topic:", labelled: "labelled", skipped: "skipped",
    finished: "That was the last one. Download the labels, and train again with them.",
    keys: "1 to 9 choose a topic, ↑ ↓ and Enter any; type, or press /, to find one by its name or to add one. Esc leaves the search.",
    whereto: "The labels are JSON lines of text, topic and document: put them behind your corpus (cat mine.jsonl labels-*.jsonl). What you did is kept in this browser until you come back.",
    unkept: "This browser keeps nothing for this page: download the labels before you close it.", more: "more: type to find them",
  },
  zh: {
    label: "这一段讲的是什么？", undo: "撤销（u、←）", skip: "跳过（s、空格、→）", again: "再看一遍跳过的",
    download: "下载标注", filter: "查找主题，或新建一个……", add: "新主题：", labelled: "已标注", skipped: "已跳过",
    finished: "这是最后一条。下载标注，然后用它们重新训练。",
    keys: "1 到 9 选主题；↑ ↓ 加回车选任意一个；直接打字或按 / 按名字查找，找不到就新建。Esc 退出查找。",
    whereto: "标注是 JSON lines，每行有 text、topic 和 document：接在自己的语料后面即可（cat mine.jsonl labels-*.jsonl）。进度保存在这个浏览器里，下次接着做。",
    unkept: "这个浏览器不替这个页面保存进度：关闭之前请先下载标注。", more: "个未列出：打字查找",
  },
});

const MOST_SHOWN = 60;
const DIGITS = 9;
const rows = data.suggestions;
const key = `duanti.label.${data.key}`;
const decided = new Map(); // row -> its topic, null where it was skipped; in the order in which that happened
const added = []; // topics that the model does not know
let current = 0; // the row that is shown; none when all are decided
let marked = 0; // the choice that Enter takes
let unsaved = false; // labels that are nowhere but here

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(key)) || { decided: [], added: [] };
    for (const [row, topic] of kept.decided) decided.set(row, topic);
    added.push(...kept.added);
  } catch {
    keep();
  }
  current = next(-1);
}

function keep() {
  try {
    localStorage.setItem(key, JSON.stringify({ decided: [...decided], added }));
  } catch {
    at("unkept").hidden = false;
    unsaved = true;
  }
}

function next(row) {
  for (let place = 1; place <= rows.length; place++) {
    const other = (row + place) % rows.length;
    if (!decided.has(other)) return other;
  }
  return undefined;
}

function decide(topic) {
  if (current === undefined) return;
  if (topic !== null && !data.topics.includes(topic) && !added.includes(topic)) added.push(topic);
  decided.set(current, topic);
  goTo(next(current));
}

function undo() {
  const last = [...decided.keys()].pop();
  if (last === undefined) return;
  decided.delete(last);
  goTo(last);
}

function revisit() {
  for (const [row, topic] of [...decided]) if (topic === null) decided.delete(row);
  goTo(next(-1));
}

function goTo(row) {
  current = row;
  keep();
  leaveFilter();
}

function leaveFilter() {
  at("filter").value = "";
  at("filter").blur();
  marked = 0;
  draw();
}

// The topics to choose from: those the model ranks, then all others; of a search those that match, and a new one.
function choices() {
  const row = rows[current], search = at("filter").value.trim().toLowerCase();
  const ranked = [{ topic: row.predicted, probability: row.probability }, ...row.alternatives];
  const told = new Set(ranked.map(({ topic }) => topic));
  const others = [...data.topics, ...added].filter((topic) => !told.has(topic)).map((topic) => ({ topic }));
  const found = [...ranked, ...others].filter(({ topic }) => topic.toLowerCase().includes(search));
  const isNew = search && !found.some(({ topic }) => topic.toLowerCase() === search);
  const shown = found.slice(0, MOST_SHOWN);
  return { shown: isNew ? [...shown, { topic: at("filter").value.trim(), isNew }] : shown, hidden: found.length - shown.length };
}

function choose(place) {
  const chosen = current === undefined ? undefined : choices().shown[place];
  if (chosen) decide(chosen.topic);
}

function mark(step) {
  if (current === undefined) return;
  const { length } = choices().shown;
  marked = (marked + step + length) % Math.max(length, 1);
  draw();
}

function draw() {
  const skipped = [...decided.values()].filter((topic) => topic === null).length;
  at("progress").max = Math.max(rows.length, 1);
  at("progress").value = decided.size;
  at("count").textContent = `${decided.size} / ${rows.length} · ${decided.size - skipped} ${say("labelled")} · ${skipped} ${say("skipped")}`;
  at("finished").hidden = current !== undefined;
  at("task").hidden = at("skip").hidden = current === undefined;
  at("again").hidden = current !== undefined || !skipped;
  at("undo").disabled = !decided.size;
  at("download").disabled = decided.size === skipped;
  if (current === undefined) return;
  const row = rows[current];
  at("place").textContent = row.document === null ? "" : `${row.document} · ¶${row.paragraph}`;
  if (at("text").textContent !== row.text) {
    at("text").textContent = row.text;
    at("text").scrollTop = 0;
  }
  const { shown, hidden } = choices();
  at("topics").replaceChildren(...shown.map(drawChoice));
  if (hidden) at("topics").append(element("li", "quiet", `${hidden} ${say("more")}`));
  at("topics").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

function drawChoice({ topic, probability, isNew }, place) {
  const entry = element("li"), chip = colour(element("button", `chip${isNew ? " add" : ""}`), data.topics.includes(topic) ? topic : null);
  const digit = element("kbd", "", place < DIGITS && !at("filter").value ? String(place + 1) : "");
  chip.type = "button";
  chip.append(digit, element("span", "name", isNew ? `${say("add")} ${topic}` : topic));
  chip.append(element("span", "digits", probability === undefined ? "" : percent(probability)));
  if (probability !== undefined) {
    const bar = element("span", "bar");
    bar.style.setProperty("--share", `${100 * probability}%`);
    chip.append(bar);
  }
  if (place === marked) chip.setAttribute("aria-current", "true");
  chip.addEventListener("click", () => decide(topic));
  entry.append(chip);
  return entry;
}

// In the order of the input, because rows of one document are its paragraphs.
function corpus() {
  const labelled = [...decided].filter(([, topic]) => topic !== null).map(([row, topic]) => ({ ...rows[row], topic }));
  labelled.sort((a, b) => a.position - b.position);
  return labelled.map(({ text, topic, document }) => `${JSON.stringify({ text, topic, document })}\n`).join("");
}

const SEARCHING = { Enter: () => choose(marked), Escape: leaveFilter, ArrowUp: () => mark(-1), ArrowDown: () => mark(1) };
const WORKING = {
  ...SEARCHING, s: () => decide(null), " ": () => decide(null), ArrowRight: () => decide(null), u: undo, ArrowLeft: undo,
  "/": () => at("filter").focus(),
};
for (let digit = 1; digit <= DIGITS; digit++) WORKING[digit] = () => choose(digit - 1);

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  const searching = event.target === at("filter");
  // A button that was reached by Tab does what it says.
  if (event.target.closest("button") && (event.key === "Enter" || event.key === " ")) return;
  const keys = searching ? SEARCHING : WORKING;
  if (Object.hasOwn(keys, event.key)) {
    event.preventDefault();
    keys[event.key]();
  } else if (!searching && event.key.length === 1) at("filter").focus(); // which takes the letter
});
at("filter").addEventListener("input", () => {
  marked = 0;
  draw();
});
for (const [name, action] of Object.entries({ undo, skip: () => decide(null), again: revisit })) {
  at(name).addEventListener("click", (event) => {
    if (event.detail) at(name).blur(); // by mouse: the space bar is to skip again
    action();
  });
}
at("download").addEventListener("click", () => {
  at("download").blur();
  save(corpus(), "application/x-ndjson", `labels-${data.key}.jsonl`);
  unsaved = false;
});
window.addEventListener("beforeunload", (event) => {
  if (unsaved && decided.size) event.preventDefault();
});
restore();
