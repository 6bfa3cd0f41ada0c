// What the page says about its model, in words.

import { element } from "./elements.js";
import { known } from "./input.js";
import { grouped } from "./text.js";

const COUNT = { 1: "one token", 2: "two tokens", all: "the whole answer" };

/** The sentence under the title. */
export function lede(model) {
  const range = model.range === null ? "of any length" : known(model);
  return (
    `Type two numbers ${range}. A GPT\u20112 with ${grouped(model.parameters)} weights, trained from scratch on sums alone, ` +
    `runs in this page and says ${COUNT[model.tokens_per_step]} ${model.tokens_per_step === "all" ? "in one pass" : "a pass"}.`
  );
}

/** What the table of places shows. */
export function placesWords(model) {
  const writing = model.reversed
    ? `The model reads numbers in base ${model.base}, the ones first, because carries start there.`
    : `The model reads numbers in base ${model.base}.`;
  const positions = model.position_embedding.startsWith("block")
    ? " Each digit knows its place: equal colours are equal places, and that is all it is told."
    : " Equal colours are equal places; the model is not told them and has to find out.";
  return writing + positions;
}

/** What the row of passes shows. */
export function passesWords(model) {
  const positions = model.position_embedding.startsWith("block")
    ? "Under each token is its position ID, which starts again at every number."
    : "Under each token is its position ID.";
  const saying = {
    1: "Each pass reads the row so far and says the next token.",
    2: "Each pass reads the row so far and says the next two tokens.",
    all: "One pass reads the sum and says the whole answer.",
  };
  return `${positions} ${saying[model.tokens_per_step]}`;
}

/** How sure the answers are: a few words, a sentence, and whether it is proved. */
export function evidenceWords({ evidence }) {
  if (evidence === null) return { short: "Not measured", long: "Nothing is measured or proved of this model.", isProof: false };
  const [correct, total] = [evidence.correct, evidence.total].map(grouped);
  const numWrong = evidence.total - evidence.correct;
  if (evidence.kind === "sample") {
    const rate = (100 * evidence.error_rate_upper_95).toPrecision(2);
    return {
      short: `${correct} of ${total} right`,
      long: `Measured, not proved: ${correct} of ${total} sums it never saw are right, so at most ${rate}% of all are wrong (95% sure).`,
      isProof: false,
    };
  }
  if (numWrong) return { short: `${grouped(numWrong)} of ${total} wrong`, long: `Counted: ${grouped(numWrong)} of ${total} wrong.`, isProof: false };
  if (evidence.kind === "all lengths") {
    return {
      short: "Proved for numbers of every length",
      long: `Proved for every length: all ${total} contexts that a digit can depend on were run, 0 wrong.`,
      isProof: true,
    };
  }
  const [least, most] = evidence.range.map(grouped);
  return {
    short: `Proved on all ${total} pairs`,
    long: `Proved on all ${total} pairs of ${least} to ${most}: 0 wrong.`,
    isProof: true,
  };
}

/** The list of facts about the model. */
export function facts(model) {
  const window = model.attention_window;
  const [same, asked] = model.same_as_torch.map(grouped);
  return [
    ["How sure", evidenceWords(model).long],
    ["Weights", grouped(model.parameters)],
    ["Shape", `${counted(model.layers, "layer")}, ${counted(model.heads, "head")}, width ${model.width}`],
    ["Numbers", `${model.range === null ? "of any length" : known(model)}, in base ${model.base}`],
    ["Says", `${COUNT[model.tokens_per_step]} a pass`],
    ...(window ? [["Attention", `${counted(window.left + window.right + 1, "place")} and the delimiters`]] : []),
    ["This file", `says the same as torch on ${same} of ${asked} sums`],
    ["sha256", element("abbr", { title: model.model_sha256 }, model.model_sha256.slice(0, 12))],
  ].map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

/** "1 head", "4 heads". */
function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
