// Draws a text shaded by what speaks for a topic, and the terms that say most.

speak({
  en: {
    for: "for", against: "against", score: "score", bias: "bias", length: "length", opening: "opening",
    inContext: "The document around it decides: by itself, this paragraph would be",
  },
  zh: { for: "支持", against: "反对", score: "分数", bias: "偏置", length: "长度", opening: "开头", inContext: "由上下文决定：单看这一段会是" },
});

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);
// A term may be both, a word and characters, and the first of the text as well.
function nameOf({ term, kind }) {
  const visible = term.trim() ? term : "␣";
  if (kind === "text_length") return `${say("length")}=${term}`;
  const marked = kind.endsWith("character") ? `[${visible}]` : kind === "prefix" ? `^${visible}` : visible;
  return kind.startsWith("opening_") ? `${say("opening")}=${marked}` : marked;
}

// The words of a paragraph, shaded by what they add to one topic, and below them the terms that say most.
function fill(content, part, topic) {
  const words = element("p", "words");
  if (!part.explanation || topic === undefined) {
    words.textContent = part.text;
    content.replaceChildren(words);
    return;
  }
  colour(content, topic);
  const characters = Array.from(part.text);
  const terms = part.explanation.terms.map((term) => ({ ...term, adds: term.contributions[topic] }));
  const { shares, over } = spread(characters.length, terms);
  const most = Math.max(...shares.map(Math.abs), 1e-12);
  const spans = characters.map((character, place) => {
    const span = element("span", "", character);
    const strength = Math.abs(shares[place]) / most;
    if (strength > 0.04) {
      span.className = shares[place] > 0 ? "for" : "against";
      span.style.setProperty("--strength", (0.08 + 0.67 * strength).toFixed(3));
    }
    span.addEventListener("pointerenter", (event) => showTerms(event, over[place], topic));
    span.addEventListener("pointerleave", hideTerms);
    return span;
  });
  words.append(...spans);
  content.replaceChildren(words, drawTerms(terms, spans, part, topic));
}

function spread(length, terms) {
  const shares = new Array(length).fill(0), over = Array.from({ length }, () => []);
  for (const term of terms) {
    const total = term.spans.reduce((sum, [begin, end]) => sum + end - begin, 0);
    const seen = new Set();
    for (const [begin, end] of term.spans)
      for (let place = begin; place < end; place++) {
        shares[place] += term.adds / total;
        if (!seen.has(place)) over[place].push(term);
        seen.add(place);
      }
  }
  return { shares, over };
}

function drawTerms(terms, spans, part, topic) {
  const list = element("dl", "terms"), { scores, bias } = part.explanation;
  const speaking = terms.filter((term) => term.adds > 0).sort((a, b) => b.adds - a.adds).slice(0, 10);
  const against = terms.filter((term) => term.adds < 0).sort((a, b) => a.adds - b.adds).slice(0, 6);
  for (const [key, chosen] of [["for", speaking], ["against", against]]) {
    if (!chosen.length) continue;
    const cell = element("dd");
    cell.append(...chosen.map((term) => drawTerm(term, spans)));
    list.append(element("dt", "", say(key)), cell);
  }
  const sum = element("dd", "digits", `${scores[topic].toFixed(3)} (${say("bias")} ${signed(bias[topic])})`);
  list.append(element("dt", "", say("score")), sum);
  const [own] = Object.entries(scores).sort((a, b) => b[1] - a[1])[0];
  if (topic === part.topic && own !== topic && !part.topics) list.append(element("dt", "", "⇅"), element("dd", "quiet", `${say("inContext")} ${own}`));
  return list;
}

function drawTerm(term, spans) {
  const node = element("span", `term${term.adds < 0 ? " negative" : ""}`, nameOf(term));
  node.append(" ", element("span", "digits", signed(term.adds)));
  const mark = (on) => term.spans.forEach(([begin, end]) => spans.slice(begin, end).forEach((span) => span.classList.toggle("marked", on)));
  node.addEventListener("pointerenter", () => mark(true));
  node.addEventListener("pointerleave", () => mark(false));
  return node;
}

function showTerms(event, terms, topic) {
  const hover = at("hover"), strongest = [...terms].sort((a, b) => Math.abs(b.adds) - Math.abs(a.adds)).slice(0, 8);
  if (!strongest.length) return;
  hover.replaceChildren(element("b", "", topic), ...strongest.map((term) => {
    const line = element("div");
    line.append(element("span", "", nameOf(term)), element("span", `digits${term.adds < 0 ? " negative" : ""}`, signed(term.adds)));
    return line;
  }));
  hover.hidden = false;
  const { width, height } = hover.getBoundingClientRect(), box = event.target.getBoundingClientRect();
  hover.style.left = `${Math.max(8, Math.min(box.left, innerWidth - width - 12))}px`;
  hover.style.top = `${box.bottom + 8 + height < innerHeight ? box.bottom + 8 : Math.max(8, box.top - height - 8)}px`;
}

function hideTerms() {
  at("hover").hidden = true;
}
