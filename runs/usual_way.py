"""Work on paper beside the usual way: exact match by length after the same seconds, and after ten times as many.

    python3 -m runs.usual_way --seconds S [--times 10] [--model DIR] [--data-config YAML] [--train-config YAML]
                              [--lengths 1:12] [--samples 200] [--seed 0] [--plot PNG] [section.key=value ...]

    python3 -m runs.usual_way --seconds 60 --model ../simple-llm-data/calculator --plot docs/images/usual-way.png

Reads   runs/speedrun/E_data.yaml    the rows, here of two numbers each
        runs/usual_way.yaml          the model: full attention, no scratchpad, as many parameters
        the model folder of --model, which writes its work on paper; without it there is nothing beside the usual way

Trains two models from nothing, one for as many steps as S seconds allow and one for ten times as many, each with a
learning rate that falls to 0 at its end. A few steps are timed first; drawing rows does not count. Then all are asked
the same problems of every operation: two numbers of so many digits each, in a division half as many for the divisor; of
the test side where any number in training was as long. Prints a table and ends in one JSON line.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_generator import draw_problems
from runs.pipeline import REPOSITORY
from runs.speedrun_seed import made_tokenizer
from simple_llm import command_line
from simple_llm.arithmetic.integers import digit_count
from simple_llm.arithmetic.operation import Operation
from simple_llm.config.loading import load_configs
from simple_llm.config.settings import DataConfig, Numbers, TrainConfig
from simple_llm.data.problems import Problems
from simple_llm.data.split import split_sides, TRAIN
from simple_llm.errors import UsageError
from simple_llm.evaluation.lengths import evaluate_length
from simple_llm.evaluation.pictures import ACCENT, save_figure, SHADE, WRONG
from simple_llm.machine import resolve_device
from simple_llm.model.decoding import Decoder
from simple_llm.model.folder import load_model, LoadedModel
from simple_llm.model.tokenization_simple_llm import SimpleLLMTokenizer
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.model.tokens import Examples, make_examples
from simple_llm.stopping import progress_bar
from simple_llm.training.learner import build_model, Learner, make_learner

DATA, TRAIN_CONFIG = REPOSITORY / "runs/speedrun/E_data.yaml", REPOSITORY / "runs/usual_way.yaml"
ON_PAPER = "work on paper"
_COLORS = (ACCENT, "#e3a3a6", WRONG)  # work on paper, the usual way, and ten times as long
_TIMED_STEPS = 20  # of which the first half are not timed


def main(arguments: argparse.Namespace) -> None:
    seeds = [f"seed={arguments.seed}", f"training.seed={arguments.seed}"]
    overrides = ["numbers.operands=2", *arguments.overrides, *seeds]
    data, train = load_configs(arguments.data_config, arguments.train_config, overrides)
    refuse_long_answers(data, train, max(arguments.lengths))
    runs = [measured(ON_PAPER, load_model(arguments.model), data, arguments)] if arguments.model else []
    rows = draw_problems(data).problems
    tokenizer = made_tokenizer(rows, data, train)
    examples = training_examples(rows, tokenizer, data, train)
    step_seconds = seconds_of_a_step(examples, new_learner(tokenizer, data, train))
    for times in (1, arguments.times):
        seconds = times * arguments.seconds
        settings = train.training.model_copy(update={"max_steps": max(1, round(seconds / step_seconds))})
        loaded = trained(examples, tokenizer, data, train.model_copy(update={"training": settings}))
        run = measured(f"the usual way, {seconds:g} s", loaded, data, arguments)
        runs.append({**run, "seconds": seconds, "steps": settings.max_steps})
    within = {one.name: trained_digits(data.numbers, one) for one in data.operations.known}
    print_table(runs)
    if arguments.plot:
        draw(runs, within, arguments.plot)
    print(
        json.dumps({"trained_digits": within, "seed": arguments.seed, "overrides": arguments.overrides, "runs": runs})
    )


def refuse_long_answers(data: DataConfig, train: TrainConfig, num_digits: int) -> None:
    """Refuse lengths that the usual way has no positions for, before it is trained.

    Raises:
        UsageError: naming how many positions it takes.
    """
    largest = data.numbers.base**num_digits - 1
    needed = 1 + max(one.longest_answer(0, largest, data.numbers.base) for one in data.operations.known)
    if train.model.position_embedding != "none" and train.model.n_positions < needed:
        raise UsageError(f"--lengths: answers to numbers of {num_digits} digits need model.n_positions={needed}")


def training_examples(rows: Problems, tokenizer: SimpleLLMTokenizer, data: DataConfig, train: TrainConfig) -> Examples:
    """Those of the training side."""
    vocabulary = vocabulary_of(tokenizer, train.model.tokens_per_step)
    return make_examples(rows[split_sides(rows, data.split) == TRAIN], vocabulary)


def new_learner(tokenizer: SimpleLLMTokenizer, data: DataConfig, train: TrainConfig) -> Learner:
    """A model of the config's seed, and what trains it."""
    torch.manual_seed(train.training.seed)
    model = build_model(data, train, tokenizer).to(resolve_device(train.training.device))
    return make_learner(model, train.training)


