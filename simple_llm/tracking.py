"""A run's numbers in a tracker of the user's choice, beside metrics.jsonl, which always holds them.

The tracker's package is imported when it was chosen, and not before. What it has to say goes to stderr.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from simple_llm.errors import UsageError

PROJECT = "simple-llm"

Track = Callable[[int, dict[str, float]], None]


def require_tracker(report_to: str) -> None:
    """Check, before any training, that the tracker can be imported.

    Raises:
        UsageError: its package is not installed.
    """
    if report_to != "none" and importlib.util.find_spec(report_to) is None:
        raise UsageError(
            f"training.report_to is {report_to} and that package is not installed; "
            f"`pip install {report_to}`, or set training.report_to=none"
        )


@contextlib.contextmanager
def tracking(report_to: str, folder: Path, settings: dict[str, object], goes_on: bool) -> Iterator[Track]:
    """Open a tracker for a run; yields what takes a step and its numbers, and closes it at the end.

    Args:
        report_to: none, trackio, tensorboard or wandb.
        folder: of the model, which the run is named after.
        settings: of the run, shown beside its curves.
        goes_on: from a checkpoint; its curves then go on too, where a run from step 0 has its own.
    """
    if report_to == "none":
        yield lambda step, numbers: None
        return
    open_tracker = _tensorboard if report_to == "tensorboard" else _trackio_or_wandb
    with open_tracker(report_to, folder, settings, goes_on) as track:
        yield track


def run_name(folder: Path) -> str:
    """Name a run after its folder; two folders called `model` have two names: model-1f0a7c52, model-93be04d1."""
    return f"{folder.name}-{hashlib.sha256(bytes(folder.resolve())).hexdigest()[:8]}"


@contextlib.contextmanager
def _trackio_or_wandb(name: str, folder: Path, settings: dict[str, object], goes_on: bool) -> Iterator[Track]:
    """Both have the same three calls; trackio goes on with the last run of a name, wandb starts another each time."""
    module = importlib.import_module(name)
    where = {"dir": str(folder)} if name == "wandb" else {"embed": False}
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
        resume = "allow" if goes_on else "never"
        module.init(project=PROJECT, name=run_name(folder), config=settings, resume=resume, **where)
    try:
        yield lambda step, numbers: module.log(numbers, step=step)
    finally:
        with contextlib.redirect_stdout(sys.stderr):
            module.finish()


@contextlib.contextmanager
def _tensorboard(name: str, folder: Path, settings: dict[str, object], goes_on: bool) -> Iterator[Track]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder / name) as writer:
        writer.add_text("settings", "\n".join(f"    {key}: {value}" for key, value in settings.items()))

        def track(step: int, numbers: dict[str, float]) -> None:
            for key, value in numbers.items():
                writer.add_scalar(key, value, step)

        yield track
