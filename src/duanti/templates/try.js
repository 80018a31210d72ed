// Asks the server this page came from, and no other.

let asked = 0;

function tell(text, failed) {
  at("status").textContent = text;
  at("status").classList.toggle("failed", Boolean(failed));
}

async function ask() {
  const text = at("text").value, number = ++asked;
  if (!text.trim()) return tell(say("empty"), true);
  const explain = Array.from(text).length <= data.explain_up_to;
  tell(say("working"));
  try {
    const answer = await fetch("api/predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text, context: at("context").checked, explain }),
    });
    const told = await answer.json().catch(() => ({}));
    if (number !== asked) return undefined; // another question was asked meanwhile
    if (!answer.ok) return tell(answer.status === 413 ? say("tooLarge") : told.error || String(answer.status), true);
    shown = [told];
    at("download").hidden = false;
    at("reading").hidden = !explain;
    tell(explain ? "" : say("tooLong"));
    return drawAll();
  } catch {
    return tell(say("lost"), true);
  }
}

async function take(file) {
  const bytes = await file.arrayBuffer();
  for (const encoding of ["utf-8", "gb18030"]) {
    try {
      at("text").value = new TextDecoder(encoding, { fatal: true }).decode(bytes);
      return ask();
    } catch {
      // the next encoding
    }
  }
  return tell(say("undecodable"), true);
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
});
at("context").addEventListener("change", () => shown.length && ask());
at("context").disabled = !data.knows_context;
if (!data.knows_context) at("context").checked = false;
at("choose").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => {
  if (at("file").files.length) take(at("file").files[0]);
});
for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("text").classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
at("download").addEventListener("click", () => {
  save(JSON.stringify(shown[0], null, 1), "application/json", "topics.json");
});
