// One layer: a grid of all its units, whose pictures load as they come into view.
"use strict";

// Places of a layer's units in the order that is asked for; equal ones by number.
function sorted(layer, sort, places = layer.values.unit.map((_, place) => place)) {
  const { strength, selectivity, frequency } = layer.values;
  const key = {
    number: () => 0,
    strength: (place) => -strength[place],
    selectivity: (place) => -(selectivity[place] ?? -2),
    frequency: (place) => -frequency[place],
    rarity: (place) => frequency[place],
    shared: (place) => -(layer.shared?.[place] ?? 0),
  }[sort];
  return [...places].sort((one, other) => key(one) - key(other) || one - other);
}

// What is written below a unit's picture: the number that the grid is sorted by.
function caption(layer, place, sort) {
  const { strength, selectivity, frequency } = layer.values;
  if (sort === "selectivity") return selectivity[place] === null ? "" : selectivity[place].toFixed(2);
  if (sort === "frequency" || sort === "rarity") return percent(frequency[place]);
  if (sort === "shared") return layer.shared?.[place] ? plural(layer.shared[place], book.noun) : "";
  return sort === "strength" ? number(strength[place]) : "";
}

async function showLayer(main) {
  const layer = await withShared(await loadLayer(here.layer));
  main.append(
    element("h1", {}, layer.name),
    element(
      "p",
      { class: "facts" },
      `${plural(layer.shown, "unit")} · ${layer.dead ? plural(layer.dead, "dead unit") : "no dead unit"} · each activation sees `
        + `${layer.sees} · `,
      element("a", { href: `figure-${encodeURIComponent(layer.name)}.png` }, "the paper's figure of it"),
      ...(layer.index === 0 && book.filters ? [" · ", element("a", { href: "filters.png" }, "its filters")] : []),
    ),
    sorter(layer),
    unitGrid(layer, sorted(layer, here.sort), here.sort),
  );
}

function sorter(layer) {
  const known = Object.entries(SORTS).filter(([sort]) => sort !== "shared" || layer.shared);
  const choose = element(
    "select",
    { id: "sort", onchange: (event) => (location.hash = address({ layer: layer.name, sort: event.target.value })) },
    ...known.map(([sort, words]) => element("option", { value: sort, selected: sort === here.sort }, words)),
  );
  return element("p", { class: "sorter" }, element("label", { for: "sort" }, "Sorted by "), choose, sortMeaning(here.sort));
}

// A sentence for those who wonder what the numbers are.
function sortMeaning(sort) {
  const meanings = {
    strength: `A unit's strength is its strongest activation in any ${book.noun}.`,
    selectivity: `Selectivity is (μ − μ′) / (μ + μ′): μ is a unit's mean maximum over the ${book.noun}s of the class that drives it `
      + "most, μ′ over all others.",
    frequency: `The share of ${book.noun}s in which a unit is active anywhere.`,
    rarity: `The share of ${book.noun}s in which a unit is active anywhere.`,
    shared: `How many of a unit's strongest ${book.noun}s are among those of the unit that is shown in the other atlas.`,
  };
  return meanings[sort] ? element("span", { class: "meaning" }, meanings[sort]) : null;
}
