"""Time to exactness: how long a track of docs/SPEEDRUN.md takes, from nothing, over some seeds.

    python3 -m runs.speedrun --track A [--seeds 5] [--first-seed 0] [--baseline] [--recipes DIR] [section.key=value ...]

    python3 -m runs.speedrun --track A --seeds 3
    python3 -m runs.speedrun --track A --baseline                       and how far the reference recipe is by then
    python3 -m runs.speedrun --track A --seeds 1 training.max_steps=400          another recipe, tried out

Reads runs/speedrun/A.yaml and runs/speedrun/A_data.yaml, which say what differs from the defaults. Each seed is a fresh
process; its clock starts before that process does. Prints a table row and ends in one JSON line. Exit code 7 where a
seed did not pass.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from runs.pipeline import REPOSITORY
from runs.tracks import breaches, NUM_TEST, NUM_VALIDATION, recipe, RECIPES, Track, TRACKS
from simple_llm import command_line
from simple_llm.errors import GateError
from simple_llm.evaluation.certificates import written_place
from simple_llm.files.manifest import commit

_FACTS = ("num_parameters", "machine", "versions")  # the same for every seed
COLUMNS = ("track", "parameters", "seeds", "passed", "median seconds (min to max)", "CPU seconds", "seconds by phase")


def main(arguments: argparse.Namespace) -> None:
    track, seeds = TRACKS[arguments.track], range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    data, train = recipe(track.name, arguments.recipes, arguments.first_seed, arguments.overrides)
    told = ["--track", track.name, "--recipes", str(arguments.recipes.resolve()), *arguments.overrides]
    code, runs = commit(), []
    for seed in seeds:
        stolen_before = stolen_seconds()
        run = fresh_process("runs.speedrun_seed", *told, "--seed", str(seed))
        runs.append({**run, "stolen_seconds": round(stolen_seconds() - stolen_before, 1)})
        print(line_of(runs[-1]), file=sys.stderr, flush=True)
    document = summary(track, runs, [*breaches(track, data, train, len(runs)), *shortfalls(runs)])
    if commit() != code:
        document["no_record"].append("the code changed between the seeds")
    document |= {"command": arguments.command, "commit": code, "overrides": arguments.overrides}
    if arguments.baseline:
        limit = ["--seconds", str(document["seconds"]["median"]), "--seed", str(arguments.first_seed)]
        document["baseline"] = fresh_process("runs.reference_recipe", *told, *limit)
    print_table(document)
    print(json.dumps(document))
    failed = [f"seed {run['seed']}: {run['why']}" for run in runs if not run["passed"]]
    if failed:
        raise GateError(f"track {track.name}: {len(failed)} of {len(runs)} seeds failed; " + "; ".join(failed))


def stolen_seconds() -> float:
    """CPU seconds that this virtual machine was ready to use and its host gave to others, since it started; else 0."""
    try:
        with open("/proc/stat", encoding="utf-8") as file:
            return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def fresh_process(module: str, *arguments: str) -> dict[str, object]:
    """Run a module in a new process that is told when it was started; return the JSON it ends in.

    What it writes goes to a folder that is deleted afterwards, and so do compiled kernels, so that no run finds those
    of another.
    """
    with tempfile.TemporaryDirectory(prefix="speedrun-") as folder:
        caches = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor", "TRITON_CACHE_DIR": f"{folder}/triton"}
        command = [sys.executable, "-m", module, *arguments, "--folder", folder, "--started"]
        done = subprocess.run(
            [*command, repr(time.monotonic())],
            cwd=REPOSITORY,
            env={**os.environ, **caches},
            stdout=subprocess.PIPE,
            text=True,
        )
    if done.returncode:
        exit_code = done.returncode if done.returncode > 0 else 128 - done.returncode  # ended by a signal
        command_line.fail(f"{module} ended with exit code {exit_code}", exit_code)
    return json.loads(done.stdout.splitlines()[-1])


def shortfalls(runs: list[dict]) -> Iterator[str]:
    """Say which seeds are no record's or failed, and where there were fewer problems than have to be right."""
    if runs[0]["seed"]:
        yield f"seeds from {runs[0]['seed']}, not from 0"
    if num_failed := sum(not run["passed"] for run in runs):
        yield f"{num_failed} of {len(runs)} seeds failed"
    for name, needed in (("validation", NUM_VALIDATION), ("test", NUM_TEST)):
        fewest = min((run[name][1] for run in runs if name in run), default=needed)
        if fewest < needed:
            yield f"only {fewest:,} problems in the {name}, not {needed:,}"


