// Small helpers that all pages use.
"use strict";

// element("a", {href: "#", class: "x", onclick: f}, "text", other) makes an element. Texts never become HTML.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  set(made, attributes);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// The same for the shapes of a drawing.
function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(made, attributes);
  made.append(...children);
  return made;
}

function set(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
}

// Numbers as people read them: 1,376; 0.0123; 4.57.
function number(value) {
  return value.toLocaleString("en", Number.isInteger(value) ? {} : { maximumSignificantDigits: 3 });
}

function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1%";
  return (100 * share).toLocaleString("en", { maximumFractionDigits: share < 0.1 ? 1 : 0 }) + "%";
}

function capitalised(word) {
  return word[0].toUpperCase() + word.slice(1);
}

function plural(count, one, several = one + "s") {
  return `${number(count)} ${count === 1 ? one : several}`;
}
