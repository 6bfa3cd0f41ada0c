"""kill -9 of trainer.py while it starts, trains, saves, deletes old checkpoints and writes the finished model."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from benchmarks.faults.processes import KILLED, look_for_leavings, Script
from benchmarks.faults.tally import Plan, Tally
from benchmarks.faults.tiny_run import MAX_STEPS, prepare_run
from simple_llm.errors import ArtefactError
from simple_llm.files.manifest import sha256_of
from simple_llm.files.names import CHECKPOINTS, MANIFEST, METRICS, WEIGHTS
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.training.checkpoint import list_checkpoints, newest_checkpoint
from simple_llm.training.metrics import read_metrics

DELETING = 0.003  # seconds, about what --fresh takes to delete a run


def run(plan: Plan) -> list[Tally]:
    """Kill one run after another; each is started again until it comes to its end."""
    times, expected = unkilled_run(plan.folder / "whole")
    folder = plan.folder / "killed"
    model = prepare_run(folder)
    kills = Tally("kill -9 of trainer.py: what lies on the disk")
    starts = Tally("  started again: goes on by itself")
    ends = Tally("  at its end: weights and log of an unkilled run")
    is_over = False
    while kills.tried < plan.count and starts.lost < plan.count:
        script = Script("trainer.py", *["--fresh"] * is_over, cwd=folder)
        watch = Watch(model / CHECKPOINTS, script.pid, is_fresh=is_over)
        moment = draw_moment(plan.rng, times, watch.newest, is_over)
        exit_code = script.kill_after(lambda: watch.has_come(moment), moment.delay)  # noqa: B023 - called here alone
        starts.judge("" if exit_code in (0, KILLED) else script.ending())
        is_over = exit_code == 0 or (is_over and (model / MANIFEST).exists())
        if exit_code == KILLED:
            kills.judge(what_is_wrong(model, watch.newest))
            kills.where[watch.place_of_kill()] += 1
            plan.advance(1)
        elif exit_code == 0:
            ends.judge(difference(result_of(model), expected))
        else:
            shutil.rmtree(model / CHECKPOINTS)
    for _ in range(2):  # what is left when it has come to its end, and was started once more, stays
        script = Script("trainer.py", cwd=folder)
        starts.judge("" if script.wait() == 0 else script.ending())
    ends.judge(difference(result_of(model), expected))
    return [kills, starts, ends, look_for_leavings(folder)]


# ---- When to kill ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """Seconds of an unkilled run: to its first checkpoint, to each other one, and from the last one to its end."""

    start: float
    save: float
    end: float


def unkilled_run(folder: Path) -> tuple[Times, dict[str, object]]:
    """Let a run come to its end; return its times and its result."""
    model = prepare_run(folder)
    started, seen = time.monotonic(), {}
    script = Script("trainer.py", cwd=folder)
    watch = Watch(model / CHECKPOINTS, script.pid)
    exit_code = script.wait(lambda: seen.setdefault(watch.look(), time.monotonic()))
    assert exit_code == 0, script.ending()
    first, last = seen[min(seen.keys() - {0})], seen[MAX_STEPS]
    times = Times(first - started, (last - first) / (MAX_STEPS - 1), time.monotonic() - last)
    return times, result_of(model)


@dataclass(frozen=True)
class Moment:
    """When to kill: `delay` seconds after this step's checkpoint is there, and what is named here has then begun."""

    step: int
    delay: float
    begun: Literal["", "save", "deletion"] = ""


def draw_moment(rng: Random, times: Times, newest: int, is_fresh: bool) -> Moment:
    """Draw when to kill a start that goes on from step `newest`, or deletes a former run first."""
    if is_fresh and rng.random() < 0.5:
        return Moment(0, rng.uniform(0, DELETING), "deletion")
    if newest == MAX_STEPS:  # it is to come to its end now and then, on a slower machine too
        return Moment(newest, rng.expovariate(1 / (2 * (times.start + times.end))))
    kind = rng.choice(("start", "training", "training", "save", "save", "save", "end"))
    if kind == "start":
        return Moment(newest, rng.uniform(0, times.start))
    if kind == "end":
        return Moment(MAX_STEPS, rng.uniform(0, times.end))
    step = min(newest + rng.randint(1, 6), MAX_STEPS)
    if kind == "training" or step == MAX_STEPS:
        return Moment(step, rng.uniform(0, 2 * times.save))
    return Moment(step, rng.uniform(0, times.save / 2), "save")


class Watch:
    """Sees a process's checkpoints take their final names.

    Args:
        is_fresh: the start deletes those that are there, which are looked away from until they are gone.

    Attributes:
        newest: step of the newest seen so far, 0 before the first.
    """

    def __init__(self, checkpoints: Path, pid: int, is_fresh: bool = False) -> None:
        self.checkpoints, self.pid, self.newest = checkpoints, pid, 0
        self._is_blind = is_fresh
        self.first = self.look()

    def look(self) -> int:
        """Look again; return `newest`."""
        found = list_checkpoints(self.checkpoints)
        self._is_blind = self._is_blind and bool(found)
        if found and not self._is_blind:
            self.newest = max(self.newest, step_of(found[0]))
        return self.newest

    def has_come(self, moment: Moment) -> bool:
        """Look whether that is there from which a moment's delay counts."""
        has_begun = {
            "": lambda: True,
            "save": lambda: any(self.checkpoints.glob(f".tmp-step-*-{self.pid}")),
            "deletion": lambda: not (self.checkpoints.parent / MANIFEST).exists(),
        }
        return self.look() >= moment.step and has_begun[moment.begun]()

    def place_of_kill(self) -> str:
        """Say where the process was when it was killed, by the names it left."""
        if self._is_blind:
            return "before a former run was deleted, or while it was"
        names = [path.name for path in self.checkpoints.glob(f".tmp-*-{self.pid}")]
        if any(name.startswith(".tmp-old-") for name in names):
            return "while an old checkpoint was deleted"
        if names:
            return "in a save"
        if self.newest == MAX_STEPS:
            return "after the last save, in the start that made it" if self.first < MAX_STEPS else "after the last save"
        return "before the first save of this start" if self.newest == self.first else "between saves"


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


# ---- What a kill left -----------------------------------------------------------------------------


def what_is_wrong(model: Path, seen: int) -> str:
    """Check what a killed process left; empty where all is well.

    Args:
        seen: a step whose checkpoint had its final name before the kill.
    """
    checkpoints = model / CHECKPOINTS
    try:
        newest, _, _ = newest_checkpoint(checkpoints)
        for path in list_checkpoints(checkpoints):
            verified_manifest(path)
        if (model / MANIFEST).exists():
            verified_manifest(model)
    except ArtefactError as error:
        return str(error)
    step = step_of(newest) if newest else 0
    return f"step {seen} was saved, and {step} is the newest" if step < seen else ""


def result_of(model: Path) -> dict[str, object]:
    """What has to be the same, whatever happened on the way: the weights, and the log but for its speeds."""
    log = [{key: line[key] for key in line if key != "problems_per_second"} for line in read_metrics(model / METRICS)]
    weights = model / WEIGHTS
    return {"weights": sha256_of(weights) if weights.exists() else "none", "log": log}


def difference(result: dict[str, object], expected: dict[str, object]) -> str:
    """Name what differs from the result of an unkilled run; empty where nothing does."""
    differing = [name for name in expected if result[name] != expected[name]]
    return f"other {' and '.join(differing)} than those of an unkilled run" if differing else ""
