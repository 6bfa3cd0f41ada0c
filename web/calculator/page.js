// The page: reads what is typed, has the model work it out, and shows the work.

import { check } from "./checking.js";
import { element } from "./elements.js";
import { placeOf, telling } from "./explanation.js";
import { download, fetchFile } from "./files.js";
import { looking } from "./looking.js";
import { Network } from "./network.js";
import { Player } from "./player.js";
import { EXAMPLES, ProblemError, drawn, inAscii, randomProblem, readProblem, written, writtenAnswer } from "./problem.js";
import { Sheet } from "./sheet.js";
import { shown } from "./symbols.js";
import { grouped } from "./text.js";
import { readWeights } from "./weights.js";
import { evidenceWords, facts, lede } from "./words.js";
import { isSame, remembering, rightAnswer, work } from "./work.js";

const byId = (id) => document.getElementById(id);
const BREATH = 12; // milliseconds of work, then the page may draw
const LONG = 12; // characters; a longer problem is written smaller
const EXAMPLE_ORDER = ["*", "-", "+", "/"];

let model; // model.json
let buffer; // of the weights
let network; // what runs
let say; // and what it is known to say
let shownNow = null; // { worked, sheet }
let numAsked = 0;

const loading = new AbortController(); // of the weights
const player = new Player(
  { slider: byId("slider"), button: byId("play"), ways: [...byId("ways").querySelectorAll("input")] },
  (isByHand) => showMoment(isByHand),
  () => look(telling(shownNow.worked)),
);

async function start() {
  const [bytes] = await Promise.all([download("model.safetensors", loading.signal, () => {}), describe()]);
  buffer = bytes.buffer;
  network = new Network(readWeights(buffer), model);
  say = remembering(network);
  performance.mark("model ready");
  for (const button of document.querySelectorAll("button")) button.disabled = false;
  byId("form").setAttribute("aria-busy", "false");
  const first = EXAMPLE_ORDER.find((operator) => model.operators.includes(operator));
  await ask(inAddress() ?? written(EXAMPLES[first]), { plays: true });
}

/** Read model.json and say what is known of the model. */
async function describe() {
  model = await (await fetchFile("model.json")).json();
  byId("lede").textContent = lede(model);
  byId("facts").replaceChildren(...facts(model));
  const { short, isProof } = evidenceWords(model);
  byId("badge").textContent = short;
  byId("badge").classList.toggle("proof", isProof);
  byId("other").hidden = !model.other;
  if (model.other) byId("other").href = model.other;
  for (const button of document.querySelectorAll("[data-sign]")) button.hidden = !model.operators.includes(button.dataset.sign);
  const examples = EXAMPLE_ORDER.filter((operator) => model.operators.includes(operator)).map((operator) => written(EXAMPLES[operator]));
  byId("examples").replaceChildren(...examples.map(exampleButton));
}

function exampleButton(text) {
  const button = element("button", { type: "button", disabled: true, class: "example" }, text);
  button.addEventListener("click", () => ask(text).catch(fail));
  return button;
}

/** Work out a problem given as text, or say what is wrong with it. */
async function ask(text, { plays = true } = {}) {
  byId("problem").value = text;
  byId("form").classList.toggle("long", text.length > LONG);
  const problem = checked(text);
  if (problem === null) return;
  const mine = ++numAsked;
  byId("form").setAttribute("aria-busy", "true");
  history.replaceState(null, "", `#${inAscii(problem)}`);
  performance.mark("asked");
  const worked = await inSlices(work(problem, model.base, say), () => mine === numAsked);
  if (worked === null) return; // another was asked meanwhile
  showAnswer(problem, worked, performance.measure("answer", "asked").duration);
  const sheet = new Sheet(worked, problem, model.base, (index, how) => {
    if (how === "pointerover" && player.playing !== null) return; // what plays goes on under a pointer that rests
    player.moveTo(index);
    look(index);
    if (how === "keydown") sheet.reveal(index);
  });
  byId("paper").replaceChildren(sheet.element);
  byId("paper").scrollLeft = problem.operator === "/" ? 0 : byId("paper").scrollWidth; // where the work begins
  shownNow = { worked, sheet };
  player.set(worked);
  if (plays && !matchMedia("(prefers-reduced-motion: reduce)").matches) player.play();
  byId("form").setAttribute("aria-busy", "false");
}

/** Run a generator to its end and let the page draw in between; null where `goesOn` says no. */
async function inSlices(steps, goesOn) {
  for (let until = performance.now() + BREATH; ; ) {
    const { done, value } = steps.next();
    if (done) return value;
    if (performance.now() < until) continue;
    await new Promise((resolve) => setTimeout(resolve));
    if (!goesOn()) return null;
    until = performance.now() + BREATH;
  }
}

