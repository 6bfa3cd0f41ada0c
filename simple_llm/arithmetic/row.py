"""A row of work on paper: all that is written there is a row, and all rows are worked out alike.

Shape letters in this file: W columns, N problems.

A row has a head, an operand and a row above it. From the lowest column up, a step makes of head, operand, digit above
and carry a digit and the carry into the next column:

    SUM           above + operand               a number more in a sum
    DIFFERENCE    above - operand
    COMPLEMENT    0 - above                     what is owed, where a difference is below zero
    PRODUCT       above + head * operand        the head is a digit of the second number
    TAKEN         above - head * operand        the head is a digit of the quotient
    PUT_BACK      above + operand               of a division, where too much was taken away
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic import addition, division, multiplication, subtraction


@dataclass(frozen=True)
class Row:
    """A kind of row.

    Attributes:
        step: (head, operand, above, carry, base) -> (digit, carry), numbers or arrays that broadcast.
        grows: whether a carry out of the highest column is one more digit; it says more than that otherwise.
    """

    step: Callable[[NDArray, NDArray, NDArray, NDArray, int], tuple[NDArray, NDArray]]
    grows: bool

    def work(self, head: NDArray, operand: NDArray, above: NDArray, base: int) -> tuple[NDArray, NDArray]:
        """Work a row out: (N,), (W, N), (W, N) -> its digits, (W, N), and the carries into its columns, (W + 1, N).

        Beyond the highest digits, where there are zeros, a row that grows has its last carry as a digit.
        """
        digits = np.empty_like(operand)
        carries = np.zeros((len(operand) + 1, len(head)), operand.dtype)
        for column in range(len(operand)):
            digits[column], carries[column + 1] = self.step(head, operand[column], above[column], carries[column], base)
        return digits, carries

    def reached(self, base: int) -> NDArray[np.bool_]:
        """Which carries there are at all, by the head of the row: (base, base), [head, carry].

        None comes into the first column; from there, column by column, until no column has a new one.
        """
        head, operand, above, carry = np.indices((base,) * 4, np.int16).reshape(4, -1)
        _, following = self.step(head, operand, above, carry, base)
        found, reached = np.zeros((base, base), bool), np.eye(1, base, dtype=bool).repeat(base, axis=0)
        while (found != reached).any():
            found = reached.copy()
            is_reached = found[head, carry]
            reached[head[is_reached], following[is_reached]] = True
        return reached


SUM = Row(lambda head, operand, above, carry, base: addition.step(above, operand, carry, base), grows=True)
DIFFERENCE = Row(lambda head, operand, above, borrow, base: subtraction.step(above, operand, borrow, base), grows=False)
COMPLEMENT = Row(lambda head, operand, above, borrow, base: subtraction.step(operand, above, borrow, base), grows=False)
PRODUCT = Row(multiplication.step, grows=True)
TAKEN = Row(division.step, grows=False)
PUT_BACK = Row(SUM.step, grows=False)
