// Every context there is: what a token of the work can see, and what has to follow. A finite list, whatever the numbers.
//
// A token of a row sees the operator, the head of the row, and in its column operand, digit above and carry. In base B:
//
//     sum, put back   above + operand + carry         = digit + B * next     the head is the sign
//     product         above + head * operand + carry  = digit + B * next     the head is a digit of the second number
//     difference      above - operand - carry         = digit - B * next     and then, of what is owed, 0 - above - carry
//     taken away      above - head * operand - carry  = digit - B * next     the head is a digit of the quotient
//
// docs/CALCULATOR.md says why no other can occur. Nothing stands where null is.

import { BAR, CARRY, DIGIT, END, HEAD, MINUS, OPERAND, PLUS, SIGN, SIGNS, TIMES, TOP, cell, shown } from "./symbols.js";

const NAMES = ["operator", "head", "operand", "above", "carry"];

/** The contexts of an operator of SIGNS, one by one: { own, seen, right, cells }; own and seen are codes of cells. */
export function* contexts(operator, base) {
  const list = new List(operator, base);
  yield* operator === "/" ? list.division() : list.rows();
}

/** How a context is told: "head 4, operand 5, above 3, carry 3". */
export function spelled({ cells }, base) {
  const there = NAMES.map((name, index) => [name, cells[index]]).filter(([, one]) => one !== null);
  return there.map(([name, [symbol]]) => `${name} ${shown(symbol, base)}`).join(", ");
}

class List {
  constructor(operator, base) {
    [this.base, this.digits, this.operator] = [base, [...Array(base).keys()], SIGNS.indexOf(operator)];
    this.maybe = [...this.digits, null];
    this.op = [this.sign(this.operator), SIGN];
  }

  sign(one) {
    return 2 * this.base + one;
  }

  /** A cell for a carry or for the sign that stands in its place; null for null. */
  carry(value) {
    return value === null ? null : [value === "|" ? this.sign(BAR) : value === "-" ? this.sign(MINUS) : this.base + value, CARRY];
  }

  digit(value, kind) {
    return value === null ? null : [value, kind];
  }

  one(own, cells, right) {
    const code = (pair) => cell(...pair);
    return { own: code(own), seen: cells.filter((pair) => pair !== null).map(code), right, cells };
  }

  /** What may stand before a digit says it, and the digit, of each of some kinds, says the carry. */
  *column(owns, cells, value, kinds = [DIGIT]) {
    const following = Math.floor(value / this.base);
    const digit = value - following * this.base;
    for (const own of owns) yield this.one(own, cells, digit);
    for (const kind of kinds) yield this.one([digit, kind], cells, this.base + Math.abs(following));
  }

  /** Sums, differences and products. */
  *rows() {
    const { base, digits, maybe, op } = this;
    const [times, minus] = [this.operator === TIMES, this.operator === MINUS];
    const bar = this.sign(BAR);
    for (const head of times ? digits : [null]) {
      const headCell = times ? [head, HEAD] : [op[0], HEAD];
      for (const x of maybe) {
        for (const above of maybe) {
          if (times && x === null && above !== null) continue; // the row above is no longer than x
          const isLowest = x !== null && (times || above !== null); // all numbers have a first digit
          const most = times ? head : 1; // a carry is at most the head
          for (const carry of [...(isLowest ? ["|"] : []), ...Array(most + 1).keys()]) {
            const cells = [op, headCell, this.digit(x, OPERAND), this.digit(above, DIGIT), this.carry(carry)];
            if (x !== null || above !== null) {
              const added = (times ? head : 1) * (x ?? 0) + (carry === "|" ? 0 : carry);
              yield* this.column([this.carry(carry)], cells, (above ?? 0) + (minus ? -added : added));
            } else { // all columns are done
              const last = minus ? this.sign(MINUS) : carry;
              yield this.one(this.carry(carry), cells, carry === 0 ? bar : last);
              if (carry > 0 && !minus) yield this.one([carry, DIGIT], cells, bar);
            }
          }
        }
      }
    }
    for (const x of times ? digits : [null]) {
      for (const above of times ? maybe : digits) {
        const cells = [op, null, this.digit(x, OPERAND), this.digit(above, DIGIT), this.carry("|")];
        yield this.one(this.carry("|"), cells, this.sign(END));
      }
    }
    if (!minus) return;
    for (const above of digits) {
      for (const carry of ["-", 0, 1]) {
        const cells = [op, null, null, [above, DIGIT], this.carry(carry)];
        yield* this.column([this.carry(carry)], cells, -above - (carry === 1 ? 1 : 0));
      }
    }
    yield this.one([base + 1, CARRY], [op, null, null, null, [base + 1, CARRY]], bar); // what is owed is not 0
  }

