"use strict";
// What every page has: its data, its language and its head. Everything that came from data becomes text by textContent,
// never markup. The script that follows adds its own words by speak() and what it draws by draw().

const SAY = {
  en: { language: "中文", model: "Model", topics: "topics" },
  zh: { language: "English", model: "模型", topics: "个主题" },
};

const data = JSON.parse(document.getElementById("data").textContent);
let language = (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";

const at = (id) => document.getElementById(id);
const say = (key) => SAY[language][key];

function speak(words) {
  for (const each of Object.keys(SAY)) Object.assign(SAY[each], words[each]);
}

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Far apart for neighbours in the list of topics, and the same on every page of a model.
function colour(node, topic) {
  const place = Math.max(data.topics.indexOf(topic), 0);
  node.style.setProperty("--hue", String(Math.round((place * 360) / Math.max(data.topics.length, 1) + 250) % 360));
  node.style.setProperty("--c", topic === null ? "0" : place % 2 ? "0.11" : "0.16");
  return node;
}

const percent = (share) => (100 * share).toFixed(share < 0.995 && share >= 0.0005 ? 1 : 0) + "%";

function drawAll() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-say]")) node.textContent = say(node.dataset.say);
  for (const node of document.querySelectorAll("[data-placeholder]")) node.placeholder = say(node.dataset.placeholder);
  at("language").textContent = say("language");
  at("model-name").textContent = data.model;
  at("model-topics").textContent = `${data.topics.length} ${say("topics")}`;
  draw();
}

function save(text, type, name) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

at("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  drawAll();
});
