// The occlusion map: asked for once, it arrives position by position and can be cancelled at any of them.
"use strict";

let sweeping = null; // what cancels it
let sweep = null; // the map so far: {starts, size, class_name, layer, unit, whole_…, probability: [], activation: []}

function setUpSweep() {
  document.getElementById("sweep").addEventListener("submit", (event) => {
    event.preventDefault();
    runSweep();
  });
  document.getElementById("cancel").addEventListener("click", () => sweeping?.abort());
  document.getElementById("which").addEventListener("change", paintSweep);
  const scale = document.getElementById("scale");
  paintMap(scale, [Array.from({ length: 200 }, (_, index) => index)], 199);
}

// The paper's 50 and 6, or on a small view what they would be there.
function resetSweep() {
  sweeping?.abort();
  sweeping = sweep = null;
  showRunning(false);
  const { crop, classifies } = chosen.network;
  for (const [id, usual] of [["size", 50], ["step", 6]]) {
    const field = document.getElementById(id);
    field.max = crop;
    field.value = crop < 150 ? Math.max(1, Math.round((usual * crop) / 224)) : usual;
  }
  for (const id of ["heat", "legend", "progress"]) document.getElementById(id).hidden = true;
  document.getElementById("sweep-status").textContent = "";
  fillFollow();
  document.querySelector("#which [value=probability]").parentElement.hidden = !classifies;
  document.querySelector(`#which [value=${classifies ? "probability" : "activation"}]`).checked = true;
}

// Which unit's activation is mapped too: one of those that the photo drives most, at first the last convolutional layer's.
function fillFollow() {
  const { network, seen } = chosen;
  const usual = network.layers.filter(({ convolutional }) => convolutional).at(-1)?.name;
  document.getElementById("follow").replaceChildren(
    ...seen.layers.flatMap(({ name, units }) =>
      units.map(({ unit }, index) => element("option", { value: JSON.stringify([name, unit]), selected: name === usual && index === 0 }, `${name} · ${unit}`)),
    ),
  );
}

async function runSweep() {
  forgetProblem();
  const off = document.querySelector('#which [value=""]');
  if (off.checked) document.querySelector("#which label:not([hidden]) input").checked = true;
  sweeping?.abort();
  const mine = (sweeping = new AbortController());
  const signal = AbortSignal.any([mine.signal, looking.signal]);
  showRunning(true);
  cover(null);
  sweep = null;
  paintSweep();
  const began = performance.now();
  try {
    const [size, stride] = ["size", "step"].map((id) => Number(document.getElementById(id).value));
    const [layer, unit] = JSON.parse(document.getElementById("follow").value || "[null, null]");
    const wanted = { size, stride, layer, unit };
    const answer = await askJson(`${chosen.address}/occlusion`, wanted, signal);
    for await (const line of lines(answer.body)) {
      if (line.error) throw new Error(line.error);
      if (line.positions) sweep = { ...line, probability: [], activation: [] };
      else take(line, began);
    }
    say(`Done: ${plural(sweep.positions, "position")} in ${seconds(performance.now() - began)}.`);
  } catch (error) {
    if (sweeping === mine) {
      const after = sweep ? ` after ${number(sweep.activation.length)} of ${plural(sweep.positions, "position")}` : "";
      say(`${error.name === "AbortError" ? "Cancelled" : "Stopped"}${after}.`);
    }
    await showingProblems(() => Promise.reject(error));
  }
  if (sweeping === mine) showRunning(false); // else another one has begun
}

// The button that was pressed goes; the one in its place takes the focus.
function showRunning(runs) {
  const [run, cancel, progress] = ["run", "cancel", "progress"].map((id) => document.getElementById(id));
  const focused = [run, cancel].includes(document.activeElement);
  run.disabled = runs;
  cancel.hidden = progress.hidden = !runs;
  if (runs) progress.removeAttribute("value");
  if (focused) (runs ? cancel : run).focus();
}

function take(line, began) {
  sweep.activation.push(...line.activation);
  if (line.probability) sweep.probability.push(...line.probability);
  Object.assign(document.getElementById("progress"), { max: sweep.positions, value: line.done });
  const left = ((performance.now() - began) / line.done) * (sweep.positions - line.done);
  say(`${number(line.done)} of ${number(sweep.positions)} positions, ${seconds(left)} left`);
  document.getElementById("legend").hidden = false;
  paintSweep();
}

// Values of JSON, one per line, as they arrive.
async function* lines(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error(UNREACHABLE);
    });
    if (done && sweep && sweep.activation.length === sweep.positions) return;
    if (done) throw new Error("The server ended before the map was complete: run it again.");
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

// Each position's value stands where the middle of the occluder was.
function paintSweep() {
  const heat = document.getElementById("heat");
  const which = document.querySelector("#which :checked").value;
  heat.hidden = !which || !sweep;
  if (heat.hidden) return;
  const values = sweep[which];
  const whole = sweep[`whole_${which}`];
  const most = values.reduce((one, other) => Math.max(one, other), whole);
  const { crop } = chosen.network;
  const { starts, size } = sweep;
  Object.assign(heat, { width: crop, height: crop });
  const brush = heat.getContext("2d");
  const edge = (index) => (index === 0 ? 0 : index === starts.length ? crop : Math.round((starts[index - 1] + starts[index] + size) / 2));
  values.forEach((value, index) => {
    const [row, column] = [Math.floor(index / starts.length), index % starts.length];
    brush.fillStyle = `rgb(${colour(value / (most || 1)).join(" ")} / .72)`;
    brush.fillRect(edge(column), edge(row), edge(column + 1) - edge(column), edge(row + 1) - edge(row));
  });
  const what = which === "probability" ? `the probability of ${sweep.class_name}` : `the sum of all activations of ${sweep.layer} · unit ${sweep.unit}`;
  const text = which === "probability" ? percent : number;
  document.getElementById("range").textContent = `Dark to bright: 0 to ${text(most)}, ${what} with the square's middle there; without the square it is ${text(whole)}.`;
}

function say(words) {
  document.getElementById("sweep-status").textContent = words;
}

function seconds(milliseconds) {
  return `${number(Math.max(1, Math.round(milliseconds / 1000)))} s`;
}
