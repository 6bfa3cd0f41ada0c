// Every context there is, asked in this browser, beside the page: it runs as a worker.
//
// It is sent { buffer, model } and tells
//     { kind: "listed", counts }                          how many contexts each operator has
//     { kind: "asked", operator, asked, wrong, lead }     so far, every now and then; lead is the smallest
//     { kind: "done", digest, wrong }                     sha256 of the weights that ran, or null where the browser has
//                                                         none; of contexts that are wrong the first of each operator
//     { kind: "failed", message }

import { contexts, spelled } from "./contexts.js";
import { Network, likeliest } from "./network.js";
import { drawn, inAscii, written, writtenAnswer } from "./problem.js";
import { contextKey, fromDigits, shown } from "./symbols.js";
import { readWeights } from "./weights.js";
import { isSame, remembering, rightAnswer, work } from "./work.js";

const EVERY = 60; // milliseconds between reports
const NUM_TRIED = 100; // problems of each operator that the list itself is tried on
const MOST_TRIED = 20_000; // problems that are looked through for one that shows a context

/** Ask for every context of some operators and tell `report` of it; returns { digest, wrong }. */
export async function prove(buffer, model, report) {
  const network = new Network(readWeights(buffer), model);
  const lists = new Map(model.operators.map((operator) => [operator, [...contexts(operator, model.base)]]));
  report({ kind: "listed", counts: Object.fromEntries([...lists].map(([operator, list]) => [operator, list.length])) });
  const wrong = [];
  for (const [operator, list] of lists) {
    tryList(operator, list, model.base);
    const [first] = askAll(operator, list, network, report);
    if (first !== undefined) wrong.push(told(operator, first, list, network, model.base));
  }
  const digest = globalThis.crypto?.subtle ? hex(await crypto.subtle.digest("SHA-256", buffer)) : null;
  return { digest, wrong };
}

/** Ask for the contexts of an operator; returns those that are wrong, with what is said there. */
function askAll(operator, list, network, report) {
  const wrong = [];
  let [lead, reported] = [Infinity, performance.now()];
  list.forEach((context, index) => {
    const said = likeliest(network.ask(context.own, context.seen));
    if (said.token !== network.symbols[context.right]) wrong.push({ context, said: network.symbols.indexOf(said.token) });
    else lead = Math.min(lead, said.lead);
    const isLast = index === list.length - 1;
    if (!isLast && performance.now() < reported + EVERY) return;
    reported = performance.now();
    report({ kind: "asked", operator, asked: index + 1, wrong: wrong.length, lead });
  });
  return wrong;
}

/** What follows in a context by the list. */
function byList(list) {
  const answers = new Map(list.map(({ own, seen, right }) => [contextKey(own, seen), right]));
  return (own, seen) => ({ symbol: answers.get(contextKey(own, seen)) ?? -1 });
}

function run(problem, base, say) {
  const steps = work(problem, base, say);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** Work problems out by the list alone, and compare with integers: a list that is wrong proves nothing. */
function tryList(operator, list, base) {
  const say = byList(list);
  for (let count = 0; count < NUM_TRIED; count++) {
    const size = () => 1 + Math.floor(8 * Math.random());
    const problem = drawn(operator, operator === "+" ? [size(), size(), size()] : [size(), size()]);
    if (isSame(run(problem, base, say).answer, rightAnswer(problem))) continue;
    throw new Error(`by the list of contexts, ${written(problem)} is not what integers say`);
  }
}

/** A wrong context for people: in words, and a problem that it makes wrong, if one is found. */
function told(operator, { context, said }, list, network, base) {
  const problem = problemShowing(operator, context, list, base);
  const answers = problem && [run(problem, base, remembering(network)).answer, rightAnswer(problem)].map(writtenAnswer);
  return {
    operator,
    context: spelled(context, base),
    said: shown(said, base),
    right: shown(context.right, base),
    problem: problem && written(problem),
    address: problem && `#${inAscii(problem)}`,
    answers: answers ?? null,
  };
}

/** A small problem in which a context occurs; its digits are mostly those of the context. */
function problemShowing(operator, { own, seen, cells }, list, base) {
  const [say, sought] = [byList(list), contextKey(own, seen)];
  const near = cells.filter((one) => one !== null && one[0] < 2 * base).map(([symbol]) => symbol % base);
  const digit = () => (near.length && Math.random() < 0.5 ? near[Math.floor(Math.random() * near.length)] : Math.floor(base * Math.random()));
  let isFound = false;
  const noticing = (own, seen) => {
    isFound ||= contextKey(own, seen) === sought;
    return say(own, seen);
  };
  for (let count = 0; count < MOST_TRIED; count++) {
    const most = 1 + Math.min(4, Math.floor(count / 500)); // small ones first
    const sizes = [0, 0].map(() => 1 + Math.floor(most * Math.random()));
    const numbers = sizes.map((size) => fromDigits(Array.from({ length: size }, digit), base));
    if (operator === "/" && !numbers[1]) continue;
    run({ operator, numbers }, base, noticing);
    if (isFound) return { operator, numbers };
  }
  return null;
}

function hex(buffer) {
  return [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

globalThis.onmessage = async ({ data: { buffer, model } }) => {
  try {
    postMessage({ kind: "done", ...(await prove(buffer, model, (news) => postMessage(news))) });
  } catch (error) {
    postMessage({ kind: "failed", message: error.message });
  }
};
