"""The record of a training run: metrics.jsonl, one JSON document a line, and beside it a tracker of the user's choice.

The tracker's package is imported when it was chosen, and not before. What it has to say goes to stderr.
"""

import contextlib
import errno
import hashlib
import importlib
import importlib.util
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from simple_llm.errors import UsageError
from simple_llm.files.ours import ANYTHING, claim
from simple_llm.files.reading import naming
from simple_llm.files.writing import room_for, write_file
from simple_llm.run_log import beside_result, events

PROJECT = "simple-llm"

Track = Callable[[int, dict[str, float]], None]


class RunLog:
    """Appends to metrics.jsonl; a resumed run drops what it will do again, so each step stands there once.

    Args:
        path: of the file; None keeps nothing, where another process writes it.
        start_step: of a checkpoint, which was evaluated before it was saved; its training step comes after.
        track: is told every number too.
    """

    def __init__(
        self,
        path: Path | None,
        start_step: int,
        track: Callable[[int, dict[str, float]], None] = lambda step, numbers: None,
    ) -> None:
        self._track, self._file = track, None
        if path is None:
            return
        kept = [
            line
            for line in read_metrics(path)
            if line["step"] < start_step or (line["step"] == start_step > 0 and "num_correct" in line)
        ]
        claim(path.parent, {path.name: ANYTHING})
        write_file(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._path, self._file = path, path.open("ab", buffering=0)

    def write(self, step: int, **values: object) -> None:
        """Add a line.

        Raises:
            DiskFullError: there is no room for it; the next start drops what was written of it.
        """
        if self._file is None:
            return
        line = (json.dumps({"step": step, **values}) + "\n").encode()
        with room_for(len(line), self._path.parent), naming(self._path):
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._track(step, {name: value for name, value in values.items() if isinstance(value, int | float)})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_metrics(path: Path) -> list[dict]:
    """Read metrics.jsonl, leaving out a last line that was cut off, and with a warning what is damaged.

    Nothing that decides a weight is in it, so a run goes on without.
    """
    if not path.exists():
        return []
    read = []
    for number, content in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        line = _parse(content)
        if line is not None:
            read.append(line)
        elif content:
            events.warning("%s: line %d is damaged and left out", path, number)
    return read


def _parse(content: bytes) -> dict | None:
    """Read a line; None where it is none that `RunLog` writes: a step, and a loss or scores with it."""
    try:
        line = json.loads(content)
        chains = line.get("by_longest_carry_chain", {})
        scores = [*chains.values(), (line["num_correct"], line["num_total"])] if "num_correct" in line else []
        is_right = all(type(number) is int for number in (line["step"], *map(int, chains), *itertools.chain(*scores)))
        is_right &= all(0 <= num_correct <= num_total != 0 for num_correct, num_total in scores)
        is_right &= isinstance(line.get("loss", 0.0), float | int)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return line if is_right else None


# ---- Trackers -------------------------------------------------------------------------------------


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

    One that fails, at whichever of these, is told of once, and the run goes on without it.

    Args:
        report_to: none, trackio, tensorboard or wandb.
        folder: of the model, which the run is named after.
        settings: of the run, shown beside its curves.
        goes_on: from a checkpoint; its curves then go on too, where a run from step 0 has its own.
    """
    opened, works = contextlib.ExitStack(), report_to != "none"

    def track_while_it_works(step: int, numbers: dict[str, float]) -> None:
        nonlocal works
        if works:
            works = False
            with beside_result(report_to):
                track(step, numbers)
                works = True

    if works:
        works = False
        with beside_result(report_to):
            open_tracker = _tensorboard if report_to == "tensorboard" else _trackio_or_wandb
            track = opened.enter_context(open_tracker(report_to, folder, settings, goes_on))
            works = True
    try:
        yield track_while_it_works
    finally:
        with beside_result(report_to):
            opened.close()


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
