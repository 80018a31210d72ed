// Draws the report of a run: figures, what is taken for what, how far a probability can be trusted, errors and why.

speak({
  en: {
    report: "Report of a run", contents: "Contents",
    figures: "How good it is", perTopic: "Topic by topic", confusion: "What is taken for what", certainty: "How far a probability can be trusted",
    errors: "Most certain errors", terms: "What each topic is known by", corpora: "What it learnt from", provenance: "Where it comes from",
    figuresNote: (t) => SAY.en.measured(t),
    measured: (t) => `Measured on ${count(t.rows)} texts of ${count(t.documents)} documents that the model did not learn from. Ranges are ${round(t.confidence)} intervals, from resampling the documents.`,
    perTopicNote: (t) => SAY.en.sorting(t),
    sorting: (t) => `Click a heading to sort.${t.n_topics > t.per_topic.length ? ` Of ${count(t.n_topics)} topics, the ${count(t.per_topic.length)} of the most rows.` : ""}`,
    confusionNote: (t) => `Rows are what is right, columns what was told.${SAY.en.reading(t)}`,
    reading: (t) => ` The darker, the larger the share of the row. Click a cell to read its most certain texts.${t.confusion.folded ? ` Drawn are the ${t.confusion.labels.length - 1} topics of the most errors; the ${count(t.confusion.folded)} others are taken together as …` : ""}`,
    certaintyNote: () => "First: of the texts that are told with some probability, how many are right; on the diagonal a probability is as good as its word, and a larger dot stands for more texts. Second: what is told, and how much of it is right, when topics are only told from some probability on (decision.precision in a recipe).",
    errorsNote: (t) => `${count(t.errors.length)} of ${count(t.n_errors)}. Shaded characters speak for the topic chosen in the margin, underlined ones against it. A text that is marked wrongly in the corpus is often among them.`,
    termsNote: () => `The terms of the largest weight: words or characters, after ^ those that begin a text.${Object.keys(data.terms).length < data.topics.length ? ` Of ${count(data.topics.length)} topics, the ${count(Object.keys(data.terms).length)} of the most rows.` : ""}`,
    corporaNote: () => "What can be found without fitting a classifier; a group of duplicates is one finding. duanti check names each, and tells likely label errors too.",
    provenanceNote: () => "The same recipe, corpora and versions give the same bundle, byte for byte.",
    accuracy: "accuracy", macro_f1: "macro-F1", expected_calibration_error: "expected calibration error", boundary_error: "Pk: boundaries of segments missed",
    micro_f1: "micro-F1", sample_f1: "sample F1", hamming_loss: "Hamming loss", precision_at_1: "precision at 1", precision_at_3: "precision at 3", ndcg: "nDCG",
    window_difference: "WindowDiff", without_topic: "texts without a topic", together: "in context", alone: "each text alone", only: "",
    topic: "topic", rows: "rows", precision: "precision", recall: "recall", f1: "F1", f1_alone: "F1 alone", threshold: "threshold",
    gold: "right", told: "told", byItself: "by itself", rightlyTold: "rightly told", wronglyTold: "wrongly told", missed: "missed", none: "no topic", others: (n) => `${count(n)} other topics`, ofRow: (part) => `${percent(part)} of the row`,
    examples: (n, all) => (n ? `the ${n} most certain of ${count(all)}:` : `${count(all)} texts; examples are only kept of the largest cells. The run's predictions.parquet has all.`),
    confusions: "Confused most often", claimed: "probability told", correct: "share that is right", coverage: "share of all texts that is told",
    inBin: (b) => `${count(b.rows)} texts: ${percent(b.claimed)} told, ${percent(b.correct)} right`,
    atPoint: (p) => `From probability ${p.probability.toFixed(3)} on: ${percent(p.coverage)} of all texts are told, ${percent(p.precision)} of them right.`,
    askedFor: "to be right", tellFrom: "tell from", toldShare: "told", tellMore: "tell more",
    training: "training", test: "test", name: "name", digest: "SHA-256 of the content", documents: "documents", nTopics: "topics", imbalance: "largest : smallest topic",
    sharedWith: "shared with the training set", exact: "the same text", near: "nearly the same or the same text", contradicting: "of these with another topic",
    sharedDocuments: "documents on both sides", noFindings: "nothing found",
    findings: {
      label_error: "likely label errors", contradicting_topics: "same or near text, several topics", exact_duplicates: "groups of the same text", near_duplicates: "groups of nearly the same text",
      rare_topic: "topics in very few documents", replacement_character: "undecodable characters", mojibake: "wrong encoding", private_use: "private use characters", control_character: "control characters",
      markup: "markup", no_han: "no Chinese character", mostly_signs: "mostly signs", repeated_lines: "repeated lines", very_short: "far shorter than the rest", very_long: "far longer than the rest",
    },
    facts: { training_seconds: "seconds to train", terms: "terms known", bundle_bytes: "bytes of the bundle", bundle: "SHA-256 of the bundle", commit: "git commit", run: "MLflow run" },
    settings: "All settings", versions: "Versions",
  },
  zh: {
    report: "一次训练的报告", contents: "目录",
    figures: "总体效果", perTopic: "各主题的效果", confusion: "什么被认成了什么", certainty: "概率有多可信",
    errors: "最有把握的错误", terms: "各主题的代表词", corpora: "训练和测试的语料", provenance: "来历",
    figuresNote: (t) => SAY.zh.measured(t),
    measured: (t) => `在模型没有学过的 ${count(t.documents)} 个文档、${count(t.rows)} 条文本上测得。区间是对文档重新抽样得到的 ${round(t.confidence)} 区间。`,
    perTopicNote: (t) => SAY.zh.sorting(t),
    sorting: (t) => `点表头可以排序。${t.n_topics > t.per_topic.length ? `共 ${count(t.n_topics)} 个主题，这里是文本最多的 ${count(t.per_topic.length)} 个。` : ""}`,
    confusionNote: (t) => `行是正确的主题，列是模型给出的主题。${SAY.zh.reading(t)}`,
    reading: (t) => `颜色越深，占这一行的比例越大。点一格，看其中最有把握的文本。${t.confusion.folded ? `这里画出错误最多的 ${t.confusion.labels.length - 1} 个主题，其余 ${count(t.confusion.folded)} 个合在一起，记作“…”。` : ""}`,
    certaintyNote: () => "图一：给出某一概率的文本里，有多少是对的；落在对角线上，说明概率名副其实，圆点越大，文本越多。图二：如果只在概率够高时才给出主题，能给出多少，其中多少是对的（配方里的 decision.precision）。",
    errorsNote: (t) => `共 ${count(t.n_errors)} 个错误，这里是 ${count(t.errors.length)} 个。底色越深的字越支持页边选中的主题，带下划线的字则相反。语料标错的文本往往也在其中。`,
    termsNote: () => `权重最大的词和字，^ 后面的是文本开头的字。${Object.keys(data.terms).length < data.topics.length ? `共 ${count(data.topics.length)} 个主题，这里是文本最多的 ${count(Object.keys(data.terms).length)} 个。` : ""}`,
    corporaNote: () => "不训练分类器就能发现的问题；一组重复算一个。duanti check 会逐条列出，并指出可能标错的文本。",
    provenanceNote: () => "配方、语料和版本相同，得到的模型逐字节相同。",
    accuracy: "准确率", macro_f1: "宏平均 F1", expected_calibration_error: "期望校准误差", boundary_error: "Pk：段落边界的错误率",
    micro_f1: "微平均 F1", sample_f1: "样本平均 F1", hamming_loss: "汉明损失", precision_at_1: "精确率 P@1", precision_at_3: "精确率 P@3", ndcg: "nDCG",
    window_difference: "WindowDiff", without_topic: "没有主题的文本", together: "结合上下文", alone: "单看每一段", only: "",
    topic: "主题", rows: "文本数", precision: "精确率", recall: "召回率", f1: "F1", f1_alone: "单看的 F1", threshold: "阈值",
    gold: "正确", told: "给出", byItself: "单看", rightlyTold: "给对", wronglyTold: "给错", missed: "漏掉", none: "没有主题", others: (n) => `其余 ${count(n)} 个主题`, ofRow: (part) => `占这一行的 ${percent(part)}`,
    examples: (n, all) => (n ? `共 ${count(all)} 条，最有把握的 ${n} 条：` : `共 ${count(all)} 条；只有最大的一些格留有例子，全部预测在这次运行的 predictions.parquet 里。`),
    confusions: "最常见的混淆", claimed: "给出的概率", correct: "其中正确的比例", coverage: "给出主题的文本比例",
    inBin: (b) => `${count(b.rows)} 条：给出的概率 ${percent(b.claimed)}，正确 ${percent(b.correct)}`,
    atPoint: (p) => `概率不低于 ${p.probability.toFixed(3)} 才给出主题：给出 ${percent(p.coverage)} 的文本，其中 ${percent(p.precision)} 正确。`,
    askedFor: "要求正确", tellFrom: "概率不低于", toldShare: "能给出", tellMore: "给出更多",
    training: "训练", test: "测试", name: "名称", digest: "内容的 SHA-256", documents: "文档数", nTopics: "主题数", imbalance: "最大主题 : 最小主题",
    sharedWith: "和训练集重复的", exact: "文本相同", near: "文本相同或几乎相同", contradicting: "其中主题不同",
    sharedDocuments: "两边都有的文档", noFindings: "没有发现问题",
    findings: {
      label_error: "可能标错的文本", contradicting_topics: "相同或相近的文本有几个主题", exact_duplicates: "相同文本的组数", near_duplicates: "几乎相同的文本的组数",
      rare_topic: "文档太少的主题", replacement_character: "无法解码的字符", mojibake: "乱码", private_use: "私用区字符", control_character: "控制字符",
      markup: "HTML 标记", no_han: "没有汉字", mostly_signs: "大多是符号", repeated_lines: "重复的行", very_short: "比其余的短得多", very_long: "比其余的长得多",
    },
    facts: { training_seconds: "训练秒数", terms: "已知的词和字", bundle_bytes: "模型字节数", bundle: "模型的 SHA-256", commit: "git 提交", run: "MLflow 运行" },
    settings: "全部设置", versions: "版本",
  },
});

