"""Multiplication on paper: in a row, the digits of the first number are taken times one of the second, its head."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from simple_llm.arithmetic.operation import Operation

if TYPE_CHECKING:
    from numpy.typing import NDArray


def step(head: NDArray, operand: NDArray, above: NDArray, carry: NDArray, base: int) -> tuple[NDArray, NDArray]:
    """Take the head times the operand, add the digit above and the carry: step(4, 5, 3, 3, 10) is (6, 2).

    Returns:
        The digit of the row, and the carry out of the column, at most the head if the carry into it was; both of the
        type of head * operand, which has to hold base * base.
    """
    total = head * operand + above + carry
    carry = total // base
    return total - carry * base, carry


MULTIPLICATION = Operation(
    "multiply", "multiplication", "multiplies", "product", "*", None, operator.mul, commutes=True, is_signed=False
)
