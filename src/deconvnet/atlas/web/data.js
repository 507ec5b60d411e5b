// Data come as scripts, because a page from disk may not fetch files. Each calls `receive` with its name and its value.
"use strict";

const received = new Map();
const loading = new Map();

function receive(name, value) {
  received.set(name, value);
}

// A promise of what pages/NAME.js hands over; asked for again, the same.
function load(name) {
  if (!loading.has(name)) {
    loading.set(name, new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `pages/${name}.js`;
      script.onload = () => (received.has(name) ? resolve(received.get(name)) : script.onerror());
      script.onerror = () => {
        loading.delete(name); // it may be there next time
        reject(new Error(`pages/${name}.js cannot be read: is the atlas complete?`));
      };
      document.head.append(script);
    }));
  }
  return loading.get(name);
}

// What is known of the atlas, and of one layer; `book` is there before anything is drawn.
let book;

function layerNumber(name) {
  return book.layers.findIndex((layer) => layer.name === name);
}

// One layer: its entry in the atlas, and one number per unit for each thing that units are sorted by.
async function loadLayer(name) {
  const index = layerNumber(name);
  if (index < 0) throw new Error(`This atlas has no layer ${name}; it has ${book.layers.map((layer) => layer.name).join(", ")}.`);
  return { ...book.layers[index], index, values: await load(`layer-${index}`) };
}

// One unit of a layer that was loaded: its hits as objects, its histogram and classes.
async function loadUnit(layer, unit) {
  const place = layer.values.unit.indexOf(unit);
  if (place < 0) throw new Error(`This atlas shows no unit ${unit} in ${layer.name}; it shows ${plural(layer.shown, "unit")} of it.`);
  const group = await load(`units-${layer.index}-${Math.floor(place / book.group)}`);
  const found = group.units[place % book.group];
  return {
    unit, place,
    strength: layer.values.strength[place],
    mean: layer.values.mean[place],
    frequency: layer.values.frequency[place],
    selectivity: layer.values.selectivity[place],
    histogram: found.histogram,
    classes: found.classes,
    hits: found.hits.map(([image, value, row, column, left, top, right, bottom]) => ({
      image, value, row, column, box: [left, top, right, bottom], path: group.images[image][0], label: group.images[image][1],
    })),
  };
}

// What a class is called: of ImageNet's names the first, "tench" of "tench, Tinca tinca"; a folder by its whole name.
function className(index) {
  const [id, name] = book.classes[index];
  return id === name ? name : name.split(",")[0];
}

function labelName(label) {
  const index = book.classes.findIndex(([id]) => id === label);
  return index < 0 ? label : className(index);
}
