// Units by number, by address, or by the class that drives them most.
"use strict";

// Layer and unit of "conv5/12" or "conv5 12", if it is such.
function namedUnit(query) {
  const found = /^(.+?)[\s/]+(\d{1,9})$/.exec(query.trim());
  const layer = found && book.layers.find((one) => one.name.toLowerCase() === found[1].toLowerCase());
  return layer ? { layer: layer.name, unit: Number(found[2]) } : null;
}

// Numbers of the classes of that id or name; if there is none, of those whose names have it in them.
function namedClasses(query) {
  const wanted = query.toLowerCase();
  const find = (fits) => book.classes.flatMap(([id, name], index) => (fits([id, name, className(index)].map((text) => text.toLowerCase())) ? [index] : []));
  const exact = find((texts) => texts.includes(wanted));
  return new Set(exact.length || !wanted ? exact : find((texts) => texts.some((text) => text.includes(wanted))));
}

function startSearch(query) {
  const layer = book.layers.find((one) => one.name.toLowerCase() === query.trim().toLowerCase());
  location.hash = address(namedUnit(query) ?? (layer ? { layer: layer.name } : { query: query.trim() }));
}

async function showSearch(main) {
  const layers = await Promise.all(book.layers.map((layer) => loadLayer(layer.name)));
  const unit = /^\d{1,9}$/.test(here.query) ? Number(here.query) : null;
  const classes = namedClasses(here.query);
  const found = layers.map((layer) => {
    const places = layer.values.unit.flatMap((one, place) =>
      one === unit || classes.has(layer.values.best[place]) ? [place] : [],
    );
    return { layer, places: sorted(layer, "selectivity", places) };
  }).filter(({ places }) => places.length);
  if (classes.size) found.reverse(); // the highest layers know most of classes
  const count = found.reduce((sum, { places }) => sum + places.length, 0);
  main.append(element("h1", {}, `“${here.query}”`));
  if (classes.size) {
    const names = [...classes].slice(0, 5).map(className).join(", ");
    main.append(element("p", { class: "about" }, `${plural(count, "unit")} that ${names} ${classes.size > 1 ? "drive" : "drives"} more than any other class, the most selective of each layer first, with their selectivity.`));
  } else if (!count) {
    const known = book.classes.slice(0, 12).map((_, index) => className(index)).join(", ");
    const hint = known ? `, or a class such as ${known}` : "";
    main.append(element("p", { class: "message" }, `Nothing here is called so. Search for a unit's number, for a unit such as ${book.layers[0].name}/0${hint}.`));
  }
  for (const { layer, places } of found) {
    const grid = unitGrid(layer, places, classes.size ? "selectivity" : "number");
    main.append(
      element("section", {}, element("h2", {}, element("a", { href: address({ layer: layer.name }) }, layer.name), ` · ${plural(places.length, "unit")}`), grid),
    );
  }
}
