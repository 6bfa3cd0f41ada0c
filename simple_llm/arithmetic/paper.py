"""Work on paper: the text of many problems at once, and what is read off a text.

Shape letters in this file: W columns, N problems, T symbols of a text, S slots that a text may fill or leave out.

    57 * 46        *75*64|2⁴4³3|2³6²2|=                   a row: its digits, and before each but the first a carry
    12 + 873 + 4   +21+378+4|5⁰8⁰8⁰|9⁰8⁰8⁰|=              a row for each number after the first
    342 - 879      -243-978|3¹6¹4¹-7¹3¹5¹|=               463 and a debt of 1000, so its complement follows: -537
    1742 / 56      /2471/65|07⁰1⁰|36²0¹|16¹0⁰|=           heads 0, 3, 1; 6 is left
    130 / 46       /031/64|03⁰1⁰|32²9²+28⁰3¹|=            3 is one too many: -8 is left, y is put back, and 2 is right

Lowest digits stand first. `symbols.py` says what the numbers in an array of symbols mean, `row.py` what a row is.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic.digits import Digits, num_digits
from simple_llm.arithmetic.division import guess
from simple_llm.arithmetic.row import COMPLEMENT, DIFFERENCE, PRODUCT, PUT_BACK, Row, SUM, TAKEN
from simple_llm.arithmetic.symbols import BAR, END, MINUS, NOTHING, OVER, PLUS, raised, sign, SIGNS, Symbols, TIMES

Where = NDArray[np.bool_]  # (N,) which problems


class Numbers(NamedTuple):
    """N numbers as they are written, or N rows of work.

    Attributes:
        digits: (W, N), zero above the highest one that is written.
        length: (N,) how many are written, leading zeros too; none where a number is absent.
    """

    digits: Digits
    length: NDArray[np.int64]

    @classmethod
    def of(cls, digits: Digits) -> "Numbers":
        """Numbers without leading zeros."""
        return cls(digits, num_digits(digits))

    @classmethod
    def cut(cls, digits: Digits, length: NDArray) -> "Numbers":
        """The lowest digits of numbers, as many as there is length for."""
        return cls(digits * (np.arange(len(digits))[:, None] < length), length)

    def digit(self, column: NDArray | int) -> NDArray:
        """The digit of each in a column, 0 where it has none: (N,) or a number -> (N,)."""
        column = np.broadcast_to(column, self.length.shape)
        is_there = (column >= 0) & (column < len(self.digits))
        return self.digits[np.where(is_there, column, 0), np.arange(len(column))] * is_there

    def shifted(self, columns: NDArray | int) -> "Numbers":
        """The same so many columns lower, without what falls off the paper."""
        places = np.arange(len(self.digits))[:, None] + columns  # (W, 1) or (W, N)
        return Numbers(np.stack([self.digit(row) for row in places]), np.maximum(self.length - columns, 0))

    def over(self, lowest: NDArray) -> "Numbers":
        """The same one column higher, over a new lowest digit."""
        return Numbers(np.concatenate([lowest[None], self.digits]), self.length + 1)


class Sheet:
    """The texts of N problems of one operation as they are written, slot by slot; a problem may leave a slot out."""

    def __init__(self, operator: str, numbers: Sequence[Numbers], base: int) -> None:
        self.base, self.count = base, len(numbers[0].length)  # N
        self.slots = []  # (N,) each
        for number in numbers:
            self.say_sign(operator, number.length > 0)
            for column, digits in enumerate(number.digits):
                self.say(digits, column < number.length)
        self.say_sign(BAR)

    def say(self, symbols: NDArray | int, where: Where | bool) -> None:
        said = np.where(where, symbols, NOTHING).astype(np.int16)
        self.slots.append(np.broadcast_to(said, self.count))

    def say_sign(self, character: str, where: Where | bool = True) -> None:
        self.say(sign(character, self.base), where)

    def write(self, row: Row, where: Where, head: NDArray, operand: Numbers, above: Numbers) -> tuple[Numbers, NDArray]:
        """Write a row, as wide as what it is made of; its digits, and the carry out of them, (N,)."""
        columns = np.maximum(operand.length, above.length) * where  # (N,)
        width = columns.max(initial=0) + 1
        digits, carries = row.work(head, _widened(operand.digits, width), _widened(above.digits, width), self.base)
        last = carries[columns, np.arange(len(columns))]  # (N,)
        written = Numbers.cut(digits, columns + where * row.grows * (last > 0))
        for column in range(width):
            self.say(digits[column], column < written.length)
            self.say(raised(carries[column + 1], self.base), column < columns)
        return written, last

    def text(self) -> Symbols:
        """What is written, (N, T)."""
        slots = np.stack(self.slots)  # (S, N)
        is_said = slots != NOTHING
        index = is_said.cumsum(0)  # from 1 on
        text = np.full((slots.shape[1], index[-1].max(initial=0)), NOTHING, np.int16)
        slot, problem = is_said.nonzero()
        text[problem, index[slot, problem] - 1] = slots[slot, problem]
        return text


def _widened(digits: NDArray, width: int) -> NDArray:
    """The lowest `width` digits, with zeros above where there are fewer: (W, N) -> (width, N)."""
    return np.pad(digits[:width], [(0, max(0, width - len(digits))), (0, 0)])


# ---- Writing ----------------------------------------------------------------------------------------


def questions(operator: str, numbers: Sequence[Numbers], base: int) -> Symbols:
    """What is asked, up to the first |: *75*64|."""
    return Sheet(operator, _checked(operator, numbers), base).text()


def texts(operator: str, numbers: Sequence[Numbers], base: int) -> Symbols:
    """Write N problems with all their work.

    Args:
        operator: one of SIGNS, of all of them.
        numbers: two, or more in a sum, where those after the second may be absent.

    Returns:
        (N, T) symbols, to the right of each text NOTHING.

    Raises:
        ValueError: a number is absent, or a divisor begins with a zero.
    """
    numbers = _checked(operator, numbers)
    sheet = Sheet(operator, numbers, base)
    WORK[operator](sheet, *numbers)
    sheet.say_sign(END)
    return sheet.text()


def _checked(operator: str, numbers: Sequence[Numbers]) -> list[Numbers]:
    numbers = [Numbers(number.digits.astype(np.int16), np.asarray(number.length)) for number in numbers]
    if operator not in WORK or len(numbers) < 2 or (len(numbers) > 2 and operator != PLUS):
        raise ValueError(f"no work on paper has the operator {operator!r} and {len(numbers)} numbers")
    if not all((number.length > 0).all() for number in numbers[:2]):
        raise ValueError("one of the first two numbers is absent")
    if operator == OVER and not numbers[1].digit(numbers[1].length - 1).all():
        raise ValueError("a divisor is 0, or begins with it")
    return numbers


def _sum(sheet: Sheet, above: Numbers, *numbers: Numbers) -> None:
    """Add each number to the row above it."""
    for number in numbers:
        where = number.length > 0
        row, _ = sheet.write(SUM, where, number.length, number, above)
        sheet.say_sign(BAR, where)
        above = _chosen(where, row, above)


def _difference(sheet: Sheet, x: Numbers, y: Numbers) -> None:
    """Take y from x; where a borrow is left, what is owed has the complement for its digits."""
    everywhere = x.length > 0
    row, borrowed = sheet.write(DIFFERENCE, everywhere, x.length, y, x)
    is_owed = borrowed > 0
    sheet.say_sign(MINUS, is_owed)
    sheet.write(COMPLEMENT, is_owed, x.length, Numbers.cut(row.digits, 0 * row.length), row)
    sheet.say_sign(BAR)


def _product(sheet: Sheet, x: Numbers, y: Numbers) -> None:
    """Take x times each digit of y, and add what the row above has from its second digit up."""
    above = Numbers.cut(x.digits, 0 * x.length)
    for column, head in enumerate(y.digits):
        where = column < y.length
        row, _ = sheet.write(PRODUCT, where, head, x, above)
        sheet.say_sign(BAR, where)
        above = _chosen(where, row.shifted(1), above)


def _quotient(sheet: Sheet, x: Numbers, y: Numbers) -> None:
    """Bring down a digit of x, take y away as often as is guessed, and put it back while that was too much."""
    top, base = y.digit(y.length - 1), sheet.base
    left = Numbers.cut(x.shifted(x.length - y.length + 1).digits, y.length - 1)
    for group in range(1 + (x.length - y.length).max(initial=-1)):
        place = x.length - y.length - group  # (N,) of the digit of x that comes down
        where = place >= 0
        left = left.over(x.digit(place))
        high = left.digit(y.length)
        head = guess(high, left.digit(y.length - 1), top, base) * where
        left = Numbers.cut(left.digits, y.length)
        sheet.say(head, where)
        left, taken = sheet.write(TAKEN, where, head, y, left)
        is_too_much = where & (taken > high)
        while is_too_much.any():  # once at most for each that y was taken too often
            head = head - is_too_much
            sheet.say_sign(PLUS, is_too_much)
            sheet.say(head, is_too_much)
            row, given = sheet.write(PUT_BACK, is_too_much, head, y, left)
            left = _chosen(is_too_much, row, left)
            is_too_much = is_too_much & (given == 0)
        sheet.say_sign(BAR, where)


WORK = {PLUS: _sum, MINUS: _difference, TIMES: _product, OVER: _quotient}


def _chosen(where: Where, one: Numbers, other: Numbers) -> Numbers:
    width = max(len(one.digits), len(other.digits))
    digits = np.where(where, _widened(one.digits, width), _widened(other.digits, width))
    return Numbers(digits, np.where(where, one.length, other.length))


# ---- Reading ----------------------------------------------------------------------------------------


def read(texts: Symbols, base: int) -> list[int | tuple[int, int] | None]:
    """Read the answers off whole texts, (N, T): a number, or a quotient and what is left; None of what is no text.

    The form of a text is looked at, not whether its work is right: as many rows as there have to be, each as wide as
    what it is made of, digits and carries in turn.
    """
    return [_read_one(text, base) for text in texts.tolist()]


class _Part(NamedTuple):
    """A sign, and the symbols up to the next sign."""

    sign: str
    symbols: list[int]


def _read_one(text: list[int], base: int) -> int | tuple[int, int] | None:
    while text and text[-1] == NOTHING:
        text.pop()
    parts = _parts(text, base)
    signs = [part.sign for part in parts]
    if signs[-2:] != [BAR, END] or parts[-1].symbols or parts[-2].symbols:
        return None
    operator, first = signs[0], signs.index(BAR)
    numbers, rows = [part.symbols for part in parts[:first]], parts[first:-2]
    is_question = set(signs[:first]) == {operator} and all(number and max(number) // base == 0 for number in numbers)
    if not is_question or operator not in READ or len(numbers) < 2 or (len(numbers) > 2 and operator != PLUS):
        return None
    return READ[operator](numbers, rows, base)


def _parts(text: list[int], base: int) -> list[_Part]:
    """Split a text at its signs; [] of what has other symbols or begins with no sign."""
    starts = [index for index, symbol in enumerate(text) if symbol // base > 1]
    if starts[:1] != [0] or not 0 <= min(text) <= max(text) < 2 * base + len(SIGNS):
        return []
    return [_Part(SIGNS[text[one] - 2 * base], text[one + 1 : after]) for one, after in pairwise([*starts, len(text)])]


def _row(symbols: list[int], columns: int, base: int, grows: bool = False) -> list[int] | None:
    """The digits of a row of so many columns, and maybe one on top."""
    digits, carries = symbols[::2], symbols[1::2]
    is_row = len(carries) == columns and 0 <= len(digits) - columns <= grows
    is_row = is_row and all(one // base == 0 for one in digits) and all(one // base == 1 for one in carries)
    return digits if is_row else None


def _value(digits: list[int], base: int) -> int:
    value = 0
    for digit in reversed(digits):
        value = value * base + digit
    return value


def _read_sum(numbers: list[list[int]], rows: list[_Part], base: int) -> int | None:
    above, *others = numbers
    if [row.sign for row in rows] != [BAR] * len(others):
        return None
    for number, row in zip(others, rows, strict=True):
        above = _row(row.symbols, max(len(number), len(above)), base, grows=True)
        if above is None:
            return None
    return _value(above, base)


def _read_difference(numbers: list[list[int]], rows: list[_Part], base: int) -> int | None:
    signs, columns = [row.sign for row in rows], max(map(len, numbers))
    digits = [_row(row.symbols, columns, base) for row in rows]
    if signs not in ([BAR], [BAR, MINUS]) or None in digits:
        return None
    return _value(digits[-1], base) * (1 if len(signs) == 1 else -1)


def _read_product(numbers: list[list[int]], rows: list[_Part], base: int) -> int | None:
    """Along the edge: the lowest digit of each row, and all of the last."""
    x, y = numbers
    digits = [_row(row.symbols, len(x), base, grows=True) for row in rows]
    if [row.sign for row in rows] != [BAR] * len(y) or None in digits:
        return None
    return _value([row[0] for row in digits[:-1]] + digits[-1], base)


def _read_quotient(numbers: list[list[int]], rows: list[_Part], base: int) -> tuple[int, int] | None:
    """Of the rows from one | to the next the last is right: its head, and after the last | what is left."""
    x, y = numbers
    signs = [row.sign for row in rows]
    digits = [_row(row.symbols[1:], len(y), base) for row in rows]
    heads = [row.symbols[0] for row in rows if row.symbols]
    is_work = signs.count(BAR) == max(0, len(x) - len(y) + 1) and set(signs) <= {BAR, PLUS}
    if not is_work or None in digits or not y[-1] or any(head // base for head in heads):
        return None
    kept = [head for head, following in zip(heads, [*signs, BAR][1:], strict=True) if following == BAR]
    return _value(kept[::-1], base), _value(digits[-1] if rows else x, base)


READ = {PLUS: _read_sum, MINUS: _read_difference, TIMES: _read_product, OVER: _read_quotient}
