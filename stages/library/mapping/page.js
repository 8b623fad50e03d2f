"use strict";
// Draws all points into one bitmap, pixel by pixel: 50,000 of them are a few milliseconds, with no graphics card.
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const frame = byId("frame"), canvas = byId("map"), pen = canvas.getContext("2d", { alpha: false });
const count = data.names.length;
const [xs, ys] = [data.x, data.y].map((values) => Float32Array.from(values, (value) => value / data.one));
const MARKS = ["●", "■", "▲", "◆", "✖"];
// Whether a mark covers the pixel (x, y), by its radius r.
const COVERS = [
  (x, y, r) => x * x + y * y <= r * r + 0.5,
  (x, y, r) => Math.max(Math.abs(x), Math.abs(y)) <= 0.85 * r,
  (x, y, r) => y >= -r && y <= 0.8 * r && Math.abs(x) <= (y + r) * 0.6,
  (x, y, r) => Math.abs(x) + Math.abs(y) <= 1.2 * r,
  (x, y, r) => Math.abs(Math.abs(x) - Math.abs(y)) <= r / 3 && Math.abs(x) <= r && Math.abs(y) <= r,
];
const MARGIN = 24, NEAR = 20, FEW = 150, TILE = 40, QUIET_MARK = 0, STEP = 80, MOST = 4000;
let view = { scale: 1, x: 0, y: 0 }; // a place times the scale, plus x or y, is in CSS pixels from the frame's corner
let ratio = 1, width = 0, height = 0, bitmap, pixels;
let by = data.colourings[0], only = new Set(), sequence, paints, marks, loud = 0, ground = "#fff";
let pinned = -1, pointed = -1, waiting = false;
const sheets = data.sheets.map(() => null);

function sheet(index) {
  if (!sheets[index]) {
    sheets[index] = new Image();
    sheets[index].onload = () => { redraw(); if (current() >= 0) show(current()); };
    sheets[index].src = "data:image/jpeg;base64," + data.sheets[index];
  }
  return sheets[index].complete && sheets[index].naturalWidth ? sheets[index] : null;
}

function tile(target, index, x, y, side) {
  const perSheet = data.columns * data.columns, place = index % perSheet;
  const source = sheet(Math.floor(index / perSheet));
  if (!source) return;
  target.imageSmoothingEnabled = data.side > 24;
  const left = (place % data.columns) * data.side, top = Math.floor(place / data.columns) * data.side;
  target.drawImage(source, left, top, data.side, data.side, x, y, side, side);
}

const current = () => (pointed >= 0 ? pointed : pinned);
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (colour) => parseInt(colour.slice(5, 7) + colour.slice(3, 5) + colour.slice(1, 3), 16) | (255 << 24);
const isQuiet = (category) => (only.size ? !only.has(category) : category === by.quiet);
const look = (category, colours) => [colours[category % colours.length], category % MARKS.length];

// Gives each point its colour and mark; those in grey come first, so that the others lie on them.
function colour() {
  const colours = style("--colours").split(" "), quiet = style("--quiet");
  const parts = getComputedStyle(frame).backgroundColor.match(/\d+/g).map(Number);
  ground = "#" + parts.slice(0, 3).map((part) => part.toString(16).padStart(2, "0")).join("");
  paints = new Int32Array(count);
  marks = new Uint8Array(count);
  const first = [], last = [];
  for (let index = 0; index < count; index++) {
    const category = by.of[index], hushed = isQuiet(category), [paint, mark] = look(category, colours);
    paints[index] = number(hushed ? quiet : paint);
    marks[index] = hushed ? QUIET_MARK : mark;
    (hushed ? first : last).push(index);
  }
  sequence = Int32Array.from([...first, ...last]);
  loud = first.length;
  for (const button of byId("legend").querySelectorAll("button")) {
    const category = Number(button.value), [paint, mark] = look(category, colours);
    button.firstChild.textContent = MARKS[category === by.quiet ? QUIET_MARK : mark];
    button.firstChild.style.color = category === by.quiet ? quiet : paint;
    button.setAttribute("aria-pressed", only.has(category));
  }
  redraw();
}

function legend() {
  const counts = by.categories.map(() => 0), list = byId("legend");
  for (const category of by.of) counts[category]++;
  byId("kind").textContent = by.name;
  list.replaceChildren(...by.categories.flatMap((name, category) => {
    if (!counts[category]) return [];
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    button.value = category;
    for (const [kind, text] of [["mark", ""], ["name", name], ["count", counts[category].toLocaleString("en")]]) {
      const part = document.createElement("span");
      part.className = kind;
      part.textContent = text;
      button.append(part);
    }
    button.firstChild.setAttribute("aria-hidden", true);
    button.onclick = () => { only.delete(category) || only.add(category); colour(); };
    item.append(button);
    return [item];
  }));
}

// The pixels that a mark covers, from its middle.
function stamp(mark, radius) {
  const found = [], reach = Math.ceil(radius);
  for (let y = -reach; y <= reach; y++)
    for (let x = -reach; x <= reach; x++) if (COVERS[mark](x, y, radius)) found.push(y * width + x);
  return Int32Array.from(found);
}

