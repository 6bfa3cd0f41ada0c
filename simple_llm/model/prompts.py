"""What a person types: `1342+879`, checked character by character.

Leading zeros are dropped (007+1 is 7+1), spaces around the operator and one trailing = are fine, anything else is
refused with the column it stands in. So is what the model was not trained for: an operation always, and larger numbers
unless they are asked for.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operation import Operation
from simple_llm.arithmetic.subtraction import SUBTRACTION
from simple_llm.config.settings import Numbers
from simple_llm.errors import UsageError

MAX_CHARACTERS = 500_000

_READ_AS = str.maketrans("\u2212", SUBTRACTION.symbol)  # what people and their keyboards write
_SYMBOLS = "".join(one.symbol for one in OPERATIONS)
_PROMPT = re.compile(rf"[ \t]*([0-9]+)[ \t]*([{re.escape(_SYMBOLS)}])[ \t]*([0-9]+)[ \t]*(?:=[ \t]*)?")


class PromptError(UsageError):
    """A prompt that is no problem the model can be asked."""


@dataclass(frozen=True)
class Prompt:
    """Two operands in decimal digits, without leading zeros.

    Attributes:
        is_longer: one of them is above the largest of the training.
    """

    x: str
    y: str
    is_longer: bool = False
    operation: Operation = ADDITION

    def __str__(self) -> str:
        return self.operation.write(self.x, self.y)


def parse_prompt(
    text: str,
    numbers: Numbers,
    any_length: bool = False,
    most_digits: int | None = None,
    operations: Sequence[Operation] = (ADDITION,),
) -> Prompt:
    """Read a prompt.

    Args:
        numbers: the operands the model was trained for.
        any_length: it takes larger ones too, as well as those.
        most_digits: where given, larger ones are read too, of at most so many digits in the model's base.
        operations: that the model was trained for.

    Raises:
        PromptError: naming what is wrong and where.
    """
    if len(text) > MAX_CHARACTERS:
        raise PromptError(f"{text[:20]!r}...: {len(text):,} characters; a prompt has at most {MAX_CHARACTERS:,}")
    example = " or ".join(one.write(*pair) for one, pair in zip(operations, _EXAMPLES, strict=False))
    found = _PROMPT.fullmatch(text.translate(_READ_AS))
    if not found:
        what = _what_is_wrong(text, operations)
        raise PromptError(f"{_shown(text)}: {what}; write {_kind(operations)} such as {example}")
    x, symbol, y = found.groups()
    operation = OPERATIONS[_SYMBOLS.index(symbol)]
    if operation not in operations:
        known = " and ".join(f"{one.noun}s" for one in operations)
        raise PromptError(f"{_shown(text)}: this model was trained on {known} alone, such as {example}")
    x, y = (operand.lstrip("0") or "0" for operand in (x, y))
    is_longer = False
    for operand in (x, y):
        if not any_length and _is_above(operand, numbers.max):
            is_longer = True
            _refuse_longer(f"{_shown(text)}: {_shown(operand)}", operand, numbers, most_digits)
        if numbers.min and not _is_above(operand, numbers.min - 1):
            raise PromptError(f"{_shown(text)}: {operand} is below {numbers.min}, the smallest this model knows")
    return Prompt(x, y, is_longer, operation)


_EXAMPLES = ((1342, 879), (342, 879))


def _kind(operations: Sequence[Operation]) -> str:
    """What a prompt is called."""
    return f"a {operations[0].noun}" if len(operations) == 1 else "a problem"


def _refuse_longer(what: str, operand: str, numbers: Numbers, most_digits: int | None) -> None:
    """Raise PromptError for a larger operand than in training, unless it was asked for and there is room for it."""
    if most_digits is None:
        raise PromptError(f"{what} is above {_shown(str(numbers.max))}, the largest this model knows")
    if _is_above(operand, numbers.base**most_digits - 1):
        raise PromptError(
            f"{what} has more than {most_digits:,} digits in base {numbers.base}, the most this model has room for"
        )


def _is_above(decimal: str, bound: int) -> bool:
    """Compare without converting: a hostile operand may have thousands of digits."""
    written = str(bound)  # of at most 4,300 digits, which is as far as Python goes
    return (len(decimal), decimal) > (len(written), written)


def _what_is_wrong(text: str, operations: Sequence[Operation]) -> str:
    """Walk the grammar `digits operator digits [=]` and name the first character that leaves it."""
    is_digit: Callable[[str], bool] = lambda character: "0" <= character <= "9"  # noqa: E731 - isdigit() takes more
    symbols = [one.symbol for one in operations]
    operands_read, previous_is_digit, has_operator, has_equals = 0, False, False, False
    for column, character in enumerate(text, 1):
        is_space = character in " \t"
        if is_digit(character):
            if not previous_is_digit:
                operands_read += 1
            if operands_read > 1 + has_operator:
                return f"column {column}: {character!r} is not expected here"
        elif character.translate(_READ_AS) in symbols and operands_read == 1 and not has_operator:
            has_operator = True
        elif character == "=" and operands_read == 2 and not has_equals:
            has_equals = True
        elif not is_space:
            kind = "not a digit 0 to 9" if character.isalnum() else "not expected here"
            return f"column {column}: {character!r} is {kind}"
        previous_is_digit = is_digit(character)
    if not operands_read:
        return "nothing to add" if symbols == [ADDITION.symbol] else "no number in it"
    return f"no {' or '.join(symbols)} in it" if not has_operator else "no second number"


def _shown(text: str) -> str:
    shown = text if len(text) <= 40 else text[:37] + "..."
    if shown.strip() and shown.isascii() and shown.isprintable():
        return shown
    escaped = repr(shown)  # up to ten characters for one
    return escaped if len(escaped) <= 60 else escaped[:57] + "..."
