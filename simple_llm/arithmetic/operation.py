"""What an operation on two numbers is: one step in a column. What follows from it, columns.py works out.

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
        of_integers: the same of whole numbers, by their own arithmetic, which a proof compares a model with.
        commutes: whether x and y may change places.
        is_signed: what the carry out of the last column is: False for one more digit, True for a debt, with which the
            answer is below zero.
    """

    name: str
    title: str
    verb: str
    noun: str
    symbol: str
    step: Step
    of_integers: Callable[[int, int], int]
    commutes: bool
    is_signed: bool

    def write(self, x: object, y: object) -> str:
        """A problem as people write it."""
        return f"{x}{self.symbol}{y}"

    def longest_answer(self, minimum: int, maximum: int, base: int) -> int:
        """Count the digits of the longest answer to operands of a range; a sign is none."""
        ends = (minimum, maximum)
        return max(digit_count(abs(self.of_integers(x, y)), base) for x in ends for y in ends)

    def answer_tokens(self, minimum: int, maximum: int, base: int) -> int:
        """Count the tokens of the longest answer: its digits, its sign, and what ends it."""
        is_ever_negative = self.is_signed and minimum < maximum
        return self.longest_answer(minimum, maximum, base) + is_ever_negative + 1
