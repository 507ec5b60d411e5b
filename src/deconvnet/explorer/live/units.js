// The units that a photo drives most, layer by layer: feature map, projection, patch, and the atlas's nine.
"use strict";

// Cards ask for their pictures as they come into view.
const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      entry.target.dispatchEvent(new Event("seen"));
    }
  },
  { rootMargin: "200px" },
);

function showLayersOf(seen) {
  document.getElementById("layers").replaceChildren(...seen.layers.map(({ name, units }) => layerSection(name, units)));
}

function layerSection(name, units) {
  const layer = chosen.network.layers.find((one) => one.name === name);
  const cards = element("div", { class: "cards" }, ...units.map((unit) => unitCard(layer, unit)));
  const input = element("input", { type: "number", min: 0, max: layer.units - 1, required: true, "aria-label": `Unit of ${name}` });
  const another = element("form", { class: "another" }, element("label", {}, "Another unit ", input), element("button", {}, "Show"));
  another.addEventListener("submit", (event) => {
    event.preventDefault();
    showingProblems(() => showAnother(layer, Number(input.value), cards));
  });
  const title = chosen.network.pictured[name] ? element("a", { href: atlasAddress(`#${encodeURIComponent(name)}`) }, name) : name;
  const said = units.length ? `the ${units.length} of ${plural(layer.units, "unit")} that this photo drives most` : "this photo drives none of its units";
  return element("section", { class: "layer", "aria-label": name }, element("h2", {}, title), element("p", { class: "facts" }, said), cards, another);
}

async function showAnother(layer, unit, cards) {
  const there = cards.querySelector(`[data-unit="${unit}"]`);
  if (there) {
    there.focus();
    return;
  }
  const map = await (await ask(unitAddress(layer, unit), { signal: looking.signal })).json();
  const card = unitCard(layer, map);
  cards.prepend(card);
  card.focus();
}

const unitAddress = (layer, unit) => `${chosen.address}/layers/${encodeURIComponent(layer.name)}/${unit}`;
const atlasAddress = (rest) => `/atlas/${encodeURIComponent(chosen.network.atlas)}/index.html${rest}`;

function isPictured(layer, unit) {
  const units = chosen.network.pictured[layer.name];
  return units === "all" || Boolean(units?.includes(unit));
}

function unitCard(layer, { unit, value, row, column }) {
  const title = `unit ${unit}`;
  const pictured = isPictured(layer, unit);
  const caption = element("p", { class: "meaning" });
  const projection = element("button", { type: "button", class: "cut", "aria-label": `Projection of ${layer.name} ${title}: show it large` });
  const patch = element("span", { class: "cut" });
  const card = element(
    "article",
    { class: "card", tabindex: "-1", "data-unit": unit, "aria-label": `${layer.name} ${title}` },
    element("h3", {}, pictured ? element("a", { href: atlasAddress(`#${encodeURIComponent(layer.name)}/${unit}`) }, title) : title, ` · ${number(value)}`),
  );
  const { signal } = looking;
  let place = { row, column, value };
  let last = new AbortController(); // ends the question for the place before
  const project = () => {
    last.abort();
    last = new AbortController();
    const parts = { projection, patch, caption, signal: AbortSignal.any([signal, last.signal]) };
    return showingProblems(() => showProjection(layer, unit, place, parts));
  };
  const choose = (next) => {
    place = next;
    delete projection.dataset.whole;
    caption.setAttribute("aria-live", "polite");
    project();
  };
  const pictures = element("div", { class: "pictures" });
  if (layer.rows * layer.columns > 1) pictures.append(featureMap(layer, unit, place, signal, card, choose));
  pictures.append(projection, patch);
  projection.addEventListener("click", () => enlarge(layer, unit, place, projection.dataset.whole));
  card.append(pictures, caption);
  if (pictured) card.append(nine(layer, unit));
  card.addEventListener("seen", project, { once: true });
  watcher.observe(card);
  return card;
}

function nine(layer, unit) {
  const file = `/atlas/${encodeURIComponent(chosen.network.atlas)}/${pictureFile(layer, unit, true)}`;
  const picture = element("img", { src: file, loading: "lazy", alt: `The atlas's projections and patches of ${layer.name} unit ${unit}` });
  return element("figure", {}, picture, element("figcaption", { class: "meaning" }, "in the atlas"));
}

