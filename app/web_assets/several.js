// Several images: a table with a row each, sorted by any column, to be kept as CSV. The server is asked as programs ask
// it, for one image after another, so that a long list takes no more of it than a short one.
"use strict";

async function classifySeveral() {
  const mine = (running = new AbortController());
  const names = models();
  const columns = names.length > 1 ? names : [""];
  const headings = ["file", ...columns.flatMap((name) => [`class${name && ` by ${name}`}`, "probability"])];
  const rows = [];
  const { table, body, status, save } = frame(headings, rows);
  result.classList.remove("waiting", "beside");
  result.replaceChildren(table);
  for (const [number, image] of several.entries()) {
    status.textContent = `${number} of ${several.length} images`;
    const row = { image, cells: [image.name] };
    try {
      for (const name of names) row.cells.push(...(await ask(image, name, mine.signal)));
    } catch (error) {
      if (error.name === "AbortError") return;
      body.closest(".scroll").before(alarm("The server can't be reached. Is it still running?"));
      break;
    }
    rows.push(row);
    body.append(drawn(row));
  }
  status.textContent = `${rows.length} images`;
  save.hidden = !rows.length;
  sessionStorage.removeItem("answer"); // files are not kept
}

async function ask(image, name, signal) {
  const wrong = tooLarge(image);
  if (wrong) return [wrong, null];
  const data = new FormData();
  data.set("image", image);
  data.set("model", name);
  data.set("top", "1");
  for (;;) {
    const answer = await fetch("api/predict", { method: "POST", body: data, signal });
    const found = await answer.json();
    const later = Number(answer.headers.get("Retry-After"));
    if (answer.ok) return [`${found.unlike ? "unlike the training images: " : ""}${found.classes[0].class}`, found.classes[0].probability];
    if (!later) return [found.error, null];
    await new Promise((resolve) => setTimeout(resolve, later * 1000));
    signal.throwIfAborted();
  }
}

const shown = (cell) => (typeof cell === "number" ? cell.toFixed(4) : (cell ?? ""));

function drawn({ image, cells }) {
  const row = document.createElement("tr");
  const picture = new Image();
  picture.alt = "";
  picture.src = URL.createObjectURL(image);
  picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
  row.insertCell().append(picture);
  const open = document.createElement("button");
  open.type = "button";
  open.textContent = cells[0];
  open.addEventListener("click", () => choose([image]));
  row.insertCell().append(open);
  for (const cell of cells.slice(1)) row.insertCell().textContent = shown(cell);
  return row;
}

function frame(headings, rows) {
  const holder = document.createElement("div");
  holder.innerHTML = `<div class="several"><h2>Several images</h2><span role="status"></span>
    <button type="button" hidden>Download CSV</button></div>
    <div class="scroll several plain" tabindex="0" role="region" aria-label="Classes of the images"><table>
    <thead><tr><th><span class="unseen">image</span></th></tr></thead><tbody></tbody></table></div>`;
  const body = holder.querySelector("tbody");
  const save = holder.querySelector("button");
  save.addEventListener("click", () => download(headings, rows));
  headings.forEach((heading, column) => {
    const cell = document.createElement("th");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading;
    button.addEventListener("click", () => {
      const rising = cell.getAttribute("aria-sort") !== "ascending";
      for (const other of cell.parentNode.children) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
      rows.sort((one, two) => (rising ? 1 : -1) * compared(one.cells[column], two.cells[column]));
      body.replaceChildren(...rows.map(drawn));
    });
    cell.append(button);
    holder.querySelector("tr").append(cell);
  });
  return { table: holder, body, save, status: holder.querySelector("[role=status]") };
}

function compared(one, two) {
  if (typeof one === "number" && typeof two === "number") return one - two;
  return String(one ?? "").localeCompare(String(two ?? ""), undefined, { numeric: true });
}

// A cell that a spreadsheet would take for a formula begins with an apostrophe, as in all our tables.
function download(headings, rows) {
  const safe = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
  const cell = (value) => `"${safe(String(value ?? "")).replaceAll('"', '""')}"`;
  const lines = [headings, ...rows.map((row) => row.cells)].map((cells) => cells.map(cell).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
  link.download = "predictions.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}
