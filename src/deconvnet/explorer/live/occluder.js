// The photo as the network sees it, and a rectangle of mean grey that is drawn over it.
"use strict";

let covered = null; // {left, top, width, height} in pixels of the view

const stage = document.getElementById("stage");

function setUpOccluder() {
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("click", tap);
  stage.addEventListener("keydown", moveByKey);
  document.getElementById("uncover").addEventListener("click", () => cover(null));
}

// The pixel of the view under the pointer.
function pixel(event) {
  const box = stage.getBoundingClientRect();
  const along = (value, side) => Math.min(Math.max(Math.round((value / side) * chosen.network.crop), 0), chosen.network.crop);
  return [along(event.clientX - box.left, box.width), along(event.clientY - box.top, box.height)];
}

function drag(event) {
  if (event.button !== 0 || event.pointerType === "touch") return; // a finger scrolls the page
  const from = pixel(event);
  stage.setPointerCapture(event.pointerId);
  const move = (moved) => {
    const to = pixel(moved);
    const [width, height] = [Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])];
    if (width && height) cover({ left: Math.min(from[0], to[0]), top: Math.min(from[1], to[1]), width, height });
  };
  const end = () => stage.removeEventListener("pointermove", move);
  stage.addEventListener("pointermove", move);
  stage.addEventListener("pointerup", end, { once: true });
  stage.addEventListener("pointercancel", end, { once: true });
}

function tap(event) {
  if (event.pointerType !== "touch") return;
  const { crop } = chosen.network;
  const side = Math.max(1, Math.round(crop / 4));
  const [left, top] = pixel(event).map((middle) => Math.min(Math.max(middle - Math.round(side / 2), 0), crop - side));
  cover({ left, top, width: side, height: side });
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function moveByKey(event) {
  const { crop } = chosen.network;
  const side = Math.max(1, Math.round(crop / 4));
  if (event.key === "Enter") cover({ left: Math.round((crop - side) / 2), top: Math.round((crop - side) / 2), width: side, height: side });
  else if (event.key === "Delete" || event.key === "Backspace" || event.key === "Escape") cover(null);
  else if (Object.hasOwn(STEPS, event.key) && covered) {
    const [x, y] = STEPS[event.key].map((step) => step * Math.max(1, Math.round(crop / 56)));
    const next = { ...covered };
    const within = (value, low, high) => Math.min(Math.max(value, low), high);
    if (event.shiftKey) {
      next.width = within(next.width + x, 1, crop - next.left);
      next.height = within(next.height + y, 1, crop - next.top);
    } else {
      next.left = within(next.left + x, 0, crop - next.width);
      next.top = within(next.top + y, 0, crop - next.height);
    }
    cover(next);
  } else return;
  event.preventDefault();
}

// Lay the occluder there (null: nowhere), and show what the network makes of it.
function cover(rectangle) {
  covered = rectangle;
  const box = document.getElementById("occluder");
  box.hidden = !rectangle;
  document.getElementById("uncover").disabled = !rectangle;
  if (rectangle) {
    for (const [edge, value] of Object.entries(rectangle)) box.style[edge] = `${(100 * value) / chosen.network.crop}%`;
    askCovered();
  } else showClasses(chosen.seen.classes);
}

let asking = false;

// One question at a time, the latest rectangle next: so the answers keep up with the pointer.
async function askCovered() {
  if (asking) return;
  asking = true;
  const { signal } = looking;
  await showingProblems(async () => {
    for (let last = null; last !== covered && covered && !signal.aborted; ) {
      last = covered;
      const answer = await (await askJson(`${chosen.address}/occluded`, last, signal)).json();
      if (covered && !signal.aborted) showCovered(answer);
    }
  });
  asking = false;
  if (covered && looking.signal !== signal) askCovered();
}

function showCovered({ classes, units }) {
  showClasses(classes);
  const all = document.getElementById("units-change");
  all.hidden = false;
  if (!classes) all.open = true;
  document.getElementById("units").replaceChildren(
    bars(
      units.map(({ layer, unit, value, before }) => ({
        name: `${layer} · ${unit}`, value: Math.max(value, 0) / before, before: 1, text: percent(Math.max(value, 0) / before),
      })),
      Math.max(1, ...units.map(({ value, before }) => value / before)),
    ),
  );
}

// Bars of probabilities; with an occluder each also marks where it was without.
function showClasses(classes) {
  const place = document.getElementById("classes");
  const change = document.getElementById("change");
  change.textContent = "";
  if (!covered) document.getElementById("units-change").hidden = true;
  if (!classes) {
    place.replaceChildren(element("p", {}, "These weights have no classifier: they cannot say what this is. Cover a part of the photo to see what becomes of its units."));
    return;
  }
  const sorted = classes.toSorted((one, other) => other.probability - one.probability);
  const known = element("p", { class: "meaning" }, `of the ${plural(chosen.network.classes, "class", "classes")} that this network knows`);
  place.replaceChildren(known, bars(sorted.map(({ name, probability, before }) => ({ name, value: probability, before, text: percent(probability) })), 1));
  if (!covered) return;
  const most = classes.reduce((one, other) => (other.before > one.before ? other : one));
  change.textContent = `${most.name}: ${percent(most.before)} without the occluder, ${percent(most.probability)} with it. The mark is where it was.`;
}
