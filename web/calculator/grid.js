// Squared paper: where each token stands and where it looks, counted from the text alone, token by token.
//
// Every token has one address, a kind, a row and a column. A token of the work looks at five addresses, and sees what
// stands there. 57 * 46 is *75*64|2⁴4³3|2³6²2|=, lowest digits first, carries raised; its second row, and what it sees:
//
//     row 2  operator  head  operand  above  carry  says
//     |      *         4     7        4      |      2     4 * 7 + 4 = 32
//     2      *         4     7        4      |      ³
//     ³      *         4     5        3      ³      6     4 * 5 + 3 + 3 = 26
//
// The class Grid in simple_llm/model/places_simple_llm.py draws all of them.

import { BAR, CARRY, DIGIT, HEAD, OPERAND, OVER, SIGN, TIMES, TOP, cell } from "./symbols.js";

export const ROLES = ["operator", "head", "operand", "above", "carry"]; // in the order of the five addresses

const address = (kind, row, column = 0) => `${kind},${row},${column}`;

/** A text on paper as it grows. */
export class Grid {
  constructor(base) {
    this.base = base;
    this.tokens = []; // see `add`
    this.at = new Map(); // indices of tokens by address
    Object.assign(this, { number: 0, xSize: 0, ySize: 0, row: 0, group: 0, sign: 0, signIsBar: false });
  }

  /**
   * Write one more symbol.
   *
   * Returns
   *     { symbol, kind, code, row, column, shift, sees }: its kind and cell; row and column of the work, and how many
   *     columns further to the left the row stands; of each of ROLES the index of the token seen, or null
   */
  add(symbol) {
    const sign = symbol - 2 * this.base; // of SIGNS, if not below 0
    const [isSign, isFirst] = [sign >= 0, !this.tokens.length];
    const isDigit = symbol >= 0 && symbol < this.base;
    if (sign === BAR) this.group++;
    if (isSign && !this.group) this.number++;
    if (isDigit && !this.group && this.number === 1) this.xSize++;
    if (isDigit && !this.group && this.number === 2) this.ySize++;
    if (isSign && this.group) this.row++;
    if (isFirst) [this.isTimes, this.isOver] = [sign === TIMES, sign === OVER];
    if (isSign) [this.sign, this.signIsBar] = [this.tokens.length, sign === BAR];
    const place = this.#place();
    const isWork = this.group > 0;
    const [kind, ...where] = isFirst ? [SIGN, 0, 0] : isWork ? this.#ofWork(isDigit, place) : this.#ofQuestion(isDigit, place);
    const index = this.tokens.length;
    if (kind !== null && !this.at.has(address(kind, ...where))) this.at.set(address(kind, ...where), index);
    const isTop = isWork && this.isOver && kind === DIGIT && place.column === this.ySize - 1;
    const own = isTop ? TOP : (kind ?? SIGN);
    const sees = this.#looks(isWork, isSign, place).map((look) => (look === null ? null : this.at.get(look) ?? null));
    const token = { index, symbol, kind: own, code: cell(symbol, own), isWork, row: this.row, number: this.number, ...place, sees };
    this.tokens.push(token);
    return token;
  }

  /** How many tokens ago the last sign was, which column of its row this one is in, and the shift of the row. */
  #place() {
    const since = this.tokens.length - this.sign;
    const column = this.isOver && !since ? this.ySize - 1 : Math.floor((since - (this.isOver ? 1 : 0)) / 2);
    const ofDivision = this.isOver ? this.xSize - this.ySize + 1 - this.group : 0;
    return { since, column, shift: this.isTimes ? this.row - 1 : ofDivision };
  }

  #ofQuestion(isDigit, { since }) {
    if (!isDigit) return this.isTimes || this.isOver ? [null] : [HEAD, this.number - 1];
    if (this.isTimes && this.number > 1) return [HEAD, since];
    return [this.isTimes || this.number > 1 ? OPERAND : DIGIT, this.number - 1, since - 1];
  }

  #ofWork(isDigit, { since, column, shift }) {
    if (this.isOver && since < 2) return [since ? HEAD : SIGN, this.row];
    return isDigit ? [DIGIT, this.row, shift + column] : [CARRY, this.row, column];
  }

  /** The five addresses; a | of a division guesses a digit from the two highest of what is left. */
  #looks(isWork, isSign, { column, shift }) {
    if (!isWork) return [address(SIGN, 0), null, null, null, null];
    const guesses = this.isOver && isSign && this.signIsBar && shift >= 0;
    const addsBack = this.isOver && !this.signIsBar;
    let head = address(HEAD, this.row);
    if (addsBack) head = isSign ? address(HEAD, this.row - 1) : address(SIGN, this.row);
    if (guesses) head = address(DIGIT, this.row - 1, shift + column + 1);
    if (this.isOver && isSign && !guesses) return [address(SIGN, 0), head, null, null, null];
    const above = this.isOver && !addsBack && column === 0 ? 0 : this.row - 1;
    return [
      address(SIGN, 0),
      head,
      address(OPERAND, this.isTimes ? 0 : this.isOver ? 1 : this.row, column),
      address(DIGIT, above, shift + column),
      address(CARRY, this.row, column),
    ];
  }
}
