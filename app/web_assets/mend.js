// Without this script each form works, too, by a plain request; with it a decision is one key, and the page stays.
"use strict";

const tiles = document.getElementById("tiles");
const said = document.getElementById("said");
const made = []; // keys of images, in the order in which this window decided on them

document.documentElement.classList.add("scripted");

const tileOf = (element) => element.closest?.(".tile");
const first = (tile) => tile?.querySelector("button, input:not([type=hidden])");
const named = (key) => [...tiles.children].find((tile) => tile.dataset.key === key);

function complain(tile, text) {
  const paragraph = document.createElement("p");
  paragraph.className = "error";
  paragraph.setAttribute("role", "alert");
  paragraph.textContent = text;
  tile.querySelector("[role=alert]")?.remove();
  tile.append(paragraph);
}

async function send(form, button) {
  const tile = tileOf(form);
  if (tile.classList.contains("waiting")) return;
  tile.classList.add("waiting");
  const body = new URLSearchParams(new FormData(form, button));
  body.set("part", "1");
  const isUndo = button.value === "undo";
  let fresh = null;
  let answer = null;
  try {
    answer = await fetch(form.getAttribute("action"), { method: "POST", body }); // form.action is a button
    const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
    fresh = parsed.querySelector(".tile[data-key]");
    if (!fresh) complain(tile, parsed.querySelector("[role=alert]")?.textContent ?? "The server did not take it.");
  } catch {
    complain(tile, "The server can't be reached. Is it still running?");
  }
  tile.classList.remove("waiting");
  if (!fresh) return;
  tile.replaceWith(fresh);
  const place = made.lastIndexOf(tile.dataset.key);
  if (isUndo && place >= 0) made.splice(place, 1);
  if (!answer.ok) return first(fresh)?.focus();
  if (!isUndo) made.push(tile.dataset.key);
  const state = fresh.querySelector(".state")?.textContent ?? "undecided again";
  said.textContent = `${fresh.querySelector(".about b")?.textContent ?? "image"}: ${state}`;
  let next = fresh;
  while (!isUndo && next?.classList.contains("decided")) next = next.nextElementSibling;
  first(next ?? fresh)?.focus();
}

function move(tile, step) {
  const next = step > 0 ? tile.nextElementSibling : tile.previousElementSibling;
  first(next)?.focus();
}

function undo() {
  const tile = named(made.at(-1));
  const button = tile?.querySelector("[value=undo]");
  if (button) send(button.form, button);
}

tiles?.addEventListener("submit", (event) => {
  event.preventDefault();
  send(event.target, event.submitter);
});
document.addEventListener("keydown", (event) => {
  if (!tiles || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const tile = tileOf(event.target);
  if (event.target.matches?.("input")) {
    if (event.key === "Escape") first(tile)?.focus();
    return;
  }
  if (!tile) {
    if (event.key !== "ArrowDown" || event.target !== document.body) return;
    first(tiles.querySelector(".tile:not(.decided)") ?? tiles.firstElementChild)?.focus();
  } else if (event.key === "ArrowRight" || event.key === "ArrowDown") move(tile, 1);
  else if (event.key === "ArrowLeft" || event.key === "ArrowUp") move(tile, -1);
  else if (event.key === "c") tile.querySelector(".other input:not([type=hidden])")?.focus();
  else if (event.key === "u" && made.length) undo();
  else {
    const button = tile.querySelector(`[data-short="${CSS.escape(event.key)}"]`);
    if (!button) return;
    send(button.form, button);
  }
  event.preventDefault();
});
