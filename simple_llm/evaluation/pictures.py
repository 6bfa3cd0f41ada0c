"""Pictures of what was measured: how a run learned, where a model is right, and where it looks.

Where it looks is drawn as attention maps of one problem, and as shares by place over many.
"""

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from numpy.typing import NDArray

from simple_llm.evaluation.attention_maps import AttentionByPlace, AttentionMaps, CATEGORIES
from simple_llm.files.ours import SOFTWARE
from simple_llm.files.writing import write_ours

# The page's colours, web/shared/style.css, on white.
INK, QUIET, LINE, SHADE, ACCENT, PALE, RIGHT, WRONG, AMBER = (
    *("#1a1f2b", "#595d69", "#dcdee3", "#eef0f4"),
    *("#324fcf", "#a9b5ec", "#156f41", "#be222a", "#bb7400"),
)
matplotlib.rcParams.update(
    {
        "text.color": INK,
        "axes.edgecolor": QUIET,
        "axes.labelcolor": QUIET,
        "axes.titlecolor": INK,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": matplotlib.cycler(color=[ACCENT, WRONG, RIGHT, AMBER, QUIET]),
        "legend.frameon": False,
        "font.size": 9,
    }
)
_FROM_WRONG = LinearSegmentedColormap.from_list("from wrong", [WRONG, "white", PALE])
_FROM_NOTHING = LinearSegmentedColormap.from_list("from nothing", ["white", PALE, ACCENT])
_SAYS = AMBER  # rows at which the answer is said
_COLORS = (PALE, ACCENT, AMBER, LINE, "#a3a7b3")  # of CATEGORIES
_INCHES_A_TOKEN = 0.26


def draw_curve(metrics: list[dict], path: Path) -> None:
    """Draw loss, exact match, and that by longest carry chain over the steps of a run: the lines of metrics.jsonl."""
    scores = [line for line in metrics if "num_correct" in line]
    by_chain = [(line["step"], line["by_longest_carry_chain"]) for line in scores if "by_longest_carry_chain" in line]
    num_panels, num_chains = 3 if by_chain else 2, max((len(counts) for _, counts in by_chain), default=0)
    figure = Figure(figsize=(3.6 * num_panels, max(3.4, 0.8 + 0.35 * num_chains)), layout="constrained")
    panels = figure.subplots(1, num_panels)
    panels[0].semilogy(*zip(*((line["step"], line["loss"]) for line in metrics if "loss" in line), strict=True), lw=1)
    panels[0].set_title("training loss, nats a token")
    share = [line["num_correct"] / line["num_total"] for line in scores]
    panels[1].plot([line["step"] for line in scores], share, marker="o", markersize=3)
    panels[1].set(title="exact match on validation problems", ylim=(-0.02, 1.02))
    if by_chain:
        _draw_chains(panels[2], by_chain)
    for axes in panels:
        axes.set_xlabel("optimizer step")
    save_figure(figure, path)


def _draw_chains(axes: Axes, by_chain: list[tuple[int, dict[str, tuple[int, int]]]]) -> None:
    """Stack the shares of each longest carry chain over the steps: a band each, from none right to a line at all."""
    chains = sorted({chain for _, counts in by_chain for chain in counts}, key=int)
    for row, chain in enumerate(chains):
        points = [
            (step, row + 0.8 * counts[chain][0] / counts[chain][1]) for step, counts in by_chain if chain in counts
        ]
        steps, heights = zip(*points, strict=True)
        axes.axhline(row + 0.8, color=LINE, linewidth=1)
        axes.fill_between(steps, row, heights, color=PALE, alpha=0.5, linewidth=0)
        axes.plot(steps, heights, color=ACCENT, marker="o", markersize=3)
    axes.set_yticks([row + 0.4 for row in range(len(chains))], chains)
    axes.tick_params(axis="y", length=0)
    axes.set(title="the same, by longest carry chain", ylabel="carries in a row", ylim=(-0.1, len(chains)))


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
        ink = "white" if share[row, column] < 0.3 else INK
        axes.text(column, row, f"{cell['correct']:,}\n/ {cell['total']:,}", ha="center", va="center", color=ink, size=8)
    image = axes.imshow(share, cmap=_FROM_WRONG, vmin=0, vmax=1, origin="lower", aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=column_name.replace("_", " "), ylabel=row_name.replace("_", " "))
    axes.figure.colorbar(image, ax=axes, label="share of exact answers")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100, metadata={"Software": SOFTWARE})
    write_ours(path, picture.getvalue())


# ---- Where a model looks --------------------------------------------------------------------------


