// Working a problem out: the question is written, and token by token the model goes on, until it says =.

import { Grid } from "./grid.js";
import { BAR, END, MINUS, PLUS, SIGNS, contextKey, fromDigits, toDigits } from "./symbols.js";
import { likeliest } from "./network.js";

// Tokens from a row to the next where all are written side by side: the digit above was said one step before.
const DISTANCE = { "*": 3, "+": 1 };

/**
 * What the model says in a context, asked once and then known.
 *
 * Returns
 *     a function (own, seen) -> { symbol, second, lead, doubt }: what follows, -1 for what is no symbol; what would come
 *     next, by how many logits it is ahead of that, and how probable all others are together
 */
export function remembering(network) {
  const [known, symbols] = [new Map(), new Map(network.symbols.map((token, symbol) => [token, symbol]))];
  const ask = (own, seen) => {
    const { token, second, lead, doubt } = likeliest(network.ask(own, seen));
    return { symbol: symbols.get(token) ?? -1, second: symbols.get(second) ?? -1, lead, doubt };
  };
  return (own, seen) => {
    const key = contextKey(own, seen);
    if (!known.has(key)) known.set(key, ask(own, seen));
    return known.get(key);
  };
}

/**
 * Work a problem out.
 *
 * `say(own, seen)` says what follows in a context. This is a generator: it yields after each token, so that whoever
 * runs it can draw breath, and returns
 *     tokens     as `Grid.add` has them; those that were said have `said`, what `say` returned, and `step`, the one in
 *                which they are known where all rows are written side by side
 *     first      how many of them are the question
 *     numSteps   of those
 *     answer     a BigInt, of a division [quotient, rest], or null where the text is none
 */
export function* work({ operator, numbers }, base, say) {
  const grid = new Grid(base);
  const question = numbers.flatMap((number) => [2 * base + SIGNS.indexOf(operator), ...toDigits(number, base)]);
  for (const symbol of [...question, 2 * base + BAR]) grid.add(symbol);
  const first = grid.tokens.length;
  const end = 2 * base + END;
  for (let left = mostTokens(operator, numbers, base); left > 0 && grid.tokens.at(-1).symbol !== end; left--) {
    const speaker = grid.tokens.at(-1);
    const seen = speaker.sees.filter((index) => index !== null).map((index) => grid.tokens[index].code);
    const said = say(speaker.code, seen);
    if (said.symbol < 0) break;
    grid.add(said.symbol).said = said;
    yield grid.tokens.length - first;
  }
  const { tokens } = grid;
  const symbols = tokens.map(({ symbol }) => symbol);
  return { tokens, first, numSteps: addSteps(tokens, first, operator), answer: readAnswer(symbols, base) };
}

/** More tokens than the work of these numbers can have; a model that says more is lost. */
function mostTokens(operator, numbers, base) {
  const sizes = numbers.map((number) => toDigits(number, base).length);
  const row = 2 * (Math.max(...sizes) + numbers.length) + 4;
  return row * (operator === "/" ? 6 * sizes[0] + 1 : operator === "*" ? sizes[1] + 1 : numbers.length + 1);
}

/** In which step each token is known where all rows are written side by side; returns how many there are. */
function addSteps(tokens, first, operator) {
  const distance = DISTANCE[operator];
  tokens.forEach((token, index) => {
    if (index < first) return;
    const before = tokens[index - 1];
    token.step = distance === undefined ? index - first + 1 : distance * (before.row - 1) + before.since + 1;
  });
  return tokens.reduce((most, { step = 0 }) => Math.max(most, step), 0);
}

// ---- Reading --------------------------------------------------------------------------------------

/**
 * Read the answer off a whole text; null where it has not the form of one.
 *
 * Not whether the work is right is looked at, but whether there are as many rows as there have to be, each as wide as
 * what it is made of, digits and carries in turn.
 */
export function readAnswer(symbols, base) {
  const parts = []; // a sign, and the symbols up to the next
  for (const symbol of symbols) {
    if (symbol >= 2 * base) parts.push({ sign: symbol - 2 * base, symbols: [] });
    else parts.at(-1).symbols.push(symbol);
  }
  const start = parts.findIndex(({ sign }) => sign === BAR);
  const [bar, end] = parts.slice(-2);
  if (end.sign !== END || bar.sign !== BAR || bar.symbols.length || end.symbols.length) return null;
  const numbers = parts.slice(0, start).map(({ symbols: digits }) => digits);
  return READ[SIGNS[symbols[0] - 2 * base]](numbers, parts.slice(start, -2), base);
}

/** The digits of a row of so many columns, and maybe one on top. */
function row(symbols, columns, base, grows = false) {
  const [digits, carries] = [0, 1].map((turn) => symbols.filter((_, index) => index % 2 === turn));
  const isRow = carries.length === columns && (digits.length === columns || (grows && digits.length === columns + 1));
  return isRow && digits.every((one) => one < base) && carries.every((one) => one >= base) ? digits : null;
}

const READ = {
  "+"([above, ...others], rows, base) {
    if (rows.length !== others.length || rows.some(({ sign }) => sign !== BAR)) return null;
    for (const [index, number] of others.entries()) {
      above = row(rows[index].symbols, Math.max(number.length, above.length), base, true);
      if (above === null) return null;
    }
    return fromDigits(above, base);
  },

  "-"(numbers, rows, base) {
    const columns = Math.max(...numbers.map(({ length }) => length));
    const digits = rows.map(({ symbols }) => row(symbols, columns, base));
    const isOwed = rows.length === 2;
    const isWork = rows.every(({ sign }, index) => sign === [BAR, MINUS][index]);
    if (!isWork || !digits.length || digits.includes(null)) return null;
    return isOwed ? -fromDigits(digits[1], base) : fromDigits(digits[0], base);
  },

  // Along the edge: the lowest digit of each row, and all of the last.
  "*"([x, y], rows, base) {
    const digits = rows.map(({ symbols }) => row(symbols, x.length, base, true));
    if (rows.length !== y.length || rows.some(({ sign }) => sign !== BAR) || digits.includes(null)) return null;
    return fromDigits([...digits.slice(0, -1).map(([lowest]) => lowest), ...digits.at(-1)], base);
  },

  // Of the rows from one | to the next the last is right: its head, and after the last | what is left.
  "/"([x, y], rows, base) {
    const digits = rows.map(({ symbols }) => row(symbols.slice(1), y.length, base));
    const heads = rows.map(({ symbols }) => symbols[0]);
    const isWork = rows.every(({ sign }) => sign === BAR || sign === PLUS) && heads.every((head) => head < base);
    const groups = rows.filter(({ sign }) => sign === BAR).length;
    if (!isWork || digits.includes(null) || groups !== Math.max(0, x.length - y.length + 1)) return null;
    const kept = heads.filter((_, index) => rows[index + 1]?.sign !== PLUS);
    return [fromDigits(kept.reverse(), base), fromDigits(digits.at(-1) ?? x, base)];
  },
};

/** What is right, by integers. */
export function rightAnswer({ operator, numbers: [x, ...others] }) {
  if (operator === "/") return [x / others[0], x % others[0]];
  const step = { "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b }[operator];
  return others.reduce(step, x);
}

/** Whether two answers are the same. */
export const isSame = (one, other) => one !== null && String(one) === String(other);
