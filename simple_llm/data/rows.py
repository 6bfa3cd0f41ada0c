"""Rows of text: how problems are written into the sequences file, and read back.

Shape letters in this file: W places (digits of the widest number), N problems, L characters.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import DIGIT_ALPHABET, DIGIT_CODES, Digits, NEGATIVE, num_digits
from simple_llm.data.problems import Problems

# In front of the second number stands the operation's symbol, but for sums, which came first and have none.
_SYMBOLS = np.array([0 if one is ADDITION else ord(one.symbol) for one in OPERATIONS], np.uint8)
_INDEX_OF = np.zeros(256, np.uint8)  # of the operation, by the character in front of the second number
_INDEX_OF[_SYMBOLS] = np.arange(len(OPERATIONS))
_TAKES_MANY = np.array([one.takes_many for one in OPERATIONS])
_LEAVES_REST = np.array([one.leaves_rest for one in OPERATIONS])
_NUM_FIELDS = {one: "four" for one in OPERATIONS if one.leaves_rest}
_SIGN = np.uint8(ord(NEGATIVE))
_BLOCK = 2**13  # rows written at a time: small enough to stay in the processor's cache


@dataclass(frozen=True)
class RowFormat:
    """How a row of the sequences file is written.

        1342 + 879 = 2221     base 16: E35|F63|DA8     base 10: 2431|978|1222     not reversed: 1342|879|2221
        342 - 879 = -537                               base 10: 243|-978|735-     not reversed: 342|-879|-537
        12 + 873 + 4 = 889                             base 10: 21|378|4|988      not reversed: 12|873|4|889
        1742 / 56 = 31, rest 6                         base 10: 2471|/65|13|6     not reversed: 1742|/56|31|6

    Attributes:
        reversed: least significant digit first, and the sign of an answer last.
        column_delimiter, row_delimiter: one ASCII character each.
        most_operands: of a sum.
    """

    base: int
    reversed: bool = True
    column_delimiter: str = "|"
    row_delimiter: str = "\n"
    most_operands: int = 2

    def write(self, problems: Problems) -> bytes:
        """Write each problem as `x|y|x+y`, `x|-y|x-y` or the like, and a row delimiter."""
        return b"".join(self._write_block(problems[i : i + _BLOCK]) for i in range(0, len(problems), _BLOCK))

    def most_bytes(self, problems: Problems) -> int:
        """What `write` returns is so long, or shorter by the digits that answers have less than they might."""
        parts = (problems[i : i + _BLOCK] for i in range(0, len(problems), _BLOCK))
        lengths = ([num_digits(number) for number in part.numbers] for part in parts)  # (N,) each
        # An answer has no more digits than its operands together; a sum of two has one more than the longer.
        is_short = len(problems.numbers) == 2 and all(one.step for one in problems.operations)
        most = sum(int(np.sum(some) + (np.max if is_short else np.sum)(some, axis=0).sum()) for some in lengths)
        most += int(problems.num_numbers.sum() + problems.y_length[problems.leaves_rest].sum())
        return most + (2 + 2 * (not is_short)) * len(problems) + 2 * int((_SYMBOLS[problems.which] > 0).sum())

    def _write_block(self, problems: Problems) -> bytes:
        symbols, signs = _SYMBOLS[problems.which], _SIGN * problems.is_negative.astype(np.uint8)
        always, column = np.ones(len(problems), bool), self.column_delimiter
        numbers = [
            (always, None, problems.x, None, column),
            (always, symbols, problems.y, None, column),
            *((problems.num_numbers > index, None, more, None, column) for index, more in enumerate(problems.more, 2)),
            (always, None, problems.z, signs, None),
        ]
        if problems.leaves_rest.any():
            numbers.append((problems.leaves_rest, column, problems.rest, None, None))
        lines = []  # of L arrays of N characters: one for each character of a row; \0 is deleted below
        for is_there, before, digits, sign, delimiter in numbers:
            characters = np.take(DIGIT_CODES, digits, mode="clip")
            is_leading = np.ones(len(problems), bool)
            for place in range(digits.shape[0] - 1, 0, -1):
                is_leading &= digits[place] == 0
                characters[place] *= ~is_leading
            if not is_there.all():
                characters *= is_there
            if isinstance(before, str):
                lines.append((is_there * np.uint8(ord(before)))[None])
            elif before is not None and before.any():
                lines.append(before[None])
            if sign is not None and sign.any():
                characters = np.concatenate([characters, sign[None]])
            lines.append(characters if self.reversed else characters[::-1])
            if delimiter is not None:
                lines.append((is_there * np.uint8(ord(delimiter)))[None])
        lines.append(np.full((1, len(problems)), ord(self.row_delimiter), np.uint8))
        rows = np.ascontiguousarray(np.concatenate(lines).T)  # (N, L)
        return rows.tobytes().translate(None, delete=b"\0")

    def parse(self, content: bytes, width: int, first_row: int = 1) -> Problems:
        """Read whole rows back; the inverse of `write`.

        Args:
            content: rows, each with its row delimiter.
            width: places of the digit arrays to return, W.
            first_row: number of the first row in its file, for messages.

        Raises:
            ValueError: naming the first row that is not as `write` has it, with operands of at most W digits.
        """
        problems = self._read_operands(content, width)
        if problems is None or self.write(problems) != content:  # the answers, and no digit too many
            raise ValueError(self._first_bad_row(content, width, first_row))
        return problems

    def _read_operands(self, content: bytes, width: int) -> Problems | None:
        """Read what is asked in each row, whatever is said to it; None where a row asks nothing."""
        text = np.frombuffer(content, np.uint8)
        is_row_end = text == ord(self.row_delimiter)
        ends = np.flatnonzero(is_row_end | (text == ord(self.column_delimiter)))  # of fields
        starts = np.concatenate([[0], ends + 1])[:-1]
        last = np.flatnonzero(is_row_end[ends])  # (N,) the last field of each row
        first = np.concatenate([[0], last + 1])[:-1]
        num_fields = last - first + 1
        if not is_row_end[-1:].all() or (num_fields < 3).any():
            return None
        which = _INDEX_OF[text[starts[first + 1]]]  # (N,)
        num_operands = np.where(_TAKES_MANY[which], num_fields - 1, 2)
        if (num_operands + 1 + _LEAVES_REST[which] != num_fields).any() or (num_operands > self.most_operands).any():
            return None
        digit_of = np.full(256, 255, np.uint8)
        digit_of[np.frombuffer(DIGIT_ALPHABET[: self.base].encode(), np.uint8)] = np.arange(self.base)
        values, numbers = digit_of[text], []
        for index in range(num_operands.max(initial=2)):
            is_there = index < num_operands
            field = np.where(is_there, first + index, 0)
            start = starts[field] + (index == 1) * (_SYMBOLS[which] > 0)
            length = (ends[field] - start) * is_there
            if (length[is_there] < 1).any() or (length > width).any():
                return None
            numbers.append(self._gather(values, start, length, width))
        x, y, *more = numbers
        is_digit = all(number.max(initial=0) < 255 for number in numbers)
        if not is_digit or not y[:, _LEAVES_REST[which]].any(axis=0).all():  # nothing is divided by 0
            return None
        return Problems(x, y, self.base, which, tuple(more), num_operands - 2 if more else None)

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
        operation = OPERATIONS[_INDEX_OF[fields[1][0]] if len(fields) > 1 and fields[1] else 0]
        num_operands = len(fields) - 1 if operation.takes_many else 2
        num_fields = num_operands + 1 + operation.leaves_rest
        if len(fields) < 3 or len(fields) != num_fields or num_operands > self.most_operands:
            return f"expected {_NUM_FIELDS.get(operation, 'three')} numbers separated by {self.column_delimiter}"
        alphabet = DIGIT_ALPHABET[: self.base].encode()
        fields[1] = fields[1][operation is not ADDITION :]
        operands = []
        for index, field in enumerate(fields):
            is_answer = index >= num_operands
            most = 2 * width if is_answer and operation.step is None else width + is_answer
            written = field[::-1] if self.reversed else field
            written = written[is_answer and written[:1] == bytes([_SIGN]) :]
            if not written or written.strip(alphabet) or len(written) > most or (written[0:1] == b"0" != written):
                return f"expected numbers of 1 to {most} digits in base {self.base}"
            operands += [] if is_answer else [_horner(written, self.base)]
        if operation.leaves_rest and not operands[1]:
            return "expected a divisor other than 0"
        right = [self._written(answer) for answer in operation.answer(*operands)]
        if fields[num_operands:] != right:
            return f"expected the {operation.noun} {_show(self.column_delimiter.encode().join(right))}"
        return None


def _horner(digits: bytes, base: int) -> int:
    value = 0
    for character in digits.decode():
        value = value * base + DIGIT_ALPHABET.index(character)
    return value


def _show(row: bytes) -> str:
    return repr(row[:40].decode("ascii", "backslashreplace")) + ("..." if len(row) > 40 else "")
