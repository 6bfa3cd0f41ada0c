"""Questions of work on paper: where the numbers of many of them stand.

Shape letters in this file: N questions, T symbols of the longest, M numbers of all of them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic.symbols import BAR, MINUS, NOTHING, OVER, PLUS, sign, SIGNS, Symbols, TIMES

OPERATORS = (PLUS, MINUS, TIMES, OVER)


class Questions(NamedTuple):
    """N questions, `*75*64|`, and the numbers in them.

    Attributes:
        base: of the digits.
        symbols: (N T,) of all questions; behind the digits of a number stands a sign.
        operator: (N,) symbols.
        first, count: (N,) which of all numbers is a question's first, and how many it has.
        starts, sizes: (M,) where the lowest digit of each number stands in `symbols`, and how many digits it has.
    """

    base: int
    symbols: Symbols
    operator: Symbols
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, symbols: Symbols, base: int) -> "Questions":
        """Find the numbers.

        Args:
            symbols: (N, T), NOTHING to the right of each question.

        Raises:
            ValueError: a row is no question.
        """
        _refuse_others(symbols, base)
        bar = sign(BAR, base)
        problem, place = (symbols >= 2 * base).nonzero()
        is_bar = symbols[problem, place] == bar
        starts = (problem * symbols.shape[1] + place + 1)[~is_bar]
        sizes = np.diff(place, append=0)[~is_bar] - 1
        count = np.bincount(problem[~is_bar], minlength=len(symbols))
        return cls(base, symbols.ravel(), symbols[:, 0], count.cumsum() - count, count, starts, sizes)

    def are(self, operator: str) -> NDArray[np.bool_]:
        return self.operator == sign(operator, self.base)

    def start(self, number: int) -> NDArray[np.int64]:
        """Where the first number of each question stands, or the second, (N,)."""
        return self.starts[self.first + number]

    def size(self, number: int) -> NDArray[np.int64]:
        """How many digits it has, (N,)."""
        return self.sizes[self.first + number]

    @property
    def longest(self) -> NDArray[np.int64]:
        """The digits of the longest number of each question, (N,)."""
        return np.maximum.reduceat(self.sizes, self.first) if len(self.first) else self.first


def _refuse_others(symbols: Symbols, base: int) -> None:
    bar, plus, over = (sign(one, base) for one in (BAR, PLUS, OVER))
    length, operator = (symbols != NOTHING).sum(1, keepdims=True), symbols[:, :1]
    column = np.arange(symbols.shape[1])
    is_digit, is_sign = np.isin(symbols, np.arange(base)), symbols == operator
    starts_number = is_sign & np.pad(is_digit, [(0, 0), (0, 1)])[:, 1:]
    is_right = np.where(column == length - 1, symbols == bar, is_digit | starts_number)
    is_right = np.where(column < length, is_right, symbols == NOTHING).all(1)
    is_right &= np.isin(symbols[:, 0], [sign(one, base) for one in OPERATORS])
    count = is_sign.sum(1)
    is_right &= (count == 2) | (count > 2) & (operator[:, 0] == plus)
    top = np.take_along_axis(symbols, np.maximum(length - 2, 0), axis=1)[:, 0]
    is_right &= (operator[:, 0] != over) | (top != 0)
    if not is_right.all():
        raise ValueError(
            f"{np.count_nonzero(~is_right)} of {len(symbols)} rows are no question: {''.join(SIGNS[1:5])}, before each "
            "number, lowest digits first, and | behind the last; no divisor begins with 0"
        )