// What is said otherwise where a text may have several topics or none.
if (data.multi_label)
  speak({
    en: {
      accuracy: "exact match",
      confusion: "What is told in place of what",
      figuresNote: (t) => `${SAY.en.measured(t)} Micro-F1 is of all pairs of text and topic, sample F1 the mean of the texts, exact match the share of texts that are told just their topics; precision at 1 and 3 and nDCG are of the order that probabilities put topics in. Of Hamming loss and calibration error less is better.`,
      perTopicNote: (t) => `A text is told to have a topic when its probability reaches the topic's threshold. ${SAY.en.sorting(t)}`,
      confusionNote: (t) => `Rows are right topics, columns those told. On the diagonal: texts that have a topic and were told it. Beside it: a topic that was missed, counted once for each topic that was wrongly told of the same text, and under ∅ where none was; what was told too much of texts of which nothing was missed is only in the precision above.${SAY.en.reading(t)}`,
      certaintyNote: () => "Of all pairs of a text and a topic that have some probability, how many are right; on the diagonal a probability is as good as its word, and a larger dot stands for more pairs. Most pairs are of texts and topics that have nothing to do with each other, hence the large dot at 0.",
      errorsNote: (t) => `${count(t.errors.length)} of ${count(t.n_errors)} texts that were not told just their topics: those with a topic wrongly told of a high probability, or missed with a low one. Shaded characters speak for the topic chosen in the margin, underlined ones against it. A text that is marked wrongly in the corpus is often among them.`,
      inBin: (b) => `${count(b.rows)} pairs: ${percent(b.claimed)} told, ${percent(b.correct)} right`,
      claimed: "probability", contradicting: "of these with other topics", none: "nothing instead",
    },
    zh: {
      accuracy: "完全匹配率",
      confusion: "什么被换成了什么",
      figuresNote: (t) => `${SAY.zh.measured(t)}微平均 F1 按文本和主题的全部配对计算，样本平均 F1 先算每条文本再平均，完全匹配率是主题不多不少的文本所占的比例；P@1、P@3 和 nDCG 看的是主题按概率排出的次序。汉明损失和校准误差越小越好。`,
      perTopicNote: (t) => `概率达到主题的阈值，就给出这个主题。${SAY.zh.sorting(t)}`,
      confusionNote: (t) => `行是正确的主题，列是模型给出的主题。对角线上：本来就有、也给出了的主题。其余：漏掉的主题，同一文本里每错给一个主题就在那一列记一次，没有错给的记在 ∅ 一列；什么都没漏、只是多给了的，只计入上面的精确率。${SAY.zh.reading(t)}`,
      certaintyNote: () => "文本和主题两两配对，给出某一概率的配对里，有多少是对的；落在对角线上，说明概率名副其实，圆点越大，配对越多。多数文本和多数主题无关，所以 0 处的圆点最大。",
      errorsNote: (t) => `共 ${count(t.n_errors)} 条文本的主题给得有多有少，这里是 ${count(t.errors.length)} 条：概率很高却给错了的，或概率很低而漏掉了的。底色越深的字越支持页边选中的主题，带下划线的字则相反。语料标错的文本往往也在其中。`,
      inBin: (b) => `${count(b.rows)} 对：概率 ${percent(b.claimed)}，正确 ${percent(b.correct)}`,
      claimed: "概率", contradicting: "其中主题不完全相同", none: "空缺",
    },
  });

