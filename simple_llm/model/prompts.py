"""What a person types: `1342+879`, `12+873+4`, `57×46`, checked character by character.

Leading zeros are dropped (007+1 is 7+1), spaces around the operator and one trailing = are fine, anything else is
refused with the column it stands in. So is what the model was not trained for: an operation always, and larger numbers
unless they are asked for.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.division import DIVISION
from simple_llm.arithmetic.multiplication import MULTIPLICATION
from simple_llm.arithmetic.operation import Bounds, Operation
from simple_llm.arithmetic.subtraction import SUBTRACTION
from simple_llm.config.settings import Numbers
from simple_llm.errors import UsageError

MAX_CHARACTERS = 500_000
EXAMPLES = {"add": (1342, 879), "subtract": (342, 879), "multiply": (57, 46), "divide": (1742, 56)}  # of each operation

# What people and their keyboards write.
_READ_AS = str.maketrans({"\u2212": SUBTRACTION.symbol, "\u00d7": MULTIPLICATION.symbol, "\u00f7": DIVISION.symbol})
_SYMBOLS = "".join(one.symbol for one in OPERATIONS)
_OPERATOR = rf"[ \t]*[{re.escape(_SYMBOLS)}][ \t]*"
_PROMPT = re.compile(rf"[ \t]*([0-9]+(?:{_OPERATOR}[0-9]+)+)[ \t]*(?:=[ \t]*)?")


class PromptError(UsageError):
    """A prompt that is no problem the model can be asked."""


@dataclass(frozen=True)
class Prompt:
    """Operands in decimal digits, without leading zeros.

    Attributes:
        is_longer: one of them is above the largest of the training.
        more: those after the second.
    """

    x: str
    y: str
    is_longer: bool = False
    operation: Operation = ADDITION
    more: tuple[str, ...] = ()

    @property
    def numbers(self) -> tuple[str, ...]:
        return self.x, self.y, *self.more

    def __str__(self) -> str:
        return self.operation.write(*self.numbers)


def parse_prompt(
    text: str,
    numbers: Numbers,
    any_length: bool = False,
    most_digits: int | None = None,
    operations: Sequence[Operation] = (ADDITION,),
    adds_many: bool = False,
) -> Prompt:
    """Read a prompt.

    Args:
        numbers: the operands the model was trained for.
        any_length: it takes larger ones too, as well as those.
        most_digits: larger ones are read too, up to so many digits in the model's base; None: they are refused.
        operations: that the model was trained for.
        adds_many: a sum may have more than two numbers.

    Raises:
        PromptError: naming what is wrong and where.
    """
    if len(text) > MAX_CHARACTERS:
        raise PromptError(f"{text[:20]!r}...: a prompt has at most {MAX_CHARACTERS:,} characters")
    example = " or ".join(one.write(*EXAMPLES[one.name]) for one in operations)
    asked = text.translate(_READ_AS)
    found = _PROMPT.fullmatch(asked)
    symbols = re.findall(rf"[{re.escape(_SYMBOLS)}]", asked) if found else []
    operation = OPERATIONS[_SYMBOLS.index(symbols[0])] if symbols else None
    if operation and len(set(symbols)) == 1 and operation not in operations:
        known = " and ".join(f"{one.noun}s" for one in operations)
        raise PromptError(f"{_shown(text)}: this model was trained on {known} alone, such as {example}")
    is_many = len(symbols) > 1
    if not found or len(set(symbols)) > 1 or (is_many and not (adds_many and operation.takes_many)):
        what = _what_is_wrong(text, operations, adds_many)
        raise PromptError(f"{_shown(text)}: {what}; write {_kind(operations)} such as {example}")
    operands = [operand.lstrip("0") or "0" for operand in re.findall("[0-9]+", found[1])]
    if operation.leaves_rest and operands[1] == "0":
        raise PromptError(f"{_shown(text)}: nothing is divided by 0")
    is_longer = False
    for operand, bounds in zip(operands, _bounds(numbers, operation, len(operands)), strict=True):
        if not any_length and _is_above(operand, bounds[1]):
            is_longer = True
            _refuse_longer(f"{_shown(text)}: {_shown(operand)}", operand, bounds[1], numbers.base, most_digits)
        if numbers.min and not _is_above(operand, numbers.min - 1):
            raise PromptError(f"{_shown(text)}: {operand} is below {numbers.min}, the smallest this model knows")
    x, y, *more = operands
    return Prompt(x, y, is_longer, operation, tuple(more))


def _bounds(numbers: Numbers, operation: Operation, count: int) -> list[Bounds]:
    """The smallest and the largest of each operand."""
    first, second = numbers.bounds(operation)
    return [first, *(second,) * (count - 1)]


def _kind(operations: Sequence[Operation]) -> str:
    """What a prompt is called."""
    return f"a {operations[0].noun}" if len(operations) == 1 else "a problem"


def _refuse_longer(what: str, operand: str, largest: int, base: int, most_digits: int | None) -> None:
    """Raise PromptError for a larger operand than in training, unless it was asked for and there is room for it."""
    if most_digits is None:
        raise PromptError(f"{what} is above {_shown(str(largest))}, the largest this model knows")
    if _is_above(operand, base**most_digits - 1):
        raise PromptError(
            f"{what} has more than {most_digits:,} digits in base {base}, the most this model has room for"
        )


def _is_above(decimal: str, bound: int) -> bool:
    """Compare without converting: a hostile operand may have thousands of digits."""
    written = str(bound)  # of at most 4,300 digits, which is as far as Python goes
    return (len(decimal), decimal) > (len(written), written)


def _what_is_wrong(text: str, operations: Sequence[Operation], adds_many: bool) -> str:
    """Walk the grammar `digits operator digits ... [=]` and name the first character that leaves it."""
    is_digit: Callable[[str], bool] = lambda character: "0" <= character <= "9"  # noqa: E731 - isdigit() takes more
    known = {one.symbol: one for one in operations}
    operands_read, operators, previous_is_digit, has_equals = 0, "", False, False
    for column, character in enumerate(text, 1):
        symbol = character.translate(_READ_AS)
        may_follow = not operators or (symbol == operators[0] and adds_many and symbol in known)
        if is_digit(character):
            if not previous_is_digit:
                operands_read += 1
            if operands_read > 1 + len(operators) or has_equals:
                return f"column {column}: {character!r} is not expected here"
        elif symbol in known and operands_read == 1 + len(operators) and not has_equals and may_follow:
            if operators and not known[symbol].takes_many:
                return f"column {column}: {character!r} is not expected here, more than two numbers only make a sum"
            operators += symbol
        elif symbol in known and operators and operands_read == 1 + len(operators) and symbol != operators[0]:
            return f"column {column}: {character!r} is not expected here, a problem has one operation"
        elif character == "=" and operands_read > 1 and operands_read == 1 + len(operators) and not has_equals:
            has_equals = True
        elif character not in " \t":
            is_sign = symbol in "+-" and operands_read == len(operators)
            kind = "not a digit 0 to 9" if character.isalnum() else "not expected here"
            return f"column {column}: {character!r} is {kind}{', numbers are written without a sign' * is_sign}"
        previous_is_digit = is_digit(character)
    if not operands_read:
        return "nothing to add" if list(known) == [ADDITION.symbol] else "no number in it"
    return f"no {' or '.join(known)} in it" if not operators else f"no {_ORDINALS[min(len(operators), 2)]} number"


_ORDINALS = ("first", "second", "further")


def _shown(text: str) -> str:
    shown = text if len(text) <= 40 else text[:37] + "..."
    if shown.strip() and shown.isascii() and shown.isprintable():
        return shown
    escaped = repr(shown)  # up to ten characters for one
    return escaped if len(escaped) <= 60 else escaped[:57] + "..."
