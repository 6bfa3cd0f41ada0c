"""The record of a training run: metrics.jsonl, one JSON document a line."""

import errno
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

from simple_llm.files.writing import room_for, write_file
from simple_llm.run_log import events

METRICS = "metrics.jsonl"
CURVE = "training_curve.png"


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
        with room_for(len(line), self._path.parent):
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
