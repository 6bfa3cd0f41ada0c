"""A picture of where in the plane of x and y a model is right, a pixel a pair.

    python3 -m runs.failure_map --model DIR [--range 0:1023] [--output PNG]

For a model that was stopped early the picture shows what it has not learned yet: the edges of carries, in squares
that repeat at every power of the base. Prints counts, the wrong pairs by longest carry chain among them.

    python3 tokenizer.py paths.model=../early && python3 trainer.py paths.model=../early training.max_steps=100
    python3 -m runs.failure_map --model ../early
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simple_llm import command_line
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operands import Operands
from simple_llm.data.problems import from_integers
from simple_llm.evaluation.pictures import ACCENT, INK, PALE, save_figure, WRONG
from simple_llm.evaluation.scoring import by_stratum
from simple_llm.model.decoding import Decoder, MEMORY_BUDGET
from simple_llm.model.folder import load_model
from simple_llm.proof.pair_tree import PairTree

_MAP_COLORS = ("#7a1219", WRONG, "#eab3b6", "#f4f5f7", PALE, ACCENT)
_MAP_MARGINS = (-4.0, -1.0, 0.0, 1.0, 4.0)  # logits, where the colours change


def main(arguments: argparse.Namespace) -> None:
    loaded = load_model(arguments.model)
    minimum, maximum = arguments.range
    operands = Operands(minimum, maximum, loaded.data.numbers.base)
    reader = Decoder.of(loaded.model).readers[-1]  # float32: the picture shows margins
    tree = PairTree(reader, loaded.vocabulary, operands, ADDITION, MEMORY_BUDGET // reader.bytes_per_token())
    margins = tree.margins(minimum, maximum).numpy()
    is_asked = np.isfinite(margins)
    num_wrong, num_asked = int((is_asked & ~(margins > 0)).sum()), int(is_asked.sum())
    output = arguments.output or arguments.model / "failure_map.png"
    title = f"{num_wrong:,} of {num_asked:,} prompts wrong after {loaded.manifest['step']:,} steps"
    draw_margins(margins, minimum, operands.base, title, output)
    pairs = itertools.product(range(minimum, maximum + 1), repeat=2)
    chains = from_integers(pairs, operands.base, loaded.data.operand_digits).longest_chain.reshape(margins.shape)
    print(title)
    for chain, score in by_stratum((margins > 0)[is_asked], chains[is_asked]).items():
        print(f"  longest carry chain {chain}: {score} right")
    print(json.dumps({"wrong": num_wrong, "asked": num_asked, "picture": str(output), "model_sha256": loaded.sha256}))


def draw_margins(margins: NDArray[np.float32], first: int, base: int, title: str, path: Path) -> None:
    """Draw a pixel for each pair of a range: how far the right answer is ahead, red where the model is wrong.

    Args:
        margins: (X, Y) logits, infinite where the pair is asked in the other order.
        first: the smallest operand of both.
        base: whose powers the grid lines show.
    """
    size = margins.shape[0]
    scale = max(1, 1000 // size)
    figure = Figure(figsize=(scale * size / 100 + 2, scale * size / 100 + 1), layout="constrained")
    axes = figure.subplots()
    colors = BoundaryNorm(_MAP_MARGINS, len(_MAP_COLORS), extend="both")
    edges = (first - 0.5, first + size - 0.5)
    shown = np.where(np.isinf(margins), margins.T, margins)  # the same prompt answers both
    image = axes.imshow(
        shown.T,
        norm=colors,
        cmap=ListedColormap(_MAP_COLORS),
        origin="lower",
        extent=(*edges, *edges),
        interpolation="none",
    )
    powers = [base**place for place in range(1, 64) if first < base**place < first + size]
    for power in powers:
        axes.axhline(power - 0.5, color=INK, linewidth=0.3)
        axes.axvline(power - 0.5, color=INK, linewidth=0.3)
    axes.set(xlabel="x", ylabel="y", title=title)
    figure.colorbar(image, ax=axes, label="smallest lead of a right token, logits; red: wrong", shrink=0.8)
    save_figure(figure, path)


if __name__ == "__main__":
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", type=command_line.path, required=True)
    made.add_argument("--range", type=command_line.integer_range, default=(0, 1023), metavar="MIN:MAX")
    made.add_argument(
        "--output", type=command_line.path, metavar="PNG", help="default: failure_map.png in the model folder"
    )
    command_line.run(main, made.parse_args())
