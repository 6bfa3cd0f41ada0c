"""Add random numbers of many decimal digits by real decoding, and compare with Python's integers.

    python3 -m runs.long_sum --model DIR [--digits 10000 ...] [--seed 0] [--plot PNG]

A sum for each number of digits. Prints what was right and the time a digit; exit code 7 if a sum is wrong.
"""

import argparse
import random
import sys
import time
from pathlib import Path

import matplotlib
from matplotlib import pyplot

from simple_llm import command_line
from simple_llm.errors import GateError
from simple_llm.machine import resolve_device
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import load_model
from simple_llm.model.tokenization_simple_llm import from_digits


def main(arguments: argparse.Namespace) -> None:
    adder = Calculator(load_model(arguments.model), resolve_device("auto"))
    rng = random.Random(arguments.seed)
    wrong, milliseconds = [], []
    for num_digits in arguments.digits:
        prompt = adder.parse(f"{number(rng, num_digits)}+{number(rng, num_digits)}")
        started = time.perf_counter()
        [answer] = adder.answer([prompt])
        seconds = time.perf_counter() - started
        is_right = answer.isdigit() and from_digits(prompt.x, 10) + from_digits(prompt.y, 10) == from_digits(answer, 10)
        wrong += [] if is_right else [num_digits]
        milliseconds.append(1e3 * seconds / num_digits)
        print(
            f"{num_digits:,} digits: {'right' if is_right else 'WRONG'}, {seconds:.1f} seconds, "
            f"{milliseconds[-1]:.3f} ms a digit"
        )
    if arguments.plot:
        draw(arguments.digits, milliseconds, arguments.plot)
    if wrong:
        raise GateError(f"{len(wrong)} of {len(arguments.digits)} sums are wrong")


def number(rng: random.Random, num_digits: int) -> str:
    return rng.choice("123456789") + "".join(rng.choices("0123456789", k=num_digits - 1))


def draw(num_digits: list[int], milliseconds: list[float], path: Path) -> None:
    """Time a digit against the number of digits."""
    matplotlib.use("Agg")
    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    axes.semilogx(num_digits, milliseconds, marker="o")
    axes.set(xlabel="decimal digits of both operands", ylabel="milliseconds a digit of the sum", ylim=(0, None))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", type=Path, required=True, metavar="DIR")
    made.add_argument("--digits", type=int, nargs="+", default=[10_000])
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--plot", type=Path, metavar="PNG")
    command_line.run(main, made.parse_args(sys.argv[1:]))
