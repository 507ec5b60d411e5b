// From the address to the page, and the keys.
"use strict";

const main = document.getElementById("main");
let turn = 0; // of the page that is being drawn; an older one that comes late is dropped

async function show() {
  const from = here;
  here = parseAddress(location.hash);
  const mine = ++turn;
  const page = document.createElement("div");
  try {
    if (here.query !== null) await showSearch(page);
    else if (here.layer === null) await showOverview(page);
    else if (here.unit === null) await showLayer(page);
    else await showUnit(page);
  } catch (error) {
    page.replaceChildren(element("h1", {}, "Not here"), element("p", { class: "message", role: "alert" }, error.message));
  }
  if (mine !== turn) return;
  main.replaceChildren(...page.childNodes);
  document.body.dataset.show = here.show;
  document.querySelector(`#show [value=${here.show}]`).checked = true;
  document.title = [main.querySelector("h1").textContent, book.network].filter((part, index, all) => all.indexOf(part) === index).join(" – ");
  showLayers();
  arrive(from);
  fillGrids();
  tellNeighbour();
}

// Where a reader, or the keyboard's focus, stands on a new page.
function arrive(from) {
  if (from.layer === here.layer && from.unit !== null && here.unit === null) {
    const cell = main.querySelector(`[data-unit="${from.unit}"]`);
    if (cell && !following) {
      cell.scrollIntoView({ block: "center" });
      cell.focus({ preventScroll: true });
      return;
    }
  }
  const samePlace = from.layer === here.layer && from.unit === here.unit && from.query === here.query;
  if (samePlace) return;
  scrollTo(0, 0);
  if (turn > 1 && !following) main.focus({ preventScroll: true });
}

function showLayers() {
  document.getElementById("layers").replaceChildren(
    ...book.layers.map((layer) =>
      element("a", { href: address({ layer: layer.name }), "aria-current": layer.name === here.layer ? "page" : null }, layer.name),
    ),
  );
  document.getElementById("title").href = address({});
  document.getElementById("query").value = here.query ?? "";
  const [bar, current] = [document.getElementById("layers"), document.querySelector("#layers [aria-current]")];
  if (current) bar.scrollLeft = current.offsetLeft - bar.offsetLeft - (bar.clientWidth - current.offsetWidth) / 2;
}

// Keys may come faster than pages are drawn, so they go by the address.
const KEYS = {
  ArrowLeft: () => stepUnit(-1),
  ArrowRight: () => stepUnit(1),
  Escape: () => {
    const { layer, unit } = parseAddress(location.hash);
    location.hash = address(unit === null ? {} : { layer });
  },
  "[": () => nextLayer(-1),
  "]": () => nextLayer(1),
  p: () => {
    const now = parseAddress(location.hash);
    location.hash = address({ ...now, show: SHOWS[(SHOWS.indexOf(now.show) + 1) % SHOWS.length] });
  },
  "/": () => document.getElementById("query").focus(),
};

function nextLayer(step) {
  const next = book.layers[layerNumber(parseAddress(location.hash).layer) + step];
  if (next) location.hash = address({ layer: next.name });
}

function press(event) {
  const typing = event.target.closest("input:not([type=radio]), select, dialog[open]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  if (event.target.closest("input[type=radio]") && event.key.startsWith("Arrow")) return; // they choose among the buttons
  event.preventDefault();
  KEYS[event.key]();
}

function skip(event) {
  event.preventDefault(); // its address would be that of a layer called main
  main.focus();
}

async function start() {
  try {
    book = await load("atlas");
  } catch (error) {
    main.replaceChildren(element("p", { class: "message", role: "alert" }, error.message));
    return;
  }
  document.getElementById("title").textContent = book.network;
  document.getElementById("known").append(...book.classes.map((_, index) => element("option", { value: className(index) })));
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const query = document.getElementById("query");
    if (query.value.trim()) startSearch(query.value);
    query.blur();
  });
  document.getElementById("show").addEventListener("change", (event) => (location.hash = address({ ...here, show: event.target.value })));
  document.getElementById("keys").addEventListener("click", () => document.getElementById("help").showModal());
  if (book.live) Object.assign(document.getElementById("live"), { href: book.live, hidden: false });
  if (book.beside.length) document.getElementById("compare").href = `compare.html?with=${encodeURIComponent(book.beside[0])}`;
  if (linked) document.body.classList.add("linked");
  document.querySelector(".skip").addEventListener("click", skip);
  document.addEventListener("keydown", press);
  addEventListener("hashchange", show);
  addEventListener("message", follow);
  for (const moved of ["scroll", "resize"]) addEventListener(moved, () => requestAnimationFrame(fillGrids), { passive: true });
  await show();
}

start();
