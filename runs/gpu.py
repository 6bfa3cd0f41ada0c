"""What waits for a GPU, in ten minutes: tests, the default model and its pairs, tracks A to D, throughput.

    python3 -m runs.gpu [--minutes 10] [--only STEP ...] [--write FILE] [--dry]

    python3 -m runs.gpu --write gpu.json                FILE is written anew after every step
    python3 -m runs.gpu --only tests "track A"          these, in this order
    python3 -m runs.gpu --dry                           everything made small, without a GPU too

Each step is a command of the repository with a time limit, and the worthiest come first: the last ones have what time
is left. One that goes over its limit is killed with every process it started, and the next one starts. Ends in one JSON
line: for each step its seconds, exit code and the JSON it ended in, lists cut to their first 20; of pairs that were
checked when time was up, how many.
All else goes to a temporary folder that is deleted at the end.

The exit code is 0 when it came to its end: whether a step did is in its own exit code, null where it was killed.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from runs.pipeline import REPOSITORY
from simple_llm import command_line
from simple_llm.errors import UsageError
from simple_llm.files.manifest import commit, versions
from simple_llm.files.writing import write_ours
from simple_llm.machine import host_facts

MAX_SHOWN = 20  # of a list
MAX_LINES = 12  # of what a step said that failed, on stdout and on stderr
MAX_WIDTH = 300
# Not in the way of these tests: a cache in the repository, and test files that want what is not installed.
NO_MATTER = ["-p", "no:cacheprovider", "--continue-on-collection-errors"]
SMALL_DATA = ["numbers.max=99", "storage.num_sequences=2000"]
SMALL_MODEL = ["model.n_layer=4", "model.n_embd=16"]
SMALL_TRAINING = [
    "training.max_steps=4",
    "training.eval_every=4",
    "training.batch_size=16",
    "training.eval_problems=50",
]
SMALL = [*SMALL_DATA, *SMALL_MODEL, *SMALL_TRAINING]


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        limit: seconds it may take.
        command: what stands after `python3`.
        small: added to it with --dry; what is said twice counts the second time.
    """

    name: str
    limit: float
    command: list[str]
    small: list[str]


def steps_in(folder: Path) -> list[Step]:
    """All steps, the worthiest first; those of one model find in the folder what the ones before left."""
    model, evaluate = folder / "default", ["evaluate.py", "--model", str(folder / "default"), "--json"]
    settings = [f"storage.path={folder / 'sequences.txt'}", f"paths.model={model}", "--json"]
    small_tracks = {
        "A": ["numbers.max=99", "model.n_embd=16"],
        "B": ["numbers.max=99", "model.n_embd=16"],
        "C": ["model.n_embd=16"],
        "D": ["numbers.max=99", *SMALL_MODEL],
    }
    return [
        Step("tests", 90, ["-m", "pytest", "-m", "gpu", "-q", "-n", "0", *NO_MATTER], []),
        Step("data", 40, ["data_generator.py", *settings], SMALL_DATA),
        Step("tokenizer", 30, ["tokenizer.py", *settings], SMALL),
        Step("training", 120, ["trainer.py", *settings], SMALL),
        Step("held out", 40, [*evaluate, "--samples", "10000"], ["--samples", "50"]),
        Step("more held out", 60, [*evaluate, "--samples", "100000", "--seed", "4242"], ["--samples", "50"]),
        *[
            Step(
                f"track {track}",
                limit,
                ["-m", "runs.speedrun", "--track", track, "--seeds", str(num_seeds)],
                ["--seeds", "1", "storage.num_sequences=2000", *SMALL_TRAINING, *small_tracks[track]],
            )
            for track, num_seeds, limit in (("A", 2, 60), ("B", 2, 60), ("C", 2, 60), ("D", 1, 90))
        ],
        Step(
            "training step",
            60,
            ["-m", "benchmarks.train_step", "--rounds", "3"],
            ["--rounds", "1", "--steps", "1", "--batch-size", "8", "--plain-batch-size", "8"],
        ),
        Step(
            "decoding",
            90,
            ["-m", "benchmarks.decode", "--rounds", "1", "--seconds", "0.5"],
            ["--seconds", "0.01", "--models", "small"],
        ),
        Step("every pair", 150, [*evaluate, "--exhaustive", "--yes"], []),
    ]


def main(arguments: argparse.Namespace) -> None:
    facts = host_facts()
    if facts["gpu"] == "none" and not arguments.dry:
        raise UsageError("this machine has no GPU of CUDA; --dry runs everything small without one")
    document = {"commit": commit(), "dry": arguments.dry, "machine": facts, "versions": versions(), "steps": {}}
    ends = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="gpu-", ignore_cleanup_errors=True) as folder:
        for step in chosen(steps_in(Path(folder)), arguments.only):
            told = run_step(step, Path(folder), ends - time.monotonic(), arguments.dry)
            document["steps"][step.name] = told
            print(line_of(step, told), file=sys.stderr, flush=True)
            if arguments.write:
                write_ours(arguments.write, json.dumps(document, indent=1).encode())
    print(json.dumps(document))


