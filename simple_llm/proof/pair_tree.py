"""Every pair of a range, checked in a walk over the tree of shared prefixes.

Shape letters in this file: X first operands, Y second operands, R nodes, a row each, F digits that follow a node, E of
them that end a number, A answer tokens, J tokens read behind a number, V tokens in the vocabulary, k tokens a step.

The model is causal, so two problems with one x have the keys and values of `+x+` in common, and where the low digits of
y are the same, those of them too. So `+x+` is read once for each x, a digit of y once for each beginning of y, and only
the delimiter and the answer once a pair:

    + 2 1 + --- 4 --- 3 --- + 6 4 +        12 + 34 = 46
             |     |- 4 --- + 6 5 +        12 + 44 = 56
             |- 5 --- 3 --- + 7 4 +        12 + 35 = 47

What hangs on one node is read as one row, and a mask lets a token see what it hangs on and nothing beside it (tree
attention, Miao et al., arXiv 2305.09781). Behind `+ 2 1 + 4`, the columns for the next digits and what ends them:

    columns   3   4   +   6   +   6        sees   3   4   +   6   +   6
                                            3     x
                                            4         x
                                            + 6   x       x          the answer behind 34
                                            + 6       x           x  and behind 44
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.integers import digit_count
from simple_llm.arithmetic.operands import Operands
from simple_llm.arithmetic.operation import Operation
from simple_llm.evaluation.margins import lead
from simple_llm.model.decoding import Reader
from simple_llm.model.engine import Cache
from simple_llm.model.tokens import Vocabulary


@dataclass(frozen=True)
class _Nodes:
    """Beginnings of y, each under its x.

    Attributes:
        cache: of the rows that the nodes were read in.
        length: tokens of those rows that stand before the nodes.
        row, column: (R,) where in the cache the last digit of each is.
        index: (R,) of x among those asked for.
        x, y: (R,) values; of y as far as it goes.
        margin: (R,) smallest lead of a right token over the best other one so far.
    """

    cache: Cache
    length: int
    row: Tensor
    column: Tensor
    index: Tensor
    x: Tensor
    y: Tensor
    margin: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, chosen: Tensor | slice) -> "_Nodes":
        fields = (self.row, self.column, self.index, self.x, self.y, self.margin)
        return _Nodes(self.cache, self.length, *(one[chosen] for one in fields))


@dataclass(frozen=True)
class _Following:
    """The digits that follow some nodes at one place, the same ones behind each of them.

    Attributes:
        digits: (F,) their values.
        ends: (E,) the indices of those with which a y is complete.
    """

    digits: Tensor
    ends: Tensor


class PairTree:
    """All second operands of a range, as a tree of their digits, least significant first.

    The right tokens are read whatever the model would have said, and at each place the most likely one is compared
    with the right one. That is the same as greedy decoding being right: up to the first token where they differ both
    have read the same text, and there both are wrong. Right is what integer arithmetic says.

    Args:
        reader: a model's weights.
        operands: of both numbers; answers below 2^63.
        max_tokens: read together.
    """

    def __init__(
        self, reader: Reader, vocabulary: Vocabulary, operands: Operands, operation: Operation, max_tokens: int
    ) -> None:
        self.reader, self.vocabulary, self.operation = reader, vocabulary, operation
        self.base, self.minimum, self.maximum = operands.base, operands.minimum, operands.maximum
        self.width = operands.width
        self.answer_width = operation.answer_tokens(self.minimum, self.maximum, self.base) - 1  # a sign is one of it
        self.operator_id = vocabulary.operator_ids[OPERATIONS.index(operation)]
        self.changes_places = vocabulary.says_all and operation.commutes
        self.fills_up = vocabulary.says_all and not operation.commutes
        self.digit_ids = torch.tensor(vocabulary.digit_ids, device=reader.device)
        self.is_digit = torch.zeros(reader.config.vocab_size, dtype=torch.bool, device=reader.device)
        self.is_digit[self.digit_ids] = True
        self.max_tokens = max_tokens
        self.k = 1 if vocabulary.says_all else reader.config.tokens_per_step

    @torch.inference_mode()
    def margins(self, first: int, last: int) -> Tensor:
        """Check the operation on x from `first` to `last` and every y of the range.

        Returns:
            (X, Y) float32: the smallest lead of a right token over the best other one, 0 or less where the model is
            wrong; infinite where the pair is asked in the other order, the longer operand second.
        """
        margins = torch.full((last - first + 1, self.maximum - self.minimum + 1), math.inf)
        for x_length in range(digit_count(first, self.base), digit_count(last, self.base) + 1):
            lowest = max(first, self.base ** (x_length - 1) if x_length > 1 else 0)
            highest = min(last, self.base**x_length - 1)
            for x in torch.arange(lowest, highest + 1, device=self.reader.device).split(self.max_tokens):
                self._descend(self._roots(x, x - first, x_length), x_length, 0, margins)
        return margins

    def _roots(self, x: Tensor, index: Tensor, x_length: int) -> _Nodes:
        """Read `+x+`, or `+x-`, for first operands of one length."""
        digits = self.digit_ids[self._digits(x, torch.arange(x_length, device=x.device))]
        delimiter = torch.full_like(x[:, None], self.vocabulary.delimiter_id)
        operator = torch.full_like(delimiter, self.operator_id)
        tokens = torch.cat([delimiter, digits, operator], dim=1)  # (X, x_length + 2)
        cache = self.reader.new_cache(len(x), x_length + 2)
        places, columns = [0, *range(1, x_length + 1), 0], list(range(x_length + 2))
        self.reader.read(
            tokens, self._positions(tokens, places, columns), torch.ones_like(tokens, dtype=torch.bool), cache, 1
        )
        row, column = torch.arange(len(x), device=x.device), torch.full_like(x, x_length + 1)
        margin = torch.full_like(x, math.inf, dtype=torch.float32)
        return _Nodes(cache, x_length + 1, row, column, index, x, torch.zeros_like(x), margin)

    def _descend(self, nodes: _Nodes, x_length: int, place: int, margins: Tensor) -> None:
        """Read the digits of one place under the nodes, finish the numbers that end there, and go on to the next."""
        for following, chosen in self._following(nodes.y, x_length, place):
            num_tokens = len(following.digits) + len(following.ends) * self._ending_length(max(x_length, place + 1))
            for part in chosen.split(max(1, self.max_tokens // num_tokens)):
                children = self._read_children(nodes[part], following, x_length, place, margins)
                if place < self.width - 1:
                    self._descend(children, x_length, place + 1, margins)

    def _following(self, y: Tensor, x_length: int, place: int) -> Iterator[tuple[_Following, Tensor]]:
        """Group nodes by the digits that follow at a place: yields those, and the indices of the nodes.

        Args:
            y: (R,) values of the nodes.
        """
        digit = torch.arange(self.base, device=y.device)
        value = y[:, None] + digit * self.base**place  # (R, base)
        is_number = (digit > 0) | (place == 0)  # without a leading zero, or filled up to the length of x
        if self.fills_up and place + 1 <= x_length:
            is_number = torch.full_like(is_number, place + 1 == x_length)
        is_number = is_number & (value >= self.minimum)
        first_above = self.minimum + (value - self.minimum) % self.base ** (place + 1)  # that ends in these digits
        is_there = (first_above <= self.maximum) & (is_number | (place < self.width - 1))
        is_end = is_there & is_number & (not self.changes_places or place + 1 >= x_length)
        as_bits = 2**digit
        there_bits, end_bits = (is_there * as_bits).sum(1), (is_end * as_bits).sum(1)  # (R,)
        for there in there_bits.unique():
            if there == 0:
                continue
            for ends in end_bits[there_bits == there].unique():
                digits = (there & as_bits).nonzero()[:, 0]
                is_chosen = (there_bits == there) & (end_bits == ends)
                yield _Following(digits, (ends & as_bits)[digits].nonzero()[:, 0]), is_chosen.nonzero()[:, 0]

    def _read_children(
        self, parents: _Nodes, following: _Following, x_length: int, place: int, margins: Tensor
    ) -> _Nodes:
        """Read one digit more behind each node, and the answer where that ends a number: one row a node.

        Its columns are F digits, then for each of E numbers J tokens: a delimiter, and the answer but for its last k.
        """
        digits, ends = following.digits, following.ends
        y = parents.y[:, None] + digits * self.base**place  # (R, F)
        z = self.operation.of_integers(parents.x[:, None], y)
        right, is_right = self._answers(z[:, ends], max(x_length, place + 1))  # (R, E, A)
        endings = functional.pad(right, (1, 0), value=self.vocabulary.delimiter_id)  # (R, E, J)
        endings = endings[..., : self._ending_length(max(x_length, place + 1))]
        tokens = torch.cat([self.digit_ids[digits].expand_as(y), endings.flatten(1)], dim=1)
        length, ending = parents.length + 1, range(endings.size(2))
        positions = self._positions(
            tokens,
            places=[place + 1] * len(digits) + [*ending] * len(ends),
            columns=[length] * len(digits) + [length + 1 + column for column in ending] * len(ends),
        )
        sees = _sees(length, len(digits), ends, len(ending)).to(tokens.device)
        cache = parents.cache.branch(parents.row, parents.length, parents.column, sees.size(1))
        says_nothing_yet = self.reader.config.tokens_per_step == 1  # at the digits of y
        num_silent = len(digits) if says_nothing_yet else 0
        is_token = torch.ones_like(tokens, dtype=torch.bool)
        logits = self.reader.read(tokens, positions, is_token, cache, tokens.size(1) - num_silent, sees)  # (R, ., V)
        at_digits, said = logits.tensor_split([len(digits) - num_silent], dim=1)
        said = said.unflatten(1, (len(ends), len(ending)))  # (R, E, J, V)
        if self.k == 2:  # then the last digit of y has said the answer's first
            said = torch.cat([at_digits[:, ends, None], said], dim=2)
        margin = parents.margin[:, None].expand_as(y)  # (R, F)
        if self.vocabulary.says_all:
            margin = torch.minimum(margin, lead(at_digits, self.digit_ids[z // self.base**place % self.base]))
        ended = torch.where(is_right, lead(said, right), math.inf).amin(2)  # (R, E)
        ended = torch.minimum(ended, margin[:, ends])
        margins[parents.index[:, None].cpu(), (y[:, ends] - self.minimum).cpu()] = ended.cpu()

        def of_each(values: Tensor) -> Tensor:
            return values.expand_as(y).flatten()

        row = torch.arange(len(y), device=y.device)[:, None]
        column = torch.arange(len(digits), device=y.device) + length
        index, x = parents.index[:, None], parents.x[:, None]
        return _Nodes(cache, length, *(of_each(values) for values in (row, column, index, x, y, margin)))

    def _answer_length(self, length: int) -> int:
        """A: tokens behind the delimiter that ends y, at most; `length` is that of the longer operand."""
        return 1 if self.vocabulary.says_all else min(length + 1, self.answer_width) + 1

    def _ending_length(self, length: int) -> int:
        """J: tokens to read behind a y for the model to say all that is asked for."""
        return self._answer_length(length) + 1 - self.k

    def _answers(self, z: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The right tokens behind y and its delimiter: (R, E) answers to (R, E, A), and which of them are asked for."""
        z, end, sign = z[..., None], self.vocabulary.delimiter_id, self.vocabulary.sign_id or 0
        if self.vocabulary.says_all:  # the digits below were said at those of y
            above = z // self.base**length  # (R, E, 1)
            right = torch.where(above < 0, sign, torch.where(above == 0, end, self.digit_ids[above.clamp(min=0)]))
            return right, torch.ones_like(right, dtype=torch.bool)
        place = torch.arange(self._answer_length(length), device=z.device)  # (A,)
        powers = self.base ** torch.arange(1, length + 1, device=z.device)
        z_length = 1 + (z.abs() >= powers).sum(2, keepdim=True)  # (R, E, 1)
        digits = self.digit_ids[z.abs() // self.base**place % self.base]
        right = torch.where((z < 0) & (place == z_length), sign, torch.where(place >= z_length, end, digits))
        return right, place <= z_length + (z < 0)

    def _positions(self, tokens: Tensor, places: list[int], columns: list[int]) -> Tensor:
        """Position IDs of tokens, (R, T), by their places in the numbers or by their columns in the text."""
        kind = self.reader.config.position_embedding
        if kind == "none":
            return torch.zeros_like(tokens)
        if kind.startswith("block"):  # what is no digit has no place
            return torch.tensor(places, device=tokens.device) * self.is_digit[tokens]
        return torch.tensor(columns, device=tokens.device).expand_as(tokens)

    def _digits(self, values: Tensor, places: Tensor) -> Tensor:
        """Digits of values at places, 0 above the highest: (R,), (P,) -> (R, P)."""
        return values[:, None] // self.base**places % self.base


def _sees(num_before: int, num_digits: int, ends: Tensor, ending_length: int) -> Tensor:
    """Let every token see what it hangs on and no more: (F + E J, num_before + F + E J), see the top of this file.

    Args:
        ends: (E,) the digits, of F, that an ending hangs on.
    """
    ending = torch.arange(len(ends)).repeat_interleave(ending_length)  # (E J,) which one a token belongs to
    hangs_on = torch.cat([torch.arange(num_digits), ends.cpu()[ending]])  # (T,) the digit
    owner = torch.cat([torch.full((num_digits,), -1), ending])  # (T,)
    column = torch.arange(len(owner))
    is_own_digit = hangs_on[:, None] == column
    is_in_own_ending = (owner[:, None] == owner) & (owner >= 0) & (column <= column[:, None])
    return functional.pad(is_own_digit | is_in_own_ending, (num_before, 0), value=True)
