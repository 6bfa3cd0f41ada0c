"""Draw where a trained model looks while it calculates.

    python3 visualize.py [--model DIR] [--output DIR] [--samples N] [--seed S] "101+1002"

    python3 visualize.py "101+1002"
    python3 visualize.py --model ../simple-llm-data/any-length --output pictures "999+1"
    python3 visualize.py --model me/my-calculator --output pictures "57*46"          a model from the Hugging Face Hub

Reads   a model folder that trainer.py wrote; nothing else
Writes  into the model folder, or --output:
        attention_layer_1.png, ...      one problem: all heads of a layer, tokens along both sides
        attention_overview.png          the same, all layers
        attention_by_place.png          many problems: how much falls on digits of x and y at the place being said, on
                                        the place below, where a carry comes from, on delimiters and on the rest
        attention.json                  the numbers of that picture

The many problems are drawn from the test side of the split, uniformly over values; the right answers are given to
read. They have to be sums or differences without a scratchpad: only there has each digit said a place of its own. Of
work on paper a table says instead what each token of it sees.
"""

import json

from simple_llm import command_line

NUM_SAMPLES = 500

if __name__ == "__main__":
    options = command_line.model_options(
        __doc__,
        lambda parser: (
            parser.add_argument("prompt", nargs="?", metavar="PROBLEM", help="default: 101+1002, if it adds"),
            parser.add_argument("--output", type=command_line.path, metavar="DIR", help="default: the model folder"),
            parser.add_argument(
                "--samples", type=command_line.positive_integer, metavar="N", help=f"default: {NUM_SAMPLES}"
            ),
            parser.add_argument("--seed", type=command_line.whole_number, metavar="S", help="default: 0"),
        ),
    )

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operation import Operation
from simple_llm.data.sampling import Sampler
from simple_llm.errors import EnvironmentFault, UsageError
from simple_llm.evaluation.attention_maps import (
    attention_by_place,
    attention_maps,
    AttentionByPlace,
    AttentionMaps,
    CATEGORIES,
    CELLS,
    cells_in_view,
)
from simple_llm.evaluation.held_out import held_out_sample
from simple_llm.files.names import ATTENTION, ATTENTION_BY_PLACE, ATTENTION_OVERVIEW, CARD
from simple_llm.machine import resolve_device
from simple_llm.model.calculator import Calculator, NO_ANSWER
from simple_llm.model.folder import write_report
from simple_llm.model.network import load_network
from simple_llm.model.prompts import EXAMPLES, Prompt
from simple_llm.run_log import beside_result
from simple_llm.sharing.fetching import fetch_model
from simple_llm.sharing.model_card import write_card
from simple_llm.stopping import progress_bar

MAX_TOKENS = 64  # along the side of a picture
Writers = dict[str, Callable[[Path], object]]  # by the names of the files they write


def main(arguments: command_line.argparse.Namespace) -> None:
    folder = fetch_model(arguments.model)
    output = arguments.output or folder
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output} is no folder")
    if arguments.output is None and folder != Path(arguments.model):
        raise UsageError(f"{arguments.model} is on the Hub; name a folder for the pictures with --output")
    calculator = Calculator(load_network(folder), resolve_device("auto"))
    prompt = calculator.parse(default_prompt(calculator) if arguments.prompt is None else arguments.prompt)
    has_places = prompt.operation.step is not None and not calculator.vocabulary.work_ids
    if not has_places and (arguments.samples, arguments.seed) != (None, None):
        raise UsageError(f"--samples and --seed are of averages by place, which {_without_places(calculator, prompt)}")
    maps = attention_maps(calculator, prompt)
    if len(maps.tokens) > MAX_TOKENS:
        raise UsageError(f"{len(maps.tokens)} tokens are too many for a picture, which holds {MAX_TOKENS}")
    report, content = {"model_sha256": calculator.loaded.sha256}, map_writers(maps, title_of(calculator, prompt))
    if has_places:
        by_place, report = average(calculator, prompt.operation, arguments.samples or NUM_SAMPLES, arguments.seed or 0)
        print_heads(by_place)
        content |= average_writers(by_place, report)
    elif calculator.vocabulary.work_ids:
        report |= {"in_view": cells_in_view(calculator, maps)}
        print_views(report["in_view"])
    else:
        print(f"no averages by place, which {_without_places(calculator, prompt)}", file=sys.stderr)
    sys.stdout.flush()
    written = write_each(content, output)
    if output == folder:
        with beside_result(CARD):
            write_card(folder)  # which shows the overview
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"written": [str(path) for path in written], **report}))
    if len(written) < len(content):
        raise EnvironmentFault(f"{len(content) - len(written)} of {len(content)} files were not written to {output}")


