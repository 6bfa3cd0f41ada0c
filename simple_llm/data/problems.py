"""Problems as arrays of digits: their answers and carries, and how they are made of integers and of text.

Shape letters in this file: W places (digits of the widest number), N problems.

Digits are stored place by place, least significant place first, as `arithmetic/digits.py` has them:

    21 + 378 in base 10     x = [[1], [2], [0]]     y = [[8], [7], [3]]     W = 3, N = 1
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest

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
        more: (W, N) each, the operands after y; zero where a problem has fewer.
        num_more: (N,) how many of them each problem has; None: none has any.
    """

    x: Digits
    y: Digits
    base: int
    which: NDArray[np.uint8]
    more: tuple[Digits, ...] = ()
    num_more: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, operation: Operation, x: Digits, y: Digits, base: int) -> "Problems":
        """Problems of one operation, of two operands each."""
        return cls(x, y, base, np.full(x.shape[1], OPERATIONS.index(operation), np.uint8))

    def __len__(self) -> int:
        return self.x.shape[1]

    def __getitem__(self, index: slice | NDArray) -> "Problems":
        if isinstance(index, slice):
            return self._chosen(lambda array: array[..., index])
        kept = np.flatnonzero(index) if index.dtype == bool else index
        return self._chosen(lambda array: array.take(kept, axis=-1))  # 7 times as fast as x[:, kept]

    def _chosen(self, choose: Callable[[NDArray], NDArray]) -> "Problems":
        x, y, which, *more = (choose(array) for array in (self.x, self.y, self.which, *self.more))
        return Problems(x, y, self.base, which, tuple(more), None if self.num_more is None else choose(self.num_more))

    @property
    def numbers(self) -> tuple[Digits, ...]:
        """(W, N) each, all operands."""
        return self.x, self.y, *self.more

    def numbers_of(self, operation: Operation) -> tuple[Digits, ...]:
        """The operands that problems of one operation have."""
        return self.numbers if operation.takes_many else (self.x, self.y)

    @property
    def num_numbers(self) -> NDArray[np.int64]:
        """(N,) operands of each problem."""
        return np.full(len(self), 2) if self.num_more is None else self.num_more + 2

    @property
    def operations(self) -> list[Operation]:
        """The operations that occur."""
        return [OPERATIONS[index] for index in np.unique(self.which)]

    def is_of(self, operation: Operation) -> NDArray[np.bool_]:
        """(N,) which of them are of one operation."""
        return self.which == OPERATIONS.index(operation)

    def _of_each(self, follow: Callable[[Operation, "Problems"], NDArray]) -> NDArray:
        """What follows from the operands by each problem's own operation: problems along the last axis, zeros above."""
        operations = self.operations or [ADDITION]
        if len(operations) == 1:
            return follow(operations[0], self)
        parts = [(self.is_of(operation), operation) for operation in operations]
        found = [(is_of, follow(one, self[is_of])) for is_of, one in parts]
        height = max(part.shape[:-1] for _, part in found)
        joined = np.zeros((*height, len(self)), found[0][1].dtype)
        for is_of, part in found:
            joined[tuple(map(slice, part.shape[:-1]))][..., is_of] = part
        return joined

    @cached_property
    def worked(self) -> Digits:
        """(W + 1, N) what the columns of x and y give one by one, and the last carry, see `columns.work`.

        Zeros where the answer is not worked out column by column.
        """
        return self._of_each(lambda one, some: columns.work(one, some.x, some.y, some.base))

    @cached_property
    def z(self) -> Digits:
        """(W + 1 or more, N) digits of the answers, without their signs."""
        if self.more or any(operation.step is None for operation in self.operations):
            return self._of_each(lambda one, some: columns.answers(one, some.numbers_of(one), some.base)[0])
        signed = [operation for operation in self.operations if operation.is_signed]
        z = self.worked.copy() if signed else self.worked
        for operation in signed:
            is_of = self.is_of(operation)
            z[:, is_of] = columns.without_sign(operation, z[:, is_of], self.base)
        return z

    @cached_property
    def rest(self) -> Digits:
        """(W, N) what is left, where the operation leaves something, and zeros elsewhere."""
        rest = np.zeros_like(self.x)
        for operation in self.operations:
            if operation.leaves_rest:
                is_of = self.is_of(operation)
                rest[:, is_of] = columns.answers(operation, (self.x[:, is_of], self.y[:, is_of]), self.base)[1]
        return rest

    @property
    def leaves_rest(self) -> NDArray[np.bool_]:
        """(N,) whether there is a second answer."""
        return np.array([operation.leaves_rest for operation in OPERATIONS])[self.which]

    @cached_property
    def is_negative(self) -> NDArray[np.bool_]:
        """(N,) whether the answer is below zero."""
        return np.array([operation.is_signed for operation in OPERATIONS])[self.which] & (self.worked[-1] > 0)

    @cached_property
    def carries(self) -> NDArray[np.bool_]:
        """(W + 1, N) whether a carry comes into each place of the answer, units first, which nothing comes into."""
        return self._of_each(lambda one, some: columns.carries(one, some.x, some.y, some.base))

    @cached_property
    def longest_chain(self) -> NDArray[np.int64]:
        """(N,) the most places in a row that pass on a carry; of many numbers, where x and y are added."""
        return self._of_each(lambda one, some: columns.longest_chain(one, some.x, some.y, some.base))

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
        """The same problems with their first two operands exchanged, y + x."""
        return replace(self, x=self.y, y=self.x)

    def longer_second(self) -> "Problems":
        """The same problems with the longer operand second, where they may change places; of one length they stay."""
        is_swapped = (self.x_length > self.y_length) & self.commutes  # (N,)
        return replace(self, x=np.where(is_swapped, self.y, self.x), y=np.where(is_swapped, self.x, self.y))


