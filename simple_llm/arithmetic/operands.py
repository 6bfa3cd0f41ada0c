"""The range that operands come from, drawn by value and by length, digit by digit.

Shape letters in this file: W places (digits of the largest number), N numbers.

So operands of a hundred digits cost what their digits cost.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.columns import work
from simple_llm.arithmetic.digits import Digits, digits_of
from simple_llm.arithmetic.integers import digit_count


@dataclass(frozen=True)
class Operands:
    """Whole numbers from a smallest to a largest one, in a base."""

    minimum: int
    maximum: int
    base: int

    @property
    def width(self) -> int:
        """W: digits of the largest."""
        return digit_count(self.maximum, self.base)

    @property
    def count(self) -> int:
        return self.maximum - self.minimum + 1

    @property
    def values(self) -> range:
        return range(self.minimum, self.maximum + 1)

    def uniform(self, rng: np.random.Generator, count: int) -> Digits:
        """Draw numbers uniformly over values: (W, count)."""
        return self._between(self.minimum, self.maximum, rng, count)

    def by_length(self, rng: np.random.Generator, count: int) -> Digits:
        """Draw numbers whose digit counts are uniform, and then their values, in random order: (W, count)."""
        shortest = digit_count(self.minimum, self.base)
        num_lengths = self.width - shortest + 1
        blocks = []
        for num_digits, block in enumerate(rng.multinomial(count, [1 / num_lengths] * num_lengths), shortest):
            lowest = 0 if num_digits == 1 else self.base ** (num_digits - 1)
            lowest, highest = max(lowest, self.minimum), min(self.base**num_digits - 1, self.maximum)
            blocks.append(self._between(lowest, highest, rng, int(block)))
        return np.concatenate(blocks, axis=1).take(rng.permutation(count), axis=1)

    def contain(self, digits: Digits) -> NDArray[np.bool_]:
        """Whether each number is in the range, however wide the array is: (W, N) -> (N,)."""
        lower, above = digits[: self.width], digits[self.width :]
        return self._at_least(lower, self.minimum) & self._at_most(lower, self.maximum) & ~above.any(axis=0)

    def _between(self, minimum: int, maximum: int, rng: np.random.Generator, count: int) -> Digits:
        """Draw `count` numbers uniformly from minimum to maximum, by rejection: (W, count)."""
        span = maximum - minimum
        top = digit_count(span, self.base) - 1
        top_digit = span // self.base**top
        accepted = [np.zeros((self.width, 0), np.uint8)]
        missing = count
        acceptance = (span + 1) / ((top_digit + 1) * self.base**top)
        while missing:
            offset = np.zeros((self.width, int(missing / acceptance * 1.01) + 16), np.uint8)
            offset[:top] = rng.integers(0, self.base, (top, offset.shape[1]), np.uint8)
            offset[top] = rng.integers(0, top_digit + 1, offset.shape[1], np.uint8)
            if acceptance < 1:
                offset = np.compress(self._at_most(offset, span), offset, axis=1)
            accepted.append(offset[:, :missing])
            missing -= accepted[-1].shape[1]
        numbers = np.concatenate(accepted, axis=1)
        if minimum == 0:
            return numbers
        return work(ADDITION, numbers, self._constant(minimum)[:, None].repeat(count, axis=1), self.base)[:-1]

    def _constant(self, value: int) -> Digits:
        return digits_of([value], self.base, self.width)[:, 0]

    def _at_most(self, digits: Digits, bound: int) -> NDArray[np.bool_]:
        """Compare from the lowest place up: a higher place overrules the ones below. (W, N) -> (N,)."""
        exceeds = np.zeros(digits.shape[1], bool)
        for place, bound_digit in zip(digits, self._constant(bound), strict=True):
            exceeds = (place > bound_digit) | ((place == bound_digit) & exceeds)
        return ~exceeds

    def _at_least(self, digits: Digits, bound: int) -> NDArray[np.bool_]:
        return self._at_most(self.base - 1 - digits, self.base**self.width - 1 - bound)
