"""Pictures of what was measured: how a run learned, and where a model is right."""

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simple_llm.files.writing import write_file

matplotlib.use("Agg")


def draw_curve(metrics: list[dict], path: Path) -> None:
    """Draw the loss over the steps of a run, and exact match by longest carry chain: the lines of metrics.jsonl."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    loss_axes, chain_axes = figure.subplots(1, 2)
    losses = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
    scores = [line for line in metrics if "num_correct" in line]
    loss_axes.semilogy(*zip(*losses, strict=True), color="tab:gray", linewidth=1)
    loss_axes.set(xlabel="optimizer step", ylabel="training loss, nats a token (gray)")
    all_axes = loss_axes.twinx()
    share = [line["num_correct"] / line["num_total"] for line in scores]
    all_axes.plot([line["step"] for line in scores], share, color="tab:blue", marker="o", markersize=3)
    all_axes.set(ylabel="exact match on validation problems (blue)", ylim=(-0.02, 1.02))
    loss_axes.set_title(f"Learning to add: {max((line['step'] for line in metrics), default=0):,} steps")
    by_chain = [(line["step"], line["by_longest_carry_chain"]) for line in scores if "by_longest_carry_chain" in line]
    chains = sorted({chain for _, counts in by_chain for chain in counts}, key=int)
    for number, chain in enumerate(chains):
        points = [(step, counts[chain][0] / counts[chain][1]) for step, counts in by_chain if chain in counts]
        color = matplotlib.colormaps["viridis"](number / max(1, len(chains)))
        chain_axes.plot(*zip(*points, strict=True), color=color, marker="o", markersize=3, label=chain)
    if chains:
        chain_axes.legend(title="longest carry chain", loc="lower right")
    chain_axes.set(xlabel="optimizer step", ylabel="exact match on validation problems", ylim=(-0.02, 1.02))
    chain_axes.set_title("By longest carry chain")
    save_figure(figure, path)


def draw_accuracy(grids: dict[str, list[dict[str, int]]], path: Path) -> None:
    """Draw a heatmap of exact match for each pair of strata: the `grids` of evaluation.json."""
    figure = Figure(figsize=(5.5 * len(grids), 4.8), layout="constrained")
    for axes, cells in zip(np.ravel(figure.subplots(1, len(grids), squeeze=False)), grids.values(), strict=True):
        _heatmap(axes, cells)
    save_figure(figure, path)


def _heatmap(axes: Axes, cells: list[dict[str, int]]) -> None:
    """One square a cell: colour for the share, and the counts in it."""
    row_name, column_name = list(cells[0])[:2]
    rows, columns = (sorted({cell[name] for cell in cells}) for name in (row_name, column_name))
    share = np.full((len(rows), len(columns)), np.nan)
    for cell in cells:
        row, column = rows.index(cell[row_name]), columns.index(cell[column_name])
        share[row, column] = cell["correct"] / cell["total"]
        ink = "white" if share[row, column] < 0.6 else "black"
        axes.text(column, row, f"{cell['correct']:,}\n/ {cell['total']:,}", ha="center", va="center", color=ink, size=8)
    image = axes.imshow(share, cmap="RdYlBu", vmin=0, vmax=1, origin="lower", aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=column_name.replace("_", " "), ylabel=row_name.replace("_", " "))
    axes.figure.colorbar(image, ax=axes, label="share of exact answers")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    write_file(path, picture.getvalue())
