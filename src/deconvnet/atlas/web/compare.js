// Two atlases in two frames, linked: each tells where it went (neighbour.js), and the other follows.
// The address says which two and where: compare.html?with=zfnet#conv2/7|conv2
"use strict";

const main = document.getElementById("main");
const message = document.getElementById("message");
const name = new URLSearchParams(location.search).get("with");
let frames = [];

// Only a folder beside this one: an address that somebody else made must not show another site's page here.
const isFolder = (text) => text !== "" && !/[/\\]|^\.{1,2}$/.test(text);

function start() {
  document.getElementById("name").value = name ?? "";
  load("atlas").then((book) => {
    document.getElementById("beside").append(...book.beside.map((folder) => element("option", { value: folder })));
  });
  document.getElementById("with").addEventListener("submit", (event) => {
    event.preventDefault();
    location.search = `?with=${encodeURIComponent(document.getElementById("name").value.trim())}`;
  });
  if (name === null) return;
  if (!isFolder(name)) {
    message.textContent = `${name} is not the name of a folder beside this atlas.`;
    return;
  }
  const [left = "", right = ""] = location.hash.slice(1).split("|");
  frames = [
    element("iframe", { src: `index.html#${left}`, title: "This atlas" }),
    element("iframe", { src: `../${encodeURIComponent(name)}/index.html#${right}`, title: `The atlas ${name}` }),
  ];
  frames[1].addEventListener("load", () => setTimeout(() => told[1] || missing(), 1500));
  main.replaceChildren(main.querySelector("h1"), ...frames);
  addEventListener("message", pass);
}

// A frame that stays silent is none of ours.
function missing() {
  message.textContent = `There is no atlas in the folder ${name} beside this one, or it was made by another version of deconvnet.`;
  frames[1].replaceWith(message);
}

const told = [null, null]; // the last that each frame said

function pass(event) {
  const from = frames.findIndex((frame) => frame.contentWindow === event.source);
  if (from < 0 || typeof event.data?.at !== "string") return;
  const ready = told[0] && told[1];
  told[from] = event.data;
  history.replaceState(null, "", `#${told.map((message) => message?.at.replace(/^#/, "") ?? "").join("|")}`);
  if (!document.getElementById("link").checked) return;
  const other = 1 - from;
  if (ready) frames[other].contentWindow.postMessage(event.data, "*");
  else if (told[other]) frames[1].contentWindow.postMessage({ ...told[0], leads: true }, "*"); // both are here: the left one leads first
}

start();
