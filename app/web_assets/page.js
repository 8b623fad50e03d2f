// Without this script the form works too, by a plain request; with it an image can be pasted or dropped, stays chosen
// while models and classes change, and is not sent where the server would reject it.
"use strict";

const form = document.getElementById("classify");
const result = document.getElementById("result");
const drop = document.getElementById("drop");
const preview = document.getElementById("preview");
const file = form.elements.image;
let running = null;

document.documentElement.classList.add("scripted");

function show(message) {
  const paragraph = document.createElement("p");
  paragraph.className = "error";
  paragraph.setAttribute("role", "alert");
  paragraph.textContent = message;
  result.replaceChildren(paragraph);
}

async function classify(submitter) {
  running?.abort();
  const chosen = file.files[0];
  const megabytes = (bytes) => (bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 });
  const most = Number(form.dataset.maxBytes);
  if (chosen && chosen.size > most) {
    show(`This file is too large: ${megabytes(chosen.size)} MB. At most ${megabytes(most)} MB, please.`);
    return;
  }
  const mine = (running = new AbortController());
  result.classList.add("waiting");
  try {
    const data = new FormData(form, submitter);
    const answer = await fetch(form.action, { method: "POST", body: data, signal: mine.signal });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("result");
    result.replaceChildren(...(fresh ? fresh.childNodes : []));
    if (!fresh) show("The server is too busy. Please try again in a moment.");
  } catch (error) {
    if (error.name === "AbortError") return;
    show("The server can't be reached. Is it still running?");
  }
  result.classList.remove("waiting");
  if (result.getBoundingClientRect().top > window.innerHeight * 0.6) result.scrollIntoView({ behavior: "smooth" });
}

function forget() {
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.hidden = true;
  preview.removeAttribute("src");
}

function chooseFile(chosen) {
  const holder = new DataTransfer();
  holder.items.add(chosen);
  file.files = holder.files;
  fileChosen();
}

function fileChosen() {
  forget();
  const chosen = file.files[0];
  if (!chosen) return;
  for (const radio of form.querySelectorAll("[name=example]")) radio.checked = false;
  preview.src = URL.createObjectURL(chosen);
  classify();
}

preview.addEventListener("load", () => (preview.hidden = false));
preview.addEventListener("error", () => (preview.hidden = true));
file.addEventListener("change", fileChosen);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  classify(event.submitter);
});
form.addEventListener("change", (event) => {
  if (event.target.name === "example") {
    file.value = "";
    forget();
    classify();
  } else if (event.target.name === "model" && (file.files.length || form.querySelector("[name=example]:checked"))) {
    classify();
  }
});
document.addEventListener("paste", (event) => {
  const chosen = [...event.clipboardData.files].find((item) => item.type.startsWith("image/"));
  if (chosen) chooseFile(chosen);
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files[0]) chooseFile(event.dataTransfer.files[0]);
});
