"""Work out problems of many decimal digits by real decoding, as inference.py does, and compare with Python's integers.

    python3 -m runs.long_problems --model DIR [--digits N ...] [--operations NAME ...] [--seed 0]
    python3 -m runs.long_problems --model DIR --many 10000

    --digits 100 10000          one problem of each operation with two random numbers of so many digits
    --operations multiply       of these operations alone
    --many 10000                of each operation so many random problems of 1 to 30 digits, a hundredth of that of 200,
                                and those that are rare at random: powers of ten and two, repeated nines, equal numbers,
                                0, 1, 10^k - 1 by 10^k + 1, and sums of 20 numbers

Prints what was right and how long it took; exit code 7 if an answer is wrong. A model without a scratchpad is asked for
sums alone. A divisor has half as many digits as what is divided.
"""

import argparse
import itertools
import random
import time
from collections.abc import Iterator

from simple_llm import command_line
from simple_llm.arithmetic import BY_NAME
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operation import Operation
from simple_llm.errors import GateError
from simple_llm.machine import resolve_device
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import load_model
from simple_llm.model.notation_simple_llm import from_digits
from simple_llm.model.prompts import Prompt
from simple_llm.stopping import advancing, progress_bar

MOST_RANDOM_DIGITS, LONG_DIGITS, NUM_ADDED = 30, 200, 20
LONG_SHARE = 1 / 100  # of the random problems
MAX_SHOWN = 20


def main(arguments: argparse.Namespace) -> None:
    calculator = Calculator(load_model(arguments.model), resolve_device("auto"))
    has_columns = calculator.vocabulary.work_ids is not None
    operations = [one for one in calculator.loaded.operations if has_columns or one is ADDITION]
    if arguments.operations:
        operations = [one for one in operations if one.name in arguments.operations]
    rng, num_wrong = random.Random(arguments.seed), 0
    if arguments.many:
        num_wrong += sum(
            count_wrong(calculator, f"{one.noun}s, {kind}", prompts)
            for one in operations
            for kind, prompts in many_problems(calculator, one, arguments.many, rng)
        )
    else:
        num_wrong += one_of_each(calculator, operations, arguments, rng)
    if num_wrong:
        raise GateError(f"{num_wrong:,} answers are wrong")


def one_of_each(
    calculator: Calculator, operations: list[Operation], arguments: argparse.Namespace, rng: random.Random
) -> int:
    """Ask for one problem of each length and operation; count what is wrong."""
    num_wrong = 0
    for num_digits, operation in itertools.product(arguments.digits, operations):
        numbers = number(rng, num_digits), number(rng, divisor_digits(operation, num_digits))
        prompt = calculator.parse(operation.write(*numbers))
        started = time.perf_counter()
        [answer] = calculator.answer([prompt])
        seconds = time.perf_counter() - started
        num_wrong += not (right := is_right(prompt, answer))
        print(
            f"{operation.noun:10} of {num_digits:,} digits: {'right' if right else 'WRONG'}, {seconds:.2f} seconds, "
            f"{1e3 * seconds / num_digits:.3f} ms a digit"
        )
    return num_wrong


def many_problems(
    calculator: Calculator, operation: Operation, count: int, rng: random.Random
) -> Iterator[tuple[str, list[Prompt]]]:
    """Problems of each kind, as what a person would type."""

    def prompts(problems: list[tuple[int, ...]]) -> list[Prompt]:
        return [calculator.parse(operation.write(*numbers)) for numbers in problems]

    def drawn(shortest: int, longest: int, num_numbers: int = 2) -> tuple[int, ...]:
        first, *others = (rng.randint(shortest, longest) for _ in range(num_numbers))
        return tuple(int(number(rng, one)) for one in (first, *(divisor_digits(operation, one) for one in others)))

    few = int(count * LONG_SHARE)
    yield f"1 to {MOST_RANDOM_DIGITS} digits", prompts([drawn(1, MOST_RANDOM_DIGITS) for _ in range(count)])
    yield f"{LONG_DIGITS} digits", prompts([drawn(LONG_DIGITS, LONG_DIGITS) for _ in range(few)])
    yield "structured", prompts(list(structured(operation)))
    if operation.takes_many and calculator.vocabulary.work_ids:
        yield f"of {NUM_ADDED} numbers", prompts([drawn(1, MOST_RANDOM_DIGITS, NUM_ADDED) for _ in range(few)])


def structured(operation: Operation) -> Iterator[tuple[int, int]]:
    """Pairs that are rare at random, in both orders."""
    tens, twos = [10**k for k in range(1, 31, 3)], [2**k for k in range(1, 100, 9)]
    some = {0, 1, *tens, *twos, *(ten - 1 for ten in tens)}
    near = [(10**k - 1, 10**k + 1) for k in range(1, 41)] + [(10 ** (2 * k) - 1, 10**k + 1) for k in range(1, 21)]
    for x, y in [*itertools.product(sorted(some), repeat=2), *near, *((y, x) for x, y in near)]:
        if y or not operation.leaves_rest:
            yield x, y


def count_wrong(calculator: Calculator, kind: str, prompts: list[Prompt]) -> int:
    """Ask for all of them at once, print how many are right and the first that are not; count those."""
    started = time.perf_counter()
    bar = progress_bar(total=len(prompts), unit="problem", desc=kind, leave=False)
    with advancing(bar) as on_batch:
        answers = calculator.answer(prompts, on_batch)
    seconds = time.perf_counter() - started
    wrong = [(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True) if not is_right(prompt, answer)]
    num_negative = sum(answer.startswith("-") for answer in answers)
    below = f", {num_negative:,} below zero" if num_negative else ""
    print(f"{kind:28} {len(prompts) - len(wrong):>7,} of {len(prompts):>7,} right{below}, {seconds:.1f} seconds")
    for prompt, answer in wrong[:MAX_SHOWN]:
        print(f"  wrong: {prompt}={answer}")
    return len(wrong)


def is_right(prompt: Prompt, answer: str) -> bool:
    """Whether an answer, 2622 or -537 or 31 r 6, is what Python's integers give."""
    expected = prompt.operation.answer(*(from_digits(one, 10) for one in prompt.numbers))
    said, _, rest = answer.partition(" r ")
    parts = [said, rest or "0"] if prompt.operation.leaves_rest else [said]
    if not all(part.removeprefix("-").isdigit() for part in parts):
        return False
    values = [from_digits(part.removeprefix("-"), 10) * (-1 if part.startswith("-") else 1) for part in parts]
    return tuple(values) == expected


def divisor_digits(operation: Operation, num_digits: int) -> int:
    """Half as many digits for what something is divided by: the quotient is as long then."""
    return -(-num_digits // 2) if operation.leaves_rest else num_digits


def number(rng: random.Random, num_digits: int) -> str:
    return rng.choice("123456789") + "".join(rng.choices("0123456789", k=num_digits - 1))


if __name__ == "__main__":
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", type=command_line.path, required=True, metavar="DIR")
    made.add_argument("--digits", type=command_line.positive_integer, nargs="+", default=[100], metavar="N")
    made.add_argument("--operations", nargs="+", choices=BY_NAME, metavar="NAME")
    made.add_argument("--many", type=command_line.positive_integer, metavar="N")
    made.add_argument("--seed", type=int, default=0)
    command_line.run(main, made.parse_args())