def default_prompt(calculator: Calculator) -> str:
    """A sum, or a problem of the first operation that the model knows."""
    first = calculator.loaded.operations[0]
    return first.write(*((101, 1002) if first is ADDITION else EXAMPLES[first.name]))


def title_of(calculator: Calculator, prompt: Prompt) -> str:
    """A problem with what the model says to it."""
    [answer] = calculator.answer([prompt])
    return f"{prompt}={answer}" if answer != NO_ANSWER else f"{prompt}, no answer"


def _without_places(calculator: Calculator, prompt: Prompt) -> str:
    what = "work on paper" if calculator.vocabulary.work_ids else f"a {prompt.operation.noun}"
    return f"{what} does not have"


def map_writers(maps: AttentionMaps, title: str) -> Writers:
    """What draws one problem: each layer, and all of them small."""
    layers = {
        f"attention_layer_{layer + 1}.png": lambda path, layer=layer: pictures().draw_layer(maps, layer, title, path)
        for layer in range(len(maps.weights))
    }
    return {**layers, ATTENTION_OVERVIEW: lambda path: pictures().draw_overview(maps, title, path)}


def average_writers(by_place: AttentionByPlace, report: dict[str, object]) -> Writers:
    """What writes the averages by place, as numbers and drawn."""
    title = f"What each head looks at, mean of {report['problems']:,} held-out problems"
    content = (json.dumps(report, indent=2) + "\n").encode()
    return {
        ATTENTION: lambda path: write_report(path.parent, path.name, content),
        ATTENTION_BY_PLACE: lambda path: pictures().draw_by_place(by_place, title, path),
    }


def pictures() -> ModuleType:
    """What draws. It needs matplotlib, which may be broken where the numbers are well."""
    from simple_llm.evaluation import pictures

    return pictures


def write_each(content: Writers, output: Path) -> list[Path]:
    """Write each file by itself; return those that are there."""
    written = []
    for name, write in content.items():
        with beside_result(str(output / name)):
            output.mkdir(parents=True, exist_ok=True)
            write(output / name)
            written.append(output / name)
    return written


def average(
    calculator: Calculator, operation: Operation, num_samples: int, seed: int
) -> tuple[AttentionByPlace, dict[str, object]]:
    """Average over held-out problems of an operation; return that and the report of it."""
    sampler = Sampler.of(calculator.loaded.data.numbers, operation)
    problems = held_out_sample(sampler, calculator.loaded.data.split, num_samples, seed)
    with progress_bar(total=len(problems), unit="problem", desc="averaging", leave=False) as bar:
        by_place = attention_by_place(calculator.model, problems, calculator.vocabulary, bar.update)
    return by_place, make_report(calculator, by_place, len(problems), seed)


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


def print_views(views: list[dict[str, str]]) -> None:
    """A line a token of the work: what it says, and what it sees."""
    columns = ("token", "says", *CELLS)
    print("  ".join(f"{column:8}" for column in columns).rstrip())
    for view in views:
        print("  ".join(f"{view.get(column, '-'):8}" for column in columns).rstrip())


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
