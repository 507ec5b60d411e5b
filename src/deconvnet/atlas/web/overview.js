// All layers, each with a strip of units.
"use strict";

async function showOverview(main) {
  const layers = await Promise.all(book.layers.map((layer) => loadLayer(layer.name)));
  const units = book.layers.reduce((sum, layer) => sum + layer.shown, 0);
  main.append(
    element("h1", {}, book.network),
    element(
      "p",
      { class: "about" },
      `What excites ${plural(units, "unit")} most among ${plural(book.photos, book.noun)}: for each unit the `
        + `${book.top === 1 ? "patch of its strongest activation" : `patches of its ${book.top} strongest activations`}, and what in it did it, `
        + "projected down to pixels by a deconvnet.",
    ),
    book.shown ? element("p", { class: "about" }, `${capitalised(book.shown)}.`) : "",
    element("div", { class: "layers" }, ...layers.map(layerCard)),
  );
}

function layerCard(layer) {
  const [rows, columns] = layer.map;
  const size = rows * columns > 1 ? `maps of ${rows}×${columns}` : "fully connected";
  const facts = [
    layer.shown < layer.units ? `${number(layer.shown)} of ${plural(layer.units, "unit")}` : plural(layer.units, "unit"),
    size,
    `each activation sees ${layer.sees}`,
    layer.dead ? plural(layer.dead, "dead unit") : "no dead unit",
  ];
  const strip = element(
    "div",
    { class: "strip" },
    ...layer.strip.map((unit) => unitCell(layer, layer.values.unit.indexOf(unit), "", true)),
  );
  setRatio(strip, layer);
  return element(
    "section",
    { class: "card" },
    element("h2", {}, element("a", { href: address({ layer: layer.name }) }, layer.name)),
    element("p", { class: "facts" }, facts.join(" · ")),
    strip,
  );
}