const count = (n) => n.toLocaleString("en-US");
const share = (value) => value.toFixed(4);
const round = (value) => `${Math.round(1000 * value) / 10}%`;
const tested = data.tested;
// What the reader has chosen; it outlasts a change of language.
const chosen = { cell: tested && widestError(tested.confusion), key: null, down: true, point: null };

function draw() {
  document.title = `duanti 段题 · ${data.model}`;
  const drawings = { terms: drawTermsOfTopics, corpora: drawCorpora, provenance: drawProvenance };
  if (tested) Object.assign(drawings, { figures: drawFigures, perTopic: drawTopics, confusion: drawConfusion, certainty: drawCertainty, errors: drawErrors });
  const contents = element("ul");
  for (const section of document.querySelectorAll("main section")) {
    section.hidden = !(section.id in drawings);
    if (section.hidden) continue;
    section.querySelector(".note").textContent = say(`${section.id}Note`)(tested);
    section.querySelector(".body").replaceChildren(...drawings[section.id]());
    const link = element("a", "", say(section.id)), entry = element("li");
    link.href = `#${section.id}`;
    entry.append(link);
    contents.append(entry);
  }
  at("contents").ariaLabel = say("contents");
  at("contents").replaceChildren(contents);
}

function table(name, head, rows) {
  const made = element("table", name), wide = element("div", "wide"), top = element("thead"), body = element("tbody");
  if (head) top.append(line(head, "th"));
  body.append(...rows);
  made.append(top, body);
  wide.append(made);
  return wide;
}

