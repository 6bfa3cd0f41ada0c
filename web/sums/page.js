// The page: reads what is typed, asks the model, shows what happened.

import { add } from "./adder.js";
import { arcsWords, drawArcs, headChooser, paintHead, tellingHead, tokenChooser } from "./attention.js";
import { element } from "./elements.js";
import { download, fetchFile } from "./files.js";
import { InputError, readNumber } from "./input.js";
import { passesFigure } from "./passes.js";
import { placesTable } from "./places.js";
import { positionIds } from "./positions.js";
import { loadModel } from "./runtime.js";
import { grouped } from "./text.js";
import { evidenceWords, facts, lede, passesWords, placesWords } from "./words.js";

const byId = (id) => document.getElementById(id);
const megabytes = (numBytes) => (numBytes / 1e6).toFixed(1);

let model; // model.json
let network; // what runs
let shown = null; // the addition on the page: { addition, attentions, chosen }
let view = null; // the layer and the head the user chose

const loading = new AbortController(); // of the weights

async function start() {
  const weights = download("model.onnx", loading.signal, (numBytes) => {
    const all = model ? ` of ${megabytes(model.bytes)}` : "";
    tell(`Loading the model, ${megabytes(numBytes)}${all} MB`);
  });
  const [bytes] = await Promise.all([weights, describe()]);
  network = await loadModel(bytes, model);
  performance.mark("model ready");
  for (const id of ["add", "random", "carry"]) byId(id).disabled = false;
  byId("form").setAttribute("aria-busy", "false");
  const [x, y] = sumInAddress() ?? exampleSum();
  await ask(x, y);
}

/** Read model.json and say what is known of the model. */
async function describe() {
  model = await (await fetchFile("model.json")).json();
  byId("lede").textContent = lede(model);
  byId("places-words").textContent = placesWords(model);
  byId("passes-words").textContent = passesWords(model);
  byId("facts").replaceChildren(...facts(model));
  byId("other").hidden = !model.other;
  if (model.other) byId("other").href = model.other;
  const { short, isProof } = evidenceWords(model);
  byId("form").style.setProperty("--digits", model.range === null ? 8 : model.range[1].length);
  byId("badge").textContent = short;
  byId("badge").classList.toggle("proof", isProof);
}

/** Answer a sum given as text, or say what is wrong with it. */
async function ask(x, y) {
  [byId("x").value, byId("y").value] = [x, y];
  const numbers = checked();
  if (numbers === null) return;
  byId("form").setAttribute("aria-busy", "true");
  history.replaceState(null, "", `#${numbers.join("+")}`);
  performance.mark("asked");
  const addition = await add(...numbers, model, network.likeliest);
  showAnswer(numbers, addition, performance.measure("answer", "asked").duration);
  const numRead = Math.max(...addition.from) + 1;
  const read = addition.tokens.slice(0, numRead);
  const attentions = await network.attentions(read, positionIds(read, model));
  shown = { addition, attentions, chosen: 0 };
  showAttention();
  byId("form").setAttribute("aria-busy", "false");
}

/** Both numbers as BigInts; null and a message where one is none. */
function checked() {
  const numbers = [];
  let message = "";
  for (const id of ["x", "y"]) {
    try {
      numbers.push(readNumber(byId(id).value, model));
      byId(id).removeAttribute("aria-invalid");
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      if (!message) byId(id).focus();
      message ||= error.message;
      byId(id).setAttribute("aria-invalid", "true");
    }
  }
  byId("error").textContent = message;
  if (!message) return numbers;
  byId("answer").textContent = "";
  tell("");
  return null;
}

