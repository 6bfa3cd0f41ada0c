"""Whether training every second block alone at first is worth it: two schedules of the default model at equal cost.

    python3 -m runs.half_depth [--seeds 0 1 ...] [--at-once N] [--folder DIR] [section.key=value ...]

A step at half depth takes half of the work of a full one. So 700 steps, 350 of them at half depth, cost as much as 525
full ones. Both are trained on the same rows from the same seed, with the rates of runs/speedrun/D.yaml, in base 16;
then all validation rows are asked, about 22,000. Prints a row a seed and the totals, and ends in one JSON line. A
finished run is used again.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runs.pipeline import REPOSITORY, script
from simple_llm import command_line

SCHEDULES: dict[str, tuple[int, int | None]] = {  # steps, and how many of them at half depth
    "half depth first": (700, 350),
    "all blocks": (525, None),
}
RATES = ("training.learning_rate=0.006", "training.muon_learning_rate=0.04", "training.muon_momentum=0.9")
NUM_ROWS = 200_000


def main(arguments: argparse.Namespace) -> None:
    folder, overrides = arguments.folder.resolve(), arguments.overrides
    for seed in arguments.seeds:
        script("data_generator.py", *data_settings(seed, folder), *overrides)
    with ThreadPoolExecutor(arguments.at_once) as pool:
        asked = [(seed, name) for seed in arguments.seeds for name in SCHEDULES]
        runs = list(pool.map(lambda one: run(*one, folder, overrides), asked))
    print_table(runs)
    print(json.dumps({"runs": runs, "wrong": totals(runs)}))


def data_settings(seed: int, folder: Path) -> list[str]:
    """The rows of a seed, which both schedules learn from."""
    rows = folder / f"sequences-{seed}.txt"
    return [f"seed={seed}", f"storage.path={rows}", f"storage.num_sequences={NUM_ROWS}"]


def run(seed: int, name: str, folder: Path, overrides: list[str]) -> dict[str, object]:
    """Train one model; return how much of the validation it has wrong."""
    max_steps, half_depth_steps = SCHEDULES[name]
    model = folder / f"{name.replace(' ', '-')}-{seed}"
    settings = [
        *data_settings(seed, folder),
        f"paths.model={model}",
        *RATES,
        f"training.seed={seed}",
        f"training.max_steps={max_steps}",
        f"training.half_depth_steps={'null' if half_depth_steps is None else half_depth_steps}",
        f"training.eval_every={max_steps}",
        f"training.eval_problems={NUM_ROWS}",
        "training.save_every=1000000",
        *overrides,
    ]
    script("tokenizer.py", *settings)
    trained = script("trainer.py", *settings)
    return {
        "seed": seed,
        "schedule": name,
        "wrong": trained["num_total"] - trained["num_correct"],
        "of": trained["num_total"],
        "steps": trained["step"],
        "seconds": trained["seconds"],
    }


def totals(runs: list[dict]) -> dict[str, list[int]]:
    """Wrong answers of each schedule and how many were asked, over all seeds."""
    return {
        name: [sum(one[key] for one in runs if one["schedule"] == name) for key in ("wrong", "of")]
        for name in SCHEDULES
    }


def print_table(runs: list[dict]) -> None:
    """A row a seed, a column a schedule, and the totals."""
    heads = [f"{name}, {one['steps']:,} steps" for name, one in zip(SCHEDULES, runs, strict=False)]
    print("| seed | " + " | ".join(heads) + " |")
    print("|---" * (1 + len(heads)) + "|")
    for seed in dict.fromkeys(one["seed"] for one in runs):
        cells = [f"{one['wrong']:,} of {one['of']:,}" for one in runs if one["seed"] == seed]
        print(f"| {seed} | " + " | ".join(cells) + " |")
    print("| all | " + " | ".join(f"{wrong:,} of {of:,}" for wrong, of in totals(runs).values()) + " |")


def options() -> argparse.Namespace:
    """Read the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    made.add_argument("--at-once", type=int, default=1, metavar="N", help="so many trainings side by side, on a GPU")
    made.add_argument("--folder", type=command_line.path, default=REPOSITORY / "../simple-llm-data/half-depth")
    made.add_argument("overrides", nargs="*", metavar="section.key=value", help="for every run")
    return made.parse_intermixed_args()


if __name__ == "__main__":
    main(options())
