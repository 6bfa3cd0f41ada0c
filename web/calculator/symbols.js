// What stands on the paper, as small whole numbers, and the kinds that tokens are of.
//
// In base B: 0 to B-1 are digits, B to 2B-1 carries, and from 2B on the signs | + - * / and =. `model` is model.json
// everywhere. What a token says depends on cells, a symbol and its kind in one number: 6 * symbol + kind.

export const SIGNS = ["|", "+", "-", "*", "/", "="];
export const [BAR, PLUS, MINUS, TIMES, OVER, END] = SIGNS.keys();
export const KINDS = ["sign", "operand", "head", "digit", "carry", "top"]; // rows of the position table
export const [SIGN, OPERAND, HEAD, DIGIT, CARRY, TOP] = KINDS.keys();
export const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
export const SHOWN = { "|": "|", "+": "+", "-": "\u2212", "*": "\u00d7", "/": "\u00f7", "=": "=" };
export const OPERATION = { "+": "sum", "-": "difference", "*": "product", "/": "quotient" };

/** The cell of a symbol and a kind, and back. */
export const cell = (symbol, kind) => 6 * symbol + kind;
export const symbolOf = (code) => Math.floor(code / 6);
export const kindOf = (code) => code % 6;

/** A context as a key: the cell that asks, and those that it sees in whatever order. */
export const contextKey = (own, seen) => `${own}:${seen.toSorted((one, other) => one - other)}`;

/** How a symbol looks: a carry as its digit, operators as people write them. */
export function shown(symbol, base) {
  if (symbol >= 2 * base) return SHOWN[SIGNS[symbol - 2 * base]] ?? "?";
  return DIGITS[symbol % base] ?? "?"; // what is no symbol is -1
}

/** Digits of a BigInt, the lowest first. */
export function toDigits(value, base) {
  return [...value.toString(base)].map((character) => DIGITS.indexOf(character.toUpperCase())).reverse();
}

/** The BigInt that digits write, the lowest first: the inverse of `toDigits`. */
export function fromDigits(digits, base) {
  return digits.reduceRight((value, digit) => value * BigInt(base) + BigInt(digit), 0n);
}
