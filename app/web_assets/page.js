// Without this script the form works too, by a plain request; with it an image can be pasted or dropped, stays chosen
// while models and classes change, and is not sent where the server would reject it; Back shows the last answer again.
"use strict";

const form = document.getElementById("classify");
const result = document.getElementById("result");
const drop = document.getElementById("drop");
const preview = document.getElementById("preview");
const note = document.getElementById("note");
const file = form.elements.image;
let running = null;

document.documentElement.classList.add("scripted");

function say(text) {
  note.textContent = text;
  note.hidden = !text;
}

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
    const focused = result.contains(document.activeElement) ? document.activeElement.value : null;
    result.replaceChildren(...(fresh ? fresh.childNodes : []));
    if (focused !== null) (result.querySelector(`button[value="${focused}"]`) ?? result).focus({ preventScroll: true });
    if (!fresh) show("The server is too busy. Please try again in a moment.");
  } catch (error) {
    if (error.name === "AbortError") return;
    show("The server can't be reached. Is it still running?");
  }
  result.classList.remove("waiting");
  keep();
  if (result.getBoundingClientRect().top > window.innerHeight * 0.6) result.scrollIntoView({ behavior: "smooth" });
}

function keep() {
  try {
    sessionStorage.setItem("answer", result.innerHTML);
  } catch {
    sessionStorage.removeItem("answer"); // too large
  }
}

// The browser brings back the form, but a file only where it was chosen from a list.
function restore() {
  const kept = sessionStorage.getItem("answer");
  if (!kept || performance.getEntriesByType("navigation")[0]?.type !== "back_forward") return;
  result.innerHTML = kept;
  if (file.files.length) {
    preview.src = URL.createObjectURL(file.files[0]);
  } else if (!form.querySelector("[name=example]:checked")) {
    for (const button of result.querySelectorAll("button")) button.remove(); // they would send no image
  }
}

function forget() {
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.hidden = true;
  preview.removeAttribute("src");
}

function chooseFirst(files) {
  const holder = new DataTransfer();
  holder.items.add(files[0]);
  file.files = holder.files;
  fileChosen();
  if (files.length > 1) say(`One image at a time: ${files[0].name} was taken, the first of ${files.length} files.`);
}

function fileChosen() {
  forget();
  say("");
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
    say("");
    classify();
  } else if (event.target.name === "model" && (file.files.length || form.querySelector("[name=example]:checked"))) {
    classify();
  }
});
document.addEventListener("paste", (event) => {
  const images = [...event.clipboardData.files].filter((item) => item.type.startsWith("image/"));
  if (images.length) chooseFirst(images);
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
  if (event.dataTransfer.files.length) chooseFirst(event.dataTransfer.files);
  else say("No file was dropped. Save an image of another page first, or copy it and paste it here.");
});
window.addEventListener("pageshow", restore);
