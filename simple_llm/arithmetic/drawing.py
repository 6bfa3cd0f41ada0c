"""Draw work on paper for people: each row under its columns, the carries above it.

57 * 46

  34
  342      57 * 6
 23
 262       57 * 4, and 34
2622
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from simple_llm.arithmetic.digits import DIGIT_ALPHABET, digits_of
from simple_llm.arithmetic.integers import digit_count
from simple_llm.arithmetic.paper import Numbers, texts
from simple_llm.arithmetic.symbols import BAR, MINUS, OVER, PLUS, RAISED, SIGNS, TIMES


class _Line(NamedTuple):
    """A row of work, as it is drawn.

    Attributes:
        shift: how many columns it stands further to the left.
        digits: lowest first.
        carries: into the columns after the lowest, lowest first.
        note: what was done.
    """

    shift: int
    digits: list[int]
    carries: list[int]
    note: str


def right_work(operator: str, numbers: Iterable[int], base: int) -> str:
    """Draw the right work on a problem."""
    columns = [Numbers.of(digits_of([number], base, digit_count(number, base))) for number in numbers]
    [text] = texts(operator, columns, base)
    return drawn(text.tolist(), base)


def drawn(text: list[int], base: int) -> str:
    """Draw a whole text of symbols, from its question to its end; whatever stands there, it is drawn as far as it goes.

    Raises:
        ValueError: it has no question.
    """
    starts = [index for index, symbol in enumerate(text) if symbol >= 2 * base]
    parts = [
        (SIGNS[text[start] - 2 * base], text[start + 1 : after]) for start, after in pairwise([*starts, len(text)])
    ]
    signs = [sign for sign, _ in parts]
    if BAR not in signs or signs.index(BAR) < 2:
        raise ValueError("no question to draw")
    first = signs.index(BAR)
    operator, numbers = signs[0], [digits for _, digits in parts[:first]]
    rows = [(sign, symbols) for sign, symbols in parts[first:] if symbols]
    question = f" {operator} ".join(_written(number) for number in numbers)
    lines = list(_LINES[operator](numbers, rows, base))
    width = max((line.shift + max(len(line.digits), len(line.carries) + 1) for line in lines), default=0)
    return "\n".join([question, "", *(row for line in lines for row in _rows(line, width))])


def _rows(line: _Line, width: int) -> Iterator[str]:
    """The carries, if there are any, and the digits under them."""
    if any(line.carries):
        above = "".join(RAISED[carry] if carry else " " for carry in reversed(line.carries))
        yield (above + " " * (line.shift + 1)).rjust(width).rstrip()
    said = (_written(line.digits) + " " * line.shift).rjust(width)
    yield f"{said}    {line.note}".rstrip()


def _written(digits: list[int]) -> str:
    return "".join(DIGIT_ALPHABET[digit] for digit in reversed(digits))


def _row(symbols: list[int], base: int) -> tuple[list[int], list[int]]:
    """Digits and carries of a row."""
    return [one for one in symbols if one // base == 0], [one - base for one in symbols if one // base == 1]


def _sum(numbers: list[list[int]], rows: list[tuple[str, list[int]]], base: int) -> Iterator[_Line]:
    yield _Line(0, numbers[0], [], "")
    for number, (_, symbols) in zip(numbers[1:], rows, strict=False):
        yield _Line(0, *_row(symbols, base), f"{PLUS} {_written(number)}")


def _difference(numbers: list[list[int]], rows: list[tuple[str, list[int]]], base: int) -> Iterator[_Line]:
    yield _Line(0, numbers[0], [], "")
    for sign, symbols in rows:
        digits, carries = _row(symbols, base)
        is_owed = carries[-1:] == [1] and sign == BAR
        owed = f", with a debt of 1{DIGIT_ALPHABET[0] * len(digits)}" if is_owed else ""
        note = f"{MINUS} {_written(numbers[1])}{owed}" if sign == BAR else "what is owed, so it is below zero"
        yield _Line(0, digits, carries, note)


def _product(numbers: list[list[int]], rows: list[tuple[str, list[int]]], base: int) -> Iterator[_Line]:
    x, y = numbers
    above, edge = [], []
    for shift, (head, (_, symbols)) in enumerate(zip(y, rows, strict=False)):
        digits, carries = _row(symbols, base)
        too = f", and {_written(above)}" if above else ""
        yield _Line(shift, digits, carries, f"{_written(x)} {TIMES} {DIGIT_ALPHABET[head]}{too}")
        above, edge = digits[1:], edge + digits[:1]
    yield _Line(0, edge + above, [], "the lowest digits of all rows, and what is left of the last")


def _quotient(numbers: list[list[int]], rows: list[tuple[str, list[int]]], base: int) -> Iterator[_Line]:
    x, y = numbers
    shift, divisor = len(x) - len(y) + 1, _written(y)
    yield _Line(0, x, [], "")
    for sign, (head, *symbols) in rows:
        shift -= sign == BAR
        digits, carries = _row(symbols, base)
        note = f"{MINUS} {DIGIT_ALPHABET[head]} {TIMES} {divisor}"
        if sign == PLUS:
            note = f"too much: {PLUS} {divisor}, so {DIGIT_ALPHABET[head]}"
        yield _Line(shift, digits, carries, note)


_LINES = {PLUS: _sum, MINUS: _difference, TIMES: _product, OVER: _quotient}
