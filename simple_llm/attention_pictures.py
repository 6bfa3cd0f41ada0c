"""Pictures of where a model looks: attention maps of one problem, and shares by place over many."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from numpy.typing import NDArray

from simple_llm.evaluation.attention import AttentionByPlace, AttentionMaps, CATEGORIES
from simple_llm.evaluation.pictures import save_figure

_SAYS = "#c2410c"  # rows at which the answer is said
_COLORS = ("#5eb5a6", "#0f766e", "#c2410c", "#d4d4d8", "#94a3b8")  # of CATEGORIES
_INCHES_A_TOKEN = 0.26


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
    figure, grid = _panels(num_layers, num_heads, (2.2, 1.3), (0.2, 0.45), (0.6, 0.2, 0.9, 0.95))
    for layer, head in np.ndindex(num_layers, num_heads):
        axes = grid[layer, head]
        _draw_bars(axes, by_place.shares[layer, head, :, :num_places])
        axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=9)
        axes.set(ylim=(0, 1), xticks=[], yticks=[0, 1] if head == 0 else [])
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1]:
        axes.set_xticks(range(num_places), [str(place + 1) for place in range(num_places)])
        axes.set_xlabel("place of the digit said (1 = units)", fontsize=9)
    handles = [Patch(color=color) for color in _COLORS]
    figure.legend(handles, CATEGORIES, loc="lower center", ncols=min(5, 2 * num_heads), frameon=False)
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
    return axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)


def _label_tokens(axes: Axes, maps: AttentionMaps) -> None:
    """Tokens along both sides; a row at which something is said names it."""
    ticks = range(len(maps.tokens))
    axes.set_xticks(ticks, maps.tokens)
    labels = [f"{token} says {said}" if said else token for token, said in zip(maps.tokens, maps.said, strict=True)]
    axes.set_yticks(ticks, labels)
    for index, (label, said) in enumerate(zip(axes.get_yticklabels(), maps.said, strict=True)):
        if said:
            label.set(color=_SAYS, fontweight="bold")
            axes.axhspan(index - 0.5, index + 0.5, fill=False, edgecolor=_SAYS, linewidth=0.6)
