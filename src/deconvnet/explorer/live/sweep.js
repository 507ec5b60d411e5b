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
  sweep = null;
  const { crop, classifies } = chosen.network;
  for (const [id, usual] of [["size", 50], ["step", 6]]) {
    const field = document.getElementById(id);
    field.max = crop;
    field.value = crop < 150 ? Math.max(1, Math.round((usual * crop) / 224)) : usual;
  }
  for (const id of ["heat", "legend", "progress"]) document.getElementById(id).hidden = true;
  document.getElementById("sweep-status").textContent = "";
  document.querySelector("#which [value=probability]").parentElement.hidden = !classifies;
  document.querySelector(`#which [value=${classifies ? "probability" : "activation"}]`).checked = true;
}

async function runSweep() {
  forgetProblem();
  sweeping?.abort();
  const mine = (sweeping = new AbortController());
  const drop = () => mine.abort();
  looking.signal.addEventListener("abort", drop);
  const [run, cancel, progress] = ["run", "cancel", "progress"].map((id) => document.getElementById(id));
  Object.assign(run, { disabled: true });
  cancel.hidden = progress.hidden = false;
  progress.removeAttribute("value");
  cover(null);
  const began = performance.now();
  try {
    const wanted = { size: Number(document.getElementById("size").value), stride: Number(document.getElementById("step").value) };
    const answer = await askJson(`${chosen.address}/occlusion`, wanted, mine.signal);
    for await (const line of lines(answer.body)) {
      if (line.error) throw new Error(line.error);
      if (line.positions) sweep = { ...line, probability: [], activation: [] };
      else take(line, began);
    }
    say(`Done: ${plural(sweep.positions, "position")} in ${seconds(performance.now() - began)}.`);
  } catch (error) {
    if (error.name !== "AbortError") await showingProblems(() => Promise.reject(error));
    else if (sweeping === mine) say(sweep ? `Cancelled after ${number(sweep.activation.length)} of ${plural(sweep.positions, "position")}.` : "Cancelled.");
  }
  looking.signal.removeEventListener("abort", drop);
  if (sweeping !== mine) return; // another one has begun
  run.disabled = false;
  cancel.hidden = progress.hidden = true;
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
    const { done, value } = await reader.read();
    if (done) return;
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
  const what = which === "probability" ? `the probability of ${sweep.class_name}` : `the activation of ${sweep.layer} · unit ${sweep.unit}`;
  const text = which === "probability" ? percent : number;
  document.getElementById("range").textContent = `Dark to bright: 0 to ${text(most)}, ${what} with the square's middle there; without the square it is ${text(whole)}.`;
}

function say(words) {
  document.getElementById("sweep-status").textContent = words;
}

function seconds(milliseconds) {
  return `${number(Math.max(1, Math.round(milliseconds / 1000)))} s`;
}
