// Addresses that can be shared: #  #conv5  #conv5/12  #?q=church, each with ?sort=…&show=… where they are not the usual.
"use strict";

const SORTS = {
  number: "number",
  strength: "strongest first",
  selectivity: "most selective first",
  frequency: "most often active first",
  rarity: "least often active first",
  shared: "photos in common first",
};
const SHOWS = ["both", "projections", "patches"];

// Where we are: {layer, unit, query, sort, show}.
let here = parseAddress("");

function parseAddress(hash) {
  const [path, options] = hash.replace(/^#/, "").split("?");
  const parameters = new URLSearchParams(options);
  const [layer, unit] = path.split("/").map(decode);
  return {
    layer: layer || null,
    unit: /^\d{1,9}$/.test(unit ?? "") ? Number(unit) : null,
    query: parameters.get("q"),
    sort: Object.hasOwn(SORTS, parameters.get("sort")) ? parameters.get("sort") : "number",
    show: SHOWS.includes(parameters.get("show")) ? parameters.get("show") : "both",
  };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a lone % in an address that somebody typed
  }
}

// The address of somewhere else, with the sorting and showing of here unless they are given.
function address(to) {
  const { layer = null, unit = null, query = null, sort = here.sort, show = here.show } = to;
  const options = new URLSearchParams();
  if (query !== null) options.set("q", query);
  if (sort !== "number") options.set("sort", sort);
  if (show !== "both") options.set("show", show);
  const path = layer === null ? "" : encodeURIComponent(layer) + (unit === null ? "" : `/${unit}`);
  return `#${path}${String(options) && "?"}${options}`;
}
