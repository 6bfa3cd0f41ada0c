"""How many pairs a second are checked in the tree of shared prefixes, and one row each.

    python3 -m benchmarks.pair_tree [--rounds 3] [--x 5000:5001]

Every y of 0 to 9999 under some x, for small models of random weights that say one token, two tokens and the whole
answer a step (there a pair is one row in either order, and only rows are counted). Both ways run in turn on one
thread, in the arithmetic that decoding uses, with the code that evaluate.py --exhaustive and its second reader use.
"""

import argparse
import itertools
import json

import torch

from benchmarks.decode import make_model, vocabulary_for
from benchmarks.report import in_turn, print_rates
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.command_line import integer_range
from simple_llm.config.settings import DataConfig, Model
from simple_llm.data.problems import from_integers
from simple_llm.data.sampling import Sampler
from simple_llm.evaluation.margins import row_margins
from simple_llm.machine import resolve_device, resolve_precision
from simple_llm.model.decoding import MEMORY_BUDGET
from simple_llm.model.engine import Engine
from simple_llm.proof.pair_tree import PairTree

MODELS = {
    1: Model(n_layer=1, n_head=2, n_embd=64, tokens_per_step=1),
    2: Model(n_layer=1, n_head=2, n_embd=64, tokens_per_step=2),
    "all": Model(n_layer=2, n_head=4, n_embd=64, tokens_per_step="all"),
}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--x", type=integer_range, default=(5000, 5001), metavar="MIN:MAX", help="first operands")
    arguments = made.parse_args()
    torch.set_num_threads(1)
    device = resolve_device("auto")
    print(json.dumps({k: compare(model, arguments.x, arguments.rounds, device) for k, model in MODELS.items()}))


def compare(size: Model, bounds: tuple[int, int], rounds: int, device: torch.device) -> dict[str, object]:
    """Time both ways with one model; print the rates and return them."""
    model, numbers = make_model(size, device), DataConfig().numbers
    says_all = size.tokens_per_step == "all"
    vocabulary = vocabulary_for(model.config)
    reader = Engine(model, resolve_precision("auto", device))
    operands = Sampler.of(numbers).operands
    tree = PairTree(reader, vocabulary, operands, ADDITION, MEMORY_BUDGET // reader.bytes_per_token())
    first, last = bounds
    pairs = itertools.product(range(first, last + 1), range(numbers.min, numbers.max + 1))
    problems = from_integers(pairs, numbers.base, DataConfig().operand_digits)
    if says_all:
        problems = problems[problems.y_length >= problems.x_length]

    def in_the_tree() -> int:
        return int(tree.margins(first, last).isfinite().sum())

    def one_row_each() -> int:
        return len(row_margins(reader, problems, vocabulary))

    assert in_the_tree() == one_row_each()  # and both are warm now
    print(f"\n{size.tokens_per_step} a step, {size.n_layer} layers of width {size.n_embd}")
    ways = {"in the tree": in_the_tree, "one row each": one_row_each}
    return print_rates(in_turn(ways, rounds), "pairs", threads=torch.get_num_threads(), device=device.type)


if __name__ == "__main__":
    main()