def draw_layer(maps: AttentionMaps, layer: int, title: str, path: Path) -> None:
    """Draw all heads of one layer, tokens along both sides; rows that say a token of the answer are marked with it.

    Args:
        layer: counted from 0.
    """
    heads = maps.weights[layer]  # (H, T, T)
    num_columns = min(4, len(heads))
    side = max(2.6, _INCHES_A_TOKEN * len(maps.tokens))
    figure, grid = _panels(-(-len(heads) // num_columns), num_columns, (side, side), (0.9, 0.7), (0.9, 0.9, 0.4, 0.7))
    for head, axes in enumerate(grid.ravel()):
        if head >= len(heads):
            axes.set_visible(False)
            continue
        image = _draw_map(axes, heads[head])
        axes.set_title(f"head {head + 1}")
        _label_tokens(axes, maps)
    figure.colorbar(image, cax=_beside(figure), label="attention weight")
    figure.suptitle(f"{title}: layer {layer + 1}. Rows look at columns; at the marked rows the answer is said")
    save_figure(figure, path)


def draw_overview(maps: AttentionMaps, title: str, path: Path) -> None:
    """Draw every head of every layer small: a row a layer, a column a head."""
    num_layers, num_heads, *_ = maps.weights.shape
    figure, grid = _panels(num_layers, num_heads, (1.6, 1.6), (0.12, 0.12), (0.4, 0.9, 0.2, 0.7))
    first_said = next(index for index, token in enumerate(maps.said) if token is not None)
    for layer, head in np.ndindex(num_layers, num_heads):
        axes = grid[layer, head]
        image = _draw_map(axes, maps.weights[layer, head])
        axes.axhline(first_said - 0.5, color=_SAYS, linewidth=1)
        axes.set(xticks=[], yticks=[])
        if layer == 0:
            axes.set_title(f"head {head + 1}", fontsize=9)
        if head == 0:
            axes.set_ylabel(f"layer {layer + 1}", fontsize=9)
    figure.colorbar(image, cax=_beside(figure), label="attention weight")
    figure.suptitle(f"{title}: below the line the answer is said", fontsize=11)
    save_figure(figure, path)


def draw_by_place(by_place: AttentionByPlace, title: str, path: Path) -> None:
    """Draw for every head what its attention falls on while each digit of the answer is said.

    Two bars a place: a pale one without a carry into it, a full one with.
    """
    num_layers, num_heads = by_place.shares.shape[:2]
    num_places = 1 + int(by_place.counts.any(0).nonzero()[0].max(initial=0))  # that were said
    num_named = min(len(CATEGORIES), 2 * num_heads)  # in a row below
    below = 0.7 + 0.2 * -(-len(CATEGORIES) // num_named)
    figure, grid = _panels(num_layers, num_heads, (2.2, 1.3), (0.2, 0.45), (0.6, 0.2, below, 0.95))
    for layer, head in np.ndindex(num_layers, num_heads):
        axes = grid[layer, head]
        _draw_bars(axes, by_place.shares[layer, head, :, :num_places])
        axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9)
        axes.set(ylim=(0, 1), xticks=[], yticks=[0, 1] if head == 0 else [])
    for axes in grid[-1]:
        axes.set_xticks(range(num_places), [str(place + 1) for place in range(num_places)])
        axes.set_xlabel("place of the digit said (1 = units)", fontsize=9)
    handles = [Patch(color=color) for color in _COLORS]
    figure.legend(handles, CATEGORIES, loc="lower center", ncols=num_named)
    figure.suptitle(f"{title}\nleft and pale: no carry comes in; right: one does", fontsize=11)
    save_figure(figure, path)


def _panels(
    num_rows: int,
    num_columns: int,
    size: tuple[float, float],
    gap: tuple[float, float],
    margins: tuple[float, float, float, float],
) -> tuple[Figure, NDArray]:
    """Make a grid of axes of one size. The layout engines of matplotlib take as long to place them as to draw them.

    Args:
        size, gap: width and height in inches, of each and between them.
        margins: around them all, in inches: left, right, bottom, top.
    """
    left, right, bottom, top = margins
    width = num_columns * (size[0] + gap[0]) - gap[0] + left + right
    height = num_rows * (size[1] + gap[1]) - gap[1] + bottom + top
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=gap[0] / size[0],
        hspace=gap[1] / size[1],
    )
    return figure, figure.subplots(num_rows, num_columns, squeeze=False)


def _beside(figure: Figure) -> Axes:
    """Axes for a colour bar at the right margin."""
    edge = figure.subplotpars.right
    low, high = figure.subplotpars.bottom, figure.subplotpars.top
    return figure.add_axes((edge + 0.25 * (1 - edge), low, 0.15 * (1 - edge), high - low))


def _draw_bars(axes: Axes, shares: NDArray[np.float64]) -> None:
    """Stack the categories of each place, (2, P, C): without a carry on the left, with one on the right."""
    for with_carry, one in enumerate(np.nan_to_num(shares)):
        x = np.arange(len(one)) + (0.2 if with_carry else -0.2)
        bottom = one.cumsum(1) - one  # (P, C)
        for category, color in enumerate(_COLORS):
            alpha = 1.0 if with_carry else 0.5
            axes.bar(x, one[:, category], 0.36, bottom[:, category], color=color, alpha=alpha, linewidth=0)


def _draw_map(axes: Axes, weights: NDArray[np.float32]) -> AxesImage:
    return axes.imshow(weights, cmap=_FROM_NOTHING, vmin=0, vmax=1)


def _label_tokens(axes: Axes, maps: AttentionMaps) -> None:
    """Tokens along both sides; a row at which something is said names it."""
    ticks = range(len(maps.tokens))
    axes.tick_params(length=0)
    axes.set_xticks(ticks, maps.tokens)
    labels = [f"{token} says {said}" if said else token for token, said in zip(maps.tokens, maps.said, strict=True)]
    axes.set_yticks(ticks, labels)
    for index, (label, said) in enumerate(zip(axes.get_yticklabels(), maps.said, strict=True)):
        if said:
            label.set(color=_SAYS, fontweight="bold")
            axes.axhspan(index - 0.5, index + 0.5, fill=False, edgecolor=_SAYS, linewidth=0.6)
