// What a token of the work sees and says, in words.

import { ROLES } from "./grid.js";
import { DIGIT, HEAD, SIGNS, TOP, shown } from "./symbols.js";

const ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth"];
const ordinal = (number) => ORDINALS[number - 1] ?? `${number}th`;

/** Where a token stands: "digit 2 of the first number", "row 2, column 3". */
export function placeOf(token, { first, tokens }, base) {
  if (token.index === 0) return "the first token of all";
  const { symbol, number, since, row, column, shift, kind } = token;
  if (token.index < first - 1) {
    return symbol >= 2 * base ? `the sign before the ${ordinal(number)} number` : `digit ${since} of the ${ordinal(number)} number`;
  }
  if (token.index === tokens.length - 1 && symbol >= 2 * base) return "the end";
  if (symbol >= 2 * base) return `the sign that begins row ${row}`;
  if (kind === HEAD) return `the head of row ${row}`;
  return `row ${row}, column ${shift + column + 1}`; // as it is drawn, from the right
}

/** What a token is: "carry", "digit", "sign". */
export function nameOf(token, base) {
  if (token.symbol >= 2 * base) return "sign";
  return token.symbol >= base ? "carry" : token.kind === HEAD ? "head" : "digit";
}

/** The tokens that a token saw when it said the next: { role, token } each, those of ROLES that were there. */
export function seenBy(speaker, tokens) {
  const guesses = tokens[speaker.sees[1]]?.kind === TOP; // of what is left, the highest digit
  return speaker.sees
    .map((index, role) => ({ role: role === 1 && guesses ? "top" : ROLES[role], token: tokens[index] }))
    .filter(({ token }) => token !== undefined);
}

/** The index of a token that shows well how the work goes: an early digit that saw as much as can be seen. */
export function telling({ tokens, first }) {
  const seen = (token) => tokens[token.index - 1].sees.filter((index) => index !== null).length;
  const said = tokens.slice(first);
  const most = Math.max(...said.map(seen));
  const best = said.filter((token) => seen(token) === most && (token.kind === DIGIT || token.kind === TOP));
  return (best[Math.min(2, Math.floor(best.length / 2))] ?? said.at(-1))?.index ?? null;
}

/** How it comes out: "4 \u00d7 5 + 3 + 3 = 26, so 6". */
export function reason(said, { tokens }, base) {
  const speaker = tokens[said.index - 1];
  const value = (index) => (tokens[index] === undefined || tokens[index].symbol >= 2 * base ? null : tokens[index].symbol % base);
  const [operator, head] = [tokens[0], tokens[speaker.sees[1]]];
  const [x, above, carry] = speaker.sees.slice(2).map(value);
  const sign = SIGNS[operator.symbol - 2 * base];
  const number = (one) => shown(one, base);
  if (said.symbol >= 2 * base) return signReason(SIGNS[said.symbol - 2 * base], sign);
  if (sign === "/" && speaker.symbol >= 2 * base) {
    if (SIGNS[speaker.symbol - 2 * base] === "+") return "One less than the head before, which was too much.";
    const high = head === undefined ? "" : number(head.symbol);
    return `A guess: how often the divisor\u2019s highest digit, ${number(x)}, goes into ${high}${number(above)}, ${number(base - 1)} at most.`;
  }
  if (x === null && above === null) return "All columns are done; what is carried stands on top.";
  const factor = head !== undefined && head.symbol < base ? head.symbol : 1;
  const times = factor === head?.symbol ? `${number(factor)} \u00d7 ` : "";
  const isOwed = sign === "-" && speaker.row === 2; // a row of complements
  const isTaken = sign === "-" || (sign === "/" && times !== "");
  const [from, ...changes] = isOwed ? [0, above, carry] : isTaken ? [above ?? 0, x, carry] : [x ?? 0, above, carry];
  const terms = [isTaken || !times ? number(from) : times + number(from)];
  changes.forEach((change, index) => {
    if (change === null || (index === 1 && !change)) return;
    terms.push(isTaken ? `\u2212 ${index === 0 && !isOwed ? times : ""}${number(change)}` : `+ ${number(change)}`);
  });
  const [one, other] = changes.map((change) => change ?? 0);
  const total = isTaken ? from - (isOwed ? 1 : factor) * one - other : factor * from + one + other;
  const text = `${terms.join(" ")} = ${total.toString(base).toUpperCase().replace("-", "\u2212")}`;
  const next = Math.abs(Math.floor(total / base));
  const verb = isTaken ? "borrow" : "carry";
  return said.symbol < base ? `${text}: write ${number(total - base * Math.floor(total / base))}.` : `${text}: ${verb} ${number(next)}.`;
}

function signReason(sign, operator) {
  if (sign === "=") return "No row is left to write, so this is the end.";
  if (sign === "-") return "More was taken away than there was; what is owed follows.";
  if (sign === "+") return "The guess was too much; the divisor is put back.";
  return operator === "/" ? "What is left is less than the divisor; the row is done." : "All columns are done; the next row begins.";
}
