// How the map is moved and asked: mouse, touch and keyboard.
const fingers = new Map();
let moved = 0;

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

frame.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  frame.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, place(event));
  if (fingers.size === 1) moved = 0;
});

frame.addEventListener("pointermove", (event) => {
  const [x, y] = place(event), before = fingers.get(event.pointerId);
  if (!before) {
    if (event.pointerType === "mouse") point(nearest(x, y, NEAR));
    return;
  }
  const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
  if (others.length === 1) {
    const [other] = others, was = Math.hypot(before[0] - other[0], before[1] - other[1]);
    const is = Math.hypot(x - other[0], y - other[1]);
    if (was > 0 && is > 0) zoomBy(is / was, (x + other[0]) / 2, (y + other[1]) / 2);
    pan((x - before[0]) / 2, (y - before[1]) / 2);
    moved = Infinity;
  } else if (!others.length) {
    moved += Math.hypot(x - before[0], y - before[1]);
    if (moved > 4) {
      frame.classList.add("dragged");
      pan(x - before[0], y - before[1]);
    }
  }
  fingers.set(event.pointerId, [x, y]);
});

for (const name of ["pointerup", "pointercancel"])
  frame.addEventListener(name, (event) => {
    if (fingers.delete(event.pointerId) && name === "pointerup" && moved <= 4)
      pin(nearest(...place(event), event.pointerType === "mouse" ? NEAR : 2 * NEAR));
    if (!fingers.size) frame.classList.remove("dragged");
  });

frame.addEventListener("pointerleave", () => point(-1));
frame.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY / (event.deltaMode ? 20 : 400)), ...place(event));
}, { passive: false });

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const closer = () => zoomBy(1.5), wider = () => zoomBy(1 / 1.5);
const KEYS = { "+": closer, "=": closer, "-": wider, 0: whole, Escape: () => pin(-1) };

frame.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (arrow && event.shiftKey) pan(-STEP * arrow[0], -STEP * arrow[1]);
  else if (arrow && pinned < 0) pin(nearest(frame.clientWidth / 2, frame.clientHeight / 2));
  else if (arrow) {
    const next = towards(pinned, ...arrow);
    if (next >= 0) pin(next);
  } else if (event.key in KEYS) KEYS[event.key]();
  else return;
  event.preventDefault();
});

function whole() { view = fitted(); redraw(); }

byId("closer").onclick = closer;
byId("wider").onclick = wider;
byId("whole").onclick = whole;
byId("by").append(...data.colourings.map((each) => new Option(each.name)));
byId("by").onchange = () => { by = data.colourings[byId("by").selectedIndex]; only = new Set(); legend(); colour(); };
for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"])
  matchMedia(query).addEventListener("change", colour);
new ResizeObserver(resize).observe(frame);
legend();
colour();
