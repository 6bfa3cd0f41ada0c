"""What follows from an operation's step: its work column by column, its answers, its carries, what makes one.

Shape letters in this file: W places (digits of the widest number), N problems.

    column     0 1 2 3
    x          2 4 3 1
    y          9 7 8 .      879
    carry in   . 1 1 1 .    what a column hands to the next
    answer     1 2 2 2      1342 + 879 = 2221, least significant digit first
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic.digits import Digits, digits_of, to_integers
from simple_llm.arithmetic.operation import Operation


def _steps(operation: Operation, x: Digits, y: Digits, base: int) -> Iterator[tuple[NDArray, NDArray]]:
    """Go from the lowest column up: yields the digit of each, and the carry out of it, (N,) both."""
    carry = np.zeros(x.shape[1], np.uint8)  # (N,)
    for column in range(x.shape[0]):
        digit, carry = operation.step(x[column], y[column], carry, base)
        yield digit, carry


def answers(operation: Operation, numbers: Sequence[Digits], base: int) -> tuple[Digits, ...]:
    """Digits of the answers without their signs: of two numbers, or of many one after the other, (W, N) each.

    Returns:
        the answer, and what is left where the operation leaves a rest; as wide as the answers to such numbers may be.
    """
    x, *others = numbers
    if operation.step is None:
        return _by_integers(operation, x, *others, base)
    if len(others) == 1:
        return (without_sign(operation, work(operation, x, others[0], base), base),)
    for y in others:  # a carry out of the highest column is the next one's digit
        x = work(operation, x, np.pad(y, [(0, len(x) - len(y)), (0, 0)]), base)
    return (x,)


def _by_integers(operation: Operation, x: Digits, y: Digits, base: int) -> tuple[Digits, ...]:
    """The same by whole numbers, of an operation that does not go from column to column."""
    width = len(x)
    dtype = np.int64 if base ** (2 * width) < 2**63 else object
    found = operation.of_integers(*(np.array(to_integers(one, base), dtype) for one in (x, y)))
    answer, *rest = found if operation.leaves_rest else (found,)
    return digits_of(answer, base, 2 * width), *(digits_of(one, base, width) for one in rest)


def work(operation: Operation, x: Digits, y: Digits, base: int) -> Digits:
    """Work column by column: (W, N), (W, N) -> (W + 1, N), the digits and, in the last row, the last carry.

    It is how an odometer shows the answer: one more digit, or a debt of base^W where the answer is below zero. An
    operation that does not go from column to column gives zeros.
    """
    worked = np.zeros((x.shape[0] + 1, x.shape[1]), np.uint8)
    if operation.step is None:
        return worked
    for column, (digit, carry) in enumerate(_steps(operation, x, y, base)):
        worked[column], last = digit, carry
    worked[-1] = last
    return worked


def without_sign(operation: Operation, worked: Digits, base: int) -> Digits:
    """Digits of the answers without their signs, from what `work` returned: (W + 1, N) -> (W + 1, N).

    An operation without signs has them already. Where there is a debt, what is owed is taken from it:

        19 - 21     odometer 98, and a debt of 100     100 - 98 = 2, the answer is -2
    """
    if not operation.is_signed:
        return worked
    is_owed = worked[-1] > 0  # (N,)
    turned = work(operation, np.zeros_like(worked[:-1]), worked[:-1] * is_owed, base)[:-1]
    return np.concatenate([np.where(is_owed, turned, worked[:-1]), np.zeros_like(worked[:1])])


def carries(operation: Operation, x: Digits, y: Digits, base: int) -> NDArray[np.bool_]:
    """Whether a carry comes into each column: (W, N), (W, N) -> (W + 1, N); nothing comes into the first.

    An operation that does not go from column to column has none.
    """
    into = np.zeros((x.shape[0] + 1, x.shape[1]), bool)
    if operation.step is None:
        return into
    for column, (_, carry) in enumerate(_steps(operation, x, y, base)):
        into[column + 1] = carry
    return into


def longest_chain(operation: Operation, x: Digits, y: Digits, base: int) -> NDArray[np.int64]:
    """Count the most columns in a row that pass on a carry: (W, N), (W, N) -> (N,).

    25 + 31 has 0; 5 + 5 has 1; 999 + 1 and 999 + 999 have 3. Columns above both numbers do not count: 3 - 5 has 1 in
    however many places.
    """
    chain, longest = (np.zeros(x.shape[1], np.int64) for _ in range(2))
    is_within = np.logical_or.accumulate((x | y)[::-1] > 0)[::-1]  # (W, N) a digit of either number, or a 0 between
    for carry in carries(operation, x, y, base)[1:] & is_within:
        chain = (chain + 1) * carry
        np.maximum(longest, chain, out=longest)
    return longest


def num_quiet(operation: Operation, base: int) -> NDArray[np.int64]:
    """Of each digit of x, count the digits of y beside which no carry comes out where none came in: (base,).

    They are the smallest ones: the more y is, the sooner there is a carry. The last of them, `num_quiet - 1`, passes
    on a carry that comes in; those above make one of their own.

        base 10, x = 7     + quiet beside 0, 1, 2     passes one on beside 2     makes one beside 3 to 9
                           - quiet beside 0 to 7      passes one on beside 7     makes one beside 8 and 9
    """
    x, y = np.indices((base, base))
    return base - operation.step(x, y, 0, base)[1].sum(axis=1)
