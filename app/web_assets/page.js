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
let several = []; // files, where there are more than one

document.documentElement.classList.add("scripted");

function say(text) {
  note.textContent = text;
  note.hidden = !text;
}

function alarm(message) {
  const paragraph = document.createElement("p");
  paragraph.className = "error";
  paragraph.setAttribute("role", "alert");
  paragraph.textContent = message;
  return paragraph;
}

function show(message) {
  result.replaceChildren(alarm(message));
}

const megabytes = (bytes) => (bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 });

function tooLarge(chosen) {
  const most = Number(form.dataset.maxBytes);
  if (!chosen || chosen.size <= most) return "";
  return `This file is too large: ${megabytes(chosen.size)} MB. At most ${megabytes(most)} MB, please.`;
}

function models() {
  return [form.elements.model.value, form.elements.beside.value].filter(Boolean);
}

// What stands in the answer's place: that of one model, or a part for each of two.
async function classify(submitter) {
  running?.abort();
  if (several.length) return classifySeveral();
  const wrong = tooLarge(file.files[0]);
  if (wrong) return show(wrong);
  const mine = (running = new AbortController());
  result.classList.add("waiting");
  try {
    const before = submitter?.closest("[data-model]"); // the answer whose heat map another class is wanted of
    const names = before ? [before.dataset.model] : models();
    const parts = [];
    for (const name of names) parts.push(await answered(name, submitter, mine.signal));
    const focused = result.contains(document.activeElement) ? document.activeElement.value : null;
    if (before) before.replaceWith(...parts);
    else result.replaceChildren(...parts);
    lay();
    for (const twice of result.querySelectorAll("[data-model] + [data-model] [id]")) twice.removeAttribute("id");
    if (focused !== null) (parts[0].querySelector(`button[value="${focused}"]`) ?? result).focus({ preventScroll: true });
  } catch (error) {
    if (error.name === "AbortError") return;
    show("The server can't be reached. Is it still running?");
  }
  result.classList.remove("waiting");
  keep();
  if (result.getBoundingClientRect().top > window.innerHeight * 0.6) result.scrollIntoView({ behavior: "smooth" });
}

async function answered(name, submitter, signal) {
  const data = new FormData(form, submitter);
  data.set("model", name);
  const answer = await fetch(form.action, { method: "POST", body: data, signal });
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("result");
  const part = document.createElement("div");
  part.dataset.model = name;
  part.append(...(fresh ? fresh.childNodes : [alarm("The server is too busy. Please try again in a moment.")]));
  return part;
}

function lay() {
  result.classList.toggle("beside", result.querySelectorAll(":scope > [data-model]").length === 2);
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
  lay();
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

// One file is classified as if it had been chosen from the list; of more there is a table.
function choose(files) {
  const holder = new DataTransfer();
  if (files.length === 1) holder.items.add(files[0]);
  file.files = holder.files;
  several = files.length > 1 ? files : [];
  forget();
  say("");
  if (!files.length) return;
  for (const radio of form.querySelectorAll("[name=example]")) radio.checked = false;
  if (!several.length) preview.src = URL.createObjectURL(files[0]);
  classify();
}

preview.addEventListener("load", () => (preview.hidden = false));
preview.addEventListener("error", () => (preview.hidden = true));
file.multiple = true;
file.addEventListener("change", () => choose([...file.files]));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  classify(event.submitter);
});
form.addEventListener("change", (event) => {
  if (event.target.name === "example") {
    file.value = "";
    several = [];
    forget();
    say("");
    classify();
  } else if (["model", "beside"].includes(event.target.name)) {
    if (several.length || file.files.length || form.querySelector("[name=example]:checked")) classify();
  }
});
document.addEventListener("paste", (event) => {
  const images = [...event.clipboardData.files].filter((item) => item.type.startsWith("image/"));
  if (images.length) choose(images);
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
  if (event.dataTransfer.files.length) choose([...event.dataTransfer.files]);
  else say("No file was dropped. Save an image of another page first, or copy it and paste it here.");
});
window.addEventListener("pageshow", restore);
