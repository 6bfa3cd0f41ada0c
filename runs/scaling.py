"""How the cost of exactness grows: with the digits, with the base, and with the parameters, digits reversed or not.

    python3 -m runs.scaling [--axis digits] [--seeds 3] [--rows scaling.jsonl] [--plot docs/images/scaling.png]

    python3 -m runs.scaling                                 everything: hours
    python3 -m runs.scaling --axis base --seeds 1           one axis, once
    python3 -m runs.scaling --plot-only --plot p.png        from the rows that are there

At each point a model is trained from nothing with schedules of 100, 200, 400, ... steps, each twice as long as the one
before, until one has every one of 2,000 validation problems right at a quarter, half, three quarters or the end of it.
What counts is that schedule up to there, not those that fell short: its problems (steps times batch) and its seconds,
CPU seconds beside them. Where none gets there the row says so. Of those that do, 10,000 test problems are counted too.

Each run is a line of --rows; one that is there is not run again, and the point where the axes meet is run once for all.
"""

from simple_llm import command_line

if __name__ == "__main__":
    command_line.pause_collector()

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes

from runs.speedrun_seed import Clock, run_seed
from runs.tracks import Track
from simple_llm.config import DataConfig, Model, Numbers, Sampling, Storage, TrainConfig, Training

BATCH_SIZE = 128
SCHEDULES = (100, 200, 400, 800)  # steps
NUM_ROWS = 60_000
NUM_VALIDATION = 2_000
SHAPES = {  # layers, heads, width: from ten thousand to ten million parameters
    "10k": (1, 2, 28),
    "50k": (1, 4, 64),
    "400k": (2, 4, 128),
    "2M": (3, 4, 256),
    "10M": (8, 4, 320),
}
AXES: dict[str, tuple] = {"digits": (2, 4, 8, 16, 32), "base": (2, 4, 10, 16, 32), "size": tuple(SHAPES)}
LABELS = {"digits": "decimal digits", "base": "base", "size": "parameters"}


class Point(NamedTuple):
    """What a run is about: one value of one axis, everything else in the middle."""

    digits: int = 4  # decimal ones, whatever the base: base 2 writes 9999 with fourteen
    base: int = 10
    size: str = "400k"
    reversed: bool = True
    seed: int = 0


