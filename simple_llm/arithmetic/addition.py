"""Addition of two numbers."""

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic.operation import Operation


def step(x: NDArray, y: NDArray, carry: NDArray, base: int) -> tuple[NDArray, NDArray]:
    """Add the digits of a column and the carry into it: step(7, 8, 1, 10) is (6, 1).

    Returns:
        The digit of the sum, and the carry out of the column, 0 or 1; both of the type of x + y, which has to hold
        2 * base - 1.
    """
    total = np.add(x, y) + carry
    carry = (total >= base).astype(total.dtype)
    return total - carry * total.dtype.type(base), carry


ADDITION = Operation("add", "+", step)
