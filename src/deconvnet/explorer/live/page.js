// The live page: from a photo and a network to what the network makes of it.
"use strict";

let networks = [];
let listed = null; // a promise: whether the networks could be listed
let picked = null; // the network in the list
let photo = null; // the server's word for the photo
let sending = null; // what ends an upload
let asked = null; // what ends the look that is being asked for
const chosen = { network: null, address: "", view: "", seen: null }; // what is shown, all of one look

async function start() {
  setUpOccluder();
  setUpSweep();
  document.getElementById("forget").addEventListener("click", forgetProblem);
  const file = document.getElementById("file");
  file.addEventListener("change", () => {
    if (file.files.length) send(file.files[0]);
  });
  file.addEventListener("click", () => (file.value = "")); // or choosing the same one again would change nothing
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("dropping"));
  addEventListener("drop", dropped);
  addEventListener("paste", (event) => event.clipboardData.files.length && send(event.clipboardData.files[0]));
  listed = showingProblems(async () => {
    networks = await (await ask("/api/networks")).json();
    showNetworks();
    showSamples();
    return true;
  });
  await listed;
  if (photo && picked && !sending) await look(); // back from another page, or loaded again
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
  const parameters = new URLSearchParams(location.search);
  const wanted = parameters.get("network");
  photo = parameters.get("photo");
  picked = networks.find(({ key, reason }) => key === wanted && !reason) ?? networks.find(({ reason }) => !reason) ?? null;
  document.getElementById("atlases").replaceChildren(
    ...networks.filter(({ atlas }) => atlas).map(({ atlas }) => element("a", { href: `/atlas/${encodeURIComponent(atlas)}/index.html` }, `Atlas ${atlas}`)),
  );
  const missing = networks.filter(({ reason }) => reason);
  document.getElementById("choose").before(...missing.map(({ name, reason }) => element("p", { class: "message" }, element("b", {}, name), `: ${reason}`)));
  if (!picked) {
    document.getElementById("file").disabled = true;
    return;
  }
  select.value = picked.key;
  select.addEventListener("change", () => {
    picked = networks.find(({ key }) => key === select.value);
    showSamples();
    if (photo && !sending) look(); // a photo on its way is looked at when it is there
  });
}

// Some photos of the network's atlas, for those who have none at hand.
function showSamples() {
  const samples = picked?.samples ?? [];
  document.getElementById("samples-part").hidden = !samples.length;
  document.getElementById("samples").replaceChildren(
    ...samples.map((address, index) => {
      const picture = element("img", { src: address, alt: "", loading: "lazy" });
      const take = () => showingProblems(async () => send(await (await ask(address)).blob()));
      return element("button", { type: "button", "aria-label": `Photo ${index + 1} of the atlas`, onclick: take }, picture);
    }),
  );
}

// What is shown stays until the new photo has been looked at.
async function send(file) {
  forgetProblem();
  sending?.abort();
  const mine = (sending = new AbortController());
  showStatus("Reading the photo …");
  const networksThere = await listed; // a photo may be chosen before they are
  if (sending !== mine) return; // another one has been chosen
  const answer = await showingProblems(async () => {
    if (!networksThere) throw new Error(UNREACHABLE);
    if (!picked) throw new Error("There is no network to show it to.");
    return (await ask("/api/photos", { body: file, type: "application/octet-stream", signal: mine.signal })).json();
  });
  if (sending !== mine) return; // another one has been chosen
  sending = null;
  showStatus("");
  if (!answer) return;
  photo = answer.photo;
  await look();
}

// Show the photo to the network, and what it makes of it.
async function look() {
  forgetProblem();
  asked?.abort();
  const mine = (asked = new AbortController());
  const network = picked;
  showStatus("Looking …");
  await showingProblems(async () => {
    const address = `/api/photos/${encodeURIComponent(photo)}/${encodeURIComponent(network.key)}`;
    const [seen, view] = await Promise.all([
      ask(address, { signal: mine.signal }).then((answer) => answer.json()),
      askPicture(`${address}/view.png`, mine.signal),
    ]);
    looking.abort(); // what was asked about the look before
    looking = mine;
    Object.assign(chosen, { network, address, view, seen });
    history.replaceState(null, "", `?${new URLSearchParams({ network: network.key, photo })}`);
    document.getElementById("view").src = view;
    document.getElementById("found").hidden = false;
    cover(null);
    resetSweep();
    showLayersOf(seen);
  });
  if (asked !== mine) return;
  asked = null;
  showStatus("");
  if (looking !== mine && chosen.network) {
    picked = chosen.network; // it failed: the list says again what is shown
    document.getElementById("network").value = picked.key;
  }
}

function showStatus(words) {
  document.getElementById("status").textContent = words;
}

start();