def configs(point: Point, steps: int) -> tuple[DataConfig, TrainConfig]:
    """The settings of a run with a schedule of that many steps."""
    layers, heads, width = SHAPES[point.size]
    maximum = 10**point.digits - 1
    data = DataConfig(
        seed=point.seed,
        numbers=Numbers(max=maximum, base=point.base, reversed=point.reversed),
        sampling=Sampling(uniform=0.4, lengths=0.4, carries=0.2),
        storage=Storage(num_sequences=min(NUM_ROWS, (maximum + 1) ** 2 // 2)),
    )
    model = Model(n_layer=layers, n_head=heads, n_embd=width, n_positions=data.answer_digits + 1, tokens_per_step=1)
    training = Training(
        batch_size=BATCH_SIZE,
        max_steps=steps,
        warmup_steps=10,
        learning_rate=0.006,
        muon_learning_rate=0.04,
        muon_momentum=0.9,
        eval_every=steps // 4,
        eval_problems=NUM_VALIDATION,
        stop_after_exact=1,
        save_every=10**6,
        seed=point.seed,
    )
    return data, TrainConfig(model=model, training=training)


def run_point(point: Point) -> dict[str, object]:
    """Double the schedule until one ends exact; return the row."""
    row: dict[str, object] = {**point._asdict(), "attempts": []}
    for steps in SCHEDULES:
        data, train = configs(point, steps)
        cpu_before = sum(os.times()[:4])
        with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
            told = run_seed(Track("", "", data.numbers.max), data, train, Path(folder), Clock(time.monotonic()))
        facts = {
            "schedule": steps,
            "exact": "test" in told,  # which is counted where validation was exact
            "problems": told["step"] * BATCH_SIZE,
            "seconds": told["seconds"],
            "cpu_seconds": round(told["cpu_seconds"] - cpu_before, 3),
            **{name: told[name] for name in ("validation", "test") if name in told},
        }
        row["attempts"].append(facts)
        row["num_parameters"] = told["num_parameters"]
        print(f"{point}: {facts}", file=sys.stderr, flush=True)
        if facts["exact"]:
            break
    return row


def main(arguments: argparse.Namespace) -> None:
    rows = [json.loads(line) for line in arguments.rows.read_text().splitlines()] if arguments.rows.exists() else []
    done = {point_of(row) for row in rows}
    if not arguments.plot_only:
        for point in points_of([arguments.axis] if arguments.axis else list(AXES), arguments.seeds):
            if point not in done:
                rows.append(run_point(point))
                with arguments.rows.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print_table(rows)
    if arguments.plot:
        draw(rows, arguments.plot)
    if arguments.json:
        print(json.dumps(rows))


def points_of(axes: list[str], num_seeds: int) -> list[Point]:
    """Every point of these axes, once: all of one seed before the next."""
    points = [
        Point(**{axis: value}, reversed=is_reversed, seed=seed)
        for seed, axis in itertools.product(range(num_seeds), axes)
        for value, is_reversed in itertools.product(AXES[axis], (True, False))
    ]
    return list(dict.fromkeys(points))


def point_of(row: dict) -> Point:
    return Point(**{name: row[name] for name in Point._fields})


def grouped(rows: list[dict], axis: str) -> dict[tuple[bool, int | str], list[dict]]:
    """The seeds of each point of an axis, in its order, reversed first."""
    ways = itertools.product((True, False), AXES[axis])
    points = {(way, value): Point(**{axis: value}, reversed=way) for way, value in ways}
    groups = {key: [row for row in rows if point_of(row)._replace(seed=0) == point] for key, point in points.items()}
    return {key: seeds for key, seeds in groups.items() if seeds}


def cost(row: dict, name: str) -> float:
    """Problems or CPU seconds of the schedule that became exact; infinite where none did."""
    last = row["attempts"][-1]
    return last[name] if last["exact"] else math.inf


def print_table(rows: list[dict]) -> None:
    """A row a point: medians and the spread over its seeds."""
    print("| axis | value | reversed | parameters | exact | problems to exactness | CPU seconds |")
    print("|---" * 7 + "|")
    for axis in AXES:
        for (is_reversed, value), seeds in grouped(rows, axis).items():
            num_exact = sum(row["attempts"][-1]["exact"] for row in seeds)
            counts = f"{num_exact} of {len(seeds)}"
            cells = [spread_text([cost(row, name) for row in seeds]) for name in ("problems", "cpu_seconds")]
            facts = [axis, str(value), "yes" if is_reversed else "no", f"{seeds[0]['num_parameters']:,}", counts]
            print("| " + " | ".join([*facts, *cells]) + " |")


def spread_text(values: list[float]) -> str:
    """Median (smallest to largest)."""
    low, middle, high = (f"{pick(values):,.0f}" for pick in (min, statistics.median, max))
    return f"{middle} ({low} to {high})".replace("inf", "never")


def draw(rows: list[dict], path: Path) -> None:
    """Problems and CPU seconds to exactness over each axis: a dot a seed, a line through the medians."""
    matplotlib.use("Agg")
    measured = [axis for axis in AXES if grouped(rows, axis)]
    size = (4.3 * len(measured), 7)
    figure, grid = pyplot.subplots(2, len(measured), figsize=size, layout="constrained", squeeze=False)
    for column, axis in enumerate(measured):
        for line, (name, label) in enumerate((("problems", "problems"), ("cpu_seconds", "CPU seconds"))):
            draw_axis(grid[line, column], grouped(rows, axis), axis, name)
            grid[line, column].set(xlabel=LABELS[axis], ylabel=f"{label} to exactness", xscale="log", yscale="log")
    grid[0, 0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_axis(axes: Axes, points: dict[tuple[bool, int | str], list[dict]], axis: str, name: str) -> None:
    """Draw one cost over one axis; seeds that never got there are crosses at the top."""
    ticks = {}
    for is_reversed, color in ((True, "tab:blue"), (False, "tab:red")):
        lines = {value: seeds for (way, value), seeds in points.items() if way == is_reversed}
        middles = []
        for value, seeds in lines.items():
            place = seeds[0]["num_parameters"] if axis == "size" else value
            ticks[place] = str(value)
            costs = [cost(row, name) for row in seeds]
            spent = [row["attempts"][-1][name] for row in seeds]
            for one, at_least in zip(costs, spent, strict=True):
                axes.plot(place, at_least, marker="o" if math.isfinite(one) else "x", color=color, markersize=5)
            if math.isfinite(statistics.median(costs)):
                middles.append((place, statistics.median(costs)))
        label = "reversed" if is_reversed else "not reversed"
        axes.plot(*(zip(*middles, strict=True) if middles else ((), ())), color=color, label=f"{label} (x: never)")
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()


def options() -> argparse.Namespace:
    """Read the command line."""
    made = command_line.parser(__doc__)
    made.add_argument("--axis", choices=AXES, help="default: all of them")
    made.add_argument("--seeds", type=command_line.positive_integer, default=3, metavar="N")
    made.add_argument("--rows", type=Path, default=Path("scaling.jsonl"), metavar="FILE")
    made.add_argument("--plot", type=Path, metavar="PNG")
    made.add_argument("--plot-only", action="store_true", help="run nothing")
    return made.parse_args()


if __name__ == "__main__":
    asked = options()
    command_line.run(main, asked, debug=asked.debug)
