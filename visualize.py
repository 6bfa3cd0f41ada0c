"""Draw where a trained model looks while it adds.

    python3 visualize.py [--model DIR] [--output DIR] [--samples N] [--seed S] "101+1002"

    python3 visualize.py "101+1002"
    python3 visualize.py --model ../simple-llm-data/any-length --output pictures "999+1"
    python3 visualize.py --model me/my-calculator --output pictures "101+1002"       a model from the Hugging Face Hub

Reads   a model folder that trainer.py wrote; nothing else
Writes  into the model folder, or --output:
        attention_layer_1.png, ...      one problem: all heads of a layer, tokens along both sides
        attention_overview.png          the same, all layers
        attention_by_place.png          many problems: how much falls on digits of x and y at the place being said, on
                                        the place below, where a carry comes from, on delimiters and on the rest
        attention.json                  the numbers of that picture

The many problems are drawn from the test side of the split, uniformly over values; the right answers are given to
read.
"""

import json

from simple_llm import command_line

if __name__ == "__main__":
    options = command_line.model_options(
        __doc__,
        lambda parser: (
            parser.add_argument("prompt", nargs="?", default="101+1002", metavar="SUM", help="default: 101+1002"),
            parser.add_argument("--output", type=command_line.Path, metavar="DIR", help="default: the model folder"),
            parser.add_argument(
                "--samples", type=command_line.positive_integer, default=500, metavar="N", help="default: 500"
            ),
            parser.add_argument("--seed", type=command_line.whole_number, default=0, metavar="S"),
        ),
    )

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from simple_llm.arithmetic.operation import Operation
from simple_llm.data.sampling import Sampler
from simple_llm.errors import UsageError
from simple_llm.evaluation.attention_maps import attention_by_place, attention_maps, AttentionByPlace, CATEGORIES
from simple_llm.evaluation.held_out import held_out_sample
from simple_llm.evaluation.pictures import draw_by_place, draw_layer, draw_overview
from simple_llm.files.names import ATTENTION, ATTENTION_BY_PLACE, ATTENTION_OVERVIEW
from simple_llm.machine import resolve_device
from simple_llm.model.calculator import Calculator, NO_ANSWER
from simple_llm.model.folder import load_model, write_report
from simple_llm.sharing.hub import fetch_model
from simple_llm.sharing.model_card import write_card

MAX_TOKENS = 64  # along the side of a picture


def main(arguments: command_line.argparse.Namespace) -> None:
    folder = fetch_model(arguments.model)
    output = arguments.output or folder
    if arguments.output is None and folder != Path(arguments.model):
        raise UsageError(f"{arguments.model} is on the Hub; name a folder for the pictures with --output")
    calculator = Calculator(load_model(folder), resolve_device("auto"))
    prompt = calculator.parse(arguments.prompt)
    maps = attention_maps(calculator, prompt)
    if len(maps.tokens) > MAX_TOKENS:
        raise UsageError(f"{len(maps.tokens)} tokens are too many for a picture, which holds {MAX_TOKENS}")
    output.mkdir(parents=True, exist_ok=True)
    [answer] = calculator.answer([prompt])
    title = f"{prompt}={answer}" if answer != NO_ANSWER else f"{prompt}, no answer"
    written = []
    for layer in range(len(maps.weights)):
        written.append(output / f"attention_layer_{layer + 1}.png")
        draw_layer(maps, layer, title, written[-1])
    written.append(output / ATTENTION_OVERVIEW)
    draw_overview(maps, title, written[-1])

    by_place, num_problems = average(calculator, prompt.operation, arguments.samples, arguments.seed)
    written.append(output / ATTENTION_BY_PLACE)
    draw_by_place(by_place, f"What each head looks at, mean of {num_problems:,} held-out problems", written[-1])
    report = make_report(calculator, by_place, num_problems, arguments.seed)
    written.append(write_report(output, ATTENTION, (json.dumps(report, indent=2) + "\n").encode()))
    if output == folder:
        write_card(folder)  # which shows the overview
    print_heads(by_place)
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"written": [str(path) for path in written], **report}))


def average(calculator: Calculator, operation: Operation, num_samples: int, seed: int) -> tuple[AttentionByPlace, int]:
    """Average over held-out problems of an operation; return that and how many there were."""
    sampler = Sampler.of(calculator.loaded.data.numbers, operation)
    problems = held_out_sample(sampler, calculator.loaded.data.split, num_samples, seed)
    with tqdm(total=len(problems), unit="problem", desc="averaging", leave=False) as bar:
        return attention_by_place(calculator.model, problems, calculator.vocabulary, bar.update), len(problems)


def make_report(calculator: Calculator, by_place: AttentionByPlace, num_problems: int, seed: int) -> dict[str, object]:
    """What attention.json holds; its shares are [layer][head][without, with carry][place][category]."""
    shares = np.where(np.isnan(by_place.shares), None, by_place.shares.round(4).astype(object))
    return {
        "model_sha256": calculator.loaded.sha256,
        "problems": num_problems,
        "seed": seed,
        "side": "test",
        "categories": list(CATEGORIES),
        "digits": by_place.counts.tolist(),
        "shares": shares.tolist(),
        "mean_shares": by_place.mean_shares().round(4).tolist(),
        "pairing": by_place.pairing.round(4).tolist(),
        "carry_effect": by_place.carry_effect().round(4).tolist(),
    }


def print_heads(by_place: AttentionByPlace) -> None:
    """A line a head: mean shares in percent while the answer is said, what a digit of y gives to x's at its place while
    the prompt is read, and the share that a carry moves most.
    """
    mean, effect = 100 * by_place.mean_shares(), 100 * by_place.carry_effect()  # (L, H, C) each
    paired = 100 * by_place.pairing  # (L, H)
    print("layer  head  " + "  ".join(f"{name:>12}" for name in CATEGORIES) + "   y to x   with a carry")
    for layer, head in np.ndindex(mean.shape[:2]):
        moved = int(np.abs(effect[layer, head]).argmax())
        cells = "  ".join(f"{share:11.1f}%" for share in mean[layer, head])
        with_carry = f"{CATEGORIES[moved]} {effect[layer, head, moved]:+.0f} points"
        print(f"{layer + 1:5}  {head + 1:4}  {cells}  {paired[layer, head]:6.1f}%   {with_carry}")


if __name__ == "__main__":
    command_line.run(main, options, debug=options.debug)