def summary(track: Track, runs: list[dict], breached: list[str]) -> dict[str, object]:
    """What the last line holds: medians over all seeds, those that failed included, and every seed by itself."""
    facts = {key: runs[0][key] for key in _FACTS}
    phases = {phase: [run["phases"].get(phase, 0.0) for run in runs] for run in runs for phase in run["phases"]}
    return {
        "track": track.name,
        "goal": track.goal,
        "seeds": len(runs),
        "passed": sum(run["passed"] for run in runs),
        "no_record": breached,
        "seconds": spread([run["seconds"] for run in runs]),
        "cpu_seconds": spread([run["cpu_seconds"] for run in runs]),
        "phases": {phase: round(statistics.median(seconds), 3) for phase, seconds in phases.items()},
        **facts,
        "runs": [{key: value for key, value in run.items() if key not in facts} for run in runs],
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": round(statistics.median(values), 3), "min": min(values), "max": max(values)}


def print_table(document: dict) -> None:
    """Print the row of docs/SPEEDRUN.md, what it is no record for, and how far the baseline is."""
    seconds = document["seconds"]
    cells = (
        document["track"],
        f"{document['num_parameters']:,}",
        document["seeds"],
        f"{document['passed']} of {document['seeds']}",
        f"{seconds['median']:.1f} ({seconds['min']:.1f} to {seconds['max']:.1f})",
        f"{document['cpu_seconds']['median']:.1f}",
        ", ".join(f"{phase} {value:.1f}" for phase, value in document["phases"].items()),
    )
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    print("| " + " | ".join(map(str, cells)) + " |")
    if document["no_record"]:
        print(f"no record: {', '.join(document['no_record'])}")
    if baseline := document.get("baseline"):
        counts = ", ".join(f"{name} {num:,} / {of:,}" for name, (num, of) in baseline["exact"].items())
        print(f"reference recipe after {baseline['seconds']:.1f} s, {baseline['step']:,} steps: exact in {counts}")


def line_of(run: dict) -> str:
    """One seed for a person, with the first wrong problems where there are any."""
    times = f"{run['seconds']:.1f} s, {run['cpu_seconds']:.1f} s of CPU, {run['stolen_seconds']:.1f} s stolen"
    told = f"{times}, " + ("passed" if run["passed"] else "FAILED")
    lines = [f"seed {run['seed']}: {told}" + (f", {run['why']}" if run["why"] else "")]
    lines += ["  {x}+{y}={sum}, said {said}".format(**failure) for failure in run.get("failures", ())]
    lines += [f"  wrong: {written_wrong(one)}" for one in run.get("proof", {}).get("failures", ())]
    return "\n".join(lines)


def written_wrong(failure: list[int] | dict[str, str]) -> str:
    """What a proof found wrong, for people: a pair of summands, or a context and the problem that shows it."""
    return written_place(failure) if isinstance(failure, dict) else "{}+{}".format(*failure)


def options() -> argparse.Namespace:
    """Read the command line."""
    made = command_line.parser(__doc__)
    made.add_argument("--track", choices=TRACKS, required=True)
    made.add_argument("--seeds", type=command_line.positive_integer, default=5, metavar="N", help="how many")
    made.add_argument("--first-seed", type=command_line.whole_number, default=0, metavar="S")
    made.add_argument("--baseline", action="store_true", help="run the reference recipe for as long as the median")
    made.add_argument(
        "--recipes", type=command_line.path, default=RECIPES, metavar="DIR", help="where the YAML files are"
    )
    made.add_argument("overrides", nargs="*", metavar="section.key=value", help=command_line.OVERRIDES_HELP)
    arguments = made.parse_intermixed_args()
    arguments.command = shlex.join(["python3", "-m", "runs.speedrun", *sys.argv[1:]])
    return arguments


if __name__ == "__main__":
    asked = options()
    command_line.run(main, asked, debug=asked.debug)