def concatenate(parts: list[Problems]) -> Problems:
    """Join problems of one base; the widest decide how wide the arrays are, and the longest how many operands."""
    width, most = max(len(part.x) for part in parts), max(len(part.numbers) for part in parts)

    def joined(index: int) -> Digits:
        numbers = [part.numbers[index] if index < len(part.numbers) else np.zeros_like(part.x) for part in parts]
        return np.concatenate([np.pad(one, [(0, width - len(one)), (0, 0)]) for one in numbers], axis=1)

    x, y, *more = map(joined, range(most))
    num_more = np.concatenate([part.num_numbers - 2 for part in parts]) if more else None
    return Problems(x, y, parts[0].base, np.concatenate([part.which for part in parts]), tuple(more), num_more)


def from_integers(rows: Iterable[tuple[int, ...]], base: int, width: int, operation: Operation = ADDITION) -> Problems:
    """Write the operands of problems, Python integers, two or more each, as digit arrays of `width` places.

    Raises:
        ValueError: a number has more than `width` digits.
    """
    rows = list(rows)
    numbers = [digits_of(column, base, width) for column in zip_longest(*rows, fillvalue=0)]
    x, y, *more = numbers or [np.zeros((width, 0), np.uint8)] * 2
    problems = Problems.of(operation, x, y, base)
    return _with_more(problems, more, [len(row) for row in rows])


def from_written(rows: list[list[str]], base: int, which: NDArray[np.uint8]) -> Problems:
    """Read operands written least significant digit first, in digits 0-9A-Z: numbers of any length.

    from_written([["E35", "F63"]], 16, [0]) is 1342 + 879.

    Args:
        rows: of each problem its operands, two or more.
        which: (N,) the operation of each, an index into OPERATIONS.
    """
    width = max(len(number) for row in rows for number in row)
    numbers = list(zip(*zip_longest(*rows, fillvalue="0"), strict=True))  # of each problem as many
    text = "".join(number.ljust(width, "0") for row in numbers for number in row)
    characters = np.frombuffer(text.encode(), np.uint8).reshape(len(rows), len(numbers[0]), width)
    digits = np.searchsorted(DIGIT_CODES, characters).astype(np.uint8).transpose(1, 2, 0)  # (operands, W, N)
    x, y, *more = map(np.ascontiguousarray, digits)
    return _with_more(Problems(x, y, base, which), more, [len(row) for row in rows])


def _with_more(problems: Problems, more: list[Digits], num_operands: list[int]) -> Problems:
    """Add the operands after the second, if there are any."""
    if not more:
        return problems
    return replace(problems, more=tuple(more), num_more=np.array(num_operands) - 2)
