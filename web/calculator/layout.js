// Where everything is drawn: the work as on paper, in columns, a carry over the column that it goes into.
//
// Lengths are in cells, the room of a digit. Columns are numbered from the right, lines go down:
//
//              5 7        a product: both numbers, then a row for each digit of the second, and the answer, which is
//          x   4 6        read along the edge
//            3 4
//            3 4 2
//          2 3
//          2 6 2
//        = 2 6 2 2

import { BAR, CARRY, END, HEAD, SHOWN, shown, toDigits } from "./symbols.js";

const SMALL = 0.6; // the height of a line of carries
const GAP = 0.3; // between rows
const LETTER = 0.22; // the width of a letter of a note
const LEFT = 1; // room for signs, to the left of the columns

/**
 * Lay a worked problem out.
 *
 * Returns
 *     width, height
 *     lines     of tokens at one height: [{ index, x, y, isSmall }]
 *     rules     horizontal lines: { x, y, width }
 *     notes     what is no token: { text, x, y, kind }, of kind "edge" (the answer), "down" (brought down) or "label"
 */
export function layOut({ tokens, first, answer }, { operator, numbers }, base) {
  const sheet = new Sheet(tokens, first, operator, numbers, base);
  sheet.corner();
  if (operator === "*") sheet.product(answer);
  else if (operator === "/") sheet.division(answer);
  else sheet.inRows();
  return sheet.done();
}

class Sheet {
  constructor(tokens, first, operator, numbers, base) {
    Object.assign(this, { tokens, first, operator, base, y: 0, lines: [], rules: [], notes: [], right: 0 });
    this.sizes = numbers.map((number) => toDigits(number, base).length);
    const ofWork = tokens.slice(first).filter(({ symbol }) => symbol < 2 * base);
    const columns = ofWork.map(({ shift, column }) => shift + column + 1);
    this.columns = Math.max(...this.sizes, ...columns, operator === "*" ? this.sizes[0] + this.sizes[1] : 0);
    this.rows = Map.groupBy(tokens.slice(first - 1), ({ row }) => row);
    this.edge = LEFT + this.columns; // where what is to the right of the columns begins
  }

  x(column) {
    return this.edge - 1 - column;
  }

  /** The first token of all, which every other sees. */
  corner() {
    this.put([{ index: 0, x: 0, y: 0, isSmall: true }]);
    this.y = SMALL;
  }

  put(items) {
    this.lines.push(items.filter(({ index }) => index !== undefined));
  }

  rule() {
    this.y += 0.15;
    this.rules.push({ x: LEFT, y: this.y, width: this.columns });
    this.y += 0.15;
  }

  /** A number of the question, its sign on the left. */
  number(which) {
    const ofNumber = this.tokens.slice(0, this.first - 1).filter(({ number }) => number === which);
    const [sign, ...digits] = ofNumber.map(({ index }) => index);
    const signs = which === 1 ? [] : [{ index: sign, x: 0, y: this.y }]; // the first is in the corner
    this.put([...signs, ...digits.map((index, place) => ({ index, x: this.x(place), y: this.y }))]);
    this.y += 1;
  }

  /** A row of work: a line of carries, and one of digits. */
  row(items) {
    const small = items.filter(({ symbol, kind }) => symbol >= this.base && kind === CARRY);
    const digits = items.filter(({ symbol, kind }) => symbol < this.base && kind !== HEAD);
    const at = ({ index, shift, column }, y, isSmall) => ({ index, x: this.x(shift + column), y, isSmall });
    this.put(small.map((one) => at(one, this.y, true)));
    this.y += SMALL;
    this.put(digits.map((one) => at(one, this.y, false)));
    this.y += 1;
  }

  /** The sign | after the last row, and the =. */
  theEnd(x, y) {
    const [bar, end] = this.tokens.slice(-2);
    if (end.symbol !== 2 * this.base + END) return;
    this.ended = [[{ index: bar.index, x, y: y - SMALL, isSmall: true }], [{ index: end.index, x, y }]];
  }

