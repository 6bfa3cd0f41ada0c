// The decoding loop: one token a pass, two, or the whole answer at once.

import { promptTokens, readAnswer } from "./numbers.js";
import { positionIds } from "./positions.js";

/**
 * Ask the model for a sum and write down every forward pass.
 *
 * `forward(tokens, positions)` reads a row and returns the token it finds likeliest at each index. The logits at index
 * t are for token t + k; a model that says all at once says the answer's digits at those of the second operand.
 *
 *     k = 2, 21 + 378 = 399      + 1 2 + 8 7 3 + 9 9 3 +
 *     pass 1 reads 8 tokens      says 9 9, at the 3 and at the +
 *     pass 2 reads 10            says 3 +, at the two 9s
 *
 * Returns
 *     tokens       the prompt and what was said, up to the delimiter that ends it
 *     promptLength
 *     from         for each token of the answer, the index that said it
 *     passes       of each, how many tokens it read, the index of the first it said, how many, and milliseconds
 *     answer       a BigInt, or null where the model did not end its answer or said no number
 */
export async function add(x, y, model, forward) {
  const prompt = promptTokens(x, y, model);
  const ask = model.tokens_per_step === "all" ? sayAll : saySteps;
  const { said, from, passes, isFinished } = await ask(prompt, model, forward);
  const answer = isFinished ? readAnswer(said, model) : null;
  return { tokens: [...prompt, ...said], promptLength: prompt.length, from, passes, answer };
}

async function sayAll(prompt, model, forward) {
  const first = prompt.indexOf(model.delimiter_id, 1) + 1; // the second operand's first digit
  const { said, milliseconds } = await pass(prompt, model, forward);
  const kept = upToTheEnd(said.slice(first), model);
  return {
    said: kept,
    from: kept.map((_, index) => first + index),
    passes: [{ numRead: prompt.length, first: prompt.length, numSaid: kept.length, milliseconds }],
    isFinished: true,
  };
}

async function saySteps(prompt, model, forward) {
  const k = model.tokens_per_step;
  const limit = maxAnswerTokens(prompt, model);
  const tokens = [...prompt];
  const passes = [];
  let said = [];
  while (said.length < limit && !said.includes(model.delimiter_id)) {
    const { said: next, milliseconds } = await pass(tokens, model, forward);
    const kept = upToTheEnd(next.slice(-k), model);
    passes.push({ numRead: tokens.length, first: tokens.length, numSaid: kept.length, milliseconds });
    tokens.push(...kept);
    said = tokens.slice(prompt.length);
  }
  const isFinished = said.slice(0, limit).includes(model.delimiter_id);
  return { said, from: said.map((_, index) => prompt.length + index - k), passes, isFinished };
}

/** The longest sum of these lengths and what ends it, where the model has no range that says so. */
function maxAnswerTokens(prompt, model) {
  if (model.answer_tokens !== null) return model.answer_tokens;
  const firstLength = prompt.indexOf(model.delimiter_id, 1) - 1;
  return Math.max(firstLength, prompt.length - firstLength - 3) + 2;
}

async function pass(tokens, model, forward) {
  const started = performance.now();
  const said = await forward(tokens, positionIds(tokens, model));
  return { said, milliseconds: performance.now() - started };
}

function upToTheEnd(tokens, model) {
  const end = tokens.indexOf(model.delimiter_id);
  return end < 0 ? tokens : tokens.slice(0, end + 1);
}
