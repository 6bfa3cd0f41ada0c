"""Rows of text: how problems are written into the sequences file, and read back.

Shape letters in this file: W places (digits of the widest number), N problems, L characters.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import DIGIT_ALPHABET, DIGIT_CODES, Digits, NEGATIVE
from simple_llm.data.problems import Problems

# In front of the second number stands the operation's symbol, but for sums, which came first and have none.
_SYMBOLS = np.array([0 if one is ADDITION else ord(one.symbol) for one in OPERATIONS], np.uint8)
_INDEX_OF = np.zeros(256, np.uint8)  # of the operation, by the character in front of the second number
_INDEX_OF[_SYMBOLS] = np.arange(len(OPERATIONS))
_SIGN = np.uint8(ord(NEGATIVE))
_BLOCK = 2**13  # rows written at a time: small enough to stay in the processor's cache


@dataclass(frozen=True)
class RowFormat:
    """How a row of the sequences file is written.

        1342 + 879 = 2221     base 16: E35|F63|DA8     base 10: 2431|978|1222     not reversed: 1342|879|2221
        342 - 879 = -537                               base 10: 243|-978|735-     not reversed: 342|-879|-537

    Attributes:
        reversed: least significant digit first, and the sign of an answer last.
        column_delimiter, row_delimiter: one ASCII character each.
    """

    base: int
    reversed: bool = True
    column_delimiter: str = "|"
    row_delimiter: str = "\n"

    def write(self, problems: Problems) -> bytes:
        """Write each problem as `x|y|x+y`, or `x|-y|x-y`, and a row delimiter."""
        return b"".join(self._write_block(problems[i : i + _BLOCK]) for i in range(0, len(problems), _BLOCK))

    def most_bytes(self, problems: Problems) -> int:
        """What `write` returns is so long, or shorter by the digits that answers have less than they might."""
        parts = (problems[i : i + _BLOCK] for i in range(0, len(problems), _BLOCK))
        lengths = ([part.x_length, part.y_length] for part in parts)  # two of (N,)
        most = 4 * len(problems) + sum(int(np.sum(both) + np.max(both, axis=0).sum()) for both in lengths)
        return most + 2 * int((_SYMBOLS[problems.which] > 0).sum())

    def _write_block(self, problems: Problems) -> bytes:
        symbols, signs = _SYMBOLS[problems.which], _SIGN * problems.is_negative.astype(np.uint8)
        numbers = (
            (None, problems.x, None, self.column_delimiter),
            (symbols, problems.y, None, self.column_delimiter),
            (None, problems.z, signs, self.row_delimiter),
        )
        lines = []  # of L arrays of N characters: one for each character of a row
        for symbol, digits, sign, delimiter in numbers:
            characters = np.take(DIGIT_CODES, digits, mode="clip")
            is_leading = np.ones(len(problems), bool)
            for place in range(digits.shape[0] - 1, 0, -1):
                is_leading &= digits[place] == 0
                characters[place] *= ~is_leading  # \0 is deleted below
            if symbol is not None and symbol.any():
                lines.append(symbol[None])
            if sign is not None and sign.any():
                characters = np.concatenate([characters, sign[None]])
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
            ValueError: naming the first row that is not `x|y|x+y`, or another operation, with canonical digits of at
                most W places.
        """
        text = np.frombuffer(content, np.uint8)
        is_row_end = text == ord(self.row_delimiter)
        separators = np.flatnonzero(is_row_end | (text == ord(self.column_delimiter)))
        num_rows = int(is_row_end.sum())
        if separators.size != 3 * num_rows or not is_row_end[separators[2::3]].all() or not is_row_end[-1:].all():
            raise ValueError(self._first_bad_row(content, width, first_row))
        ends = separators.reshape(num_rows, 3).copy()  # one past each number's last character
        starts = np.concatenate([[0], separators + 1])[:-1].reshape(num_rows, 3)
        which = _INDEX_OF[text[starts[:, 1]]]  # (N,)
        starts[:, 1] += _SYMBOLS[which] > 0
        sign_at = ends[:, 2] - 1 if self.reversed else starts[:, 2].copy()
        is_negative = text[sign_at] == _SIGN
        ends[:, 2] -= is_negative & self.reversed
        starts[:, 2] += is_negative & (not self.reversed)
        digit_of = np.full(256, 255, np.uint8)
        digit_of[np.frombuffer(DIGIT_ALPHABET[: self.base].encode(), np.uint8)] = np.arange(self.base)
        values = digit_of[text]
        values[separators] = values[starts[:, 1] - 1] = 0
        values[sign_at[is_negative]] = 0
        lengths = ends - starts
        if (values == 255).any() or (lengths < 1).any() or (lengths > [width, width, width + 1]).any():
            raise ValueError(self._first_bad_row(content, width, first_row))
        x, y, z = (self._gather(values, starts[:, i], lengths[:, i], width + (i == 2)) for i in range(3))
        problems = Problems(x, y, self.base, which)
        written_lengths = np.stack([problems.x_length, problems.y_length, problems.z_length], axis=1)
        is_right = (z == problems.z).all() and (is_negative == problems.is_negative).all()
        if not is_right or (written_lengths != lengths).any():
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
        digits, rest = b"", abs(value)
        while rest or not digits:
            rest, digit = divmod(rest, self.base)
            digits += DIGIT_ALPHABET[digit].encode()
        digits += bytes([_SIGN]) * (value < 0)
        return digits if self.reversed else digits[::-1]

    def _row_error(self, row: bytes, width: int) -> str | None:
        fields = row.split(self.column_delimiter.encode())
        if len(fields) != 3:
            return f"expected three numbers separated by {self.column_delimiter}"
        alphabet = DIGIT_ALPHABET[: self.base].encode()
        operation = OPERATIONS[_INDEX_OF[fields[1][0]] if fields[1] else 0]
        fields[1] = fields[1][operation is not ADDITION :]
        values = []
        for index, (field, most) in enumerate(zip(fields, (width, width, width + 1), strict=True)):
            written = field[::-1] if self.reversed else field
            is_negative = index == 2 and written[:1] == bytes([_SIGN])
            written = written[is_negative:]
            if not written or written.strip(alphabet) or len(written) > most or (written[0:1] == b"0" != written):
                return f"expected numbers of 1 to {most} digits in base {self.base}"
            values.append(_horner(written, self.base) * (-1 if is_negative else 1))
        right = self._written(operation.of_integers(*values[:2]))
        if fields[2] != right:
            return f"expected the {operation.noun} {_show(right)}"
        return None


def _horner(digits: bytes, base: int) -> int:
    value = 0
    for character in digits.decode():
        value = value * base + DIGIT_ALPHABET.index(character)
    return value


def _show(row: bytes) -> str:
    return repr(row[:40].decode("ascii", "backslashreplace")) + ("..." if len(row) > 40 else "")