// A row of a table; its first cell heads it.
function line(cells, tag = "td") {
  const row = element("tr");
  cells.forEach((content, place) => {
    const cell = element(place && tag === "td" ? "td" : "th");
    cell.scope = tag === "th" ? "col" : "row";
    cell.append(content ?? "");
    row.append(cell);
  });
  return row;
}

function topicName(topic) {
  return topic === null ? element("span", "quiet", say("none")) : element("span", "topic", topic);
}

// Figures

function drawFigures() {
  const cards = element("div", "cards"), views = Object.entries(tested.figures);
  for (const name of Object.keys(views[0][1]).filter((each) => !each.endsWith("_interval"))) {
    if (views.every(([, figures]) => figures[name] === null)) continue;
    const card = element("div", "card");
    card.append(element("h3", "", say(name)), ...views.map(([view, figures]) => drawFigure(view, figures[name], figures[`${name}_interval`])));
    cards.append(card);
  }
  return [cards];
}

function drawFigure(view, value, interval) {
  const figure = element("div", `figure ${view}`);
  figure.append(element("b", "value", Number.isInteger(value) && !interval ? count(value) : share(value)));
  if (interval) {
    const bar = element("div", "interval");
    bar.style.setProperty("--low", `${100 * interval[0]}%`);
    bar.style.setProperty("--high", `${100 * interval[1]}%`);
    figure.append(element("span", "digits", `${share(interval[0])} – ${share(interval[1])}`), bar);
  }
  if (say(view)) figure.append(element("span", "quiet", say(view)));
  return figure;
}

