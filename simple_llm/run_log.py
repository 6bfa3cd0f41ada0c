"""The record of a training run: metrics.jsonl, one JSON document a line."""

import json
from collections.abc import Callable
from pathlib import Path

from simple_llm.atomic import replace_file

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
        with replace_file(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = path.open("a", buffering=1)

    def write(self, step: int, **values: object) -> None:
        """Add a line."""
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._track(step, {name: value for name, value in values.items() if isinstance(value, int | float)})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_metrics(path: Path) -> list[dict]:
    """Read metrics.jsonl, leaving out a last line that was cut off."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
