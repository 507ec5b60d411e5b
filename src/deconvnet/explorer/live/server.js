// Asking the server. What belongs to one photo and network is dropped when another is chosen.
"use strict";

const UNREACHABLE = "The server does not answer: is deconvnet explore still running?";

let looking = new AbortController(); // ends all that was asked about the photo before

// The answer to a question; a busy server is asked again. Throws an Error with a sentence that can be shown.
async function ask(address, { body, signal, type } = {}) {
  const question = { signal, method: body === undefined ? "GET" : "POST", body, headers: body === undefined ? {} : { "Content-Type": type } };
  for (let tries = 1; ; tries++) {
    let answer;
    try {
      answer = await fetch(address, question);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error(UNREACHABLE);
    }
    if (answer.ok) return answer;
    if (answer.status === 503 && tries < 5) {
      await new Promise((wait) => setTimeout(wait, 1000));
      continue;
    }
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.error ?? `The server answers with ${answer.status}.`);
  }
}

function askJson(address, value, signal) {
  return ask(address, { body: JSON.stringify(value), type: "application/json", signal });
}

// A picture as an address of this page's own, which is given up when `signal` ends it.
async function askPicture(address, signal) {
  const answer = await ask(address, { signal });
  const url = URL.createObjectURL(await answer.blob());
  signal.addEventListener("abort", () => URL.revokeObjectURL(url));
  return url;
}

// Runs `work`; what goes wrong is shown, unless it was dropped on purpose.
async function showingProblems(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") {
      document.getElementById("problem-words").textContent = error.message;
      document.getElementById("problem").hidden = false;
    }
    return undefined;
  }
}

function forgetProblem() {
  document.getElementById("problem").hidden = true;
}
