"""Addition problems as arrays of digits: sums, carries, sides of the split, rows of text.

Shape letters in this file: W places (digits of the widest number), N problems, L characters.

Digits are stored place by place, least significant place first, so an operation on one place of all
problems sweeps contiguous memory, and numbers of any width work without Python integers:

    21 + 378 in base 10     x = [[1], [2], [0]]     y = [[8], [7], [3]]     W = 3, N = 1
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic.digits import add, DIGIT_ALPHABET, DIGIT_CODES, Digits, modulo_2_64, num_digits
from simple_llm.config.settings import Split

TRAIN, VALIDATION, TEST = 0, 1, 2
SIDE_NAMES = ("train", "validation", "test")

_BLOCK = 2**13  # rows written at a time: small enough to stay in the processor's cache


@dataclass(frozen=True)
class Problems:
    """N problems x + y; indexing with a mask, a slice or an index array selects some of them.

    Attributes:
        x, y: (W, N) digits of the operands, zero above their highest digit.
        base: what a place is worth more than the one before.
    """

    x: Digits
    y: Digits
    base: int

    def __len__(self) -> int:
        return self.x.shape[1]

    def __getitem__(self, index: slice | NDArray) -> "Problems":
        if isinstance(index, slice):
            return Problems(self.x[:, index], self.y[:, index], self.base)
        kept = np.flatnonzero(index) if index.dtype == bool else index
        return Problems(
            self.x.take(kept, axis=1), self.y.take(kept, axis=1), self.base
        )  # 7 times as fast as x[:, kept]

    @cached_property
    def z(self) -> Digits:
        """(W + 1, N) digits of the sums."""
        return add(self.x, self.y, self.base)

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
    def swapped(self) -> "Problems":
        """The same problems with their operands exchanged, y + x."""
        return Problems(self.y, self.x, self.base)

    def longer_second(self) -> "Problems":
        """The same problems with the longer operand second; operands of one length keep their order."""
        is_swapped = self.x_length > self.y_length  # (N,)
        return Problems(np.where(is_swapped, self.y, self.x), np.where(is_swapped, self.x, self.y), self.base)


def concatenate(parts: list[Problems]) -> Problems:
    """Join problems of one base and one width."""
    return Problems(
        np.concatenate([part.x for part in parts], axis=1),
        np.concatenate([part.y for part in parts], axis=1),
        parts[0].base,
    )


def carries_in(problems: Problems) -> NDArray[np.bool_]:
    """Whether a carry comes into each place of the sum: (W + 1, N), units first, which nothing comes into."""
    carry = np.zeros((len(problems.x) + 1, len(problems)), bool)
    for place, (x, y) in enumerate(zip(problems.x, problems.y, strict=True)):
        carry[place + 1] = x + y + carry[place] >= problems.base
    return carry


def longest_carry_chain(problems: Problems) -> NDArray[np.int64]:
    """Count the most places in a row that pass on a carry. Returns (N,).

    25 + 31 has 0; 5 + 5 has 1; 999 + 1 and 999 + 999 have 3.
    """
    chain = np.zeros(len(problems), np.int64)
    longest = np.zeros(len(problems), np.int64)
    for carry in carries_in(problems):
        chain = (chain + 1) * carry
        np.maximum(longest, chain, out=longest)
    return longest


def from_integers(pairs: Iterable[tuple[int, int]], base: int, width: int) -> Problems:
    """Write pairs of Python integers as digit arrays of `width` places.

    Raises:
        ValueError: a number has more than `width` digits.
    """
    pairs = list(pairs)
    is_small = base**width < 2**63 and all(x < 2**63 and y < 2**63 for x, y in pairs)
    rest = np.array(pairs, np.int64 if is_small else object).reshape(-1, 2).T  # (2, N)
    digits = np.zeros((2, width, len(pairs)), np.uint8)
    for place in range(width):
        digits[:, place] = rest % base
        rest = rest // base
    if rest.any():
        raise ValueError(f"{max(map(max, pairs))} has more than {width} digits in base {base}")
    return Problems(digits[0], digits[1], base)


def from_digits(pairs: list[list[str]], base: int) -> Problems:
    """Read pairs of numbers written least significant digit first, in digits 0-9A-Z: numbers of any length.

    from_digits([["E35", "F63"]], 16) is 1342 + 879.
    """
    width = max(len(number) for pair in pairs for number in pair)
    text = "".join(number.ljust(width, "0") for pair in pairs for number in pair)
    characters = np.frombuffer(text.encode(), np.uint8).reshape(len(pairs), 2, width)
    digits = np.searchsorted(DIGIT_CODES, characters).astype(np.uint8).transpose(1, 2, 0)  # (2, W, N)
    return Problems(np.ascontiguousarray(digits[0]), np.ascontiguousarray(digits[1]), base)


# ---- The split ------------------------------------------------------------------------------------


def split_sides(problems: Problems, split: Split) -> NDArray[np.int8]:
    """Say for each problem whether it is for training (0), validation (1) or test (2).

    The side is a hash of the unordered pair of *values* and of `split.seed`. So a+b and b+a are on one
    side, the same problem is on the same side in every base, and nothing has to be stored.

    Returns:
        (N,) TRAIN, VALIDATION or TEST.
    """
    x = _hash_numbers(problems.x, problems.x_modulo_2_64, problems.base)  # (N,)
    y = _hash_numbers(problems.y, problems.y_modulo_2_64, problems.base)  # (N,)
    seed = np.uint64((split.seed + int(_GOLDEN)) % 2**64)
    key = _mix(np.minimum(x, y) ^ _mix(seed)) + np.maximum(x, y)
    fraction = _mix(key) >> np.uint64(11)  # uniform in [0, 1), in units of 2^-53
    past_train, past_validation = (
        (fraction >= math.ceil(share * 2**53)).view(np.int8) for share in (split.train, split.train + split.validation)
    )
    return past_train + past_validation


def ordered_keys(problems: Problems, num_bits: int, operands: range | None = None) -> NDArray[np.uint64]:
    """Give each ordered pair a scrambled key below 2^num_bits, to find repeated rows and to shuffle. Returns (N,).

    Where all pairs of operands fit in `num_bits`, different pairs have different keys. Others get a hash: what
    two pairs with one key cost is a row that has to be drawn again.

    Args:
        operands: where all of them lie; by default anywhere in the width of the arrays.
    """
    operands = operands or range(problems.base ** problems.x.shape[0])
    num_operands = operands.stop - operands.start
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


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MERSENNE_31 = np.uint64(2**31 - 1)


def _mix(word: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Scramble 64-bit words one to one (the finalizer of SplitMix64, Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        word = word ^ (word >> np.uint64(30))  # a new array; the rest overwrites it
        word *= np.uint64(0xBF58476D1CE4E5B9)
        word ^= word >> np.uint64(27)
        word *= np.uint64(0x94D049BB133111EB)
        word ^= word >> np.uint64(31)
        return word


def _hash_numbers(digits: Digits, value: NDArray[np.uint64], base: int) -> NDArray[np.uint64]:
    """Hash values, not digits: from the value modulo 2^64 and what lies above, modulo 2^31 - 1."""
    if base ** digits.shape[0] <= 2**64:
        return _mix(value)  # nothing lies above
    residue = np.zeros(digits.shape[1], np.uint64)
    for place in reversed(digits):
        residue = (residue * np.uint64(base) + place) % _MERSENNE_31
    above = (residue + _MERSENNE_31 - value % _MERSENNE_31) % _MERSENNE_31  # 0 for a value below 2^64
    return _mix(value + _mix(above))  # _mix(0) is 0: wide arrays and narrow ones agree


# ---- Rows of text ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowFormat:
    """How a row of the sequences file is written.

        1342 + 879 = 2221     base 16: E35|F63|DA8     base 10: 2431|978|1222     not reversed: 1342|879|2221

    Attributes:
        reversed: least significant digit first.
        column_delimiter, row_delimiter: one ASCII character each.
    """

    base: int
    reversed: bool = True
    column_delimiter: str = "|"
    row_delimiter: str = "\n"

    def write(self, problems: Problems) -> bytes:
        """Write each problem as `x|y|x+y` and a row delimiter."""
        return b"".join(self._write_block(problems[i : i + _BLOCK]) for i in range(0, len(problems), _BLOCK))

    def most_bytes(self, problems: Problems) -> int:
        """What `write` returns is so long, or shorter by the sums that have no more digits than their operands."""
        parts = (problems[i : i + _BLOCK] for i in range(0, len(problems), _BLOCK))
        lengths = ((part.x_length, part.y_length) for part in parts)  # (N,) each
        return 4 * len(problems) + sum(int((x + y + np.maximum(x, y)).sum()) for x, y in lengths)

    def _write_block(self, problems: Problems) -> bytes:
        delimiters = (self.column_delimiter, self.column_delimiter, self.row_delimiter)
        lines = []  # of L arrays of N characters: one for each character of a row
        for digits, delimiter in zip((problems.x, problems.y, problems.z), delimiters, strict=True):
            characters = np.take(DIGIT_CODES, digits, mode="clip")
            is_leading = np.ones(len(problems), bool)
            for place in range(digits.shape[0] - 1, 0, -1):
                is_leading &= digits[place] == 0
                characters[place] *= ~is_leading  # \0 is deleted below
            lines.append(characters if self.reversed else characters[::-1])
            lines.append(np.full((1, len(problems)), ord(delimiter), np.uint8))
        rows = np.ascontiguousarray(np.concatenate(lines).T)  # (N, L)
        return rows.tobytes().translate(None, delete=b"\0")

    def parse(self, content: bytes, width: int, first_row: int = 1) -> Problems:
        """Read whole rows back; the inverse of `write`.

        Args:
            content: rows, each with its row delimiter.
            width: places of the digit arrays to return, W.
            first_row: number of the first row in its file, for messages.

        Raises:
            ValueError: naming the first row that is not `x|y|x+y` with canonical digits of at most W places.
        """
        text = np.frombuffer(content, np.uint8)
        is_row_end = text == ord(self.row_delimiter)
        separators = np.flatnonzero(is_row_end | (text == ord(self.column_delimiter)))
        num_rows = int(is_row_end.sum())
        if separators.size != 3 * num_rows or not is_row_end[separators[2::3]].all() or not is_row_end[-1:].all():
            raise ValueError(self._first_bad_row(content, width, first_row))
        ends = separators.reshape(num_rows, 3)  # one past each number's last character
        starts = np.concatenate([[0], separators + 1])[:-1].reshape(num_rows, 3)
        digit_of = np.full(256, 255, np.uint8)
        digit_of[np.frombuffer(DIGIT_ALPHABET[: self.base].encode(), np.uint8)] = np.arange(self.base)
        values = digit_of[text]
        values[separators] = 0
        lengths = ends - starts
        if (values == 255).any() or (lengths < 1).any() or (lengths > [width, width, width + 1]).any():
            raise ValueError(self._first_bad_row(content, width, first_row))
        x, y, z = (self._gather(values, starts[:, i], lengths[:, i], width + (i == 2)) for i in range(3))
        problems = Problems(x, y, self.base)
        written_lengths = np.stack([problems.x_length, problems.y_length, problems.z_length], axis=1)
        if (z != problems.z).any() or (written_lengths != lengths).any():
            raise ValueError(self._first_bad_row(content, width, first_row))
        return problems

    def _gather(self, values: Digits, start: NDArray, length: NDArray, width: int) -> Digits:
        """Collect numbers that lie anywhere in `values` into a (width, N) digit array."""
        digits = np.zeros((width, start.size), np.uint8)
        for place in range(width):
            offset = place if self.reversed else length - 1 - place  # from the number's first character
            has_place = place < length
            digits[place] = np.where(has_place, values[np.where(has_place, start + offset, 0)], 0)
        return digits

    def _first_bad_row(self, content: bytes, width: int, first_row: int) -> str:
        """Find the row that `parse` refused, one row at a time."""
        *rows, rest = content.split(self.row_delimiter.encode())
        for number, row in enumerate(rows, first_row):
            if error := self._row_error(row, width):
                return f"row {number}: {error}, found {_show(row)}"
        assert rest, "a refused block of rows has no bad row"
        error = self._row_error(rest, width) or f"expected {self.row_delimiter!r} at its end"
        return f"row {first_row + len(rows)}: {error}, found {_show(rest)}"

    def _written(self, value: int) -> bytes:
        digits = b""
        while value or not digits:
            value, digit = divmod(value, self.base)
            digits += DIGIT_ALPHABET[digit].encode()
        return digits if self.reversed else digits[::-1]

    def _row_error(self, row: bytes, width: int) -> str | None:
        fields = row.split(self.column_delimiter.encode())
        if len(fields) != 3:
            return f"expected three numbers separated by {self.column_delimiter}"
        alphabet = DIGIT_ALPHABET[: self.base].encode()
        values = []
        for field, most in zip(fields, (width, width, width + 1), strict=True):
            written = field[::-1] if self.reversed else field
            if not written or written.strip(alphabet) or len(written) > most or (written[0:1] == b"0" != written):
                return f"expected numbers of 1 to {most} digits in base {self.base}"
            values.append(_horner(written, self.base))
        if values[0] + values[1] != values[2]:
            return f"expected the sum {_show(self._written(values[0] + values[1]))}"
        return None


def _horner(digits: bytes, base: int) -> int:
    value = 0
    for character in digits.decode():
        value = value * base + DIGIT_ALPHABET.index(character)
    return value


def _show(row: bytes) -> str:
    return repr(row[:40].decode("ascii", "backslashreplace")) + ("..." if len(row) > 40 else "")