function showAnswer([x, y], addition, milliseconds) {
  const isRight = addition.answer === x + y;
  byId("answer").textContent = addition.answer === null ? "no number" : String(addition.answer);
  byId("answer").classList.toggle("wrong", !isRight);
  byId("form").classList.toggle("long", Math.max(...[x, y, x + y].map((value) => String(value).length)) > 7);
  const count = addition.passes.length === 1 ? "1 pass" : `${addition.passes.length} passes`;
  const verdict = isRight ? "Exact" : `Wrong, it is ${grouped(x + y)}`;
  tell(verdict, ` in ${count}, ${milliseconds.toFixed(0)} ms`);
  byId("status").className = `status ${isRight ? "right" : "wrong"}`;
  byId("places").replaceChildren(placesTable(x, y, addition, model));
  byId("passes").replaceChildren(passesFigure(addition, model));
  byId("passes").scrollLeft = byId("passes").scrollWidth; // a long row's answer is at its end
}

/** Draw arcs and heads anew. */
function showAttention() {
  const { addition, attentions } = shown;
  view ??= tellingHead(addition, model, attentions);
  if (!byId("heads").childElementCount) {
    const choose = (head) => {
      view = head;
      showArcs(shown.chosen);
    };
    byId("heads").replaceChildren(...headChooser(model, view, choose));
  }
  byId("arcs").replaceChildren(tokenChooser(addition, model, (answer) => answer !== shown.chosen && showArcs(answer)));
  byId("arcs").scrollLeft = byId("arcs").scrollWidth;
  paintHeads();
  showArcs(0);
}

function paintHeads() {
  for (const canvas of byId("heads").querySelectorAll("canvas")) {
    paintHead(canvas, shown.attentions(Number(canvas.dataset.layer), Number(canvas.dataset.head)));
  }
}

function showArcs(chosen) {
  const { addition, attentions } = shown;
  const shares = attentions(view.layer, view.head);
  shown.chosen = chosen;
  drawArcs(byId("arcs").firstElementChild, addition, shares, chosen);
  byId("arcs-words").replaceChildren(...arcsWords(addition, model, shares, chosen, view));
}

/** Show a message, or a verdict and what belongs to it. */
function tell(verdict, rest = "") {
  byId("status").className = "status";
  byId("status").replaceChildren(...(rest ? [element("strong", {}, verdict), rest] : [verdict]));
}

/** A sum in the address, as in #1342+879. */
function sumInAddress() {
  const found = /^#(\d+)\+(\d+)$/.exec(location.hash);
  return found && found.slice(1);
}

/** The first sum shown: one that carries, if the model knows numbers that large. */
function exampleSum() {
  const [least, most] = model.range === null ? [0, Infinity] : model.range.map(Number);
  return least <= 879 && most >= 1342 ? ["1342", "879"] : randomSum();
}

/** Two numbers the model knows, of any of its lengths. */
function randomSum() {
  const [least, most] = model.range === null ? [0n, 10n ** 12n] : model.range.map(BigInt);
  const digits = String(most).length;
  return [0, 1].map(() => {
    const length = 1 + Math.floor(digits * Math.sqrt(Math.random()));
    const bound = 10n ** BigInt(length);
    const drawn = BigInt(Array.from({ length }, () => Math.floor(10 * Math.random())).join(""));
    const span = (bound < most ? bound : most) - least + 1n;
    return String(least + (span > 0n ? drawn % span : 0n));
  });
}

/** A sum whose first carry runs through every place: in base 16, 0FFF + 1. */
function carryingSum() {
  const base = BigInt(model.base);
  const [least, most] = model.range === null ? [0n, base ** 12n] : model.range.map(BigInt);
  let power = base;
  while (power * base - 1n <= most) power *= base;
  const [x, y] = [power - 1n, least > 1n ? least : 1n];
  return [String(x <= most && x >= least ? x : most), String(y)];
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!byId("add").disabled) ask(byId("x").value, byId("y").value).catch(fail);
});
byId("random").addEventListener("click", () => ask(...randomSum()).catch(fail));
byId("carry").addEventListener("click", () => ask(...carryingSum()).catch(fail));
addEventListener("hashchange", () => network && sumInAddress() && ask(...sumInAddress()).catch(fail));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && paintHeads());

function fail(error) {
  loading.abort();
  tell("");
  byId("form").setAttribute("aria-busy", "false");
  byId("error").textContent = `The model could not be run here: ${error.message}`;
  throw error;
}

start().catch(fail);
