"""Problems as arrays of digits: their answers and carries, and how they are made of integers and of text.

Shape letters in this file: W places (digits of the widest number), N problems.

Digits are stored place by place, least significant place first, as `arithmetic/digits.py` has them:

    21 + 378 in base 10     x = [[1], [2], [0]]     y = [[8], [7], [3]]     W = 3, N = 1
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic import columns, OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import DIGIT_CODES, Digits, digits_of, modulo_2_64, num_digits
from simple_llm.arithmetic.operation import Operation


@dataclass(frozen=True)
class Problems:
    """N problems, x + y or another operation; indexing with a mask, a slice or an index array selects some of them.

    Attributes:
        x, y: (W, N) digits of the operands, zero above their highest digit.
        base: what a place is worth more than the one before.
        which: (N,) the operation of each, an index into OPERATIONS.
    """

    x: Digits
    y: Digits
    base: int
    which: NDArray[np.uint8]

    @classmethod
    def of(cls, operation: Operation, x: Digits, y: Digits, base: int) -> "Problems":
        """Problems of one operation."""
        return cls(x, y, base, np.full(x.shape[1], OPERATIONS.index(operation), np.uint8))

    def __len__(self) -> int:
        return self.x.shape[1]

    def __getitem__(self, index: slice | NDArray) -> "Problems":
        if isinstance(index, slice):
            return Problems(self.x[:, index], self.y[:, index], self.base, self.which[index])
        kept = np.flatnonzero(index) if index.dtype == bool else index
        return Problems(
            self.x.take(kept, axis=1), self.y.take(kept, axis=1), self.base, self.which.take(kept)
        )  # 7 times as fast as x[:, kept]

    @property
    def operations(self) -> list[Operation]:
        """The operations that occur."""
        return [OPERATIONS[index] for index in np.unique(self.which)]

    def is_of(self, operation: Operation) -> NDArray[np.bool_]:
        """(N,) which of them are of one operation."""
        return self.which == OPERATIONS.index(operation)

    def _of_each(self, follow: Callable[[Operation, Digits, Digits, int], NDArray]) -> NDArray:
        """What follows from the operands by each problem's own operation; problems along the last axis."""
        operations = self.operations or [ADDITION]
        if len(operations) == 1:
            return follow(operations[0], self.x, self.y, self.base)
        parts = [(self.is_of(operation), operation) for operation in operations]
        found = [(is_of, follow(one, self.x[:, is_of], self.y[:, is_of], self.base)) for is_of, one in parts]
        joined = np.empty((*found[0][1].shape[:-1], len(self)), found[0][1].dtype)
        for is_of, part in found:
            joined[..., is_of] = part
        return joined

    @cached_property
    def worked(self) -> Digits:
        """(W + 1, N) what the columns give one by one, and the last carry, see `columns.work`."""
        return self._of_each(columns.work)

    @cached_property
    def z(self) -> Digits:
        """(W + 1, N) digits of the answers, without their signs."""
        signed = [operation for operation in self.operations if operation.is_signed]
        z = self.worked.copy() if signed else self.worked
        for operation in signed:
            is_of = self.is_of(operation)
            z[:, is_of] = columns.without_sign(operation, z[:, is_of], self.base)
        return z

    @cached_property
    def is_negative(self) -> NDArray[np.bool_]:
        """(N,) whether the answer is below zero."""
        return np.array([operation.is_signed for operation in OPERATIONS])[self.which] & (self.worked[-1] > 0)

    @cached_property
    def carries(self) -> NDArray[np.bool_]:
        """(W + 1, N) whether a carry comes into each place of the answer, units first, which nothing comes into."""
        return self._of_each(columns.carries)

    @cached_property
    def longest_chain(self) -> NDArray[np.int64]:
        """(N,) the most places in a row that pass on a carry."""
        return self._of_each(columns.longest_chain)

    @cached_property
    def x_length(self) -> NDArray[np.int64]:
        return num_digits(self.x)

    @cached_property
    def y_length(self) -> NDArray[np.int64]:
        return num_digits(self.y)

    @cached_property
    def z_length(self) -> NDArray[np.int64]:
        return num_digits(self.z)

    @cached_property
    def x_modulo_2_64(self) -> NDArray[np.uint64]:
        return modulo_2_64(self.x, self.base)

    @cached_property
    def y_modulo_2_64(self) -> NDArray[np.uint64]:
        return modulo_2_64(self.y, self.base)

    @property
    def commutes(self) -> NDArray[np.bool_]:
        """(N,) whether the operands may change places."""
        return np.array([operation.commutes for operation in OPERATIONS])[self.which]

    @property
    def swapped(self) -> "Problems":
        """The same problems with their operands exchanged, y + x."""
        return Problems(self.y, self.x, self.base, self.which)

    def longer_second(self) -> "Problems":
        """The same problems with the longer operand second, where they may change places; of one length they stay."""
        is_swapped = (self.x_length > self.y_length) & self.commutes  # (N,)
        return Problems(
            np.where(is_swapped, self.y, self.x), np.where(is_swapped, self.x, self.y), self.base, self.which
        )


def concatenate(parts: list[Problems]) -> Problems:
    """Join problems of one base and one width."""
    return Problems(
        np.concatenate([part.x for part in parts], axis=1),
        np.concatenate([part.y for part in parts], axis=1),
        parts[0].base,
        np.concatenate([part.which for part in parts]),
    )


def from_integers(pairs: Iterable[tuple[int, int]], base: int, width: int, operation: Operation = ADDITION) -> Problems:
    """Write pairs of Python integers as digit arrays of `width` places.

    Raises:
        ValueError: a number has more than `width` digits.
    """
    x, y = zip(*pairs, strict=True) if (pairs := list(pairs)) else ((), ())
    both = digits_of((*x, *y), base, width)
    return Problems.of(operation, both[:, : len(x)].copy(), both[:, len(x) :].copy(), base)


def from_written(pairs: list[list[str]], base: int, which: NDArray[np.uint8]) -> Problems:
    """Read pairs of numbers written least significant digit first, in digits 0-9A-Z: numbers of any length.

    from_written([["E35", "F63"]], 16, [0]) is 1342 + 879.

    Args:
        which: (N,) the operation of each, an index into OPERATIONS.
    """
    width = max(len(number) for pair in pairs for number in pair)
    text = "".join(number.ljust(width, "0") for pair in pairs for number in pair)
    characters = np.frombuffer(text.encode(), np.uint8).reshape(len(pairs), 2, width)
    digits = np.searchsorted(DIGIT_CODES, characters).astype(np.uint8).transpose(1, 2, 0)  # (2, W, N)
    return Problems(np.ascontiguousarray(digits[0]), np.ascontiguousarray(digits[1]), base, which)
