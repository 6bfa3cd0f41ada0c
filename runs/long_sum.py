"""Add random numbers of many decimal digits by real decoding, and compare with Python's integers.

    python3 -m runs.long_sum --model DIR [--digits 10000] [--problems 1] [--seed 0]

Prints what was right and the time a digit; exit code 7 if a sum is wrong.
"""

import argparse
import random
import sys
import time
from pathlib import Path

from simple_llm import command_line
from simple_llm.adder import Adder
from simple_llm.device import resolve_device
from simple_llm.errors import GateError
from simple_llm.model_folder import load_model
from simple_llm.tokenization_simple_llm import from_digits


def main(arguments: argparse.Namespace) -> None:
    adder = Adder(load_model(arguments.model), resolve_device("auto"))
    rng = random.Random(arguments.seed)
    texts = [
        "+".join(rng.choice("123456789") + "".join(rng.choices("0123456789", k=arguments.digits - 1)) for _ in "xy")
        for _ in range(arguments.problems)
    ]
    prompts = [adder.parse(text) for text in texts]
    started = time.perf_counter()
    answers = adder.answer(prompts)
    seconds = time.perf_counter() - started
    num_right = sum(
        answer.isdigit() and from_digits(prompt.x, 10) + from_digits(prompt.y, 10) == from_digits(answer, 10)
        for prompt, answer in zip(prompts, answers, strict=True)
    )
    print(
        f"{num_right:,} of {len(prompts):,} sums of {arguments.digits:,} digits right, "
        f"{1e3 * seconds / arguments.digits:.3f} ms a digit, {seconds:.1f} seconds"
    )
    if num_right < len(prompts):
        raise GateError(f"{len(prompts) - num_right:,} sums are wrong")


if __name__ == "__main__":
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", type=Path, required=True, metavar="DIR")
    made.add_argument("--digits", type=int, default=10_000)
    made.add_argument("--problems", type=int, default=1)
    made.add_argument("--seed", type=int, default=0)
    command_line.run(main, made.parse_args(sys.argv[1:]))
