"""What an operation on two numbers is: one step in a column. Its answer and its carries follow.

Shape letters in this file: W places (digits of the widest number), N problems.

    column     0 1 2 3
    x          2 4 3 1
    y          9 7 8 .      879
    carry in   . 1 1 1 .    what a column hands to the next
    answer     1 2 2 2      1342 + 879 = 2221, least significant digit first
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic.digits import Digits


class Step(Protocol):
    """The digit of the answer in a column, and the carry into the next, from what stands in the column."""

    def __call__(self, x: NDArray, y: NDArray, carry: NDArray, base: int) -> tuple[NDArray, NDArray]: ...


@dataclass(frozen=True)
class Operation:
    """An operation, defined by its step.

    Attributes:
        symbol: between the operands.
        step: of digits and a carry of one integer type, arrays that broadcast: (digit, carry), each of that type.
    """

    name: str
    symbol: str
    step: Step

    def answer(self, x: Digits, y: Digits, base: int) -> Digits:
        """Work column by column: (W, N), (W, N) -> (W + 1, N); the last carry is the highest digit."""
        z = np.empty((x.shape[0] + 1, x.shape[1]), np.uint8)
        carry = np.zeros(x.shape[1], np.uint8)  # (N,)
        for column in range(x.shape[0]):
            z[column], carry = self.step(x[column], y[column], carry, base)
        z[-1] = carry
        return z

    def carries(self, x: Digits, y: Digits, base: int) -> NDArray[np.bool_]:
        """Whether a carry comes into each column: (W, N), (W, N) -> (W + 1, N); nothing comes into the first."""
        into = np.zeros((x.shape[0] + 1, x.shape[1]), bool)
        carry = np.zeros(x.shape[1], np.uint8)  # (N,)
        for column in range(x.shape[0]):
            _, carry = self.step(x[column], y[column], carry, base)
            into[column + 1] = carry
        return into

    def longest_chain(self, x: Digits, y: Digits, base: int) -> NDArray[np.int64]:
        """Count the most columns in a row that pass on a carry: (W, N), (W, N) -> (N,).

        25 + 31 has 0; 5 + 5 has 1; 999 + 1 and 999 + 999 have 3.
        """
        chain, longest = (np.zeros(x.shape[1], np.int64) for _ in range(2))
        for carry in self.carries(x, y, base):
            chain = (chain + 1) * carry
            np.maximum(longest, chain, out=longest)
        return longest
