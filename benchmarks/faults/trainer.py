"""The same kills of the same run in transformers.Trainer, and a NaN gradient in both: for comparison.

The moments are drawn as kills.py draws them, three of seven aimed at a save, and there is one after every step: the
counts say what a kill in a save does, not how often one would hit it in a run that saves seldom.

A start that fails is what has to be mended by hand: the newest checkpoint is deleted here, as its user would, and the
run is started again. A kill while the newest checkpoint is unusable already counts as one that did no harm.
"""

import contextlib
import itertools
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import load_file
from transformers.trainer_utils import get_last_checkpoint

from benchmarks.faults import transformers_trainer  # imports what it needs, so that no process spends its time on it
from benchmarks.faults.kills import draw_moment, Moment, Times
from benchmarks.faults.processes import KILLED, Script
from benchmarks.faults.tally import Plan, Tally
from benchmarks.faults.tiny_run import MAX_STEPS, prepare_run
from simple_llm.errors import DivergedError
from simple_llm.files.manifest import sha256_of
from simple_llm.files.names import WEIGHTS

OTHER, OURS = "benchmarks/faults/transformers_trainer.py", "trainer.py"
NAN_STEP = 10
WEIGHTS_OF = {OTHER: f"{transformers_trainer.FOLDER}/{transformers_trainer.FINAL}/{WEIGHTS}", OURS: f"model/{WEIGHTS}"}


def run(plan: Plan) -> list[Tally]:
    """Kill one run after another; each is started again, after hand work if need be, until it comes to its end."""
    whole, folder = plan.folder / "whole", plan.folder / "killed"
    times = unkilled_run(whole)
    prepare_run(folder)
    expected, made = sha256_of(whole / WEIGHTS_OF[OTHER]), folder / transformers_trainer.FOLDER
    kills = Tally("kill -9 of transformers.Trainer: no hand work", is_ours=False)
    ends = Tally("  at its end: weights of an unkilled run", is_ours=False)
    exit_code = KILLED
    while kills.tried < plan.count or exit_code != 0:
        script = Script(OTHER, cwd=folder)
        if kills.tried < plan.count:
            moment = draw_moment(plan.rng, times, newest_step(made), is_fresh=False)
            exit_code = script.kill_after(lambda: has_come(moment, made), moment.delay)  # noqa: B023 - called here alone
        else:
            exit_code = script.wait()
        if exit_code == KILLED:
            kills.survive()
            kills.where[place_of_kill(made, whole / transformers_trainer.FOLDER)] += 1
            plan.advance(1)
        elif exit_code == 0:
            same = sha256_of(folder / WEIGHTS_OF[OTHER]) == expected
            ends.judge("" if same else "other weights than those of an unkilled run")
            shutil.rmtree(made)
        else:
            delete_newest(made, script)
            kills.survived -= 1  # one of the kills did this harm
            kills.lose(script.ending())
    return [kills, ends, *(plant_nan(name, plan.folder / f"nan-{Path(name).stem}") for name in (OURS, OTHER))]


# ---- Kills ----------------------------------------------------------------------------------------


def unkilled_run(folder: Path) -> Times:
    """Let a run come to its end; return its times."""
    prepare_run(folder)
    made, started, seen = folder / transformers_trainer.FOLDER, time.monotonic(), {}
    script = Script(OTHER, cwd=folder)
    exit_code = script.wait(lambda: seen.setdefault(newest_step(made), time.monotonic()))
    assert exit_code == 0, script.ending()
    first, last = seen[min(seen.keys() - {0})], seen[MAX_STEPS]
    return Times(first - started, (last - first) / (MAX_STEPS - 1), time.monotonic() - last)


def newest_step(made: Path) -> int:
    """Step of the newest checkpoint that has a folder, be it whole or not; 0 before the first."""
    newest = get_last_checkpoint(made) if made.exists() else None
    return int(newest.rpartition("-")[2]) if newest else 0


def has_come(moment: Moment, made: Path) -> bool:
    """Look whether that is there from which a moment's delay counts: a save begins with its folder."""
    return newest_step(made) >= moment.step + (moment.begun == "save")


def place_of_kill(made: Path, whole: Path) -> str:
    """Say where the process was when it was killed, by the names of the files in its newest checkpoint."""
    step = newest_step(made)
    if not step:
        return "before the first save"
    lacking = names_in(whole, MAX_STEPS) - names_in(made, step)
    return "the newest checkpoint lacks files" if lacking else "the newest checkpoint has all its files"


def names_in(made: Path, step: int) -> set[str]:
    return {path.name for path in (made / f"checkpoint-{step}").iterdir()}


def delete_newest(made: Path, script: Script) -> None:
    """Do the hand work after a start that failed."""
    newest = get_last_checkpoint(made)
    assert newest, script.ending()
    shutil.rmtree(newest)


# ---- What is not finite ---------------------------------------------------------------------------


def plant_nan(name: str, folder: Path) -> Tally:
    """Have one gradient of a run be NaN; a run that ends as if all were well is lost."""
    is_ours = name == OURS
    tally = Tally(f"a NaN gradient in {name if is_ours else 'transformers.Trainer'}: refused", is_ours=is_ours)
    prepare_run(folder)
    with nan_gradient():
        script = Script(name, cwd=folder)
        exit_code = script.wait()
    if exit_code == 0:
        weights = torch.cat([weight.flatten() for weight in load_file(folder / WEIGHTS_OF[name]).values()])
        num_bad = int((~weights.isfinite()).sum())
        tally.lose(f"exit code 0, and {num_bad:,} of {len(weights):,} final weights are not finite")
    elif is_ours and exit_code != DivergedError.exit_code:
        tally.lose(script.ending())
    else:
        tally.detect()
        tally.where[script.ending()] += 1
    return tally


@contextlib.contextmanager
def nan_gradient() -> Iterator[None]:
    """Make the gradient NaN in one step of processes that are forked meanwhile; both trainers clip by this function."""
    clip, steps = torch.nn.utils.clip_grad_norm_, itertools.count(1)

    def clip_planted(parameters, *arguments, **options):
        parameters = list(parameters)
        if next(steps) == NAN_STEP:
            parameters[0].grad.view(-1)[0] = torch.nan
        return clip(parameters, *arguments, **options)

    with mock.patch.object(torch.nn.utils, "clip_grad_norm_", clip_planted):
        yield
