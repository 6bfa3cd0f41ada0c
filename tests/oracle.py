"""A stand-in for a trained model: decoding and scoring are tested against answers known beforehand."""

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from torch import Tensor

from simple_llm.batches import Vocabulary


class PerfectAdder:
    """All logit weight on the right token k ahead of each row; honours what decoding and scoring use of a model.

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
        tokens_per_step: int = 1,
        wrong: Mapping[tuple[int, int], int] | None = None,
        endless: frozenset[tuple[int, int]] = frozenset(),
        logit: float = 10.0,
    ) -> None:
        self.vocabulary, self.base = vocabulary, base
        self.wrong, self.endless, self.logit = dict(wrong or {}), endless, logit
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(
            pad_token_id=vocabulary.pad_id,
            eos_token_id=vocabulary.delimiter_id,
            vocab_size=max(vocabulary.digit_ids) + 1,
            tokens_per_step=tokens_per_step,
        )

    def position_ids(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return torch.zeros_like(input_ids)

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Tensor | None = None,
        use_cache: bool = False,
        logits_to_keep: int = 0,
    ) -> SimpleNamespace:
        """Its cache is the tokens read so far, so it can be wrong about nothing but what it was given."""
        read = input_ids if past_key_values is None else torch.cat([past_key_values, input_ids], dim=1)  # (B, T)
        logits = torch.zeros(*read.shape, self.config.vocab_size)  # (B, T, V)
        for row, tokens in enumerate(read.tolist()):
            num_padding = next(i for i, token in enumerate(tokens) if token != self.vocabulary.pad_id)
            whole = self.row(tokens[num_padding:])
            for index in range(len(tokens) - num_padding):
                ahead = index + self.config.tokens_per_step
                said = whole[ahead] if ahead < len(whole) else self.vocabulary.digit_ids[1]
                logits[row, num_padding + index, said] = self.logit
        logits = logits[:, -input_ids.size(1) :]
        return SimpleNamespace(logits=logits[:, -logits_to_keep:], past_key_values=read if use_cache else None)

    def row(self, tokens: list[int]) -> list[int]:
        """The whole row that these first tokens, `+x+y+` at least, belong to."""
        x, y = (self.read(number) for number in self.numbers(tokens)[:2])
        end = [] if (x, y) in self.endless else [self.vocabulary.delimiter_id]
        answer = [] if (x, y) in self.endless else self.write(self.wrong.get((x, y), x + y))
        delimiter = [self.vocabulary.delimiter_id]
        return delimiter + self.write(x) + delimiter + self.write(y) + delimiter + answer + end

    def numbers(self, tokens: list[int]) -> list[list[int]]:
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

    def read(self, tokens: list[int]) -> int:
        digits = tokens if self.vocabulary.reversed else tokens[::-1]
        return sum(self.vocabulary.digit_ids.index(token) * self.base**place for place, token in enumerate(digits))
