"""Addition of two numbers."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from simple_llm.arithmetic.operation import Operation

if TYPE_CHECKING:
    from numpy.typing import NDArray


def step(x: NDArray, y: NDArray, carry: NDArray, base: int) -> tuple[NDArray, NDArray]:
    """Add the digits of a column and the carry into it: step(7, 8, 1, 10) is (6, 1).

    Returns:
        The digit of the sum, and the carry out of the column, 0 or 1; both of the type of x + y, which has to hold
        2 * base - 1.
    """
    total = x + y + carry
    carry = total // base
    return total - carry * base, carry


ADDITION = Operation(
    *("add", "addition", "adds", "sum", "+", step, operator.add),
    commutes=True,
    is_signed=False,
    takes_many=True,
)
