"""What an operation on numbers is: one step in a column, from which columns.py works out what follows.

Products and quotients are no such walk from column to column; on paper they are one in every row, see row.py.

Without numpy: a step is made of whole numbers and of arrays of them alike, and the config asks for the longest answer
before anything slow is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TYPE_CHECKING

from simple_llm.arithmetic.integers import digit_count

if TYPE_CHECKING:
    from numpy.typing import NDArray


Bounds = tuple[int, int]  # the smallest and the largest number


class Step(Protocol):
    """The digit of the answer in a column, and the carry into the next, from what stands in the column."""

    def __call__(self, x: NDArray, y: NDArray, carry: NDArray, base: int) -> tuple[NDArray, NDArray]: ...


@dataclass(frozen=True)
class Operation:
    """An operation, defined by its step.

    Attributes:
        name: its key among the `operations` of data_config.yaml.
        title, verb, noun: words for people: "addition", "adds", "sum".
        symbol: between the operands.
        step: of digits and a carry of one integer type, numbers or arrays that broadcast: (digit, carry), of that type.
            None where the answer is not worked out column by column.
        of_integers: the same of whole numbers, by their own arithmetic, which a proof compares a model with; a pair of
            them, quotient and what is left, where `leaves_rest`.
        commutes: whether x and y may change places.
        is_signed: what the carry out of the last column is: False for one more digit, True for a debt, with which the
            answer is below zero.
        takes_many: whether more than two numbers can be asked for.
        leaves_rest: whether there is a second answer, what is left; then y is not 0.
    """

    name: str
    title: str
    verb: str
    noun: str
    symbol: str
    step: Step | None
    of_integers: Callable[[int, int], int | tuple[int, int]]
    commutes: bool
    is_signed: bool
    takes_many: bool = False
    leaves_rest: bool = False

    def write(self, *numbers: object) -> str:
        """A problem as people write it."""
        return self.symbol.join(map(str, numbers))

    def answer(self, *numbers: int) -> tuple[int, ...]:
        """Work a problem out by whole numbers: the answer, and what is left where there is such a thing."""
        first, *others = numbers
        for number in others:
            found = self.of_integers(first, number)
            first, *rest = found if self.leaves_rest else (found,)
        return (first, *rest)

    def longest_answer(self, minimum: int, maximum: int, base: int, second: Bounds | None = None, most: int = 2) -> int:
        """Count the digits of the longest answer, of one of them; a sign is none.

        Args:
            minimum, maximum: of the operands.
            second: of those after the first, where they have others.
            most: operands of a problem.
        """
        ends = [(x, *(y,) * (most - 1)) for x in (minimum, maximum) for y in self._second(minimum, maximum, second)]
        return max(digit_count(abs(answer), base) for numbers in ends for answer in self.answer(*numbers)[:1])

    def answer_tokens(self, minimum: int, maximum: int, base: int, second: Bounds | None = None, most: int = 2) -> int:
        """Count the tokens of the longest answer: its digits, its sign, what is left behind a symbol, what ends it."""
        is_ever_negative = self.is_signed and minimum < (second or (minimum, maximum))[1]
        rest = 1 + digit_count(self._second(minimum, maximum, second)[1] - 1, base) if self.leaves_rest else 0
        return self.longest_answer(minimum, maximum, base, second, most) + is_ever_negative + rest + 1

    def _second(self, minimum: int, maximum: int, second: Bounds | None) -> Bounds:
        """The smallest and the largest of the operands after the first."""
        smallest, largest = second or (minimum, maximum)
        return max(smallest, self.leaves_rest), max(largest, self.leaves_rest)