/** The problem that a text is; null and a message where it is none. */
function checked(text) {
  try {
    const problem = readProblem(text, model);
    byId("problem").removeAttribute("aria-invalid");
    byId("error").textContent = "";
    return problem;
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error;
    byId("problem").setAttribute("aria-invalid", "true");
    byId("problem").focus();
    byId("error").textContent = error.message;
    byId("answer").textContent = "";
    tell("");
    return null;
  }
}

function showAnswer(problem, { tokens, first, answer }, milliseconds) {
  const right = rightAnswer(problem);
  const isRight = isSame(answer, right);
  byId("answer").textContent = writtenAnswer(answer);
  byId("answer").classList.toggle("wrong", !isRight);
  const numSaid = tokens.length - first;
  const count = `${grouped(numSaid)} ${numSaid === 1 ? "token" : "tokens"}, ${milliseconds.toFixed(0)} ms`;
  tell(isRight ? "Exact" : `Wrong, it is ${writtenAnswer(right)}`, ` in ${count}`);
  byId("status").className = `status ${isRight ? "right" : "wrong"}`;
}

/** Show what is written at the player's moment. */
function showMoment(isByHand) {
  const { worked, sheet } = shownNow;
  sheet.write(player.isWritten, player.isNew);
  const unit = player.isWave ? "step" : "token";
  byId("moment").textContent = `${unit} ${grouped(player.position)} of ${grouped(Number(byId("slider").max))}`;
  look(player.newest);
  if (isByHand && player.newest !== null) sheet.revealIn(byId("paper"), player.newest);
  const text = player.newest === null ? "nothing yet" : tokenWords(worked, player.newest);
  byId("slider").setAttribute("aria-valuetext", `${byId("moment").textContent}, ${text}`);
}

function tokenWords(worked, index) {
  return `${shown(worked.tokens[index].symbol, model.base)}, ${placeOf(worked.tokens[index], worked, model.base)}`;
}

/** Look at a token, or at none. */
function look(index) {
  const { worked, sheet } = shownNow;
  sheet.look(index);
  byId("look").setAttribute("aria-live", player.playing === null ? "polite" : "off");
  const shares = (own, seen) => Array.from({ length: model.heads }, (_, head) => network.shares(head, own, seen));
  byId("look").replaceChildren(...(index === null ? [] : looking(worked, index, model.base, shares)));
}

/** Show a message, or a verdict and what belongs to it. */
function tell(verdict, rest = "") {
  byId("status").className = "status";
  byId("status").replaceChildren(...(rest ? [element("strong", {}, verdict), rest] : [verdict]));
}

/** A problem in the address, as in #57*46. */
function inAddress() {
  const text = decodeURIComponent(location.hash.slice(1));
  return text || null;
}

/** Put an operator where the cursor is. */
function insert(sign) {
  const field = byId("problem");
  field.setRangeText(` ${sign} `, field.selectionStart, field.selectionEnd, "end");
  field.focus();
}

async function checkAll() {
  byId("check").disabled = true;
  byId("proof").hidden = false;
  byId("verdict").replaceChildren();
  try {
    const parts = { bar: byId("bar"), words: byId("progress"), rows: byId("rows"), verdict: byId("verdict") };
    const isRight = await check(buffer, model, parts);
    byId("badge").textContent = isRight ? "Proved, here in this browser" : "Not proved: wrong in this browser";
    byId("badge").classList.toggle("proof", isRight);
  } catch (error) {
    byId("verdict").className = "verdict wrong";
    byId("verdict").textContent = `The contexts could not be checked here: ${error.message}`;
  } finally {
    byId("check").disabled = false;
  }
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (network) ask(byId("problem").value).catch(fail);
});
for (const button of document.querySelectorAll("[data-sign]")) {
  button.addEventListener("click", () => insert(button.textContent));
}
byId("random").addEventListener("click", () => ask(written(randomProblem(model))).catch(fail));
byId("large").addEventListener("click", () => ask(written(drawn(model.operators.includes("*") ? "*" : model.operators[0], [20, 20]))).catch(fail));
byId("check").addEventListener("click", checkAll);
addEventListener("hashchange", () => network && inAddress() && ask(inAddress()).catch(fail));

function fail(error) {
  loading.abort();
  tell("");
  byId("form").setAttribute("aria-busy", "false");
  byId("error").textContent = `The model could not be run here: ${error.message}`;
  throw error;
}

start().catch(fail);
