// Draws documents with their topics down the margin.

speak({
  en: {
    why: "Why these topics", what: "What is this paragraph about?",
    howToRead: "Shaded characters speak for the topic that is chosen in the margin, underlined ones against it. Point at one to see its terms and what each adds to the score; choose another topic to see what speaks for that one. Terms in brackets are characters, those after ^ begin the text, the others are words.",
    main: "Mainly", nothing: "no topic", byFirst: "Each paragraph counts for the most probable of its topics.", characters: "characters", noTopic: "no topic", paragraph: "¶",
    paste: "Paste an article, or drop a text file here. A paragraph is a line.", placeholder: "Text in Chinese …", go: "Tell the topics",
    open: "Open a file …", context: "in the context of the document", noContext: "this model has not learnt the context of documents",
    download: "Download JSON", working: "…", empty: "There is no text.", tooLong: "Too long for highlighting: topics only.",
    tooLarge: "That is too large for this server.", lost: "The server does not answer.", undecodable: "That file is neither UTF-8 nor GB18030.",
    kinds: { lead: "lead", heading: "heading", byline: "byline", boilerplate: "boilerplate" },
  },
  zh: {
    why: "为什么是这些主题", what: "这一段讲的是什么？",
    howToRead: "底色越深的字越支持页边选中的主题，带下划线的字则相反。指向一个字，可以看到它所在的词以及每个词给分数加了多少；点页边另一个主题，看支持那个主题的是什么。方括号里的是字，^ 后面的是文本开头的字，其余是词。",
    main: "主要是", nothing: "没有主题", byFirst: "每一段按概率最高的主题计算。", characters: "字", noTopic: "没有主题", paragraph: "第",
    paste: "粘贴一篇文章，或把文本文件拖到这里。一行是一段。", placeholder: "中文文本……", go: "看看主题",
    open: "打开文件……", context: "结合全文判断", noContext: "这个模型没有学过文档的上下文",
    download: "下载 JSON", working: "……", empty: "没有文本。", tooLong: "文章太长，只给主题，不标出词。",
    tooLarge: "超过了服务器允许的大小。", lost: "服务器没有回应。", undecodable: "这个文件既不是 UTF-8 也不是 GB18030。",
    kinds: { lead: "导语", heading: "标题", byline: "署名", boilerplate: "页脚" },
  },
});

let shown = data.documents || [];

function draw() {
  if (at("context-switch")) at("context-switch").title = data.knows_context ? "" : say("noContext");
  at("documents").replaceChildren(...shown.map(drawDocument));
}

function drawDocument(whole, number) {
  const section = element("section", "document");
  section.append(drawSummary(whole, number), ...whole.paragraphs.map((part) => drawParagraph(part, number)));
  return section;
}

function drawSummary(whole, number) {
  const summary = element("div", "summary"), headline = element("div", "headline");
  if (whole.document) headline.append(element("h2", "", whole.document));
  const main = element("span", "", whole.main_topic === null ? say("nothing") : `${say("main")} `);
  if (whole.main_topic !== null) main.append(element("b", "", whole.main_topic));
  headline.append(main);
  summary.append(headline);
  if (whole.main_topic === null) return summary;
  const bar = element("div", "shares"), legend = element("ul", "legend");
  for (const [topic, share] of Object.entries(whole.shares)) {
    const piece = colour(element("span"), topic), entry = colour(element("li"), topic);
    piece.style.flexGrow = String(share);
    piece.title = `${topic} ${percent(share)}`;
    entry.append(element("i"), `${topic} `, element("span", "digits", percent(share)));
    bar.append(piece);
    legend.append(entry);
  }
  summary.append(bar, legend);
  if (whole.segments.length > 1) summary.append(drawSegments(whole.segments, number));
  if (whole.paragraphs.some((part) => part.topics?.length > 1)) summary.append(element("span", "quiet", say("byFirst")));
  return summary;
}

function drawSegments(segments, number) {
  const list = element("ol", "segments");
  for (const segment of segments) {
    const entry = colour(element("li"), segment.topic), link = element("a", "", segment.topic);
    const range = segment.first === segment.last ? `${segment.first}` : `${segment.first}–${segment.last}`;
    link.href = `#p${number}-${segment.first}`;
    entry.append(element("span", "digits", `¶${range}`), link);
    list.append(entry);
  }
  return list;
}

function drawParagraph(part, number) {
  const row = element("div", "paragraph"), margin = element("div", "margin"), content = element("div", "content");
  row.id = `p${number}-${part.paragraph}`;
  const kind = say("kinds")[part.kind];
  margin.append(element("span", "number", `¶${part.paragraph}${kind ? " · " + kind : ""}`));
  if (part.topic === null) {
    content.classList.add("none");
    margin.append(element("span", "quiet", say("noTopic")));
  }
  const told = part.topic === null ? [] : [{ topic: part.topic, probability: part.probability }, ...part.alternatives];
  const isTold = (each, place) => (part.topics ? part.topics.includes(each.topic) : place === 0);
  const chips = told.map((each, place) => drawChip(each, isTold(each, place), part.explanation));
  chips.forEach((chip, place) => {
    if (part.explanation) chip.addEventListener("click", () => choose(place));
  });
  function choose(place) {
    chips.forEach((chip, other) => chip.setAttribute("aria-pressed", String(other === place)));
    fill(content, part, place < told.length ? told[place].topic : undefined);
  }
  margin.append(...chips);
  colour(content, part.topic);
  choose(0);
  row.append(margin, content);
  return row;
}

function drawChip({ topic, probability }, first, explanation) {
  const chip = colour(element(explanation ? "button" : "span", `chip${first ? " told" : ""}${explanation ? "" : " fixed"}`), topic);
  if (explanation) chip.type = "button";
  const bar = element("span", "bar");
  bar.style.setProperty("--share", `${100 * probability}%`);
  chip.append(element("span", "name", topic), element("span", "digits", percent(probability)), bar);
  return chip;
}
