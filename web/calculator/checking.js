// The proof on the page: starts the worker, and shows how far it is and how it ends.

import { element } from "./elements.js";
import { OPERATION, SHOWN } from "./symbols.js";
import { grouped } from "./text.js";

/**
 * Have every context checked and show it in `parts`: { bar, words, rows, verdict }.
 *
 * Returns whether the model is right in all.
 */
export async function check(buffer, model, parts) {
  const worker = new Worker(new URL("proof.js", import.meta.url), { type: "module" });
  const asked = {};
  let counts = {};
  try {
    return await new Promise((resolve, reject) => {
      worker.onerror = ({ message }) => reject(new Error(message || "the worker could not be started"));
      worker.onmessage = ({ data }) => {
        if (data.kind === "listed") counts = data.counts;
        if (data.kind === "asked") asked[data.operator] = data;
        if (data.kind === "failed") reject(new Error(data.message));
        else if (data.kind === "done") resolve(showEnd(data, asked, counts, model, parts));
        else showProgress(asked, counts, parts);
      };
      worker.postMessage({ buffer, model });
    });
  } finally {
    worker.terminate();
  }
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);

function showProgress(asked, counts, { bar, words, rows }) {
  const [done, all] = [total(Object.values(asked).map((one) => one.asked)), total(Object.values(counts))];
  [bar.max, bar.value] = [all, done];
  words.textContent = `${grouped(done)} of ${grouped(all)} contexts`;
  rows.replaceChildren(...Object.entries(counts).map(([operator, count]) => row(operator, count, asked[operator])));
}

function row(operator, count, { asked = 0, wrong = 0, lead = Infinity } = {}) {
  const counted = asked ? [grouped(asked - wrong), grouped(wrong)] : ["", ""];
  const cells = [grouped(count), ...counted, Number.isFinite(lead) ? lead.toFixed(2) : ""];
  const symbol = element("span", { class: "symbol", "aria-hidden": "true" }, SHOWN[operator]);
  const name = element("th", { scope: "row" }, symbol, ` ${OPERATION[operator]}s`);
  return element("tr", { class: wrong ? "wrong" : asked === count ? "right" : "" }, name, ...cells.map((text) => element("td", {}, text)));
}

function showEnd({ digest, wrong }, asked, counts, model, { verdict, bar, words }) {
  const all = total(Object.values(counts));
  const numWrong = total(Object.values(asked).map((one) => one.wrong));
  [bar.max, bar.value, words.textContent] = [all, all, `${grouped(all)} contexts`];
  const isOther = digest !== null && digest !== model.model_sha256;
  const isRight = numWrong === 0 && !isOther;
  verdict.className = `verdict ${isRight ? "right" : "wrong"}`;
  const strong = (text) => element("strong", {}, text);
  if (isRight) {
    const what = Object.keys(counts).map((operator) => SHOWN[operator]).join(" ");
    verdict.replaceChildren(
      strong(`Proved: all ${grouped(all)} contexts are right.`),
      ` So this model works out ${what} rightly for numbers of every length, and sums of however many.`,
    );
  } else if (numWrong) {
    verdict.replaceChildren(
      strong(`Not proved: ${grouped(numWrong)} of ${grouped(all)} contexts are wrong.`),
      element("ul", {}, ...wrong.map((one) => element("li", {}, ...mistake(one)))),
    );
  } else {
    verdict.replaceChildren(strong("Not proved: other weights ran here than those that this page names."), ` Theirs is ${digest.slice(0, 12)}.`);
  }
  return isRight;
}

/** A mistake, spelled out: the problem that is wrong, and where. */
function mistake({ operator, context, said, right, problem, address, answers }) {
  const where = `with ${context} it says ${said}, and ${right} is right.`;
  if (problem === null) return [`In ${OPERATION[operator]}s, ${where}`];
  const link = element("a", { href: address }, problem);
  const [told, truth] = answers;
  return told === truth ? [link, ` comes out, but ${where}`] : [link, ` is ${truth}, and the model says ${told}: ${where}`];
}