function drawTopics() {
  const columns = ["topic", "rows", "precision", "recall", "f1", ...(tested.figures.alone ? ["f1_alone"] : []), ...(data.multi_label ? ["threshold"] : [])];
  const rows = [...tested.per_topic];
  if (chosen.key) rows.sort((a, b) => compared(a[chosen.key], b[chosen.key]) * (chosen.down ? -1 : 1));
  const made = table("topics", columns.map(drawSorter), rows.map((row) => line(columns.map((key) => drawTopicCell(row, key)))));
  made.querySelectorAll("th[scope=col]").forEach((cell, place) => {
    if (columns[place] === chosen.key) cell.ariaSort = chosen.down ? "descending" : "ascending";
  });
  return [made];
}

const compared = (a, b) => (typeof a === "string" ? a.localeCompare(b, "zh") : a - b);

function drawSorter(key) {
  const mark = key === chosen.key ? (chosen.down ? " ↓" : " ↑") : "", button = element("button", "sorter", say(key) + mark);
  button.type = "button";
  button.addEventListener("click", () => {
    chosen.down = key === chosen.key ? !chosen.down : key !== "topic";
    chosen.key = key;
    draw();
    [...document.querySelectorAll("#perTopic .sorter")].find((each) => each.textContent.startsWith(say(key))).focus();
  });
  return button;
}

function drawTopicCell(row, key) {
  if (key === "topic") return topicName(row.topic);
  if (key === "rows") return element("span", "digits", count(row.rows));
  if (key === "threshold") return element("span", "digits", row.threshold === null ? "–" : row.threshold.toFixed(3));
  const cell = element("span", "digits bar", row[key].toFixed(3));
  cell.style.setProperty("--share", `${100 * row[key]}%`);
  return cell;
}

// Confusion

function widestError({ counts }) {
  let [most, cell] = [0, null];
  counts.forEach((row, gold) => row.forEach((n, told) => {
    if (told !== gold && n > most) [most, cell] = [n, [gold, told]];
  }));
  return cell;
}

// What the columns of the drawn matrix are called: topics, those taken together, and no topic.
function columnName(place) {
  const { labels, folded } = tested.confusion;
  if (place === labels.length) return say("none");
  return labels[place] ?? say("others")(folded);
}
const shortName = (place) => (place === tested.confusion.labels.length ? "∅" : tested.confusion.labels[place] ?? "…");

function drawConfusion() {
  const { labels, counts } = tested.confusion;
  const matrix = element("table", "matrix"), wide = element("div", "wide"), top = element("thead"), body = element("tbody");
  const head = line(["", ...counts[0].map((_, place) => element("span", "", shortName(place)))], "th");
  top.append(head);
  counts.forEach((row, gold) => body.append(line([shortName(gold), ...row.map((n, told) => n && drawCell(n, gold, told, row))])));
  head.querySelectorAll("th").forEach((cell, place) => place && (cell.title = columnName(place - 1)));
  body.querySelectorAll("td").forEach((cell) => cell.firstChild.nodeType === Node.TEXT_NODE && cell.replaceChildren());
  if (labels.length > 12) matrix.classList.add("many");
  matrix.append(top, body);
  wide.append(matrix);
  const reading = element("div", "reading");
  reading.id = "cell";
  fillCell(reading);
  return [wide, reading, ...drawConfusions()];
}

