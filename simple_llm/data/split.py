"""The split: which side a problem is on, for training, validation or test, and keys that find one problem twice.

Shape letters in this file: W places (digits of the widest number), N problems.
"""

import math

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import Digits, modulo_2_64
from simple_llm.config.settings import Split
from simple_llm.data.problems import Problems

TRAIN, VALIDATION, TEST = 0, 1, 2
SIDE_NAMES = ("train", "validation", "test")

# What sets the operations apart; sums, which came first, have nothing.
_TAGS = np.array([0 if one is ADDITION else int.from_bytes(one.name.encode()[:8]) for one in OPERATIONS], np.uint64)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MERSENNE_31 = np.uint64(2**31 - 1)


def split_sides(problems: Problems, split: Split) -> NDArray[np.int8]:
    """Say for each problem whether it is for training (0), validation (1) or test (2).

    The side is a hash of the *values*, of `split.seed`, and of any operation but a sum of two; they are unordered where
    the operands may change places. So a+b and b+a are on one side, the same problem is on the same side in every base,
    and nothing has to be stored.

    Returns:
        (N,) TRAIN, VALIDATION or TEST.
    """
    x = _hash_numbers(problems.x, problems.x_modulo_2_64, problems.base)  # (N,)
    y = _hash_numbers(problems.y, problems.y_modulo_2_64, problems.base)  # (N,)
    seed = np.uint64((split.seed + int(_GOLDEN)) % 2**64)
    first, second = np.where(problems.commutes, [np.minimum(x, y), np.maximum(x, y)], [x, y])
    key = _mix(first ^ _mix(seed)) + (second ^ _TAGS[problems.which])
    if problems.more:
        key = np.where(problems.num_numbers > 2, _unordered_hash(problems) ^ _mix(seed), key)
    fraction = _mix(key) >> np.uint64(11)  # uniform in [0, 1), in units of 2^-53
    past_train, past_validation = (
        (fraction >= math.ceil(share * 2**53)).view(np.int8) for share in (split.train, split.train + split.validation)
    )
    return past_train + past_validation


def _unordered_hash(problems: Problems) -> NDArray[np.uint64]:
    """Hash the operands of each problem, in whatever order they stand, and how many they are: (N,)."""
    total = _mix(problems.num_numbers.astype(np.uint64))
    for index, number in enumerate(problems.numbers):
        total = total + _mix(_hash_values(number, problems.base) + _GOLDEN) * (index < problems.num_numbers)
    return _mix(total)


def _ordered_hash(problems: Problems) -> NDArray[np.uint64]:
    """The same in the order in which they stand."""
    total = _mix(problems.num_numbers.astype(np.uint64))
    for index, number in enumerate(problems.numbers):
        total = _mix(total * _GOLDEN ^ _hash_values(number, problems.base) * (index < problems.num_numbers))
    return total


def side_share(split: Split, sides: tuple[int, ...]) -> float:
    """Share of all pairs that is on some sides of the split, as configured."""
    shares = (split.train, split.validation, 1 - split.train - split.validation)
    return sum(shares[side] for side in sides)


def problems_on_sides(problems: Problems, split: Split, sides: tuple[int, ...]) -> Problems:
    """Keep the problems of some sides of the split."""
    is_wanted = np.isin(np.arange(len(SIDE_NAMES)), sides)
    return problems[is_wanted[split_sides(problems, split)]]


def ordered_keys(problems: Problems, num_bits: int, operands: range | None = None) -> NDArray[np.uint64]:
    """Give each ordered pair a scrambled key below 2^num_bits, to find repeated rows and to shuffle. Returns (N,).

    Where all pairs of operands fit in `num_bits`, different pairs have different keys. Others get a hash: what
    two pairs with one key cost is a row that has to be drawn again.

    Args:
        operands: where all of them lie; by default anywhere in the width of the arrays.
    """
    operands = operands or range(problems.base ** problems.x.shape[0])
    num_operands = operands.stop - operands.start
    if problems.more:
        return _ordered_hash(problems) >> np.uint64(64 - num_bits)
    if num_operands**2 > 2**num_bits:
        x = _hash_numbers(problems.x, problems.x_modulo_2_64, problems.base)  # (N,)
        y = _hash_numbers(problems.y, problems.y_modulo_2_64, problems.base)  # (N,)
        return _mix(x * _GOLDEN ^ y) >> np.uint64(64 - num_bits)
    first = np.uint64(operands.start % 2**64)
    key = (problems.x_modulo_2_64 - first) * np.uint64(num_operands)
    key += problems.y_modulo_2_64 - first + _GOLDEN  # or 0 + 0 would always come first
    below, half = np.uint64(2**num_bits - 1), np.uint64((num_bits + 1) // 2)
    for _ in range(2):  # an odd factor and a shift by half the bits: both one to one below 2^num_bits
        key *= _GOLDEN
        key &= below
        key ^= key >> half
    return key


def _mix(word: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Scramble 64-bit words one to one (the finalizer of SplitMix64, Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        word = word ^ (word >> np.uint64(30))  # a new array; the rest overwrites it
        word *= np.uint64(0xBF58476D1CE4E5B9)
        word ^= word >> np.uint64(27)
        word *= np.uint64(0x94D049BB133111EB)
        word ^= word >> np.uint64(31)
        return word


def _hash_values(digits: Digits, base: int) -> NDArray[np.uint64]:
    return _hash_numbers(digits, modulo_2_64(digits, base), base)


def _hash_numbers(digits: Digits, value: NDArray[np.uint64], base: int) -> NDArray[np.uint64]:
    """Hash values, not digits: from the value modulo 2^64 and what lies above, modulo 2^31 - 1."""
    if base ** digits.shape[0] <= 2**64:
        return _mix(value)  # nothing lies above
    residue = np.zeros(digits.shape[1], np.uint64)
    for place in reversed(digits):
        residue = (residue * np.uint64(base) + place) % _MERSENNE_31
    above = (residue + _MERSENNE_31 - value % _MERSENNE_31) % _MERSENNE_31  # 0 for a value below 2^64
    return _mix(value + _mix(above))  # _mix(0) is 0: wide arrays and narrow ones agree