def chosen(steps: list[Step], names: list[str] | None) -> list[Step]:
    """Those that were named, in that order; all of them where none was."""
    by_name = {step.name: step for step in steps}
    if unknown := [name for name in names or () if name not in by_name]:
        raise UsageError(f"--only {unknown[0]}: there are {', '.join(by_name)}")
    return [by_name[name] for name in names] if names else steps


def run_step(step: Step, folder: Path, seconds_left: float, is_small: bool) -> dict[str, object]:
    """Run a step within its limit and the seconds that are left for all; return what is told of it."""
    limit = min(step.limit, seconds_left)
    command = [*step.command, *(step.small if is_small else ())]
    told = {"command": " ".join(["python3", *command]).replace(str(folder), "FOLDER"), "limit": round(limit, 1)}
    if limit <= 0:
        return {**told, "seconds": 0.0, "exit_code": None, "why": "no time was left"}
    started = time.monotonic()
    with tempfile.TemporaryFile(dir=folder) as said, tempfile.TemporaryFile(dir=folder) as complained:
        exit_code = call(command, folder, limit, said, complained)
        told |= {"seconds": round(time.monotonic() - started, 1), "exit_code": exit_code}
        lines, complaints = lines_in(said), lines_in(complained)
    told["result"] = result_in(lines)
    if exit_code is None:
        told["why"] = f"killed after {limit:.0f} seconds"
    if exit_code != 0:
        told["last_lines"] = [line[:MAX_WIDTH] for line in (*lines[-MAX_LINES:], *complaints[-MAX_LINES:])]
    if "--exhaustive" in command and told["result"] is None:
        told["so_far"] = pairs_so_far(folder)
    return told


def call(command: list[str], folder: Path, limit: float, said: BinaryIO, complained: BinaryIO) -> int | None:
    """Run a command with nothing left behind; None where it had to be killed, with every process that it started."""
    caches = {"TMPDIR": folder, "XDG_CACHE_HOME": folder, "HF_HOME": folder / "hf", "MPLCONFIGDIR": folder}
    caches |= {"TRITON_CACHE_DIR": folder / "triton", "CUDA_CACHE_PATH": folder / "cuda"}
    caches |= {"HYPOTHESIS_STORAGE_DIRECTORY": folder / "hypothesis"}
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env={**os.environ, **{name: str(path) for name, path in caches.items()}},
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=complained,
        start_new_session=True,
    )
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:  # after Ctrl-C too; and what it left running is ended where it ended by itself
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def lines_in(file: BinaryIO) -> list[str]:
    """What was written, and of a progress bar the last state."""
    file.seek(0)
    lines = file.read().decode(errors="replace").split("\n")
    return [line.rstrip("\r").rpartition("\r")[2] for line in lines if line.strip()]


def result_in(lines: list[str]) -> object:
    """The JSON of the last line; a line that is none as it is, which is what pytest counts in; None for no line."""
    try:
        return cut(json.loads(lines[-1]))
    except IndexError:
        return None
    except json.JSONDecodeError:
        return lines[-1]


def cut(document: object) -> object:
    """A JSON document with the first few of each long list."""
    if isinstance(document, dict):
        return {key: cut(value) for key, value in document.items()}
    return [cut(value) for value in document[:MAX_SHOWN]] if isinstance(document, list) else document


def pairs_so_far(folder: Path) -> dict[str, int]:
    """How many ordered pairs the shards of an unfinished proof count, and how many of them are wrong."""
    shards = [json.loads(path.read_text("utf-8"))["shard"] for path in folder.glob("default/proof/shard-*.json")]
    return {name: sum(shard[name] for shard in shards) for name in ("checked", "wrong")}


def line_of(step: Step, told: dict) -> str:
    """A step for a person."""
    ended = told.get("why") or f"exit code {told['exit_code']}"
    return f"{step.name}: {told['seconds']} s, {ended}"


def options() -> argparse.Namespace:
    """Read the command line."""
    made = command_line.parser(__doc__)
    made.add_argument("--minutes", type=float, default=10.0, help="after which no step goes on")
    made.add_argument("--only", nargs="+", metavar="STEP", help="these steps, in this order")
    made.add_argument("--write", type=command_line.path, metavar="FILE", help="keep the JSON here, after every step")
    made.add_argument("--dry", action="store_true", help="everything small, without a GPU too")
    return made.parse_args()


def end(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that what was started is killed and the folder deleted."""
    sys.exit(128 + number)


if __name__ == "__main__":
    asked = options()
    signal.signal(signal.SIGTERM, end)
    command_line.run(main, asked, debug=asked.debug)
