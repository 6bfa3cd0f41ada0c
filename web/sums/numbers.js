// Numbers as the model reads them: decimal text <-> digits of its base, and the tokens of a prompt.
//
// `model` is model.json everywhere: base, reversed, longer_second, digit_ids, delimiter_id, ...
// 1342 is 53E in base 16, and E35 where the least significant digit comes first: [14, 3, 5].

export const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** Digits of a BigInt in the order the model reads them. */
export function toDigits(value, { base, reversed }) {
  const digits = [...value.toString(base)].map((character) => DIGITS.indexOf(character.toUpperCase()));
  return reversed ? digits.reverse() : digits;
}

/** The BigInt that digits in the model's order write: the inverse of `toDigits`. */
export function fromDigits(digits, { base, reversed }) {
  const fromTheTop = reversed ? [...digits].reverse() : digits;
  return fromTheTop.reduce((value, digit) => value * BigInt(base) + BigInt(digit), 0n);
}

/** The tokens of `+x+y+`; a model that says all at once reads the number with more digits second. */
export function promptTokens(x, y, model) {
  let numbers = [toDigits(x, model), toDigits(y, model)];
  if (model.longer_second && numbers[0].length > numbers[1].length) numbers = numbers.reverse();
  const tokens = numbers.map((digits) => [...digits.map((digit) => model.digit_ids[digit]), model.delimiter_id]);
  return [model.delimiter_id, ...tokens.flat()];
}

/** The number that was said, up to the first delimiter or padding; null where that is no number. */
export function readAnswer(said, model) {
  const end = said.findIndex((token) => token === model.delimiter_id || token === model.pad_id);
  const digits = (end < 0 ? said : said.slice(0, end)).map((token) => model.digit_ids.indexOf(token));
  return digits.length && digits.every((digit) => digit >= 0) ? fromDigits(digits, model) : null;
}

/** What a token looks like: E, + or, where a model says what is neither, a question mark. */
export function tokenText(token, model) {
  if (token === model.delimiter_id) return "+";
  return DIGITS[model.digit_ids.indexOf(token)] ?? "?";
}

/** The carry into each place when x and y are added, from place 1 on, and one place above the longer of them. */
export function carries(x, y, { base }) {
  const [lowX, lowY] = [x, y].map((value) => toDigits(value, { base, reversed: true }));
  const into = [0];
  for (let place = 0; place < Math.max(lowX.length, lowY.length); place++) {
    into.push((lowX[place] ?? 0) + (lowY[place] ?? 0) + into[place] >= base ? 1 : 0);
  }
  return into;
}
