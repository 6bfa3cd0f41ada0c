"""Problems -> token tensors: whole rows to learn from, prompts to answer, the order batches come in.

Shape letters in this file: N rows, B rows in a batch, T tokens in the longest row, W places, k tokens a step.

Everything is tokenized once; a batch is an index into a tensor.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from simple_llm.modeling_simple_llm import IGNORE_INDEX
from simple_llm.problems import Digits, Problems


@dataclass(frozen=True)
class Vocabulary:
    """The token IDs that rows are made of, and the order of a number's digits.

    Attributes:
        digit_ids: the IDs of the digits 0, 1, 2, ...
        reversed: least significant digit first.
    """

    digit_ids: tuple[int, ...]
    delimiter_id: int
    pad_id: int
    reversed: bool = True


@dataclass(frozen=True)
class Rows:
    """Problems as rows of tokens, padded on the right.

        tokens         + 2 1 + 9 1 + 1 3 + PAD      (12 + 19 = 31)
        answer_start   7

    Attributes:
        tokens: (N, T).
        answer_start: (N,) index of the answer's first digit.
    """

    tokens: Tensor
    answer_start: Tensor

    def __len__(self) -> int:
        return len(self.tokens)


def prompt_tokens(problems: Problems, vocabulary: Vocabulary) -> Tensor:
    """Write `+x+y+` for each problem, padded on the right: (N, T)."""
    numbers = [(problems.x, problems.x_length), (problems.y, problems.y_length)]
    return _write_numbers(numbers, vocabulary)


def row_tokens(problems: Problems, vocabulary: Vocabulary) -> Rows:
    """Write `+x+y+z+` for each problem."""
    numbers = [
        (problems.x, problems.x_length),
        (problems.y, problems.y_length),
        (problems.z, problems.z_length),
    ]
    answer_start = torch.from_numpy(problems.x_length + problems.y_length) + 3
    return Rows(_write_numbers(numbers, vocabulary), answer_start)


def answer_tokens(problems: Problems, vocabulary: Vocabulary) -> Tensor:
    """Write what the model has to say, `z+`, padded on the right: (N, T)."""
    return _write_numbers([(problems.z, problems.z_length)], vocabulary)[:, 1:]


def _write_numbers(numbers: list[tuple[Digits, NDArray[np.int64]]], vocabulary: Vocabulary) -> Tensor:
    """Write numbers of any lengths with delimiters before, between and after: (N, T)."""
    num_rows = numbers[0][1].size
    row_length = 1 + sum(length + 1 for _, length in numbers)  # (N,)
    tokens = np.full((num_rows, int(row_length.max(initial=1))), vocabulary.pad_id, np.int64)
    tokens[:, 0] = vocabulary.delimiter_id
    digit_ids, row = np.array(vocabulary.digit_ids), np.arange(num_rows)
    start = np.ones(num_rows, np.int64)  # (N,) column of the number's first token
    for digits, length in numbers:
        for place, digit in enumerate(digits):
            has_place = place < length
            column = start + (place if vocabulary.reversed else length - 1 - place)
            tokens[row[has_place], column[has_place]] = digit_ids[digit[has_place]]
        tokens[row, start + length] = vocabulary.delimiter_id
        start = start + length + 1
    return torch.from_numpy(tokens)


def pad_left(tokens: Tensor, pad_id: int) -> Tensor:
    """Move the padding of right-padded rows to their left: (N, T) -> (N, T)."""
    num_padding = (tokens == pad_id).sum(1, keepdim=True)  # (N, 1)
    column = torch.arange(tokens.size(1), device=tokens.device) - num_padding  # (N, T)
    return torch.where(column >= 0, tokens.gather(1, column.clamp(min=0)), pad_id)


@dataclass(frozen=True)
class Examples:
    """Rows to learn from; indexing selects some of them.

    Attributes:
        inputs, targets: (N, T), see `inputs_and_targets`.
        place_targets: (N, T), see `place_targets`.
    """

    inputs: Tensor
    targets: Tensor
    place_targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: NDArray[np.int64] | Tensor) -> "Examples":
        return Examples(self.inputs[index], self.targets[index], self.place_targets[index])

    def to(self, device: torch.device) -> "Examples":
        return Examples(self.inputs.to(device), self.targets.to(device), self.place_targets.to(device))


def inputs_and_targets(rows: Rows, tokens_per_step: int, pad_id: int) -> tuple[Tensor, Tensor]:
    """Pair each token with the one k ahead of it; hide from the loss what the model is not asked to say.

        tokens     + 2 1 + 9 1 + 1 3 + PAD      (12 + 19 = 31)
        inputs     + 2 1 + 9 1 + 1 3            k = 2
        targets    . . . . . 1 3 + .

    Returns:
        inputs and targets, (N, T - k) each; IGNORE_INDEX where targets are hidden.
    """
    column = torch.arange(rows.tokens.size(1))  # (T,)
    is_answer = (column >= rows.answer_start[:, None]) & (rows.tokens != pad_id)  # (N, T)
    labels = torch.where(is_answer, rows.tokens, IGNORE_INDEX)
    return rows.tokens[:, :-tokens_per_step].contiguous(), labels[:, tokens_per_step:].contiguous()


def place_targets(problems: Problems, vocabulary: Vocabulary, num_columns: int) -> Tensor:
    """At each digit of the second operand, give the sum's digit of the same place: all that it depends on is there.

        tokens     + 2 1 + 9 1 + 1 3 +      (12 + 19 = 31)
        targets    . . . . 1 3 . . . .

    Where the most significant digit comes first, no digit can be known before the last, and nothing is given.

    Returns:
        (N, num_columns), IGNORE_INDEX where there is none.
    """
    numbers = [(problems.x, problems.x_length), (problems.z, problems.y_length)]  # z's digits where y's are
    tokens = _write_numbers(numbers, vocabulary)
    column, start = torch.arange(tokens.size(1)), torch.from_numpy(problems.x_length)[:, None] + 2
    is_second = (column >= start) & (column < start + torch.from_numpy(problems.y_length)[:, None])  # (N, T)
    targets = torch.where(is_second & vocabulary.reversed, tokens, IGNORE_INDEX)
    return functional.pad(targets, (0, num_columns - targets.size(1)), value=IGNORE_INDEX)


@dataclass(frozen=True)
class BatchOrder:
    """Which rows each step sees: epoch after epoch, each shuffled anew, batches running across the seam.

    A function of the seed and the step alone, so that a resumed run needs no state.
    """

    num_rows: int
    batch_size: int
    seed: int

    def indices(self, step: int) -> NDArray[np.int64]:
        """Row indices of a step's batch: (B,)."""
        position = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epoch, index = np.divmod(position, self.num_rows)
        picked = [_epoch_order(self.num_rows, self.seed, int(e))[index[epoch == e]] for e in np.unique(epoch)]
        return np.concatenate(picked)


@lru_cache(maxsize=2)
def _epoch_order(num_rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(num_rows)


def position_offsets(num_rows: int, max_offset: int, seed: int, step: int) -> Tensor:
    """Draw what to add to the block positions of each row, 0 to max_offset: (B, 1). A function of seed and step."""
    generator = torch.Generator().manual_seed(int(np.random.default_rng((seed, step, 1)).integers(2**62)))
    return torch.randint(0, max_offset + 1, (num_rows, 1), generator=generator)
