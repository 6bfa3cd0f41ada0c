"""Problems -> token tensors: whole rows to learn from, prompts to answer, answers to read.

Shape letters in this file: N rows, B rows in a batch, T tokens in the longest row, W places, k tokens a step.

Everything is tokenized once; a batch is an index into a tensor.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from simple_llm.arithmetic.digits import Digits
from simple_llm.data.problems import Problems
from simple_llm.model.modeling_simple_llm import IGNORE_INDEX


@dataclass(frozen=True)
class Vocabulary:
    """The token IDs that rows are made of, and the order of a number's digits.

    Attributes:
        digit_ids: the IDs of the digits 0, 1, 2, ...
        reversed: least significant digit first.
        says_all: the whole answer is said in one pass, so the longer operand goes second, and an answer that ends in
            a carry digit has no delimiter after it.
    """

    digit_ids: tuple[int, ...]
    delimiter_id: int
    pad_id: int
    reversed: bool = True
    says_all: bool = False


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
    problems = _in_order(problems, vocabulary)
    return _write_numbers([(problems.x, problems.x_length), (problems.y, problems.y_length)], vocabulary)


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
    tokens = _write_numbers([(problems.z, problems.z_length)], vocabulary)[:, 1:]
    if vocabulary.says_all:
        ends_in_carry = torch.from_numpy(problems.z_length > np.maximum(problems.x_length, problems.y_length))
        is_end = tokens == vocabulary.delimiter_id
        tokens = torch.where(is_end & ends_in_carry[:, None], vocabulary.pad_id, tokens)
    return tokens


def read_answers(tokens: Tensor, vocabulary: Vocabulary) -> list[int | None]:
    """Read what was said, the inverse of `answer_tokens`: (N, A) -> N numbers, None where it is no number.

    What follows the delimiter is not read. Padding before it is no digit: with anything behind it there is no number.
    """
    said = tokens.numpy()
    base = len(vocabulary.digit_ids)
    digit_of = np.full(max(*vocabulary.digit_ids, int(said.max(initial=0))) + 1, -1)
    digit_of[list(vocabulary.digit_ids)] = np.arange(base)
    is_over = np.cumsum((said == vocabulary.delimiter_id) | (said == vocabulary.pad_id), axis=1) > 0  # (N, A)
    digits = np.where(is_over, 0, digit_of[said])
    is_number = ~is_over[:, :1].all(axis=1) & (digits >= 0).all(axis=1)  # (N,)
    has_ended = np.cumsum(said == vocabulary.delimiter_id, axis=1) > 0
    is_padded = np.cumsum((said == vocabulary.pad_id) & ~has_ended, axis=1) > 0
    is_number &= ~(is_padded & (said != vocabulary.pad_id)).any(axis=1)
    is_small = base ** said.shape[1] < 2**63
    values = np.zeros(len(said), np.int64 if is_small else object)
    for column in range(said.shape[1])[:: -1 if vocabulary.reversed else 1]:
        values = np.where(is_over[:, column], values, values * base + digits[:, column])
    return [value if is_one else None for value, is_one in zip(values.tolist(), is_number.tolist(), strict=True)]


def _in_order(problems: Problems, vocabulary: Vocabulary) -> Problems:
    """The problems with the longer operand second, where the model wants it so; equal lengths keep their order."""
    return problems.longer_second() if vocabulary.says_all else problems


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
    num_padding = (tokens == pad_id).sum(1)  # (N,)
    column = torch.arange(tokens.size(1), device=tokens.device)
    return torch.where(column >= num_padding[:, None], shift_right(tokens, num_padding), pad_id)


def shift_right(values: Tensor, distance: Tensor) -> Tensor:
    """Move each row to the right, (N, T) by (N,); what comes in on the left is the row's first value, repeated."""
    column = torch.arange(values.size(1), device=values.device) - distance[:, None]  # (N, T)
    return values.gather(1, column.clamp(min=0))


@dataclass(frozen=True)
class Examples:
    """Rows to learn from; indexing selects some of them.

    Attributes:
        inputs: (N, T) tokens.
        targets: (N, T) what is to be said at each of them, IGNORE_INDEX where nothing is.
        place_targets: (N, T) what the middle of the model is asked for, see `place_targets`.
    """

    inputs: Tensor
    targets: Tensor
    place_targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: NDArray[np.int64] | Tensor | slice) -> "Examples":
        return Examples(self.inputs[index], self.targets[index], self.place_targets[index])

    def to(self, device: torch.device) -> "Examples":
        return Examples(self.inputs.to(device), self.targets.to(device), self.place_targets.to(device))


def make_examples(problems: Problems, vocabulary: Vocabulary, tokens_per_step: int | str) -> Examples:
    """Write problems as rows to learn from.

    With k tokens a step each token is paired with the one k ahead, and hidden from the loss is what the model is not
    asked to say. To say all at once, only the prompt is read:

        tokens     + 2 1 + 9 1 + 1 3 + PAD      (12 + 19 = 31)
        inputs     + 2 1 + 9 1 + 1 3            k = 2
        targets    . . . . . 1 3 + .
        inputs     + 2 1 + 9 1 +                all at once
        targets    . . . . 1 3 +
    """
    problems = _in_order(problems, vocabulary)
    if tokens_per_step == "all":
        inputs = prompt_tokens(problems, vocabulary)
        given = place_targets(problems, vocabulary, inputs.size(1))
        return Examples(inputs, _with_last_token(given, problems, vocabulary), given)
    rows = row_tokens(problems, vocabulary)
    column = torch.arange(rows.tokens.size(1))  # (T,)
    is_answer = (column >= rows.answer_start[:, None]) & (rows.tokens != vocabulary.pad_id)  # (N, T)
    labels = torch.where(is_answer, rows.tokens, IGNORE_INDEX)
    inputs = rows.tokens[:, :-tokens_per_step].contiguous()
    targets = labels[:, tokens_per_step:].contiguous()
    return Examples(inputs, targets, place_targets(problems, vocabulary, inputs.size(1)))


def _with_last_token(targets: Tensor, problems: Problems, vocabulary: Vocabulary) -> Tensor:
    """Add what the delimiter after the second operand says: the sum's digit above, or the end of the answer."""
    digit_ids, row = torch.tensor(vocabulary.digit_ids), torch.arange(len(problems))
    digit_above = problems.z[problems.y_length, row]  # (N,)
    last = torch.where(
        torch.from_numpy(digit_above) > 0, digit_ids[digit_above.astype(np.int64)], vocabulary.delimiter_id
    )
    targets = targets.clone()
    targets[row, torch.from_numpy(problems.x_length + problems.y_length) + 2] = last
    return targets


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
