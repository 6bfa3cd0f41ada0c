"""Every pair of a range, checked in a walk over the tree of shared prefixes.

Shape letters in this file: X first operands, Y second operands, R rows read together, A answer tokens, V tokens in the
vocabulary.

The model is causal, so two problems with one x have the keys and values of `+x+` in common, and where the low digits of
y are the same, those of them too. So `+x+` is read once for each x, a digit of y once for each beginning of y, and only
the delimiter and the answer once a pair:

    + 2 1 + --- 4 --- 3 --- + 6 4 +        12 + 34 = 46
             |     |- 4 --- + 6 5 +        12 + 44 = 56
             |- 5 --- 3 --- + 7 4 +        12 + 35 = 47
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from simple_llm.batches import make_examples, Vocabulary
from simple_llm.config import digit_count
from simple_llm.decoding import Reader
from simple_llm.engine import Cache
from simple_llm.modeling_simple_llm import IGNORE_INDEX
from simple_llm.problems import Problems
from simple_llm.scoring import lead


@dataclass(frozen=True)
class _Nodes:
    """Beginnings of y, each under its x.

    Attributes:
        cache: of everything up to the last digit of y that was read.
        row: (R,) index of x among those asked for.
        x, y: (R,) values; of y as far as it goes.
        margin: (R,) smallest lead of a right token over the best other one so far.
    """

    cache: Cache
    row: Tensor
    x: Tensor
    y: Tensor
    margin: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor) -> "_Nodes":
        return _Nodes(self.cache.select(index), *(one[index] for one in (self.row, self.x, self.y, self.margin)))


class PairTree:
    """All second operands of a range, as a tree of their digits, least significant first.

    The right tokens are read whatever the model would have said, and at each place the most likely one is compared
    with the right one. That is the same as greedy decoding being right: up to the first token where they differ both
    have read the same text, and there both are wrong. Right is what integer arithmetic says.

    Args:
        reader: a model's weights.
        minimum, maximum: of both operands; sums below 2^63.
        max_rows: read together.
    """

    def __init__(self, reader: Reader, vocabulary: Vocabulary, minimum: int, maximum: int, max_rows: int) -> None:
        self.reader, self.vocabulary = reader, vocabulary
        self.base, self.minimum, self.maximum = len(vocabulary.digit_ids), minimum, maximum
        self.width, self.answer_width = digit_count(maximum, self.base), digit_count(2 * maximum, self.base)
        self.digit_ids = torch.tensor(vocabulary.digit_ids, device=reader.device)
        self.max_rows = max_rows

    @torch.inference_mode()
    def margins(self, first: int, last: int) -> Tensor:
        """Check x + y for x from `first` to `last` and every y of the range.

        Returns:
            (X, Y) float32: the smallest lead of a right token over the best other one, 0 or less where the model is
            wrong; infinite where the pair is asked in the other order, the longer operand second.
        """
        margins = torch.full((last - first + 1, self.maximum - self.minimum + 1), math.inf)
        for x_length in range(digit_count(first, self.base), digit_count(last, self.base) + 1):
            lowest = max(first, self.base ** (x_length - 1) if x_length > 1 else 0)
            highest = min(last, self.base**x_length - 1)
            for x in torch.arange(lowest, highest + 1, device=self.reader.device).split(self.max_rows):
                self._descend(self._roots(x, x - first, x_length), x_length, 0, margins)
        return margins

    def _roots(self, x: Tensor, row: Tensor, x_length: int) -> _Nodes:
        """Read `+x+` for first operands of one length."""
        digits = self.digit_ids[self._digits(x, torch.arange(x_length, device=x.device))]
        delimiter = torch.full_like(x[:, None], self.vocabulary.delimiter_id)
        tokens = torch.cat([delimiter, digits, delimiter], dim=1)  # (X, x_length + 2)
        cache = self.reader.new_cache(len(x), x_length + 2 + self.width + self.answer_width + 2)
        self._read(tokens, [0, *range(1, x_length + 1), 0], cache)
        return _Nodes(cache, row, x, torch.zeros_like(x), torch.full(x.shape, math.inf, device=x.device))

    def _descend(self, nodes: _Nodes, x_length: int, place: int, margins: Tensor) -> None:
        """Read every digit of one place under the nodes, finish the numbers that end there, and go on to the next."""
        is_top = place == self.width - 1
        for parent in torch.arange(len(nodes), device=self.reader.device).split(max(1, self.max_rows // self.base)):
            digit = torch.arange(self.base, device=parent.device).repeat(len(parent))
            parent = parent.repeat_interleave(self.base)
            y = nodes.y[parent] + digit * self.base**place
            is_number = ((digit > 0) | (place == 0)) & (y >= self.minimum)  # without a leading zero
            modulus = self.base ** (place + 1)
            first_above = self.minimum + (y - self.minimum) % modulus  # that ends in these digits
            leads_on = (first_above <= self.maximum) & (is_number | (not is_top))
            parent, digit, y, is_number = parent[leads_on], digit[leads_on], y[leads_on], is_number[leads_on]
            if not len(parent):
                continue
            children = nodes[parent]
            logits = self._read(self.digit_ids[digit][:, None], [place + 1], children.cache)[:, -1]  # (R, V)
            margin = children.margin
            if self.vocabulary.says_all:
                right = self._digits(children.x + y, torch.tensor([place], device=y.device))[:, 0]
                margin = torch.minimum(margin, lead(logits, self.digit_ids[right]))
            children = _Nodes(children.cache, children.row, children.x, y, margin)
            if is_number.any() and not (self.vocabulary.says_all and place + 1 < x_length):
                ended = is_number.nonzero()[:, 0]
                self._finish(children[ended], logits[ended], max(x_length, place + 1), margins)
            if not is_top:
                self._descend(children, x_length, place + 1, margins)

    def _finish(self, numbers: _Nodes, logits: Tensor, length: int, margins: Tensor) -> None:
        """Read the delimiter and the answer behind each y, and write down how sure the model was of all of it.

        Args:
            logits: (R, V) at the last digit of y.
            length: digits of the longer operand.
        """
        end = self.vocabulary.delimiter_id
        z = numbers.x + numbers.y
        z_length = length + (z >= self.base**length)  # (R,)
        column = torch.arange(min(length + 1, self.answer_width) + 1, device=z.device)  # (A,)
        is_answer = column <= z_length[:, None]
        answer = torch.where(column == z_length[:, None], end, self.digit_ids[self._digits(z, column)])  # (R, A)
        delimiter = torch.full_like(answer[:, :1], end)
        if self.vocabulary.says_all:
            said = self._read(delimiter, [0], numbers.cache)  # (R, 1, V)
            answer, is_answer = answer[:, length : length + 1], is_answer[:, length : length + 1]
        else:
            k = self.reader.config.tokens_per_step
            tokens = torch.cat([delimiter, answer[:, : answer.size(1) - k]], dim=1)
            said = self._read(tokens, list(range(tokens.size(1))), numbers.cache)
            said = torch.cat([logits[:, None], said], dim=1)[:, 2 - k :]  # (R, A, V); with two a step y says the first
        leads = torch.where(is_answer, lead(said, answer), math.inf)  # (R, A)
        margin = torch.minimum(numbers.margin, leads.amin(1))
        margins[numbers.row.cpu(), (numbers.y - self.minimum).cpu()] = margin.cpu()

    def _read(self, tokens: Tensor, places: list[int], cache: Cache) -> Tensor:
        """Read tokens, (R, T), whose block positions are `places`: logits (R, T, V)."""
        kind = self.reader.config.position_embedding
        if not kind.startswith("block"):
            places = [0] * len(places) if kind == "none" else list(range(cache.length, cache.length + len(places)))
        positions = torch.tensor(places, device=tokens.device).expand_as(tokens)
        return self.reader.read(tokens, positions, torch.ones_like(tokens, dtype=torch.bool), cache, tokens.size(1))

    def _digits(self, values: Tensor, places: Tensor) -> Tensor:
        """Digits of values at places, 0 above the highest: (R,), (P,) -> (R, P)."""
        return values[:, None] // self.base**places % self.base


def row_margins(reader: Reader, problems: Problems, vocabulary: Vocabulary) -> Tensor:
    """Check problems one row each, the right answer read with it: (N,) margins, as `PairTree.margins` gives them."""
    margins = [torch.zeros(0)]
    for logits, targets in row_logits(reader, problems, vocabulary):
        is_target = targets != IGNORE_INDEX
        leads = torch.where(is_target, lead(logits, torch.where(is_target, targets, 0)), math.inf)
        margins.append(leads.amin(1).float().cpu())
    return torch.cat(margins)


@torch.inference_mode()
def row_logits(
    reader: Reader, problems: Problems, vocabulary: Vocabulary, batch_size: int = 2048
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read problems one row each, with the right answers: yields logits (B, T, V) and targets (B, T) of each batch."""
    config = reader.config
    examples = make_examples(problems, vocabulary, config.tokens_per_step)
    for first in range(0, len(problems), batch_size):
        batch = examples[torch.arange(first, min(first + batch_size, len(problems)))].to(reader.device)
        is_token = batch.inputs != config.pad_token_id
        cache = reader.new_cache(len(batch), batch.inputs.size(1))
        positions = reader.position_ids(batch.inputs, is_token.long())
        yield reader.read(batch.inputs, positions, is_token, cache, batch.inputs.size(1)), batch.targets
