"""How the cost of exactness grows: with the digits, with the base, and with the parameters.

    python3 -m runs.scaling [--axis digits] [--seeds 3] [--rows scaling.json [...]] [--plot docs/images/scaling.png]

    python3 -m runs.scaling                                 everything: hours
    python3 -m runs.scaling --axis base --seeds 1           one axis, once
    python3 -m runs.scaling --plot-only --rows a.json b.json --plot p.png        from the rows that are there

Each point is measured in three ways: digits reversed with an attention window (left 0, right 1), digits reversed, and
the most significant digit first. The last two see everything and have the same losses. Positions count from the digit
that is written first, so equal positions mean equal place value only where digits are reversed.

At each point a model is trained from nothing with schedules of 100, 200, 400, ... up to 1,600 steps of 128 problems,
each twice as long as the one before, until one has every one of 2,000 validation problems right (of fewer, where the
range has no more) at a quarter, half, three quarters or the end of it. What counts is that schedule up to there, not
those that fell short: its problems and its CPU seconds, from drawing the rows to the checkpoint. Of a model that is
exact 10,000 test problems are counted too, or as many as there are. Longer schedules are not tried where one of 400
steps or more ends with fewer than a tenth right, nor where the next is expected to bring the point beyond 40 minutes of
CPU time.

A point is kept in the first file of --rows and not run again; the point where the axes meet is run once for all.
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

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from runs.speedrun_seed import Clock, run_seed
from runs.tracks import Track
from simple_llm.config.settings import (
    AttentionWindow,
    DataConfig,
    Model,
    Numbers,
    Sampling,
    Storage,
    TrainConfig,
    Training,
)
from simple_llm.evaluation.pictures import ACCENT, AMBER, LINE, save_figure, WRONG
from simple_llm.files.manifest import commit
from simple_llm.files.writing import write_file
from simple_llm.machine import processor

BATCH_SIZE = 128
SCHEDULES = (100, 200, 400, 800, 1600)  # steps
BUDGET = 2400  # CPU seconds a point; a schedule that is expected to go beyond is not tried
PATIENCE = 400  # steps; a schedule of so many or more has to end with a tenth right
NUM_ROWS = 110_000
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
COSTS = {"problems": "problems", "cpu_seconds": "CPU seconds"}
WAYS = {"window": ACCENT, "reversed": AMBER, "not reversed": WRONG}  # and their colors


class Point(NamedTuple):
    """What a run is about: one value of one axis, everything else in the middle."""

    digits: int = 4  # decimal ones, whatever the base: base 2 writes 9999 with fourteen
    base: int = 10
    size: str = "400k"
    way: str = "reversed"
    seed: int = 0


def configs(point: Point, steps: int) -> tuple[DataConfig, TrainConfig]:
    """The settings of a run with a schedule of that many steps."""
    layers, heads, width = SHAPES[point.size]
    maximum = 10**point.digits - 1
    data = DataConfig(
        seed=point.seed,
        numbers=Numbers(max=maximum, base=point.base, reversed=point.way != "not reversed"),
        sampling=Sampling(uniform=0.4, lengths=0.4, carries=0.2),
        storage=Storage(num_sequences=min(NUM_ROWS, (maximum + 1) ** 2 // 2)),
    )
    model = Model(
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        n_positions=data.answer_digits + 1,
        tokens_per_step=1,
        attention_window=AttentionWindow(left=0, right=1) if point.way == "window" else None,
    )
    training = Training(
        batch_size=BATCH_SIZE,
        max_steps=steps,
        warmup_steps=10,
        learning_rate=0.006,
        muon_learning_rate=0.04,
        muon_momentum=0.9,
        deep_supervision=0.0,  # only reversed digits in more than one block can have it
        eval_every=steps // 4,
        eval_problems=NUM_VALIDATION,
        stop_after_exact=1,
        device="cpu",  # whose seconds are counted
        save_every=10**6,
        seed=point.seed,
    )
    return data, TrainConfig(model=model, training=training)


def run_point(point: Point, code: str) -> dict[str, object]:
    """Double the schedule until one ends exact; return the row, with the commit of the code."""
    row: dict[str, object] = {**point._asdict(), "commit": code, "processor": processor(), "attempts": []}
    for steps in SCHEDULES:
        data, train = configs(point, steps)
        cpu_before = sum(os.times()[:4])
        with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
            told = run_seed(Track("", "", data.numbers.max), data, train, Path(folder), Clock(time.monotonic()))
        facts = {
            "schedule": steps,
            "exact": "test" in told,  # which is counted where validation was exact
            "problems": told.get("step", steps) * BATCH_SIZE,  # a run that diverged has no step
            "cpu_seconds": round(told["cpu_seconds"] - cpu_before, 3),
            **{name: told[name] for name in ("seconds", "validation", "test", "why") if name in told},
        }
        row["attempts"].append(facts)
        row["num_parameters"] = told["num_parameters"]
        print(f"{point}: {facts}", file=sys.stderr, flush=True)
        if facts["exact"] or is_hopeless(facts) or is_too_long(row["attempts"]):
            break
    return row


def is_hopeless(attempt: dict) -> bool:
    right, total = attempt.get("validation", (1, 1))  # none where the loss diverged: another schedule may not
    return attempt["schedule"] >= PATIENCE and 10 * right < total


def is_too_long(attempts: list[dict]) -> bool:
    """Whether the next schedule, which takes twice as long as the last, would go beyond what a point may cost."""
    seconds = [attempt["cpu_seconds"] for attempt in attempts]
    return sum(seconds) + 2 * seconds[-1] > BUDGET


def main(arguments: argparse.Namespace) -> None:
    code = commit()  # of what is imported by now, whatever is checked out later
    rows: dict[Point, dict] = {}
    for path in arguments.rows:
        if path.exists() or arguments.plot_only:
            rows = read_rows(path) | rows
    kept_in = arguments.rows[0]
    kept_in.parent.mkdir(parents=True, exist_ok=True)
    for point in points_to_run(arguments) if not arguments.plot_only else ():
        if point not in rows:
            rows[point] = run_point(point, code)
            rows = (read_rows(kept_in) if kept_in.exists() else {}) | rows  # another process may have added to it
            write_file(kept_in, json.dumps(list(rows.values()), indent=1).encode())
    told = list(rows.values())
    print_table(told)
    if arguments.plot:
        draw(told, arguments.plot)
    if arguments.json:
        print(json.dumps(told))


def read_rows(path: Path) -> dict[Point, dict]:
    return {point_of_row(row): row for row in json.loads(path.read_text("utf-8"))}


def points_to_run(arguments: argparse.Namespace) -> list[Point]:
    """Every point that was asked for, once: all of one seed before the next."""
    axes = [arguments.axis] if arguments.axis else list(AXES)
    points = [
        Point(**{axis: value}, way=way, seed=seed)
        for seed, axis in itertools.product(range(arguments.seeds), axes)
        for value, way in itertools.product(AXES[axis], WAYS)
    ]
    return list(dict.fromkeys(points))


def point_of_row(row: dict) -> Point:
    return Point(**{name: row[name] for name in Point._fields})


def grouped(rows: list[dict], axis: str) -> dict[tuple[str, int | str], list[dict]]:
    """The seeds of each point of an axis, by way and value, in order; points that have none are left out."""
    keys = list(itertools.product(WAYS, AXES[axis]))
    points = {(way, value): Point(**{axis: value}, way=way) for way, value in keys}
    groups = {key: [row for row in rows if point_of_row(row)._replace(seed=0) == points[key]] for key in keys}
    return {key: seeds for key, seeds in groups.items() if seeds}


def measured_axes(rows: list[dict]) -> list[str]:
    """The axes with more than the point where they meet."""
    return [axis for axis in AXES if len({value for _, value in grouped(rows, axis)}) > 1]


def cost(row: dict, name: str) -> float:
    """Problems or CPU seconds of the schedule that became exact; infinite where none did."""
    last = row["attempts"][-1]
    return last[name] if last["exact"] else math.inf


def print_table(rows: list[dict]) -> None:
    """A row a point: medians and the spread over its seeds, and where they were measured."""
    columns = "axis", "value", "way", "parameters", "validation exact", "test", "problems to exactness", "CPU seconds"
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for axis in measured_axes(rows):
        for (way, value), seeds in grouped(rows, axis).items():
            exact = [row["attempts"][-1] for row in seeds if row["attempts"][-1]["exact"]]
            right, total = (sum(attempt["test"][index] for attempt in exact) for index in (0, 1))
            counts = f"{len(exact)} of {len(seeds)}", f"{right:,} / {total:,}" if exact else ""
            costs = [spread_text([cost(row, name) for row in seeds]) for name in COSTS]
            facts = axis, str(value), way, f"{seeds[0]['num_parameters']:,}"
            print("| " + " | ".join([*facts, *counts, *costs]) + " |")
    for where in sorted({f"commit {row['commit']}, {row['processor']}" for row in rows}):
        print(f"measured at {where}")


def spread_text(values: list[float]) -> str:
    """Median (smallest to largest); a dash where no schedule that was tried was long enough."""
    low, middle, high = (f"{pick(values):,.0f}" for pick in (min, statistics.median, max))
    text = low if low == high else f"{middle} ({low} to {high})"
    return text.replace("inf", "-")


def draw(rows: list[dict], path: Path) -> None:
    """Problems and CPU seconds to exactness over each axis: a dot a seed, a dash at the median of each way.

    A seed that was not exact after the longest schedule that was tried is a cross above the line.
    """
    measured = measured_axes(rows)
    figure = Figure(figsize=(4.3 * max(1, len(measured)), 6), layout="constrained")
    grid = figure.subplots(2, max(1, len(measured)), squeeze=False, sharey="row")
    for row, (name, label) in enumerate(COSTS.items()):
        highest = max((cost(one, name) for one in rows if one["attempts"][-1]["exact"]), default=1.0)
        for axes, axis in zip(grid[row], measured, strict=True):
            axes.set(yscale="log", xlabel=LABELS[axis])
            axes.yaxis.set_minor_formatter(NullFormatter())
            draw_axis(axes, grouped(rows, axis), axis, name, 2 * highest)
        if measured:
            first = grid[row, 0]
            first.set_ylabel(f"{label} to exactness")
            first.text(-0.02, 2 * highest, "not exact", ha="right", va="center", transform=first.get_yaxis_transform())
    for index, (way, color) in enumerate(WAYS.items() if measured else ()):
        grid[0, 0].text(0.32 * index, 1.03, way, color=color, weight="bold", transform=grid[0, 0].transAxes)
    save_figure(figure, path)


def draw_axis(
    axes: Axes, points: dict[tuple[str, int | str], list[dict]], axis: str, name: str, not_exact: float
) -> None:
    """Draw one cost over one axis, the ways side by side at each of its values; `not_exact` is where crosses stand."""
    values = [value for value in AXES[axis] if any(its_value == value for _, its_value in points)]
    for place, value in enumerate(values):
        for shift, (way, color) in zip((-0.24, 0.0, 0.24), WAYS.items(), strict=True):
            figures = [cost(row, name) for row in points.get((way, value), ())]
            exact = [one for one in figures if math.isfinite(one)]
            spread = [place + shift + 0.05 * (index - 1) for index in range(len(figures))]
            axes.plot(spread[: len(exact)], exact, "o", color=color, markersize=4, alpha=0.7, linewidth=0)
            failed = spread[len(exact) :]
            axes.plot(failed, [not_exact] * len(failed), "x", color=color, markersize=4, linewidth=0)
            if len(exact) > len(failed):
                axes.hlines(statistics.median(figures), place + shift - 0.11, place + shift + 0.11, color=color)
    axes.axhline(not_exact / 1.4, color=LINE, linewidth=1)
    axes.set_xticks(range(len(values)), list(map(str, values)))
    axes.set(xlim=(-0.5, len(values) - 0.5))


def options() -> argparse.Namespace:
    """Read the command line."""
    made = command_line.parser(__doc__)
    made.add_argument("--axis", choices=AXES, help="default: all of them")
    made.add_argument("--seeds", type=command_line.positive_integer, default=3, metavar="N")
    default = [Path("../simple-llm-data/scaling.json")]
    made.add_argument(
        "--rows", type=command_line.path, nargs="+", default=default, metavar="FILE", help="kept in the first"
    )
    made.add_argument("--plot", type=command_line.path, metavar="PNG")
    made.add_argument("--plot-only", action="store_true", help="run nothing")
    return made.parse_args()


if __name__ == "__main__":
    asked = options()
    command_line.run(main, asked, debug=asked.debug)
