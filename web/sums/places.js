// The sum written in places: both numbers, the carries and the answer in columns of equal place.

import { carries, DIGITS, readAnswer, toDigits } from "./numbers.js";
import { element } from "./elements.js";
import { grouped } from "./text.js";
import { placeStyle } from "./tiles.js";

/** Draw a table with a column a place, in the order the model reads digits. */
export function placesTable(x, y, addition, model) {
  const lowestFirst = { base: model.base, reversed: true };
  const said = readAnswer(addition.tokens.slice(addition.promptLength), model);
  const [digitsX, digitsY, digitsSum] = [x, y, x + y].map((value) => toDigits(value, lowestFirst));
  const digitsSaid = said === null ? [] : toDigits(said, lowestFirst);
  const width = Math.max(digitsSum.length, digitsSaid.length);
  const into = carries(x, y, model);
  const columns = Array.from({ length: width }, (_, index) => index);
  if (!model.reversed) columns.reverse();
  const row = (label, kind, cell) =>
    element("tr", { class: kind }, element("th", { scope: "row" }, label), ...columns.map(cell));
  const digits = (values, isRight = () => true) => (index) =>
    element("td", {}, values[index] === undefined ? "" : digitTile(values[index], index + 1, isRight(index)));
  return element(
    "table",
    { class: "places", style: { "--columns": width } },
    element("caption", {}, `${x} + ${y} in base ${model.base}, a column a place`),
    element(
      "thead",
      {},
      row("place", "", (index) => element("th", { scope: "col", style: placeStyle(index + 1) }, String(index + 1))),
      row("worth", "worth", (index) => element("td", {}, worth(model.base, index))),
    ),
    element(
      "tbody",
      {},
      row("carry", "carry", (index) => element("td", {}, into[index] ? carryMark(model) : "")),
      row(decimal(x), "", digits(digitsX)),
      row(`+ ${decimal(y)}`, "", digits(digitsY)),
      row(said === null ? "no number" : decimal(said), "total", digits(digitsSaid, (index) => digitsSaid[index] === digitsSum[index])),
    ),
  );
}

function digitTile(digit, place, isRight) {
  const text = isRight ? {} : { title: "wrong" };
  return element("span", { class: `tile digit ${isRight ? "" : "wrong"}`, style: placeStyle(place), ...text }, DIGITS[digit]);
}

function carryMark(model) {
  return element("span", { class: `mark ${model.reversed ? "" : "leftward"}`, title: "carried from the place below" }, "1");
}

/** A long number by its ends. */
function decimal(value) {
  const text = String(value);
  return text.length <= 12 ? grouped(text) : `${text.slice(0, 5)}...${text.slice(-4)}`;
}

/** What a one in a place is worth: 1, 16, 256, 4,096, and then as a power. */
function worth(base, index) {
  const value = BigInt(base) ** BigInt(index);
  return value < 100_000n ? grouped(value) : element("span", {}, String(base), element("sup", {}, String(index)));
}
