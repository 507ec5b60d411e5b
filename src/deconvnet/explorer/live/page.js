// The live page: from a photo and a network to what the network makes of it.
"use strict";

let networks = [];
let photo = null; // the server's word for the photo
const chosen = { network: null, address: "", view: "", seen: null }; // what is shown

async function start() {
  setUpOccluder();
  setUpSweep();
  const file = document.getElementById("file");
  file.addEventListener("change", () => file.files.length && send(file.files[0]));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("dropping"));
  addEventListener("drop", dropped);
  addEventListener("paste", (event) => event.clipboardData.files.length && send(event.clipboardData.files[0]));
  await showingProblems(async () => {
    networks = await (await ask("/api/networks")).json();
    showNetworks();
    showSamples();
  });
}

function dropped(event) {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
}

function showNetworks() {
  const select = document.getElementById("network");
  select.replaceChildren(
    ...networks.map(({ key, name, reason }) => element("option", { value: key, disabled: Boolean(reason) }, reason ? `${name}: cannot be run` : name)),
  );
  const wanted = new URLSearchParams(location.search).get("network");
  const first = networks.find(({ key, reason }) => key === wanted && !reason) ?? networks.find(({ reason }) => !reason);
  document.getElementById("atlases").replaceChildren(
    ...networks.filter(({ atlas }) => atlas).map(({ atlas }) => element("a", { href: `/atlas/${encodeURIComponent(atlas)}/index.html` }, `Atlas ${atlas}`)),
  );
  const missing = networks.filter(({ reason }) => reason);
  if (missing.length) {
    document.getElementById("choose").before(...missing.map(({ name, reason }) => element("p", { class: "message" }, element("b", {}, name), `: ${reason}`)));
  }
  if (!first) {
    document.getElementById("file").disabled = true;
    return;
  }
  select.value = first.key;
  chosen.network = first;
  select.addEventListener("change", () => {
    chosen.network = networks.find(({ key }) => key === select.value);
    showSamples();
    if (photo) look();
  });
}

// Some photos of the network's atlas, for those who have none at hand.
function showSamples() {
  const samples = chosen.network?.samples ?? [];
  document.getElementById("samples").replaceChildren(
    ...samples.map((address, index) => {
      const picture = element("img", { src: address, alt: "", loading: "lazy" });
      const take = () => showingProblems(async () => send(await (await ask(address)).blob()));
      return element("button", { type: "button", "aria-label": `Photo ${index + 1} of the atlas`, onclick: take }, picture);
    }),
  );
}

async function send(file) {
  forgetProblem();
  looking.abort();
  looking = new AbortController();
  document.getElementById("status").textContent = "Reading the photo …";
  await showingProblems(async () => {
    if (!chosen.network) throw new Error("There is no network to show it to.");
    const answer = await ask("/api/photos", { body: file, type: "application/octet-stream", signal: looking.signal });
    photo = (await answer.json()).photo;
    await look();
  });
  document.getElementById("status").textContent = "";
}

// Show the photo to the network, and what it makes of it.
async function look() {
  forgetProblem();
  looking.abort();
  looking = new AbortController();
  const { signal } = looking;
  document.getElementById("status").textContent = "Looking …";
  await showingProblems(async () => {
    const address = `/api/photos/${photo}/${encodeURIComponent(chosen.network.key)}`;
    const [seen, view] = await Promise.all([
      ask(address, { signal }).then((answer) => answer.json()),
      askPicture(`${address}/view.png`, signal),
    ]);
    Object.assign(chosen, { address, view, seen });
    document.getElementById("view").src = view;
    document.getElementById("found").hidden = false;
    cover(null);
    resetSweep();
    showLayersOf(seen);
  });
  if (!signal.aborted) document.getElementById("status").textContent = "";
}

start();
