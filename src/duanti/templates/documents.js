// Draws whole documents with their topics down the margin.

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
  const chips = told.map((each, place) => drawChip(each, place === 0, part.explanation));
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
