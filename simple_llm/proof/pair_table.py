"""Every pair of a range, checked by what each token of its answer sees: for a model of one block with a window.

Shape letters in this file: X first operands, Y operands of the range, P places in view, K views of an operand,
N problems, T tokens in a row.

In one block a token's keys and values follow from the token and its place alone, so what a token says follows from what
it sees. With an attention window that is the three delimiters, the digits of x and y near its place, and those of the
sum, which follow from them and from one carry. Before the tens of a sum are said, left 0, right 1:

    12 + 34 and 512 + 934     sees  + 2 1 + 4 3 + 6
                              all that differs, 5 and 9, is at a place out of view

So of all pairs that look alike to the token at one place, one is read, as an ordinary row, and the others are looked
up: for each place a table over view of x, view of y, and carry from the places below the view.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operands import Operands
from simple_llm.data.problems import from_integers
from simple_llm.evaluation.margins import lead, row_logits
from simple_llm.model.architecture import Architecture
from simple_llm.model.decoding import Reader
from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokens import Vocabulary

_ROWS_AT_A_TIME = 2048


def can_be_tabled(config: Architecture) -> bool:
    """Whether a token sees so little that pairs look alike to it, and sees the digits it has to add."""
    window = config.attention_window
    return config.n_layer == 1 and config.tokens_per_step == 1 and window is not None and window["right"] >= 1


@dataclass(frozen=True)
class _Place:
    """What the token of the sum at one place sees of the operands, and how sure it then is.

    Attributes:
        view: (Y,) which view of it each operand of the range gives.
        below: (Y,) each operand's value below the places in view.
        limit: two such values that add up to this make a carry.
        leads: (K, K, 2) of the right token over the best other one, by views of x and y and carry; infinite where the
            sum has ended, minus infinite where there is no such pair.
    """

    view: Tensor
    below: Tensor
    limit: int
    leads: Tensor

    def of_pairs(self, rows: slice) -> Tensor:
        """The leads of all pairs whose first operand is among some of the range: (X, Y)."""
        _, comes_in = ADDITION.step(self.below[rows, None], self.below, 0, self.limit)  # all places below as one column
        index = (self.view[rows, None] * self.leads.size(1) + self.view) * 2 + comes_in
        return self.leads.flatten().take(index)


class PairTable:
    """All ordered pairs of a range, by what is seen of them; says the same as `pair_tree.PairTree`.

    Attributes:
        num_rows: that were read.
    """

    def __init__(self, reader: Reader, vocabulary: Vocabulary, operands: Operands) -> None:
        assert can_be_tabled(reader.config), f"{reader.config} has no table"
        self.reader, self.vocabulary = reader, vocabulary
        self.base, self.width, self.minimum = operands.base, operands.width, operands.minimum
        self.operands = torch.tensor(operands.values)  # (Y,)
        self.num_rows = 0
        num_tokens = ADDITION.answer_tokens(operands.minimum, operands.maximum, operands.base)
        self.places = [self._look_from(place) for place in range(num_tokens)]

    def margins(self, first: int, last: int) -> Tensor:
        """Check x + y for x from `first` to `last` and every y of the range.

        Returns:
            (X, Y) float32: the smallest lead of a right token over the best other one, 0 or less where it is wrong.
        """
        rows = slice(first - self.minimum, last - self.minimum + 1)
        margins = torch.full((last - first + 1, len(self.operands)), math.inf)
        for place in self.places:
            torch.minimum(margins, place.of_pairs(rows), out=margins)
        return margins

    def _look_from(self, place: int) -> _Place:
        """Read a problem of each sight that the token at a place may have; the last delimiter is at place 0."""
        window, operands, base = self.reader.config.attention_window, self.operands, self.base
        lowest, highest = max(1, place - window["left"]), min(place + window["right"], self.width + 1)
        powers = torch.tensor([base**above for above in range(lowest - 1, highest)])  # (P,)
        has_digit = (operands[:, None] >= powers) | (powers == 1)  # (Y, P)
        digits = torch.where(has_digit, operands[:, None] // powers % base, -1)
        views, view = digits.unique(dim=0, return_inverse=True)  # (K, P), (Y,)
        limit = base ** (lowest - 1)
        below = operands % limit
        leads = torch.full((len(views), len(views), 2), -math.inf)
        for carry, extreme in enumerate(("amin", "amax")):
            # Of the operands of a view those with least below it make no carry if any do, those with most make one.
            ranked = below * len(operands) + torch.arange(len(operands))
            chosen = ranked.new_empty(len(views)).scatter_reduce(0, view, ranked, extreme, include_self=False)
            chosen %= len(operands)  # (K,)
            is_there = ADDITION.step(below[chosen, None], below[chosen], 0, limit)[1] == carry  # (K, K)
            x, y = is_there.nonzero().unbind(1)
            leads[x, y, carry] = self._leads_at(operands[chosen[x]], operands[chosen[y]], place)
        return _Place(view, below, limit, leads)

    def _leads_at(self, x: Tensor, y: Tensor, place: int) -> Tensor:
        """Read problems as ordinary rows: (N,) leads of what the token at one place of the sum says."""
        problems = from_integers(zip(x.tolist(), y.tolist(), strict=True), self.base, self.width)
        self.num_rows += len(problems)
        leads = [torch.zeros(0)]
        for first in range(0, len(problems), _ROWS_AT_A_TIME):
            some = problems[slice(first, first + _ROWS_AT_A_TIME)]
            logits, targets = next(row_logits(self.reader, some, self.vocabulary, _ROWS_AT_A_TIME))
            column = torch.from_numpy(some.x_length + some.y_length).to(targets.device) + 2 + place  # (N,)
            is_there = column < targets.size(1)
            row, column = torch.arange(len(some), device=targets.device), column.clamp(max=targets.size(1) - 1)
            target = torch.where(is_there, targets[row, column], IGNORE_INDEX)
            is_asked = target != IGNORE_INDEX  # the sum has not ended before this token
            leads_here = lead(logits[row, column], torch.where(is_asked, target, 0))
            leads.append(torch.where(is_asked, leads_here, math.inf).float().cpu())
        return torch.cat(leads)
