"""Faults by the hundred, against the real scripts: what survives, what is detected, and what is lost.

    python3 -m benchmarks.faults [--only PART,PART,...] [--kills N] [--other-kills N] [--flips N] [--configs N]
                                 [--prompts N] [--seed S] [--json]

    kills       kill -9 of trainer.py at random moments, each run started again until its end
    data        kill -9 of data_generator.py
    proof       kill -9 of evaluate.py --exhaustive
    flips       one random bit of a checkpoint, a finished model or a dataset turned over
    configs     mutated pairs of config files
    prompts     fuzzed prompts
    trainer     the kills of `kills`, and a NaN gradient, in transformers.Trainer; only when named, needs accelerate

What is killed is a real process that runs the real script, by SIGKILL; it is forked from this process, which has
imported torch already, so that no start spends seconds on that. Survived means that the result is what it is without
the fault (for a flipped bit: what is read is the same; for a config or a prompt: it is taken), detected that the
fault was refused by name (for a dataset: that there is none). One thread is used. The exit code is 7 if anything was
lost; what transformers.Trainer loses is there to compare and does not count.
"""

import importlib
import importlib.util
import json
import random
import tempfile
import time
from argparse import Namespace
from pathlib import Path

from tqdm import tqdm

from benchmarks.faults.tally import Plan, table, Tally
from benchmarks.report import machine
from simple_llm import command_line
from simple_llm.errors import GateError, UsageError
from simple_llm.stopping import progress_bar

# A part is a module beside this file; the option says how many faults it tries.
PARTS = {
    "kills": "kills",
    "data": "other_kills",
    "proof": "other_kills",
    "flips": "flips",
    "configs": "configs",
    "prompts": "prompts",
    "trainer": "other_kills",
}
COMPARISON = "trainer"  # needs a package that nothing else does
COUNTS = {"kills": 100, "other_kills": 20, "flips": 200, "configs": 10_000, "prompts": 100_000}


def main(arguments: Namespace) -> None:
    names = arguments.only.split(",")
    if unknown := sorted(set(names) - PARTS.keys()):
        raise UsageError(f"--only {arguments.only}: {', '.join(unknown)} is no part; known are {', '.join(PARTS)}")
    if COMPARISON in names and importlib.util.find_spec("accelerate") is None:
        raise UsageError(f"--only {COMPARISON}: transformers.Trainer needs accelerate; `pip install accelerate`")
    parts = {}
    for name in PARTS:
        if name in names:
            parts[name] = run_part(name, getattr(arguments, PARTS[name]), arguments.seed)
            print(table(parts[name]), flush=True)
    ours = [tally for part in parts.values() for tally in part if tally.is_ours]
    num_lost = sum(tally.lost for tally in ours)
    if arguments.json:
        rows = {name: [tally.as_dict() for tally in part] for name, part in parts.items()}
        print(json.dumps({"seed": arguments.seed, "lost": num_lost, "machine": machine(), "parts": rows}))
    if num_lost:
        raise GateError(f"{num_lost:,} of {sum(tally.tried for tally in ours):,} faults were lost")


def run_part(name: str, count: int, seed: int) -> list[Tally]:
    """Try the faults of one part, in a folder of its own."""
    part = importlib.import_module(f"benchmarks.faults.{name}")  # those that were not asked for cost nothing
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        progress_bar(total=count, unit="fault", unit_scale=True, desc=name) as bar,
    ):
        tallies = part.run(Plan(Path(folder), count, random.Random(f"{name} {seed}"), bar.update))
    tallies[0].seconds = time.monotonic() - started
    return tallies


def options() -> Namespace:
    made = command_line.parser(__doc__)
    default = ",".join(name for name in PARTS if name != COMPARISON)
    made.add_argument("--only", default=default, metavar="PART,...", help=f"default: all but {COMPARISON}")
    made.add_argument("--seed", type=command_line.whole_number, default=0, metavar="S")
    for name, count in COUNTS.items():
        made.add_argument(
            f"--{name.replace('_', '-')}",
            type=command_line.positive_integer,
            default=count,
            metavar="N",
            help=f"default: {count:,}",
        )
    return made.parse_args()


if __name__ == "__main__":
    tqdm.monitor_interval = 0  # no thread of its own: this process forks
    arguments = options()
    command_line.run(main, arguments, debug=arguments.debug)