def seconds_of_a_step(examples: Examples, learner: Learner) -> float:
    """Take a few steps with a model that is thrown away; the mean of the second half of them."""
    for step in range(_TIMED_STEPS):
        if step == _TIMED_STEPS // 2:
            started = time.monotonic()
        learner.step(examples, step).item()
    return (time.monotonic() - started) / (_TIMED_STEPS - _TIMED_STEPS // 2)


def trained(examples: Examples, tokenizer: SimpleLLMTokenizer, data: DataConfig, train: TrainConfig) -> LoadedModel:
    """Train a new model for all steps of a config."""
    learner = new_learner(tokenizer, data, train)
    with progress_bar(total=train.training.max_steps, desc="the usual way", unit="step") as bar:
        for step in range(train.training.max_steps):
            learner.step(examples, step)
            bar.update()
    return LoadedModel(learner.model.eval(), tokenizer, data, train, "", {})


# ---- Exact match by length --------------------------------------------------------------------------


def measured(name: str, loaded: LoadedModel, data: DataConfig, arguments: argparse.Namespace) -> dict[str, object]:
    """Ask a model for problems of every length and operation; those that two models are asked for are the same.

    Raises:
        UsageError: the model has another base or split, or does not know all of the operations.
    """
    if missing := [one.name for one in data.operations.known if one not in loaded.operations]:
        raise UsageError(f"{name}: this model was not trained on {', '.join(missing)}")
    if (loaded.data.numbers.base, loaded.data.split) != (data.numbers.base, data.split):
        raise UsageError(f"{name}: this model has another base or another split than the rows")
    asked = replace(loaded, data=data)
    decoder = Decoder.of(loaded.model)
    scores = [
        evaluate_length(asked, decoder, num_digits, "uniform", arguments.samples, arguments.seed, _ignore, operation)
        for operation in data.operations.known
        for num_digits in arguments.lengths
    ]
    facts = {"num_parameters": loaded.model.num_parameters(), "model_sha256": loaded.sha256}
    return {"name": name, **facts, "lengths": [asdict(score) for score in scores]}


def _ignore(num_problems: int) -> None:
    """Nobody waits for a bar."""


def trained_digits(numbers: Numbers, operation: Operation) -> int:
    """The most digits that both numbers of a problem may have, as they are drawn here, and be within training."""
    first, second = (digit_count(largest, numbers.base) for _, largest in numbers.bounds(operation))
    return min(first, 2 * second) if operation.leaves_rest else min(first, second)


def print_table(runs: list[dict]) -> None:
    """A row an operation and model: exact of those asked, by digits."""
    lengths = list(dict.fromkeys(score["num_digits"] for score in runs[0]["lengths"]))
    heads = ["operation", "model", "parameters", f"digits: {lengths[0]}", *lengths[1:]]
    print("| " + " | ".join(map(str, heads)) + " |")
    print("|---" * len(heads) + "|")
    for operation in dict.fromkeys(score["operation"] for score in runs[0]["lengths"]):
        for run in runs:
            scores = [score for score in run["lengths"] if score["operation"] == operation]
            cells = [f"{score['correct']} / {score['total']}" for score in scores]
            print("| " + " | ".join([operation, run["name"], f"{run['num_parameters']:,}", *cells]) + " |")


def draw(runs: list[dict], trained: dict[str, int], path: Path) -> None:
    """Exact match against digits: a panel an operation, a line a model, what is within training shaded."""
    figure = Figure(figsize=(3.1 * len(trained), 3.4), layout="constrained")
    panels = figure.subplots(1, len(trained), sharey=True, squeeze=False)[0]
    for axes, (operation, num_digits) in zip(panels, trained.items(), strict=True):
        _draw_operation(axes, runs, operation, num_digits)
    panels[0].set_ylabel("exact match")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    save_figure(figure, path)


def _draw_operation(axes: Axes, runs: list[dict], operation: str, num_digits: int) -> None:
    axes.axvspan(0.5, num_digits + 0.5, color=SHADE, label="within training")
    for run, color in zip(runs, _COLORS[-len(runs) :], strict=True):
        scores = [score for score in run["lengths"] if score["operation"] == operation and score["total"]]
        shares = [score["correct"] / score["total"] for score in scores]
        digits = [score["num_digits"] for score in scores]
        axes.plot(digits, shares, color=color, marker="o", markersize=3, label=run["name"])
    axes.set(title=operation, xlabel="digits", xlim=(0.5, None), ylim=(-0.03, 1.03))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


# ---- The command line -------------------------------------------------------------------------------


def length_range(text: str) -> range:
    """Read MIN:MAX, digits."""
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN:MAX, digits from 1 on")
    return range(int(first), int(last) + 1)


def options() -> argparse.Namespace:
    """Read the command line."""
    made = command_line.parser(__doc__)
    made.add_argument("--seconds", type=float, required=True, metavar="S", help="that work on paper took")
    made.add_argument("--times", type=command_line.positive_integer, default=10, metavar="N")
    made.add_argument("--model", type=command_line.path, metavar="DIR", help="with a scratchpad of columns")
    made.add_argument("--data-config", type=command_line.path, default=DATA, metavar="YAML")
    made.add_argument("--train-config", type=command_line.path, default=TRAIN_CONFIG, metavar="YAML")
    made.add_argument("--lengths", type=length_range, default=range(1, 13), metavar="MIN:MAX", help="digits")
    made.add_argument("--samples", type=command_line.positive_integer, default=200, metavar="N", help="of each length")
    made.add_argument("--seed", type=command_line.whole_number, default=0)
    made.add_argument("--plot", type=command_line.path, metavar="PNG")
    made.add_argument("overrides", nargs="*", metavar="section.key=value", help=command_line.OVERRIDES_HELP)
    return made.parse_intermixed_args()


if __name__ == "__main__":
    asked = options()
    command_line.run(main, asked, debug=asked.debug)
