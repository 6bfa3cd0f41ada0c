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

from simple_llm.config import Split
from simple_llm.modeling_simple_llm import IGNORE_INDEX
from simple_llm.problems import cut_second_operands, Digits, Problems, split_sides, TRAIN


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


def first_digit_targets(problems: Problems, split: Split, vocabulary: Vocabulary) -> Tensor:
    """Say what the digits of the second operand learn to say with two tokens a step.

    The model cannot see where a number will end, and the last digit of the second operand says the answer's first
    digit. So every digit of it learns what it would have to say, were it the last:

        tokens     + 2 1 + 9 1 + 1 3 +      (12 + 19 = 31)
        targets    . . . . 1 . . . . .      were 9 all of it: 12 + 9 = 21

    Otherwise only the few rows with a short second operand would teach it. A problem that is cut short so is used
    only where it is itself on the training side of the split.

    Returns:
        (N, T - 2) targets beside those of `inputs_and_targets`, IGNORE_INDEX where there is none.
    """
    targets = torch.full_like(row_tokens(problems, vocabulary).tokens, IGNORE_INDEX)  # (N, T)
    y_start = torch.from_numpy(problems.x_length) + 2  # (N,) column of y's first digit
    first_digit = torch.tensor(vocabulary.digit_ids)[torch.from_numpy(problems.z[0]).long()]  # (N,)
    for place, (cut, is_shorter) in enumerate(cut_second_operands(problems)):
        row = torch.from_numpy(np.flatnonzero(is_shorter & (split_sides(cut, split) == TRAIN)))
        targets[row, y_start[row] + place] = first_digit[row]
    return targets[:, :-2].contiguous()


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
