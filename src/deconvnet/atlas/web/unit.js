// One unit: its nine projections and patches, the photos that they come from, and its numbers.
"use strict";

let unitLayer = null; // the layer of the unit that was shown last

async function showUnit(main) {
  const layer = await withShared(await loadLayer(here.layer));
  unitLayer = layer;
  const unit = await loadUnit(layer, here.unit);
  main.append(
    heading(layer, unit),
    element("div", { class: "unit" }, blocks(layer, unit), numbers(layer, unit)),
    sources(layer, unit),
  );
}

// The units before and after this one, in the order of the grid.
function around(layer, place, sort = here.sort) {
  const order = sorted(layer, sort);
  const at = order.indexOf(place);
  return { at, before: order[at - 1], after: order[at + 1] };
}

// One unit on from where the address says we are.
function stepUnit(step) {
  const now = parseAddress(location.hash);
  if (now.unit === null || unitLayer?.name !== now.layer) return;
  const { before, after } = around(unitLayer, unitLayer.values.unit.indexOf(now.unit), now.sort);
  const place = step < 0 ? before : after;
  if (place !== undefined) location.hash = address({ ...now, unit: unitLayer.values.unit[place] });
}

function heading(layer, unit) {
  const { at, before, after } = around(layer, unit.place);
  const neighbour = (place, words, sign, rel) => {
    if (place === undefined) return element("span", { class: "step off", "aria-hidden": "true" }, sign);
    const next = layer.values.unit[place];
    return element("a", { class: "step", rel, href: address({ layer: layer.name, unit: next }), "aria-label": `${words}, unit ${next}` }, sign);
  };
  return element(
    "div",
    { class: "heading" },
    neighbour(before, "The unit before", "←", "prev"),
    element("h1", {}, element("a", { href: address({ layer: layer.name }) }, layer.name), ` · unit ${unit.unit}`),
    neighbour(after, "The unit after", "→", "next"),
    element("span", { class: "order" }, `${number(at + 1)} of ${number(layer.shown)}${here.sort === "number" ? "" : `, ${SORTS[here.sort]}`}`),
  );
}

function blocks(layer, unit) {
  if (!unit.hits.length) return element("p", { class: "message" }, `None of the ${plural(book.photos, book.noun)} makes this unit active: it is dead.`);
  const made = BLOCKS.map((name, block) =>
    element(
      "figure",
      { class: `block ${name}` },
      element("figcaption", {}, name === "patches" ? "Patches" : "Projections"),
      tiles(layer, unit, block),
    ),
  );
  return element("div", { class: "blocks" }, ...made);
}

function tiles(layer, unit, block) {
  const cells = unit.hits.map((hit, place) => {
    const source = () => document.getElementById(`source-${place + 1}`);
    return element(
      "button",
      {
        type: "button",
        "aria-label": `${block ? "Patch" : "Projection"} ${place + 1}, activation ${number(hit.value)}: show the ${book.noun} that it comes from`,
        onclick: () => source().focus(),
        onpointerenter: () => source().classList.add("meant"),
        onpointerleave: () => source().classList.remove("meant"),
      },
      tile(layer, unit.unit, block, place),
    );
  });
  const box = element("div", { class: "tiles" }, ...cells);
  box.style.setProperty("--columns", layer.picture.columns);
  box.classList.toggle("wide", layer.picture.gap > 1);
  return box;
}

function numbers(layer, unit) {
  const facts = [
    ["Strongest activation", number(unit.strength)],
    ["Active in", `${percent(unit.frequency)} of ${plural(book.photos, book.noun)}`],
    ["Mean maximum", number(unit.mean)],
    ["Selectivity", unit.selectivity === null ? "needs two classes" : unit.selectivity.toFixed(3)],
    ["Sees", layer.sees],
  ];
  const most = unit.classes[0]?.[1];
  return element(
    "div",
    { class: "numbers" },
    element("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    element("h2", {}, `Its maximum in each ${book.noun}`),
    element("p", { class: "meaning" }, histogramMeaning(unit.histogram)),
    histogram(unit.histogram, book.edges),
    ...(most
      ? [
          element("h2", {}, "Classes that drive it"),
          element("p", { class: "meaning" }, `its mean maximum over the ${book.noun}s of a class`),
          bars(
            unit.classes.map(([index, mean]) => ({
              name: className(index), value: mean, text: number(mean), href: address({ query: className(index) }),
            })),
            most,
          ),
        ]
      : []),
    element("p", {}, element("a", { href: pictureFile(layer, unit.unit), download: `${layer.name}-${unit.unit}.webp` }, "Save its picture")),
  );
}

// A photo's path, or the number of an input.
function nameOf(hit) {
  return book.noun === "photo" ? hit.path : `${book.noun} ${hit.path}`;
}

function sources(layer, unit) {
  if (!unit.hits.length) return "";
  return element(
    "section",
    { "aria-label": `${capitalised(book.noun)}s` },
    element("h2", {}, "Where they come from"),
    element(
      "ol",
      { class: "sources" },
      ...unit.hits.map((hit, place) => {
        const where = layer.map[0] * layer.map[1] > 1 ? ` at row ${hit.row}, column ${hit.column}` : "";
        return element(
          "li",
          { id: `source-${place + 1}`, tabindex: "-1" },
          element("a", { href: viewFile(hit.image), "aria-label": `${capitalised(book.noun)} ${place + 1} as the network sees it, ${nameOf(hit)}` }, viewWithBox(hit)),
          element("p", {}, element("b", {}, number(hit.value)), where, hit.label ? ` · ${labelName(hit.label)}` : ""),
          element("p", { class: "path" }, nameOf(hit)),
        );
      }),
    ),
  );
}
