"""Rows a second of the data generator, against a plain Python loop that writes the same kind of file.

    python3 -m benchmarks.data_generator [--rows N] [--rounds N]

Both write rows of 4-digit numbers in base 16 to a temporary file: draw, add, convert, reverse, check the side of the
split, refuse repeats. Ours is measured with the reference's uniform sampling and with the default mixture. One core is
used. Last, the peak memory of a process that writes 10 million rows, and a check that 100-digit numbers work.
"""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import in_turn, print_rates
from data_generator import draw_problems
from simple_llm.config.settings import DataConfig, Numbers, Sampling, Storage
from simple_llm.data.dataset import write_dataset

PLAIN_ROWS = 100_000
UNIFORM = Sampling(uniform=1.0, lengths=0.0, carries=0.0)
DIGITS = "0123456789ABCDEF"


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=int, default=2_000_000)
    made.add_argument("--rounds", type=int, default=5)
    arguments = made.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequences.txt"
        rates = in_turn(
            {
                "uniform": lambda: generate(path, arguments.rows, UNIFORM),
                "default mixture": lambda: generate(path, arguments.rows, Sampling()),
                "plain Python loop (uniform)": lambda: plain_loop(path, PLAIN_ROWS),
            },
            arguments.rounds,
        )
        wide = generate(path, 100_000, Sampling(), maximum=10**100 - 1)
        peak = peak_memory(path, 10_000_000)
    print(f"10 million rows peak at {peak / 1e9:.2f} GB; {wide:,} rows of 100-digit numbers written")
    print_rates(rates, "rows", peak_bytes_of_10_million_rows=peak, rows_of_100_digits=wide)


def generate(path: Path, num_rows: int, sampling: Sampling, maximum: int = 9999) -> int:
    """Make a dataset the project's way."""
    config = DataConfig(
        numbers=Numbers(max=maximum), sampling=sampling, storage=Storage(path=path, num_sequences=num_rows)
    )
    draw = draw_problems(config)
    write_dataset(config, draw.problems, draw.asked, draw.drawn, lambda num_written: None)
    return num_rows


def plain_loop(path: Path, num_rows: int) -> int:
    """Make one row at a time with Python integers and strings."""
    rng, seen = random.Random(0), set()
    with path.open("w", encoding="utf-8") as file:
        while len(seen) < num_rows:
            x, y = rng.randint(0, 9999), rng.randint(0, 9999)
            side = hashlib.blake2b(b"%d,%d" % (min(x, y), max(x, y)), digest_size=8).digest()
            if (x, y) in seen or int.from_bytes(side) >= 0.9 * 2**64:
                continue
            seen.add((x, y))
            file.write("|".join(to_reversed_base_16(value) for value in (x, y, x + y)) + "\n")
    return num_rows


def to_reversed_base_16(value: int) -> str:
    digits = ""
    while value or not digits:
        value, digit = divmod(value, 16)
        digits += DIGITS[digit]
    return digits


def peak_memory(path: Path, num_rows: int) -> int:
    """Largest resident size in bytes of a process that makes so many rows with the default mixture."""
    code = (
        "import resource, sys; from pathlib import Path; from benchmarks.data_generator import *;"
        "generate(Path(sys.argv[1]), int(sys.argv[2]), Sampling());"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(num_rows)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


if __name__ == "__main__":
    main()
