// Pictures of units. Each has two blocks, projections and patches; thumbnails hold them side by side without a gap.
"use strict";

const BLOCKS = ["projections", "patches"];

function viewFile(image) {
  return `images/${String(image).padStart(5, "0")}.webp`;
}

// A link to a unit with its thumbnail, of which CSS shows one half or both, as `data-show` of the page says. The thumbnail
// waits to be filled (see fillGrids) unless it is `lazy`: a browser looks at each lazy picture in every frame.
function unitCell(layer, place, caption, lazy = false) {
  const unit = layer.values.unit[place];
  const dead = layer.values.frequency[place] === 0;
  const file = pictureFile(layer, unit, true);
  const picture = element("img", { ...(lazy ? { src: file, loading: "lazy" } : { "data-file": file }), alt: "", decoding: "async" });
  return element(
    "a",
    { class: dead ? "cell dead" : "cell", href: address({ layer: layer.name, unit }), "data-unit": unit },
    element("span", { class: "thumbnail" }, picture),
    element("span", { class: "caption" }, element("span", { class: "hidden" }, `${layer.name} unit `), element("b", {}, `${unit}`), ` ${dead ? "never active" : caption}`),
  );
}

function unitGrid(layer, places, sort) {
  const grid = element("div", { class: "grid" }, ...places.map((place) => unitCell(layer, place, caption(layer, place, sort))));
  setRatio(grid, layer);
  return grid;
}

// Fill the thumbnails that are in view or a screen away from it. All cells of a grid have one size, so where they stand is
// reckoned from the grid's: nothing is asked of thousands of cells while the page scrolls.
function fillGrids() {
  for (const grid of document.querySelectorAll(".grid")) {
    const { top, height } = grid.getBoundingClientRect();
    if (top > 2 * innerHeight || top + height < -innerHeight) continue;
    const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const row = height / Math.ceil(grid.children.length / columns);
    const first = Math.max(0, Math.floor((-innerHeight - top) / row)) * columns;
    const last = Math.ceil((2 * innerHeight - top) / row) * columns;
    for (let index = first; index < Math.min(last, grid.children.length); index++) {
      const picture = grid.children[index].querySelector("img");
      if (!picture.hasAttribute("src")) picture.src = picture.dataset.file;
    }
  }
}

// How high a layer's blocks are for their width.
function setRatio(box, layer) {
  const [width, height] = layer.picture.block;
  box.style.setProperty("--ratio", width / height);
}

// One of the tiles in a unit's picture, cut out of it: `block` is 0 for projections and 1 for patches.
function tile(layer, unit, block, place) {
  const { size, tile: [width, height], gap, blocks, columns, crisp } = layer.picture;
  const left = blocks[block][0] + (place % columns) * (width + gap);
  const top = blocks[block][1] + Math.floor(place / columns) * (height + gap);
  const made = element("span", { class: crisp ? "tile crisp" : "tile" });
  cutOut(made, pictureFile(layer, unit), size, [left, top, left + width, top + height]);
  return made;
}

// What the network was shown, with the box of what one activation sees.
function viewWithBox(hit) {
  const photo = element("img", { src: viewFile(hit.image), alt: "", loading: "lazy", width: book.view[0], height: book.view[1] });
  const view = framed(photo, hit.box, book.view, book.corners);
  view.classList.toggle("crisp", Math.max(...book.view) < 100);
  return view;
}