function drawCell(n, gold, told, row) {
  const cell = element("button", gold === told ? "right" : "wrong", String(n));
  cell.type = "button";
  cell.title = `${columnName(gold)} → ${columnName(told)}: ${count(n)}`;
  cell.style.setProperty("--share", (n / row.reduce((sum, each) => sum + each, 0)).toFixed(4));
  cell.setAttribute("aria-pressed", String(chosen.cell !== null && chosen.cell[0] === gold && chosen.cell[1] === told));
  cell.addEventListener("click", () => {
    for (const other of document.querySelectorAll(".matrix [aria-pressed=true]")) other.setAttribute("aria-pressed", "false");
    cell.setAttribute("aria-pressed", "true");
    chosen.cell = [gold, told];
    fillCell(at("cell"));
  });
  cell.dataset.cell = `${gold},${told}`;
  return cell;
}

function fillCell(reading) {
  if (!chosen.cell) return;
  const [gold, told] = chosen.cell, { labels, counts, examples } = tested.confusion, n = counts[gold][told];
  const sum = counts[gold].reduce((all, each) => all + each, 0), kept = examples[`${gold},${told}`] || [], list = element("ul", "examples");
  const title = element("h3");
  title.append(`${say("gold")} `, element("b", "", columnName(gold)), ` · ${say("told")} `, element("b", "", columnName(told)), ` · ${say("ofRow")(n / sum)}`);
  const together = (place) => place < labels.length && labels[place] === null;
  list.append(...kept.map((example) => drawExample(example, together(gold) || together(told))));
  reading.replaceChildren(title, element("p", "quiet", say("examples")(kept.length, n)), list);
}

function drawExample(example, named) {
  const { text, gold, told, probability } = example, entry = element("li"), facts = element("span", "quiet");
  if (data.multi_label) facts.append(rolesOfSets(example).map((each) => `${say(each.role)} ${each.topic} ${percent(each.probability)}`).join(" · "));
  else {
    if (named) facts.append(`${gold} → ${told ?? say("none")} `);
    facts.append(element("span", "digits", probability === null ? "–" : percent(probability)));
  }
  entry.append(element("span", "text", text), " ", facts);
  return entry;
}

function drawConfusions() {
  if (!tested.confusions.length) return [];
  const list = element("ol", "confusions");
  for (const { gold, told, rows } of tested.confusions) {
    const entry = element("li"), button = element("button", "plain", `${gold} → ${told ?? say("none")} `);
    button.type = "button";
    button.append(element("span", "digits", count(rows)));
    button.addEventListener("click", () => {
      document.querySelector(`[data-cell="${placeOf(gold)},${told === null ? tested.confusion.labels.length : placeOf(told)}"]`).click();
      at("cell").scrollIntoView({ block: "nearest" });
    });
    entry.append(button);
    list.append(entry);
  }
  return [element("h3", "", say("confusions")), list];
}

function placeOf(topic) {
  const place = tested.confusion.labels.indexOf(topic);
  return place < 0 ? tested.confusion.labels.indexOf(null) : place;
}

// Probabilities

const WIDTH = 360, HEIGHT = 300, LEFT = 46, RIGHT = 22, TOP = 30, BOTTOM = 44;

