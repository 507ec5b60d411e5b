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
    { class: "card", tabindex: "-1", "aria-label": `${layer.name} ${title}` },
    element("h3", {}, pictured ? element("a", { href: atlasAddress(`#${encodeURIComponent(layer.name)}/${unit}`) }, title) : title, ` · ${number(value)}`),
  );
  const { signal } = looking;
  let place = { row, column, value };
  const project = () => showingProblems(() => showProjection(layer, unit, place, { projection, patch, caption, signal }));
  const pictures = element("div", { class: "pictures" });
  if (layer.rows * layer.columns > 1) pictures.append(featureMap(layer, unit, place, signal, card, (next) => ((place = next), project())));
  pictures.append(projection, patch);
  projection.addEventListener("click", () => enlarge(layer, unit, place, projection.dataset.whole));
  card.append(pictures, caption);
  if (pictured) card.append(nine(layer, unit));
  card.addEventListener("seen", project, { once: true });
  watcher.observe(card);
  return card;
}

function nine(layer, unit) {
  const file = `/atlas/${encodeURIComponent(chosen.network.atlas)}/${encodeURIComponent(layer.name)}/${String(unit).padStart(4, "0")}-small.webp`;
  const picture = element("img", { src: file, loading: "lazy", alt: `The atlas's projections and patches of ${layer.name} unit ${unit}` });
  return element("figure", {}, picture, element("figcaption", { class: "meaning" }, "in the atlas"));
}

// A map of all the unit's activations. Click a place, or go there with the arrows and press Enter, to project it.
function featureMap(layer, unit, place, signal, card, choose) {
  const canvas = element("canvas", { class: "map" });
  const cursor = element("span", { class: "cursor" });
  const box = element(
    "div",
    { class: "map-box", tabindex: "0", role: "application", "aria-label": `Feature map of ${layer.name} unit ${unit}, ${layer.rows} by ${layer.columns}: arrows go to a place, Enter projects it` },
    canvas, cursor,
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
    if (event.key in STEPS) go(at.row + STEPS[event.key][1], at.column + STEPS[event.key][0]);
    else if (event.key === "Enter" && values) choose(at);
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
  caption.textContent = value > 0 ? "" : "0 there: nothing to project";
  const whole = await askPicture(`${unitAddress(layer, unit)}/projection.png?row=${row}&column=${column}`, signal);
  const box = fieldBox(layer, row, column);
  cut(projection, whole, box);
  projection.dataset.whole = whole;
  cut(patch, chosen.view, box);
  const where = layer.rows * layer.columns > 1 ? `row ${row}, column ${column}` : "";
  caption.textContent = [where, value === undefined ? "" : number(value)].filter(Boolean).join(": ") + (value > 0 ? "" : ", so nothing to project");
}

// Show the part of a picture of the whole view that lies in a box.
function cut(place, url, [left, top, right, bottom]) {
  const { crop } = chosen.network;
  const [width, height] = [right - left, bottom - top];
  place.classList.toggle("crisp", width < 60);
  place.style.aspectRatio = `${width} / ${height}`;
  place.style.backgroundImage = `url("${url}")`;
  place.style.backgroundSize = `${(100 * crop) / width}% ${(100 * crop) / height}%`;
  place.style.backgroundPosition = `${width < crop ? (100 * left) / (crop - width) : 0}% ${height < crop ? (100 * top) / (crop - height) : 0}%`;
}

function enlarge(layer, unit, { row, column }, whole) {
  if (!whole) return;
  const { crop } = chosen.network;
  const [left, top, right, bottom] = fieldBox(layer, row, column);
  const box = element("span", { class: "box" });
  Object.assign(box.style, {
    left: `${(100 * left) / crop}%`, top: `${(100 * top) / crop}%`, width: `${(100 * (right - left)) / crop}%`, height: `${(100 * (bottom - top)) / crop}%`,
  });
  document.getElementById("large-title").textContent = `${layer.name} · unit ${unit}`;
  document.getElementById("large-pictures").replaceChildren(
    element("span", { class: "view" }, element("img", { src: whole, alt: "The projection of one activation, whole" })),
    element("span", { class: "view" }, element("img", { src: chosen.view, alt: "The photo, with what the activation sees" }), box),
  );
  document.getElementById("large").showModal();
}