// A map of all the unit's activations. Click a place, or go there with the arrows and press Enter, to project it.
function featureMap(layer, unit, place, signal, card, choose) {
  const canvas = element("canvas", { class: "map" });
  const cursor = element("span", { class: "cursor" });
  const spoken = element("span", { class: "hidden", "aria-live": "polite" });
  const box = element(
    "div",
    { class: "map-box", tabindex: "0", role: "application", "aria-label": `Feature map of ${layer.name} unit ${unit}, ${layer.rows} by ${layer.columns}: arrows go to a place, Enter projects it` },
    canvas, cursor, spoken,
  );
  let at = { ...place };
  let values = null;
  const go = (row, column) => {
    at = { row: Math.min(Math.max(row, 0), layer.rows - 1), column: Math.min(Math.max(column, 0), layer.columns - 1) };
    at.value = values?.[at.row][at.column];
    Object.assign(cursor.style, {
      left: `${(100 * at.column) / layer.columns}%`, top: `${(100 * at.row) / layer.rows}%`,
      width: `${100 / layer.columns}%`, height: `${100 / layer.rows}%`,
    });
  };
  go(at.row, at.column);
  const under = (event) => {
    const area = canvas.getBoundingClientRect();
    return [Math.floor(((event.clientY - area.top) / area.height) * layer.rows), Math.floor(((event.clientX - area.left) / area.width) * layer.columns)];
  };
  box.addEventListener("click", (event) => values && (go(...under(event)), choose(at)));
  box.addEventListener("pointermove", (event) => {
    const [row, column] = under(event);
    if (values?.[row]?.[column] !== undefined) box.title = `row ${row}, column ${column}: ${number(values[row][column])}`;
  });
  box.addEventListener("keydown", (event) => {
    if (Object.hasOwn(STEPS, event.key)) {
      go(at.row + STEPS[event.key][1], at.column + STEPS[event.key][0]);
      spoken.textContent = `row ${at.row}, column ${at.column}${values ? `: ${number(at.value)}` : ""}`;
    } else if (event.key === "Enter" && values) choose(at);
    else return;
    event.preventDefault();
  });
  card.addEventListener("seen", () => showingProblems(async () => {
    const map = await (await ask(unitAddress(layer, unit), { signal })).json();
    values = map.values;
    paintMap(canvas, values, map.value);
  }), { once: true });
  return box;
}

// Where in the view an activation's receptive field lies, moved inside: [left, top, right, bottom].
function fieldBox(layer, row, column) {
  const { crop } = chosen.network;
  const along = ({ jump, size, start }, place) => {
    const side = Math.min(size, crop);
    const first = Math.min(Math.max(start + place * jump, 0), crop - side);
    return [first, first + side];
  };
  const [top, bottom] = along(layer.field.rows, row);
  const [left, right] = along(layer.field.columns, column);
  return [left, top, right, bottom];
}

async function showProjection(layer, unit, { row, column, value }, { projection, patch, caption, signal }) {
  const whole = await askPicture(`${unitAddress(layer, unit)}/projection.png?row=${row}&column=${column}`, signal);
  const box = fieldBox(layer, row, column);
  const { crop } = chosen.network;
  for (const [place, url] of [[projection, whole], [patch, chosen.view]]) {
    place.classList.toggle("crisp", box[2] - box[0] < 60);
    cutOut(place, url, [crop, crop], box);
  }
  if (value > 0) projection.dataset.whole = whole;
  const where = layer.rows * layer.columns > 1 ? [`row ${row}, column ${column}`] : [];
  const seen = layer.field.status ? ` · sees ${layer.sees}` : "";
  caption.textContent = [...where, value > 0 ? number(value) : "0, so nothing to project"].join(": ") + seen;
}

function enlarge(layer, unit, { row, column }, whole) {
  if (!whole) return;
  document.getElementById("large-title").textContent = `${layer.name} · unit ${unit}`;
  document.getElementById("large-pictures").replaceChildren(
    element("span", { class: "view" }, element("img", { src: whole, alt: "The projection of one activation, whole" })),
    framed(element("img", { src: chosen.view, alt: "The photo, with what the activation sees" }), fieldBox(layer, row, column), [chosen.network.crop, chosen.network.crop]),
  );
  document.getElementById("large").showModal();
}
