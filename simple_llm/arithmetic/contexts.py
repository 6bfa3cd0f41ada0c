"""All that a symbol of work on paper can see, and what has to follow: a finite list, for numbers of every length.

Shape letters in this file: C contexts.

A symbol of the work sees at most one symbol in each of six cells: the operator, and of its row and column the head, the
operand, the digit above, the carry, and the digit above where that is the highest of its row, the top. (`Grid`, in the
model's file, says where they stand. A | that guesses a digit of a quotient sees the two highest digits of what is left,
as top and above.) With the symbol itself and its kind that is its context, and of one block that is all that what it
says depends on. So a model that is right in each of the contexts below writes to every question the text of `paper.py`,
symbol by symbol, whatever the length of the numbers and however many they are.

That the list has every context of every text is shown by induction over the symbols of a text. What a symbol sees was
written before it: in the question, where any digits may stand, or by contexts of the list. So it is enough to go
through the places of a row and to say what may meet there.

Carries. None comes into the lowest column. If those that come into a column are among `Row.reached`, so are those into
the next: that set is closed under the step with any operand and any digit above. In sums and differences it is 0 and 1,
in products and quotients 0 to the head.

Sums and differences. The head is the sign before the number. In a column stand an operand, a digit above, or both, any
digits; both in the lowest, where the sign that begins the row takes the place of the carry. Above all columns the carry
is alone; a sum says it once more as a digit if it is not 0. Then | follows, or, in a difference with a debt, the row
that begins with -. That one has no head, no operand, any digits above, and a debt in the end, since only 0 has none.
After the last row | sees no head, and what stands above it in the lowest column.

Products. The head is a digit of the second number, the operand one of the first. Above is any digit, or none: all along
the first row, and below the highest digit of a row where the row above has none more than it has columns.

Quotients. Let y have m digits, top the highest, Z the number of the others, P = base^(m-1). What is left before a digit
comes down is below y; so its digit high is at most top (in the first row it has none), and low, the next, is any digit.

- The guess follows from high, low and top. It is never too small, and head * top * P is at most what is there, so what
  is owed afterwards is at most head * Z, less than base^m. So the borrow out of the highest column is high or high + 1:
  the row is done, or too much was taken.
- Below the highest column anything meets. In it are top and low and a borrow that the head reaches, of at least low
  where high = top. For then the head is base - 1, and with L what is below low, low * P + L < base * Z, as what was
  left was below y. So (base - 1) * Z - L > low * P - Z > (low - 1) * P, and more than low - 1 are borrowed. If y has
  one digit the highest column is the lowest, nothing is borrowed, and high is not top.
- Any head but 0 may be too much; the next row, which puts y back, has one less, and for what it sees as head the sign.
  Below its highest column anything meets. In it is a digit t above top: at least base^m - head * Z stands there, so t
  is at least base - head, and not 0. Where it is 1, the head is base - 1, and what is below t is at least
  base^m - (base - 1) * Z - P; with Z that is P or more, so there is a carry. Where y was put back before, t has grown.
- A carry out of the highest column says that what is left is not below 0 any more, and the row is done. Where no digit
  of x comes down, | sees the operator alone.

In bases 2, 3 and 4 every one of them occurs in numbers of up to five digits, a few only where numbers begin with zeros.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic.division import guess
from simple_llm.arithmetic.row import COMPLEMENT, DIFFERENCE, PRODUCT, PUT_BACK, Row, SUM, TAKEN
from simple_llm.arithmetic.symbols import (
    BAR,
    END,
    MINUS,
    NOTHING,
    OVER,
    PLUS,
    raised,
    shown,
    sign,
    SIGNS,
    Symbols,
    TIMES,
    value_of,
)

CELLS = ("operator", "head", "operand", "above", "carry", "top", "own")
KINDS = ("sign", "operand", "head", "digit", "carry", "top")  # of symbols; the model's file has them too
SIGN, OPERAND, HEAD, DIGIT, CARRY, TOP = range(len(KINDS))


@dataclass(frozen=True)
class Contexts:
    """Contexts of one operation, no two alike, as a model of one block can be asked for them.

    Asked for a context, it reads seven symbols in the order of CELLS. The last, the one that asks, sees those of the
    others that are there, and not itself: what stands in the cell of the carry it sees there, if that is what it is.

    Attributes:
        base: of the digits.
        symbols: (C, 7) in the cells; NOTHING in an empty one.
        kinds: (C, 7) of the symbols, indices into KINDS.
        says: (C,) the symbol that follows.
    """

    base: int
    symbols: Symbols
    kinds: NDArray[np.int16]
    says: Symbols

    def __len__(self) -> int:
        return len(self.says)

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """(C, 7) which of the symbols the last of them sees."""
        return (self.symbols != NOTHING) & (np.arange(len(CELLS)) < len(CELLS) - 1)

    def spelled(self, index: int) -> str:
        """One of them for people: operator *, head 4, operand 5, above 3, carry ³, own ³ (carry): 6."""
        cells = zip(CELLS, self.symbols[index], strict=True)
        seen = [f"{cell} {shown([symbol], self.base)}" for cell, symbol in cells if symbol != NOTHING]
        return f"{', '.join(seen)} ({KINDS[self.kinds[index, -1]]}): {shown([self.says[index]], self.base)}"


def contexts(operator: str, base: int) -> Contexts:
    """List the contexts of an operation, one of SIGNS, in a base."""
    listed = _List(operator, base)
    LISTED[operator](listed)
    return listed.contexts()


class _List:
    """A list of contexts of one operation as it grows; what is added are arrays that broadcast."""

    def __init__(self, operator: str, base: int) -> None:
        self.operator, self.base = np.int16(sign(operator, base)), base
        self.bar, self.plus, self.minus, self.end = (np.int16(sign(one, base)) for one in (BAR, PLUS, MINUS, END))
        self.digits = np.arange(base, dtype=np.int16)
        self.maybe = np.arange(NOTHING, base, dtype=np.int16)  # a digit, or none
        self.carries = raised(self.digits, base)
        self.parts = []  # (C, 9) each: seven symbols, the kind of the last of them, what follows

    def value(self, symbols: NDArray) -> NDArray:
        return value_of(symbols, self.base)

    def add(self, own: NDArray, kind: int, says: NDArray, **cells: NDArray) -> None:
        """Add contexts of a symbol and its kind; cells that are not named are empty."""
        seen = [np.int16(cells.get(cell, NOTHING)) for cell in CELLS[1:-1]]
        together = np.broadcast_arrays(self.operator, *seen, own, np.int16(kind), says)
        self.parts.append(np.stack([one.ravel() for one in together], axis=1))

    def add_column(self, row: Row, own: NDArray, own_kind: int, kind: int = DIGIT, **cells: NDArray) -> NDArray:
        """Add what is said in a column of a row: `own` says its digit, the digit of that kind the carry, returned."""
        above = cells.get("top" if "top" in cells else "above", NOTHING)
        seen = [cells.get("head", NOTHING), cells.get("operand", NOTHING), above, cells.get("carry", NOTHING)]
        digit, following = row.step(*(self.value(np.int16(cell)) for cell in seen), self.base)
        following = raised(following, self.base)
        self.add(own, own_kind, digit, **cells)
        self.add(digit, kind, following, **cells)
        return following

    def add_top(self, row: Row, carry: NDArray, says: NDArray, **cells: NDArray) -> None:
        """Add what is said above all columns: the carry out of them, as a digit too where the row grows, and a sign."""
        carry, says, *seen = np.broadcast_arrays(carry, says, *cells.values())
        grows = row.grows & (self.value(carry) > 0)
        self.add(carry, CARRY, np.where(grows, self.value(carry), says), carry=carry, **cells)
        seen = dict(zip(cells, (cell[grows] for cell in seen), strict=True))
        self.add(self.value(carry)[grows], DIGIT, says[grows], carry=carry[grows], **seen)

    def are_reached(self, row: Row, head: NDArray, carry: NDArray) -> NDArray[np.bool_]:
        """Whether a row with that head has that carry, or none."""
        return row.reached(self.base)[self.value(head), self.value(carry)]

    def contexts(self) -> Contexts:
        """Each of the contexts once."""
        listed = np.concatenate(self.parts)
        code = np.zeros(len(listed), np.int64)
        for one in listed.T:
            code = code * (2 * self.base + len(SIGNS) + 1) + one - NOTHING
        listed = listed[np.unique(code, return_index=True)[1]]
        symbols, says = listed[:, : len(CELLS)], listed[:, -1]
        kinds = np.tile(np.array([SIGN, HEAD, OPERAND, DIGIT, CARRY, TOP, SIGN], np.int16), (len(listed), 1))
        kinds[:, -1] = listed[:, -2]
        if self.operator == sign(OVER, self.base):
            kinds[symbols[:, 1] == self.plus, 1] = SIGN  # where y is put back; of a sum it is the head, by its kind too
        return Contexts(self.base, symbols, kinds, says)


def _all(*choices: NDArray) -> list[NDArray]:
    """Every choice of one of each: arrays of one length."""
    return [one.ravel() for one in np.meshgrid(*choices, indexing="ij")]


def _those(where: NDArray[np.bool_], *arrays: NDArray) -> list[NDArray]:
    return [one[where] for one in arrays]


def _list_sum(listed: _List) -> None:
    _list_rows_of_numbers(listed, SUM)


def _list_rows_of_numbers(listed: _List, row: Row) -> None:
    head, carries = listed.operator, listed.carries[:2]
    operand, above, carry = _all(listed.maybe, listed.maybe, carries)
    operand, above, carry = _those(np.maximum(operand, above) != NOTHING, operand, above, carry)
    listed.add_column(row, carry, CARRY, head=head, operand=operand, above=above, carry=carry)
    operand, above = _all(listed.digits, listed.digits)
    listed.add_column(row, listed.bar, CARRY, head=head, operand=operand, above=above, carry=listed.bar)
    is_debt = (listed.value(carries) > 0) & (row is DIFFERENCE)
    listed.add_top(row, carries, np.where(is_debt, listed.minus, listed.bar), head=head)
    listed.add(listed.bar, CARRY, listed.end, above=listed.digits, carry=listed.bar)


def _list_difference(listed: _List) -> None:
    _list_rows_of_numbers(listed, DIFFERENCE)
    above, carry = _all(listed.digits, np.array([listed.minus, *listed.carries[:2]]))
    listed.add_column(COMPLEMENT, carry, CARRY, above=above, carry=carry)
    listed.add_top(COMPLEMENT, listed.carries[1:2], listed.bar)


def _list_product(listed: _List) -> None:
    head, operand, above, carry = _all(
        listed.digits, listed.digits, listed.maybe, np.array([listed.bar, *listed.carries])
    )
    is_reached = listed.are_reached(PRODUCT, head, carry)
    head, operand, above, carry = _those(is_reached, head, operand, above, carry)
    listed.add_column(PRODUCT, carry, CARRY, head=head, operand=operand, above=above, carry=carry)
    head, carry = _all(listed.digits, listed.carries)
    head, carry = _those(listed.are_reached(PRODUCT, head, carry), head, carry)
    listed.add_top(PRODUCT, carry, listed.bar, head=head)
    operand, above = _all(listed.digits, listed.maybe)
    listed.add(listed.bar, CARRY, listed.end, operand=operand, above=above, carry=listed.bar)


def _list_quotient(listed: _List) -> None:
    _list_guessed(listed)
    _list_taken(listed)
    _list_put_back(listed)
    listed.add(listed.bar, SIGN, listed.end)


def _list_guessed(listed: _List) -> None:
    """The guess, the column of the top digit, and whether too much was taken."""
    high, low, operand = _all(listed.maybe, listed.digits, listed.digits[1:])
    high, low, operand = _those(high <= operand, high, low, operand)
    head = guess(listed.value(high), low, operand, listed.base)
    listed.add(listed.bar, SIGN, head, operand=operand, above=low, top=high)

    index, carry = _all(np.arange(len(head)), np.array([NOTHING, *listed.carries]))
    head, high, low, operand = _those(index, head, high, low, operand)
    is_open = np.where(high == operand, carry >= raised(low, listed.base), True)
    is_there = is_open & listed.are_reached(TAKEN, head, carry)
    head, high, low, operand, carry = _those(is_there, head, high, low, operand, carry)
    own, kind = np.where(carry == NOTHING, head, carry), np.where(carry == NOTHING, HEAD, CARRY)
    taken = listed.add_column(TAKEN, own, kind, TOP, head=head, operand=operand, above=low, carry=carry)
    says = np.where(listed.value(taken) > listed.value(high), listed.plus, listed.bar)
    listed.add_top(TAKEN, taken, says, head=head, top=high)


def _list_taken(listed: _List) -> None:
    """The columns below."""
    head, operand, above, carry = _all(
        listed.digits, listed.digits, listed.digits, np.array([NOTHING, *listed.carries])
    )
    is_reached = listed.are_reached(TAKEN, head, carry)
    head, operand, above, carry = _those(is_reached, head, operand, above, carry)
    own, kind = np.where(carry == NOTHING, head, carry), np.where(carry == NOTHING, HEAD, CARRY)
    listed.add_column(TAKEN, own, kind, head=head, operand=operand, above=above, carry=carry)


def _list_put_back(listed: _List) -> None:
    """The head counted down, the columns below, that of the top digit, and whether it is enough."""
    head, carries = listed.plus, listed.carries[:2]
    listed.add(head, SIGN, listed.digits[:-1], head=listed.digits[1:])
    own, operand, above = _all(listed.digits[:-1], listed.digits, listed.digits)
    listed.add_column(PUT_BACK, own, HEAD, head=head, operand=operand, above=above)
    operand, above, carry = _all(listed.digits, listed.digits, carries)
    listed.add_column(PUT_BACK, carry, CARRY, head=head, operand=operand, above=above, carry=carry)

    operand, top, carry = _all(listed.digits[1:], listed.digits[1:], carries)
    operand, top, carry = _those(top + listed.value(carry) > 1, operand, top, carry)
    given = listed.add_column(PUT_BACK, carry, CARRY, TOP, head=head, operand=operand, carry=carry, top=top)
    says = np.where(listed.value(given) > 0, listed.bar, listed.plus)
    listed.add_top(PUT_BACK, given, says, head=head)


LISTED = {PLUS: _list_sum, MINUS: _list_difference, TIMES: _list_product, OVER: _list_quotient}
