"""A stand-in for a trained model: decoding and scoring are tested against answers known beforehand."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from simple_llm.model.tokens import Vocabulary


@dataclass
class TokensRead:
    """What stands in for keys and values."""

    tokens: Tensor
    is_token: Tensor

    @property
    def length(self) -> int:
        return self.tokens.size(1)

    def select(self, index: Tensor) -> "TokensRead":
        return TokensRead(self.tokens[index], self.is_token[index])

    def branch(self, row: Tensor, length: int, column: Tensor, room: int) -> "TokensRead":
        return TokensRead(
            *(torch.cat([one[row, :length], one[row, column, None]], dim=1) for one in (self.tokens, self.is_token))
        )


class PerfectAdder:
    """All logit weight on the right token; honours what decoding and scoring use of a model or of an engine.

    Sums are Python's own. What it is asked after the end of an answer it answers with the digit 1, so that
    anything read past the end shows.

    Args:
        base: of the digits; rows are written as `vocabulary` says.
        wrong: {(x, y): what to say in place of x + y}, for that order of the operands alone.
        endless: pairs whose answer is ones without end.
        logit: of the token it says; all others have 0.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        base: int = 10,
        tokens_per_step: int | str = 1,
        wrong: Mapping[tuple[int, int], int] | None = None,
        endless: frozenset[tuple[int, int]] = frozenset(),
        logit: float = 10.0,
    ) -> None:
        self.vocabulary, self.base = vocabulary, base
        self.wrong, self.endless, self.logit = dict(wrong or {}), endless, logit
        self._said: dict[tuple[int, ...], int] = {}
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.config = SimpleNamespace(
            pad_token_id=vocabulary.pad_id,
            eos_token_id=vocabulary.delimiter_id,
            vocab_size=max(vocabulary.digit_ids) + 1,
            digit_token_ids=list(vocabulary.digit_ids),
            tokens_per_step=tokens_per_step,
            position_embedding="block",
            attention_window=None,
            scratchpad="none",
        )

    def position_ids(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return torch.zeros_like(input_ids)

    def __call__(self, input_ids: Tensor) -> SimpleNamespace:
        """Its logits after each token of whole rows, (B, T, V), as a model would be asked for them."""
        cache = self.new_cache(len(input_ids), input_ids.size(1))
        is_token = input_ids != self.vocabulary.pad_id
        return SimpleNamespace(
            logits=self.read(input_ids, torch.zeros_like(input_ids), is_token, cache, input_ids.size(1))
        )

    # ---- as an engine -----------------------------------------------------------------------------

    def bytes_per_token(self) -> int:
        return 1

    def new_cache(self, num_rows: int, room: int) -> "TokensRead":
        return TokensRead(torch.zeros(num_rows, 0, dtype=torch.long), torch.zeros(num_rows, 0, dtype=torch.bool))

    def read(
        self,
        tokens: Tensor,
        positions: Tensor,
        is_token: Tensor,
        cache: "TokensRead",
        num_last: int,
        sees: Tensor | None = None,
    ) -> Tensor:
        """Its cache is the tokens read so far, so it can be wrong about nothing but what it was given."""
        start = cache.length
        cache.tokens = torch.cat([cache.tokens, tokens], dim=1)  # (B, S)
        cache.is_token = torch.cat([cache.is_token, is_token], dim=1)
        if sees is None:
            sees = torch.ones(tokens.size(1), cache.length, dtype=torch.bool).tril(start)
        logits = torch.zeros(*tokens.shape, self.config.vocab_size)  # (B, T, V)
        is_seen = cache.is_token[:, None] & sees  # (B, T, S)
        rows, columns = is_token.nonzero().unbind(1)  # (N,) each
        seen = map(itertools.compress, cache.tokens[rows].tolist(), is_seen[rows, columns].tolist())
        logits[rows, columns, [self.said(tuple(row)) for row in seen]] = self.logit
        return logits[:, tokens.size(1) - num_last :]

    def said(self, row: tuple[int, ...]) -> int:
        """What it says after the last token of a row, of which it knows no more than a causal model."""
        if row not in self._said:
            self._said[row] = self._work_out(row)
        return self._said[row]

    def _work_out(self, row: tuple[int, ...]) -> int:
        num_delimiters = row.count(self.vocabulary.delimiter_id)
        if num_delimiters < 2 or (num_delimiters == 2 and row[-1] == self.vocabulary.delimiter_id):
            return self.vocabulary.digit_ids[0]  # there is no second operand yet, and nobody asks
        if self.config.tokens_per_step != "all":
            whole, ahead = self.row(row), len(row) - 1 + self.config.tokens_per_step
            return whole[ahead] if ahead < len(whole) else self.vocabulary.digit_ids[1]
        x, y = (self.value(number) for number in self.numbers(row)[:2])
        if num_delimiters == 2:  # at a digit of y: the digit of its place
            return self.vocabulary.digit_ids[(x + y) // self.base ** (len(self.numbers(row)[1]) - 1) % self.base]
        answer, place = self.write(self.wrong.get((x, y), x + y)), len(self.numbers(row)[1])
        return answer[place] if place < len(answer) else self.vocabulary.delimiter_id

    def row(self, tokens: Sequence[int]) -> list[int]:
        """The whole row that these first tokens, `+x+y+` at least, belong to."""
        x, y = (self.value(number) for number in self.numbers(tokens)[:2])
        end = [] if (x, y) in self.endless else [self.vocabulary.delimiter_id]
        answer = [] if (x, y) in self.endless else self.write(self.wrong.get((x, y), x + y))
        delimiter = [self.vocabulary.delimiter_id]
        return delimiter + self.write(x) + delimiter + self.write(y) + delimiter + answer + end

    def numbers(self, tokens: Sequence[int]) -> list[list[int]]:
        """Split a row at its delimiters."""
        numbers: list[list[int]] = []
        for token in tokens:
            if token == self.vocabulary.delimiter_id:
                numbers.append([])
            elif token in self.vocabulary.digit_ids:
                numbers[-1].append(token)
        return numbers

    def write(self, value: int) -> list[int]:
        digits = []
        while value or not digits:
            value, digit = divmod(value, self.base)
            digits.append(self.vocabulary.digit_ids[digit])
        return digits if self.vocabulary.reversed else digits[::-1]

    def value(self, tokens: list[int]) -> int:
        digits = tokens if self.vocabulary.reversed else tokens[::-1]
        return sum(self.vocabulary.digit_ids.index(token) * self.base**place for place, token in enumerate(digits))
