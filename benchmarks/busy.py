"""How long a training step of the default model takes beside other work, by how its threads wait for each other.

    python3 -m benchmarks.busy [--rounds 3] [--steps 6] [--beside 0 1 2]

    ours             as the scripts run: a thread that waits sleeps after some microseconds (simple_llm/__init__.py)
    OpenMP's own     it looks on for milliseconds, as it does where nobody says otherwise
    one thread       OMP_NUM_THREADS=1, for comparison

`--beside` is how many busy processes each core has besides. Each figure is a process of its own; ways are timed in
turn. Prints seconds a step and how many times as long that is as with nothing beside it, and ends in one JSON line.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.report import machine
from benchmarks.train_step import NUM_ROWS, our_steps
from simple_llm import command_line, WAITING
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.data.sampling import Sampler
from simple_llm.machine import resolve_device
from tokenizer import train_tokenizer

WAYS = {
    "ours": {},
    "OpenMP's own": {"GOMP_SPINCOUNT": "300000"},  # libgomp's default on as many threads as cores
    "one thread": {"OMP_NUM_THREADS": "1"},
}
_ONE_FIGURE = "--one-figure"  # what a process of its own is told


def main(arguments: argparse.Namespace) -> None:
    if arguments.one_figure:
        print(seconds_a_step(arguments.steps))
        return
    seconds: dict[tuple[str, int], list[float]] = {}
    for _, beside, way in itertools.product(range(arguments.rounds), arguments.beside, WAYS):
        with busy_processes(beside * (os.cpu_count() or 1)):
            seconds.setdefault((way, beside), []).append(figure_of_a_process(WAYS[way], arguments.steps))
    rows = []
    for (way, beside), figures in seconds.items():
        alone = statistics.median(seconds[way, 0]) if (way, 0) in seconds else float("nan")
        median = statistics.median(figures)
        rows.append({"way": way, "beside": beside, "seconds": figures, "times_alone": median / alone})
        spread = f"{min(figures):.2f} to {max(figures):.2f}, n = {len(figures)}"
        print(f"{way:14} {beside} a core beside it: {median:.2f} s a step ({spread}), {median / alone:.2f} times")
    print(json.dumps({"unit": "seconds a step", "machine": machine(), "rows": rows}))


def seconds_a_step(num_steps: int) -> float:
    """Take steps of the default model, from all rows of a batch; the first two do not count."""
    data, train = DataConfig(), TrainConfig()
    problems = Sampler.of(data.numbers).uniform(np.random.default_rng(0), NUM_ROWS)
    steps = our_steps(data, train, problems, train_tokenizer(iter([]), data, train), resolve_device("cpu"))
    for _ in range(2):
        next(steps)
    started = time.perf_counter()
    for _ in range(num_steps):
        next(steps)
    return (time.perf_counter() - started) / num_steps


def figure_of_a_process(variables: dict[str, str], num_steps: int) -> float:
    """Time steps in a process that has these variables, and of those that say how threads wait no others."""
    others = {name: value for name, value in os.environ.items() if name not in WAITING}
    command = [sys.executable, "-m", "benchmarks.busy", _ONE_FIGURE, "--steps", str(num_steps)]
    done = subprocess.run(command, env={**others, **variables}, check=True, capture_output=True, encoding="utf-8")
    return float(done.stdout)


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Have as many processes compute, for as long as the block lasts."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=command_line.positive_integer, default=3)
    made.add_argument(
        "--steps", type=command_line.positive_integer, default=6, metavar="N", help="timed in each process"
    )
    made.add_argument("--beside", type=command_line.whole_number, nargs="+", default=[0, 1, 2], metavar="N")
    made.add_argument(_ONE_FIGURE, action="store_true", help=argparse.SUPPRESS)
    command_line.run(main, made.parse_args())