function draw() {
  waiting = false;
  pixels.fill(number(ground));
  const zoom = view.scale / fitted().scale;
  const base = (count > 20000 ? 1.4 : count > 4000 ? 2.2 : 3.2) * Math.min(2.2, zoom ** 0.4);
  const radii = [base * 0.75 * ratio, base * ratio].map((radius) => Math.max(1, radius));
  const stamps = radii.map((radius) => COVERS.map((_, mark) => stamp(mark, radius)));
  const reach = Math.ceil(radii[1]), inView = [];
  for (let each = 0; each < count; each++) {
    const index = sequence[each];
    const x = Math.round((xs[index] * view.scale + view.x) * ratio);
    const y = Math.round((ys[index] * view.scale + view.y) * ratio);
    if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
    if (inView.length <= FEW) inView.push(index);
    const offsets = stamps[each < loud ? 0 : 1][marks[index]], middle = y * width + x, paint = paints[index];
    for (let part = 0; part < offsets.length; part++) pixels[middle + offsets[part]] = paint;
  }
  pen.putImageData(bitmap, 0, 0);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (inView.length <= FEW && zoom > 1) inView.forEach((index) => framed(index, TILE));
  if (current() >= 0) ring(current());
  pen.setTransform(1, 0, 0, 1, 0, 0);
}

function framed(index, side) {
  const [x, y] = at(index).map((middle) => middle - side / 2);
  pen.fillStyle = "#" + (paints[index] & 0xffffff).toString(16).padStart(6, "0").replace(/(..)(..)(..)/, "$3$2$1");
  pen.fillRect(x - 3, y - 3, side + 6, side + 6);
  tile(pen, index, x, y, side);
}

function ring(index) {
  for (const [paint, line] of [[ground, 6], [style("--ink"), 2.5]]) {
    pen.beginPath();
    pen.arc(...at(index), 10, 0, 2 * Math.PI);
    pen.strokeStyle = paint === "CanvasText" ? getComputedStyle(document.body).color : paint;
    pen.lineWidth = line;
    pen.stroke();
  }
}

const at = (index) => [xs[index] * view.scale + view.x, ys[index] * view.scale + view.y];
function redraw() { if (!waiting && bitmap) { waiting = true; requestAnimationFrame(draw); } }

function fitted() {
  const [w, h] = [width / ratio, height / ratio], scale = Math.max(50, Math.min(w, h) - 2 * MARGIN);
  return { scale, x: (w - scale) / 2, y: (h - scale) / 2 };
}

function resize() {
  const before = bitmap ? { zoom: view.scale / fitted().scale, x: (width / ratio / 2 - view.x) / view.scale,
    y: (height / ratio / 2 - view.y) / view.scale } : { zoom: 1, x: 0.5, y: 0.5 };
  ratio = Math.min(devicePixelRatio || 1, 2);
  width = canvas.width = Math.max(1, Math.round(frame.clientWidth * ratio));
  height = canvas.height = Math.max(1, Math.round(frame.clientHeight * ratio));
  bitmap = pen.createImageData(width, height);
  pixels = new Int32Array(bitmap.data.buffer);
  const scale = fitted().scale * before.zoom;
  view = { scale, x: width / ratio / 2 - before.x * scale, y: height / ratio / 2 - before.y * scale };
  redraw();
}

function zoomBy(factor, x = frame.clientWidth / 2, y = frame.clientHeight / 2) {
  const whole = fitted().scale, scale = Math.min(whole * MOST, Math.max(whole / 2, view.scale * factor));
  const changed = scale / view.scale;
  view = { scale, x: x - (x - view.x) * changed, y: y - (y - view.y) * changed };
  redraw();
}

function pan(dx, dy) { view.x += dx; view.y += dy; redraw(); }

function nearest(x, y, within = Infinity) {
  let best = -1, least = within * within;
  for (let index = 0; index < count; index++) {
    const dx = xs[index] * view.scale + view.x - x, dy = ys[index] * view.scale + view.y - y, far = dx * dx + dy * dy;
    if (far <= least) [best, least] = [index, far];
  }
  return best;
}

// The next image in a direction: near, and more along it than beside it.
function towards(index, dx, dy) {
  const [x, y] = at(index);
  let best = -1, least = Infinity;
  for (let other = 0; other < count; other++) {
    const [ox, oy] = at(other).map((value, axis) => value - (axis ? y : x));
    const along = ox * dx + oy * dy, beside = Math.abs(ox * dy) + Math.abs(oy * dx);
    if (along > 0 && beside <= along * 1.5 && along + 2 * beside < least) [best, least] = [other, along + 2 * beside];
  }
  return best;
}

function show(index) {
  const picture = byId("picture"), rows = [];
  byId("hint").hidden = index >= 0;
  picture.hidden = index < 0;
  if (index >= 0) {
    picture.width = picture.height = 320;
    picture.setAttribute("aria-label", data.names[index]);
    tile(picture.getContext("2d"), index, 0, 0, 320);
    rows.push(["File", data.names[index]]);
    for (const each of data.colourings) rows.push([each.name, each.categories[each.of[index]]]);
    rows.push(["Prediction", data.predictions.texts[data.predictions.of[index]]]);
  }
  byId("facts").replaceChildren(...rows.flatMap(([name, text]) => {
    const term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    return [term, value];
  }));
  redraw();
}

function pin(index) {
  [pinned, pointed] = [index, -1];
  show(index);
  if (index < 0) return;
  const [x, y] = at(index), [w, h] = [frame.clientWidth, frame.clientHeight];
  if (x < MARGIN || y < MARGIN || x > w - MARGIN || y > h - MARGIN) pan(w / 2 - x, h / 2 - y);
}

function point(index) {
  if (index === pointed) return;
  pointed = index;
  show(current());
}
