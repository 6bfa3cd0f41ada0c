// What the page says about its model, in words.

import { element } from "./elements.js";
import { OPERATION } from "./symbols.js";
import { grouped } from "./text.js";

/** "a, b and c". */
export function inWords(words) {
  return [words.slice(0, -1).join(", "), ...words.slice(-1)].filter(Boolean).join(" and ");
}

/** The sentence under the title. */
export function lede(model) {
  const operations = inWords(model.operators.map((operator) => `${OPERATION[operator]}s`));
  return (
    `Type a problem, with numbers as long as you like. One transformer block of ${grouped(model.parameters)} weights, ` +
    `trained from scratch, works out ${operations} as on paper, token by token, in this page.`
  );
}

/** How sure the answers are: a few words, a sentence, and whether it is proved. */
export function evidenceWords({ evidence }) {
  if (evidence === null) {
    return { short: "Not proved yet", long: "No certificate came with this model. The proof above runs here.", isProof: false };
  }
  const wrong = evidence.total - evidence.correct;
  if (wrong) {
    const long = `Its certificate counts ${grouped(wrong)} of ${grouped(evidence.total)} contexts that are wrong.`;
    return { short: `${grouped(wrong)} of ${grouped(evidence.total)} contexts wrong`, long, isProof: false };
  }
  return {
    short: "Proved for numbers of every length",
    long: `Proved for numbers of every length: its certificate counts ${grouped(evidence.total)} contexts, 0 wrong.`,
    isProof: true,
  };
}

/** The list of facts about the model. */
export function facts(model) {
  return [
    ["How sure", evidenceWords(model).long],
    ["Weights", grouped(model.parameters)],
    ["Shape", `1 block, ${model.heads} ${model.heads === 1 ? "head" : "heads"}, width ${model.width}, ${model.neurons} neurons`],
    ["Numbers", `of any length, in base ${model.base}`],
    ["Says", "one token at a time"],
    ["Runs", "in doubles, on the model\u2019s own file"],
    ["sha256", element("abbr", { title: model.model_sha256 }, model.model_sha256.slice(0, 12))],
  ].map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}