function shape(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

// A square of axes from 0 to 1 across, and from ``low`` to 1 upwards; x and y say where a value stands.
function axes(across, upwards, low) {
  const drawing = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${upwards} / ${across}` });
  const x = (value) => LEFT + value * (WIDTH - LEFT - RIGHT), y = (value) => HEIGHT - BOTTOM - ((value - low) / (1 - low)) * (HEIGHT - BOTTOM - TOP);
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const value = low + part * (1 - low);
    drawing.append(shape("line", { class: "grid", x1: x(0), x2: x(1), y1: y(value), y2: y(value) }));
    drawing.append(shape("text", { x: x(0) - 6, y: y(value) + 4, "text-anchor": "end" }, round(value)));
    drawing.append(shape("text", { x: x(part), y: y(low) + 16, "text-anchor": "middle" }, `${100 * part}%`));
  }
  drawing.append(shape("text", { class: "axis", x: x(0.5), y: HEIGHT - 8, "text-anchor": "middle" }, across));
  drawing.append(shape("text", { class: "axis", x: 4, y: 14 }, upwards));
  return { drawing, x, y };
}

const path = (points) => points.map(([across, up], place) => `${place ? "L" : "M"}${across.toFixed(1)} ${up.toFixed(1)}`).join("");

function drawCertainty() {
  const pair = element("div", "pair");
  pair.append(drawReliability());
  if (tested.coverage) pair.append(drawCoverage());
  return [pair];
}

function drawReliability() {
  const { drawing, x, y } = axes(say("claimed"), say("correct"), 0), holder = element("figure", "reliability");
  drawing.append(shape("path", { class: "ideal", d: path([[x(0), y(0)], [x(1), y(1)]]) }));
  drawing.append(shape("path", { class: "curve", d: path(tested.reliability.map((bin) => [x(bin.claimed), y(bin.correct)])) }));
  const most = Math.max(...tested.reliability.map((bin) => bin.rows), 1);
  for (const bin of tested.reliability) {
    const dot = shape("circle", { class: "dot", cx: x(bin.claimed), cy: y(bin.correct), r: (2.5 + 8 * Math.sqrt(bin.rows / most)).toFixed(1) });
    dot.append(shape("title", {}, say("inBin")(bin)));
    drawing.append(dot);
  }
  const caption = element("figcaption"), [figures] = Object.values(tested.figures);
  caption.append(`${say("expected_calibration_error")} `, element("b", "", share(figures.expected_calibration_error)));
  holder.append(drawing, caption);
  return holder;
}

function drawCoverage() {
  const { points, asked } = tested.coverage, holder = element("figure", "coverage");
  if (!points.length) return holder;
  const least = Math.min(...points.map((point) => point.precision)), low = Math.min(0.95, Math.floor(20 * least) / 20);
  const { drawing, x, y } = axes(say("coverage"), say("correct"), low), marker = shape("circle", { class: "dot", r: 5 });
  drawing.append(shape("path", { class: "curve", d: path(points.map((point) => [x(point.coverage), y(point.precision)])) }), marker);
  const slider = element("input"), said = element("output"), label = element("label", "slider", say("tellMore"));
  Object.assign(slider, { type: "range", min: 0, max: points.length - 1, step: 1, value: chosen.point ?? points.length - 1 });
  const move = () => {
    chosen.point = Number(slider.value);
    const point = points[chosen.point];
    marker.setAttribute("cx", String(x(point.coverage)));
    marker.setAttribute("cy", String(y(point.precision)));
    said.textContent = say("atPoint")(point);
  };
  slider.addEventListener("input", move);
  move();
  label.append(slider);
  const caption = element("figcaption");
  caption.append(label, said);
  holder.append(drawing, caption);
  if (asked.length)
    holder.append(table("asked", [say("askedFor"), say("toldShare"), say("tellFrom")], asked.map((each) => line([round(each.asked), percent(each.coverage), each.probability.toFixed(3)]))));
  return holder;
}

// Errors

function drawErrors() {
  return tested.errors.map(drawError);
}

function drawError(error) {
  const row = element("div", "paragraph"), margin = element("div", "margin"), content = element("div", "content");
  const explained = error.explanation ? Object.keys(error.explanation.scores) : [];
  const roles = data.multi_label ? rolesOfSets(error) : rolesOf(error, explained);
  const part = { ...error, topic: error.told };
  const chips = roles.map(({ topic, role, probability }) => {
    const chip = drawRole(topic, role, explained.includes(topic));
    if (explained.includes(topic)) chip.addEventListener("click", () => choose(topic));
    margin.append(element("span", "number", probability === null ? say(role) : `${say(role)} ${percent(probability)}`), chip);
    return [topic, chip];
  });
  function choose(topic) {
    for (const [other, chip] of chips) chip.setAttribute("aria-pressed", String(other === topic));
    fill(content, part, explained.includes(topic) ? topic : undefined);
  }
  choose(roles[0].topic);
  row.append(margin, content);
  return row;
}

// What each topic of an error is to it: what it was told and what is right, and what else the text by itself speaks for.
function rolesOf({ told, gold, probability }, explained) {
  const others = explained.filter((topic) => topic !== told && topic !== gold);
  return [
    { topic: told, role: "told", probability },
    { topic: gold, role: "gold", probability: null },
    ...others.map((topic) => ({ topic, role: "byItself", probability: null })),
  ];
}

// Where a text may have several topics: what was wrong first, the most certain before the others.
function rolesOfSets({ topics }) {
  const roleOf = ({ gold, told }) => (!told ? "missed" : gold ? "rightlyTold" : "wronglyTold");
  return topics.map((each) => ({ ...each, role: roleOf(each) }));
}

function drawRole(topic, role, explained) {
  const chip = colour(element(explained ? "button" : "span", `chip role ${role}${explained ? "" : " fixed"}`), topic);
  if (explained) chip.type = "button";
  chip.append(element("span", "name", topic ?? say("none")));
  return chip;
}

// What it learnt, and from what

function drawTermsOfTopics() {
  const list = element("dl", "known");
  for (const [topic, terms] of Object.entries(data.terms)) {
    const cell = element("dd");
    cell.append(...terms.map((term) => element("span", "term", term.trim() ? term : "␣")));
    list.append(element("dt", "", topic), cell);
  }
  return [list];
}

function drawCorpora() {
  const roles = Object.keys(data.data), each = (tell) => roles.map((role) => tell(data.data[role]));
  const found = Object.keys(say("findings")).filter((kind) => roles.some((role) => kind in data.data[role].findings));
  const rows = [
    line([say("name"), ...each((corpus) => corpus.name)]),
    line([say("rows"), ...each((corpus) => count(corpus.rows))]),
    line([say("documents"), ...each((corpus) => count(corpus.documents))]),
    line([say("nTopics"), ...each((corpus) => count(corpus.topics))]),
    line([say("imbalance"), ...each((corpus) => `${corpus.imbalance.toFixed(1)} : 1`)]),
    ...found.map((kind) => line([say("findings")[kind], ...each((corpus) => count(corpus.findings[kind] || 0))])),
    line([say("digest"), ...each((corpus) => element("code", "", corpus.digest))]),
  ];
  return [table("facts", ["", ...roles.map(say)], rows), ...drawLeakage()];
}

function drawLeakage() {
  if (!data.leakage) return [];
  const { rows, exact, near, contradicting, documents } = data.leakage;
  const told = (n) => `${count(n)}  (${percent(n / rows)})`;
  const lines = [[say("exact"), told(exact)], [say("near"), told(near)], [say("contradicting"), told(contradicting)], [say("sharedDocuments"), count(documents)]];
  return [element("h3", "", `${say("test")}: ${say("sharedWith")}`), table("facts", null, lines.map((cells) => line(cells)))];
}

function drawProvenance() {
  const facts = Object.entries(say("facts")).filter(([name]) => data.provenance[name]);
  const shown = (value) => (typeof value === "number" ? count(Math.round(10 * value) / 10) : element("code", "", value));
  const settings = Object.entries(data.settings).map(([key, value]) => line([element("code", "", key), element("code", "", JSON.stringify(value))]));
  return [
    table("facts", null, facts.map(([name, label]) => line([label, shown(data.provenance[name])]))),
    folded(say("versions"), Object.entries(data.versions).map((pair) => line(pair))),
    folded(say("settings"), settings),
  ];
}

function folded(title, rows) {
  const made = element("details");
  made.append(element("summary", "", title), table("facts", null, rows));
  return made;
}
