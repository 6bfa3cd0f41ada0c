"""Fuzzed prompts: read as an independent expression reads them, or refused in one line."""

import itertools
import re

from benchmarks.faults.tally import Plan, Tally
from simple_llm.config.settings import Numbers
from simple_llm.model.prompts import MAX_CHARACTERS, parse_prompt, PromptError
from tests.mutations import fuzzed_prompts

# Written for what comes out: the operands as they are to be read, without their leading zeros. What is possessive, *+,
# gives no space back: half a million of them before something else would be shared out in every way there is.
_SUM = re.compile("[ \t]*0*(0|[1-9][0-9]*)[ \t]*[+][ \t]*0*(0|[1-9][0-9]*)[ \t]*+=?[ \t]*", re.ASCII)
_RANGES = (
    (Numbers(), False),
    (Numbers(), True),
    (Numbers(min=10, max=99_999_999), False),
)  # operands, and whether longer ones are taken


def run(plan: Plan) -> list[Tally]:
    """Read each prompt as a model of one range after another would."""
    tally = Tally("a fuzzed prompt: read, or refused in one line")
    for number, text in enumerate(itertools.islice(fuzzed_prompts(plan.rng), plan.count)):
        numbers, any_length = _RANGES[number % len(_RANGES)]
        judge(tally, text, numbers, any_length)
        plan.advance(1)
    return [tally]


def judge(tally: Tally, text: str, numbers: Numbers, any_length: bool) -> None:
    """Have the project read a prompt, and count what came of it."""
    expected, shown = expected_operands(text, numbers, any_length), ascii(text[:60])
    try:
        prompt = parse_prompt(text, numbers, any_length)
    except PromptError as error:
        message = str(error)
        if expected:
            tally.lose(f"{shown}: is a sum, and was refused: {message}")
        elif len(message.splitlines()) != 1 or not message.isprintable():
            tally.lose(f"{shown}: the message is not one line: {message!r}")
        else:
            tally.detect()
    except Exception as error:  # whatever else a prompt can bring about is what is looked for here
        tally.lose(f"{shown}: {error!r}")
    else:
        read = (prompt.x, prompt.y)
        tally.judge("" if read == expected else f"{shown}: read as {prompt}, expected {expected}")


def expected_operands(text: str, numbers: Numbers, any_length: bool) -> tuple[str, str] | None:
    """The operands of a prompt that is to be read; None for one that is to be refused."""
    found = None if len(text) > MAX_CHARACTERS else _SUM.fullmatch(text)
    if not found:
        return None
    x, y = found.groups()
    longest = len(str(numbers.max))
    for operand in (x, y):
        if len(operand) > longest:  # not to be converted: it may be very long
            if not any_length:
                return None
        elif int(operand) < numbers.min or (int(operand) > numbers.max and not any_length):
            return None
    return x, y
