// What a person types, checked; the message says what is wrong and what would be right.

import { grouped } from "./text.js";

export const MOST_DIGITS = 60; // that the page shows of a model that has no largest number

/** A number that the model cannot be asked about. */
export class InputError extends Error {}

/** Read a whole number in the model's range as a BigInt; leading zeros and spaces around it are dropped. */
export function readNumber(text, model) {
  const typed = text.trim();
  if (!typed) throw new InputError(`Type a whole number, ${known(model)}.`);
  if (/^[-\u2212]\s*[0-9]+$/.test(typed)) {
    throw new InputError(`${shown(typed)} is negative. This model adds numbers ${known(model)}.`);
  }
  if (/^[0-9]+[.,][0-9]+$/.test(typed)) throw new InputError(`${shown(typed)}: write whole numbers, without . or ,`);
  const wrong = [...typed].find((character) => character < "0" || character > "9");
  if (wrong !== undefined) throw new InputError(`${shown(typed)} is not a number: "${wrong}" is no digit 0 to 9.`);
  const decimal = typed.replace(/^0+(?=.)/, "");
  if (model.range === null) {
    if (decimal.length <= MOST_DIGITS) return BigInt(decimal);
    throw new InputError(`That has ${decimal.length} digits. The model has no limit; this page shows ${MOST_DIGITS}.`);
  }
  const [least, most] = model.range;
  if (isAbove(decimal, most)) throw new InputError(`${shown(decimal)} is above ${grouped(most)}, the largest number this model knows.`);
  if (isAbove(least, decimal)) throw new InputError(`${shown(decimal)} is below ${grouped(least)}, the smallest number this model knows.`);
  return BigInt(decimal);
}

/** Which numbers a model knows, in words. */
export function known(model) {
  return model.range === null ? `of up to ${MOST_DIGITS} digits` : `from ${grouped(model.range[0])} to ${grouped(model.range[1])}`;
}

/** Compare decimal digits as numbers, however many there are. */
function isAbove(one, other) {
  return one.length === other.length ? one > other : one.length > other.length;
}

function shown(text) {
  return text.length <= 24 ? text : `${text.slice(0, 21)}...`;
}
