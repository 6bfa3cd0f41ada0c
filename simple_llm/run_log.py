"""The record of a training run: metrics.jsonl, one JSON document a line, and the curve drawn from it."""

import json
from pathlib import Path

from simple_llm.atomic import replace_file

METRICS = "metrics.jsonl"
CURVE = "training_curve.png"


class RunLog:
    """Appends to metrics.jsonl; a resumed run drops what it will do again, so each step stands there once.

    Args:
        start_step: of a checkpoint, which was evaluated before it was saved; its training step comes after.
    """

    def __init__(self, path: Path, start_step: int) -> None:
        kept = [
            line
            for line in read_metrics(path)
            if line["step"] < start_step or (line["step"] == start_step > 0 and "num_correct" in line)
        ]
        with replace_file(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = path.open("a", buffering=1)

    def write(self, step: int, **values: float) -> None:
        """Add a line."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read metrics.jsonl, leaving out a last line that was cut off."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def draw_curve(metrics: list[dict[str, float]], path: Path) -> None:
    """Draw loss and exact match over the steps of a run as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, loss_axis = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    losses = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
    scores = [(line["step"], line["num_correct"] / line["num_total"]) for line in metrics if "num_correct" in line]
    loss_axis.semilogy(*zip(*losses, strict=True), color="tab:gray", linewidth=1)
    loss_axis.set_xlabel("optimizer step")
    loss_axis.set_ylabel("training loss, nats a token (gray)")
    score_axis = loss_axis.twinx()
    score_axis.plot(*zip(*scores, strict=True), color="tab:blue", marker="o", markersize=3)
    score_axis.set_ylabel("exact match on validation problems (blue)")
    score_axis.set_ylim(-0.02, 1.02)
    loss_axis.set_title(f"Learning to add: {int(scores[-1][0]):,} steps")
    with replace_file(path) as file:
        figure.savefig(file, format="png", dpi=120)
    pyplot.close(figure)
