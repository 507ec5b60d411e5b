// In one of two frames (compare.html): tell the other atlas where we went, and follow it.
"use strict";

const linked = window.parent !== window;
let following = false; // this step was the other's: do not tell it back
let theirs = null; // the photos of the unit that the other atlas shows

// What both atlases call the same photo; an input of a data set has only a number there.
function known(path) {
  return book.noun === "photo" ? path : `${book.digest} ${path}`;
}

// The other page's origin cannot be named: from disk it has none. Nothing here is secret.
async function tellNeighbour() {
  const leads = !following && turn > 1; // the user went here
  following = false;
  if (!linked) return;
  const at = location.hash;
  let photos = null;
  if (here.unit !== null && layerNumber(here.layer) >= 0) {
    const unit = await loadUnit(await loadLayer(here.layer), here.unit).catch(() => null);
    photos = unit?.hits.map((hit) => known(hit.path)) ?? null;
  }
  window.parent.postMessage({ at, photos, leads }, "*");
}

function follow(event) {
  if (event.source !== window.parent || typeof event.data?.at !== "string") return;
  theirs = Array.isArray(event.data.photos) ? new Set(event.data.photos) : null;
  if (!event.data.leads) return; // the other followed us: nothing but what it shows is news
  const there = parseAddress(event.data.at);
  if (there.layer !== null && layerNumber(there.layer) < 0) return; // this network has no such layer
  const unit = here.layer === there.layer && there.unit !== null ? here.unit : null; // two units of one layer stay beside each other
  const sort = theirs ? "shared" : there.sort === "shared" ? "number" : there.sort;
  const to = address({ ...there, unit, sort });
  const same = to === (location.hash || "#");
  if (same && !(theirs && unit === null)) return;
  following = true;
  if (same) show(); // sorted anew
  else location.replace(to); // the step is the other's, and so is going back
}

// A layer with the count of photos that each unit shares with the unit that the other atlas shows.
async function withShared(layer) {
  if (!theirs) return layer;
  const groups = await Promise.all(
    Array.from({ length: Math.ceil(layer.shown / book.group) }, (_, group) => load(`units-${layer.index}-${group}`)),
  );
  const shared = groups.flatMap(({ units, images }) =>
    units.map(({ hits }) => hits.filter(([image]) => theirs.has(known(images[image][0]))).length),
  );
  return { ...layer, shared };
}
