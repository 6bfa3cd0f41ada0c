"""Long division: guess a digit of the quotient, take the divisor away so many times, and put it back while too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simple_llm.arithmetic.operation import Operation

if TYPE_CHECKING:
    from numpy.typing import NDArray


def step(head: NDArray, operand: NDArray, above: NDArray, borrow: NDArray, base: int) -> tuple[NDArray, NDArray]:
    """Take the head times the operand, and the borrow, from the digit above: step(3, 5, 7, 2, 10) is (0, 1).

    Returns:
        The digit of the row, and the borrow from the next column, at most the head if the borrow here was; both of the
        type of head * operand, which has to hold base * (base + 1).
    """
    total = above + base * base - head * operand - borrow  # with as much borrowed as there can be, never below zero
    is_given_back = total // base
    return total - is_given_back * base, base - is_given_back


def guess(high: NDArray, low: NDArray, top: NDArray, base: int) -> NDArray:
    """Guess a digit of the quotient from the two highest digits of what is left and the highest of the divisor.

    It is never too small, and too much is less than base^(digits of the divisor): guess(1, 7, 5, 10) is 3, right for
    174 / 56; guess(1, 7, 1, 10) is 9, and 170 / 19 is 8.
    """
    digit = (high * base + low) // top
    is_no_digit = digit >= base
    return digit * (1 - is_no_digit) + (base - 1) * is_no_digit


def quotient_and_rest(x: int, y: int) -> tuple[int, int]:
    """divmod, of arrays of Python's integers too, for which numpy has none."""
    return x // y, x % y


DIVISION = Operation(
    *("divide", "division", "divides", "quotient", "/", None, quotient_and_rest),
    commutes=False,
    is_signed=False,
    leaves_rest=True,
)
