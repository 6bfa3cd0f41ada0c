"""Numbers as arrays of digits: how they are written, how long they are, and what they are worth.

Shape letters in this file: W places (digits of the widest number), N numbers.

Digits are stored place by place, least significant place first, so an operation on one place of all
numbers sweeps contiguous memory, and numbers of any width work without Python integers:

    21 and 378 in base 10     [[1, 8], [2, 7], [0, 3]]     W = 3, N = 2
"""

import string
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

DIGIT_ALPHABET = string.digits + string.ascii_uppercase
NEGATIVE = "-"  # of a number below zero, behind its highest digit
DIGIT_CODES = np.frombuffer(DIGIT_ALPHABET.encode(), np.uint8)

Digits = NDArray[np.uint8]  # (W, N), values 0 to base - 1


def digits_of(values: Iterable[int], base: int, width: int) -> Digits:
    """Write Python integers as digit arrays of `width` places: N integers -> (width, N).

    Raises:
        ValueError: a number has more than `width` digits.
    """
    values = list(values)
    is_small = base**width < 2**63 and all(value < 2**63 for value in values)
    rest = np.array(values, np.int64 if is_small else object)
    digits = np.zeros((width, len(values)), np.uint8)
    for place in range(width):
        digits[place] = rest % base
        rest = rest // base
    if rest.any():
        raise ValueError(f"{max(values)} has more than {width} digits in base {base}")
    return digits


def num_digits(digits: Digits) -> NDArray[np.int64]:
    """Count the digits of each number without leading zeros; zero itself has one. (W, N) -> (N,)."""
    length = np.ones(digits.shape[1], np.int64)
    for place in range(1, digits.shape[0]):
        length[digits[place] != 0] = place + 1
    return length


def modulo_2_64(digits: Digits, base: int) -> NDArray[np.uint64]:
    """The value of each number modulo 2^64. (W, N) -> (N,)."""
    value = np.zeros(digits.shape[1], np.uint64)
    for place in reversed(digits):
        value *= np.uint64(base)
        value += place
    return value


def to_integers(digits: Digits, base: int) -> list[int]:
    """Read digit arrays as Python integers, for printing and for tests. (W, N) -> N integers."""
    values = [0] * digits.shape[1]
    for place in reversed(digits):
        values = [value * base + int(digit) for value, digit in zip(values, place, strict=True)]
    return values
