"""A model of one block that is planted: it says what a function of the context says, and text by text, slowly, too."""

import functools
import itertools
from collections.abc import Callable

import torch

from simple_llm.arithmetic.contexts import contexts, KINDS
from simple_llm.arithmetic.symbols import NOTHING, shown
from tests.test_grid import characters, grid_model, places

Context = tuple[
    tuple[str, str], tuple[tuple[str, str], ...]
]  # the token that asks, and those it sees, each with its kind
Says = Callable[[Context], str]
MOST_TOKENS = 400  # said one at a time


class PlantedEngine:
    """Stands in for a ContextEngine.

    Attributes:
        num_asked: contexts it was asked for.
        num_calls: calls that took.
    """

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, says: Says, base: int) -> None:
        self.says, self.characters, self.config = says, characters(base), grid_model(base).config
        self.num_asked = self.num_calls = 0

    def logits(self, tokens: torch.Tensor, kinds: torch.Tensor, is_seen: torch.Tensor) -> torch.Tensor:
        """What is said has the logit 2, padding 1.5, all others 0."""
        self.num_asked, self.num_calls = self.num_asked + len(tokens), self.num_calls + 1
        logits = torch.zeros(len(tokens), self.config.vocab_size)
        logits[:, self.config.pad_token_id] = 1.5
        said = []
        for of_row, its_kinds, sees in zip(tokens.tolist(), kinds.tolist(), is_seen.tolist(), strict=True):
            cells = [(self.characters[token], KINDS[kind]) for token, kind in zip(of_row, its_kinds, strict=True)]
            seen = tuple(sorted(itertools.compress(cells, sees)))
            said.append(self.characters.index(self.says((cells[-1], seen))))
        logits[range(len(said)), said] = 2.0
        return logits


def one_at_a_time(says: Says, question: str, most: int = MOST_TOKENS) -> str:
    """What is said to a question, up to = or as much as that."""
    return one_at_a_time_contexts(says, question, most)[0]


def one_at_a_time_contexts(says: Says, question: str, most: int = MOST_TOKENS) -> tuple[str, list[Context]]:
    text, asked = question, []
    while not text.endswith("=") and len(text) < len(question) + most:
        found = places(text)
        kind, _, looks, _ = found[-1]
        seen = [(token, of) for token, (of, address, _, _) in zip(text, found, strict=True) if address in looks]
        asked.append(((text[-1], kind), tuple(sorted(seen))))
        text += says(asked[-1])
    return text[len(question) :], asked


@functools.cache
def right_table(base: int) -> dict[Context, str]:
    """What has to be said in every context of every operation."""
    table = {}
    for operator in "+-*/":
        listed = contexts(operator, base)
        for symbols, kinds, says in zip(listed.symbols, listed.kinds, listed.says, strict=True):
            *cells, own = [(spelled(symbol, base), KINDS[kind]) for symbol, kind in zip(symbols, kinds, strict=True)]
            table[own, tuple(sorted(cell for cell in cells if cell[0]))] = spelled(says, base)
    return table


def spelled(symbol: int, base: int) -> str:
    return "" if symbol == NOTHING else shown([symbol], base)


def right(base: int) -> Says:
    """Says what is right."""
    return right_table(base).__getitem__


def right_but_for(base: int, changed: dict[Context, str]) -> Says:
    """Says what is right, and something else in some contexts and in those that are no right ones."""
    table = right_table(base) | changed
    return lambda context: table.get(context, "|")