  /** Rows of work that have digits or carries, in order; the last | is none. */
  get workRows() {
    return [...this.rows.values()].filter((row) => row.length > 1 && row[1].symbol < 2 * this.base);
  }

  inRows() {
    this.number(1);
    this.workRows.forEach((row, index) => {
      if (index + 1 < this.sizes.length) {
        this.number(index + 2);
        this.rule();
      }
      this.row(row);
      this.y += GAP;
    });
    this.theEnd(0, this.y - GAP - 1);
  }

  product(answer) {
    this.number(1);
    this.number(2);
    this.rule();
    const heads = this.tokens.filter(({ kind, index }) => kind === HEAD && index < this.first);
    this.workRows.forEach((row, index) => {
      this.row(row);
      if (heads[index] === undefined) return; // too many rows
      const factor = shown(heads[index].symbol, this.base);
      this.notes.push({ text: `${SHOWN["*"]} ${factor}`, x: this.edge + 0.4, y: this.y - 1, kind: "label" });
    });
    this.right = 2.5;
    if (answer === null) return;
    this.rule();
    this.y += SMALL;
    toDigits(answer, this.base).forEach((digit, column) => {
      this.notes.push({ text: shown(digit, this.base), x: this.x(column), y: this.y, kind: "edge" });
    });
    this.theEnd(0, this.y);
    this.y += 1;
  }

  division(answer) {
    const margin = this.edge + 0.5;
    const [x, y] = [1, 2].map((which) => this.tokens.slice(0, this.first - 1).filter(({ number }) => number === which));
    const digits = (of, start) => of.slice(1).map(({ index }, place) => ({ index, x: start - place, y: this.y }));
    this.put(digits(x, this.edge - 1));
    this.put([{ index: y[0].index, x: margin, y: this.y }, ...digits(y, margin + this.sizes[1])]);
    this.y += 1;
    this.rule();
    this.workRows.forEach((row, index) => {
      const [sign, head] = row;
      const isBack = sign.symbol !== 2 * this.base + BAR;
      if (!isBack && index) this.bringDown(sign.shift);
      this.row(row);
      this.put([sign, head].map((one, place) => ({ index: one.index, x: margin + place, y: this.y - 1 })));
      const divisor = y.slice(1).map(({ symbol }) => shown(symbol, this.base)).reverse().join("");
      const short = divisor.length > 8 ? "y" : divisor;
      const text = isBack ? `too much: + ${short}` : `${SHOWN["*"]} ${short} taken away`;
      this.notes.push({ text, x: margin + 2.3, y: this.y - 1, kind: "label" });
      this.y += GAP;
    });
    this.y += SMALL;
    this.theEnd(margin, this.y);
    const [quotient, rest] = (answer ?? []).map((number) => number.toString(this.base).toUpperCase());
    if (answer !== null) this.notes.push({ text: `${quotient} r ${rest}`, x: margin + 1.2, y: this.y, kind: "edge label" });
    this.y += 1;
    const longest = Math.max(0, ...this.notes.filter(({ kind }) => kind !== "down").map(({ text }) => text.length));
    this.right = Math.max(this.sizes[1] + 2, 3 + LETTER * longest);
  }

  /** The digit of x that comes down, beside what was left. */
  bringDown(column) {
    const index = this.tokens.slice(0, this.first).find(({ number, since }) => number === 1 && since === column + 1)?.index;
    if (index === undefined) return;
    const text = shown(this.tokens[index].symbol, this.base);
    this.notes.push({ text, x: this.x(column), y: this.y - 1 - GAP, kind: "down" });
  }

  done() {
    for (const items of this.ended ?? []) this.put(items);
    const lines = this.lines.filter((items) => items.length);
    return { width: this.edge + this.right, height: this.y + 0.2, lines, rules: this.rules, notes: this.notes };
  }
}
