// What a person types, 57 * 46 or 12 + 873 + 4, read and checked; the message says what is wrong.

import { OPERATION, SHOWN } from "./symbols.js";

export const MOST_DIGITS = 60; // of a number, and
export const MOST_NUMBERS = 12; // in a sum, that the page shows; the model has no limit

const READ_AS = { "\u2212": "-", "\u2013": "-", "\u00d7": "*", "\u00b7": "*", "\u00f7": "/", ":": "/" };

/** A problem that cannot be asked. */
export class ProblemError extends Error {}

/** Read { operator, numbers }, of BigInts. Leading zeros and one = at the end are dropped, spaces do not matter. */
export function readProblem(text, model) {
  const asked = [...text.replace(/[\s_]/g, "")].map((one) => READ_AS[one] ?? one).join("").replace(/=$/, "");
  const example = model.operators.map((operator) => written(EXAMPLES[operator])).join(" or ");
  const fail = (why) => {
    throw new ProblemError(`${why} Write a problem such as ${example}.`);
  };
  if (!asked) fail("There is no problem yet.");
  const wrong = [...asked].find((one) => !/[0-9+\-*/]/.test(one));
  if (wrong !== undefined) fail(`\u201c${wrong}\u201d is neither a digit nor an operator.`);
  const operators = new Set(asked.match(/[+\-*/]/g) ?? []);
  if (!operators.size) fail("There is no operator in it.");
  if (operators.size > 1) fail("A problem has one operation.");
  const [operator] = operators;
  const parts = asked.split(operator);
  if (parts.includes("")) fail("A number is missing.");
  if (!model.operators.includes(operator)) fail(`This model was trained on no ${OPERATION[operator]}s.`);
  if (parts.length > 2 && operator !== "+") fail(`A ${OPERATION[operator]} has two numbers.`);
  if (parts.length > MOST_NUMBERS) fail(`The model has no limit, but this page shows ${MOST_NUMBERS} numbers.`);
  const numbers = parts.map((part) => part.replace(/^0+(?=.)/, ""));
  const longest = Math.max(...numbers.map(({ length }) => length));
  if (longest > MOST_DIGITS) fail(`The model has no limit, but this page shows ${MOST_DIGITS} digits, and there are ${longest}.`);
  if (operator === "/" && numbers[1] === "0") fail("Nothing is divided by 0.");
  return { operator, numbers: numbers.map(BigInt) };
}

/** A problem as people write it. */
export function written({ operator, numbers }) {
  return numbers.join(` ${SHOWN[operator]} `);
}

/** The same for an address: 57*46. */
export function inAscii({ operator, numbers }) {
  return numbers.join(operator);
}

/** An answer as people write it: 2622, -537, 31 r 6; an exact quotient has no rest. */
export function writtenAnswer(answer) {
  if (answer === null) return "no number";
  if (!Array.isArray(answer)) return String(answer).replace("-", "\u2212");
  const [quotient, rest] = answer;
  return rest ? `${quotient} r ${rest}` : String(quotient);
}

export const EXAMPLES = {
  "+": { operator: "+", numbers: [12n, 873n, 4n] },
  "-": { operator: "-", numbers: [342n, 879n] },
  "*": { operator: "*", numbers: [57n, 46n] },
  "/": { operator: "/", numbers: [1742n, 56n] },
};

/** A problem of so many digits: numbers of these sizes, drawn. */
export function drawn(operator, sizes, random = Math.random) {
  const digit = (least) => least + Math.floor((10 - least) * random());
  const number = (size) => BigInt(Array.from({ length: size }, (_, index) => digit(index ? 0 : 1)).join(""));
  return { operator, numbers: sizes.map(number) };
}

/** A problem of a size that shows well. */
export function randomProblem(model) {
  const operator = model.operators[Math.floor(Math.random() * model.operators.length)];
  const between = (least, most) => least + Math.floor((most - least + 1) * Math.random());
  const sizes = {
    "+": () => Array.from({ length: between(2, 4) }, () => between(2, 5)),
    "-": () => [between(2, 5), between(2, 5)],
    "*": () => [between(2, 4), between(2, 4)],
    "/": () => [between(4, 7), between(1, 3)],
  };
  return drawn(operator, sizes[operator]());
}
