"""Subtraction of one number from another, below zero too."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from simple_llm.arithmetic.operation import Operation

if TYPE_CHECKING:
    from numpy.typing import NDArray


def step(x: NDArray, y: NDArray, borrow: NDArray, base: int) -> tuple[NDArray, NDArray]:
    """Take the lower digit of a column and the borrow from the upper one: step(4, 8, 1, 10) is (5, 1).

    Returns:
        The digit of the difference, and the borrow from the next column, 0 or 1; both of the type of x + y, which has
        to hold 2 * base - 1.
    """
    total = x + base - y - borrow  # with one borrowed, so it is never below zero
    is_given_back = total // base
    return total - is_given_back * base, 1 - is_given_back


SUBTRACTION = Operation(
    "subtract", "subtraction", "subtracts", "difference", "-", step, operator.sub, commutes=False, is_signed=True
)