  /** The two highest digits of what is left by the highest of y: never too small a digit of the quotient. */
  guess(high, low, y) {
    return Math.min(this.base - 1, Math.floor(((high ?? 0) * this.base + low) / y));
  }

  *division() {
    const { base, digits, maybe, op } = this;
    const [bar, plus] = [[this.sign(BAR), SIGN], [this.sign(PLUS), SIGN]];
    yield this.one(bar, [op, null, null, null, null], this.sign(END));
    for (const y of digits.slice(1)) {
      for (const high of maybe.filter((one) => (one ?? 0) <= y)) { // what is left is less than the divisor
        for (const low of digits) {
          yield this.one(bar, [op, this.digit(high, TOP), [y, OPERAND], [low, DIGIT], null], this.guess(high, low, y));
        }
      }
    }
    for (const head of digits) {
      for (const y of digits) {
        for (const above of digits) yield* this.taken(head, y, above);
      }
      for (const high of maybe) { // all is taken away, or once too often
        for (const left of [0, 1]) {
          const carry = (high ?? 0) + left;
          if (carry > head) continue;
          const cells = [op, [head, HEAD], null, this.digit(high, TOP), this.carry(carry)];
          yield this.one(this.carry(carry), cells, left ? plus[0] : bar[0]);
        }
      }
      if (head > 0) yield this.one(plus, [op, [head, HEAD], null, null, null], head - 1);
    }
    yield* this.putBack(plus);
    // Only a head of 3 or more can be too much by more than one, so that y is put back again.
    for (let carry = base < 4 ? 1 : 0; carry < 2; carry++) {
      yield this.one(this.carry(carry), [op, plus, null, null, this.carry(carry)], carry ? bar[0] : plus[0]);
    }
  }

  /** A column of y times the head taken away. In the highest the head was guessed, and less than y is left. */
  *taken(head, y, above) {
    const highs = this.digits.filter((high) => y && high <= y && this.guess(high, above, y) === head);
    for (const carry of [null, ...Array(head + 1).keys()]) { // null: in the first column, where the head asks
      const cells = [this.op, [head, HEAD], [y, OPERAND], [above, DIGIT], this.carry(carry)];
      const rest = above - head * y - (carry ?? 0);
      const isTop = highs.some((high) => high * this.base + rest <= y - (carry === null ? 1 : 0));
      yield* this.column([carry === null ? cells[1] : cells[4]], cells, rest, isTop ? [DIGIT, TOP] : [DIGIT]);
    }
  }

  /** A column of y put back. Owed is at most B - 1 times y's lower digits: on top above > 0, or > 1 without a carry. */
  *putBack(plus) {
    const heads = this.digits.slice(0, -1).map((head) => [head, HEAD]);
    for (const y of this.digits) {
      for (const above of this.digits) {
        for (const carry of [null, 0, 1]) {
          for (const kind of [DIGIT, TOP]) {
            if (kind === TOP && !(carry !== null && y && above + carry >= 2)) continue;
            const cells = [this.op, plus, [y, OPERAND], [above, kind], this.carry(carry)];
            yield* this.column(carry === null ? heads : [cells[4]], cells, above + y + (carry ?? 0), [kind]);
          }
        }
      }
    }
  }
}
