// The tiles that tokens are.

import { element } from "./elements.js";
import { tokenText } from "./numbers.js";
import { places, positionIds } from "./positions.js";

const HUES = [28, 78, 145, 205, 268, 335]; // of places 1, 2, 3, ..., and again

/** The colour of a place, the same in all numbers; null for what is no digit. */
export function placeStyle(place) {
  return place ? { "--hue": HUES[(place - 1) % HUES.length] } : {};
}

/** What the page knows of each token of an addition: its text, position ID, place, number, and a name in words. */
export function describeTokens({ tokens, promptLength }, model) {
  const positions = positionIds(tokens, model);
  return places(tokens, model).map(({ place, number }, index) => {
    const text = tokenText(tokens[index], model);
    const isAnswer = index >= promptLength;
    const owner = isAnswer ? "answer" : number === 1 ? "first number" : "second number";
    const name = place ? `${text} (${owner}, place ${place})` : `${text} (${delimiterName(index, promptLength)})`;
    return { text, position: positions[index], place, name, isAnswer };
  });
}

function delimiterName(index, promptLength) {
  if (index >= promptLength) return "end of the answer";
  return index === 0 ? "start" : index === promptLength - 1 ? "end of the sum" : "between the numbers";
}

/** A token as a tile, coloured by its place. */
export function tile({ text, place, name, isAnswer }, tag = "span", attributes = {}) {
  const kind = `tile ${place ? "digit" : "delimiter"} ${isAnswer ? "answer" : ""}`;
  const { style = {}, ...rest } = attributes;
  return element(tag, { class: kind, title: name, style: { ...placeStyle(place), ...style }, ...rest }, text);
}
