"""Where a model looks: attention weights of one problem, and their shares by place over many. Arrays; nothing is drawn.

Shape letters in this file: L blocks, H heads, N problems, B rows in a batch, T tokens in a row, P places of the
longest answer, C categories of keys.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simple_llm.data.problems import Problems
from simple_llm.model.calculator import Calculator
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.places_simple_llm import block_position_ids, Grid
from simple_llm.model.prompts import Prompt
from simple_llm.model.tokens import make_examples, Vocabulary

CATEGORIES = ("own place, x", "own place, y", "place below", "delimiters", "other digits")  # for the sum x + y
CELLS = ("operator", "head", "operand", "above", "carry")  # that a token of work on paper looks at
_WEIGHTS_AT_A_TIME = 2**25  # 256 MiB of them


@dataclass(frozen=True)
class AttentionMaps:
    """One problem's attention, while it is answered.

    Attributes:
        weights: (L, H, T, T), rows look at columns.
        tokens: T as text.
        positions: (T,) position IDs.
        said: T, the token said at each of them; None where nothing is.
    """

    weights: NDArray[np.float32]
    tokens: list[str]
    positions: list[int]
    said: list[str | None]


def attention_maps(adder: Calculator, prompt: Prompt) -> AttentionMaps:
    """Answer one prompt, and look at it.

    With k tokens a step the row holds all of the answer but its last k tokens, which are said and not read:

        tokens   + 5 6 + A E 3 + F 4      k = 2: 101 + 1002 = 1103 in base 16
        said     . . . . . . F 4 4 +

    Args:
        adder: of a model that `load_network` gave; weights alone have no attention to return.
    """
    transcript = adder.transcript(prompt)
    write = adder.loaded.tokenizer.convert_ids_to_tokens
    said = [None] * len(transcript.read)
    for index, token in zip(transcript.says_at, write(transcript.said), strict=True):
        said[index] = token
    row = torch.tensor([transcript.read], device=adder.model.device)
    return AttentionMaps(
        attention_weights(adder.model, row)[:, 0].cpu().numpy(),
        write(transcript.read),
        adder.model.position_ids(row)[0].tolist(),
        said,
    )


def cells_in_view(calculator: Calculator, maps: AttentionMaps) -> list[dict[str, str]]:
    """What each token of work on paper sees, by the addresses it looks at; see the class Grid of the model's file.

    Returns:
        of each token that says something {"token", "says", and of CELLS those where something stands}.
    """
    ids = calculator.loaded.tokenizer.convert_tokens_to_ids(maps.tokens)
    views = tokens_in_view(calculator.model.grid(torch.tensor([ids], device=calculator.model.device)))
    return [
        {"token": token, "says": said, **{cell: maps.tokens[seen] for cell, seen in view.items()}}
        for token, said, view in zip(maps.tokens, maps.said, views, strict=True)
        if said is not None
    ]


def tokens_in_view(grid: Grid) -> list[dict[str, int]]:
    """Of each token of one row, laid out on paper, which token it sees in which of CELLS."""
    at = {address: index for index, address in enumerate(grid.addresses[0].tolist())}
    views = []
    for index, looks in enumerate(grid.looks[0].tolist()):
        found = {cell: at.get(address, len(at)) for cell, address in zip(CELLS, looks, strict=True)}
        views.append({cell: seen for cell, seen in found.items() if seen <= index})
    return views


@torch.inference_mode()
def attention_weights(model: SimpleLLMForCausalLM, input_ids: Tensor) -> Tensor:
    """Run whole rows, (B, T), padded on the right if at all, and return the weights (L, B, H, T, T)."""
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")  # the others return no weights, and say nothing about it
    try:
        outputs = model(input_ids=input_ids, output_attentions=True, use_cache=False)
    finally:
        model.set_attn_implementation(implementation)
    return torch.stack(outputs.attentions)


@dataclass(frozen=True)
class AttentionByPlace:
    """How much of its attention each head spends on what, while the answer's digits are said.

    Attributes:
        shares: (L, H, 2, P, C) mean weight on each of CATEGORIES at each place of the answer, without a carry into
            that place and with one; they add up to 1. NaN where no digit was counted.
        counts: (2, P) digits counted.
        pairing: (L, H) mean weight that a digit of y gives to the digit of x at its place, while the prompt is read.
    """

    shares: NDArray[np.float64]
    counts: NDArray[np.int64]
    pairing: NDArray[np.float64]

    def mean_shares(self) -> NDArray[np.float64]:
        """Over all digits: (L, H, C)."""
        weighted = np.nan_to_num(self.shares) * self.counts[..., None]
        return weighted.sum((2, 3)) / self.counts.sum()

    def carry_effect(self) -> NDArray[np.float64]:
        """What a carry adds to the share, averaged over the places that occur with one and without: (L, H, C)."""
        both = (self.counts > 0).all(0)  # (P,)
        if not both.any():
            return np.zeros((*self.shares.shape[:2], len(CATEGORIES)))
        return (self.shares[:, :, 1, both] - self.shares[:, :, 0, both]).mean(2)


def attention_by_place(
    model: SimpleLLMForCausalLM,
    problems: Problems,
    vocabulary: Vocabulary,
    on_batch: Callable[[int], object] = lambda num_problems: None,
) -> AttentionByPlace:
    """Average the attention at the tokens that say digits, by what it falls on; right answers are given to read.

    Counted are the places at which both operands have a digit.

    Args:
        on_batch: called with the number of problems just read.
    """
    examples = make_examples(problems, vocabulary)
    carry = torch.from_numpy(problems.carries).T  # (N, P)
    config = model.config
    num_places = carry.size(1)
    sums = torch.zeros(config.n_layer, config.n_head, 2 * num_places, len(CATEGORIES), dtype=torch.float64)
    counts = torch.zeros(2 * num_places, dtype=torch.long)
    paired, num_paired = torch.zeros(config.n_layer, config.n_head, dtype=torch.float64), 0
    weights_a_row = config.n_layer * config.n_head * examples.inputs.size(1) ** 2
    for index in torch.arange(len(problems)).split(max(1, min(256, _WEIGHTS_AT_A_TIME // weights_a_row))):
        batch = examples[index]
        place = said_places(batch.targets, vocabulary)  # (B, T)
        place = torch.where(place <= _shorter(problems[index.numpy()])[:, None], place, 0)
        row, column = place.nonzero(as_tuple=True)  # (D,) each: the D digits counted
        cell = carry[index][row, place[row, column] - 1].long() * num_places + place[row, column] - 1  # (D,)
        weights = attention_weights(model, batch.inputs.to(model.device)).cpu().double()  # (L, B, H, T, T)
        key = places_of(batch.inputs, vocabulary)  # (B, T)
        number = ((key == 0) & (batch.inputs != vocabulary.pad_id)).cumsum(1)  # (B, T)
        kinds = _kinds_of_keys(key, number, place)[row, column]  # (D, C, T)
        shares = torch.einsum("dlht,dct->lhdc", weights[:, row, :, column], kinds.double())
        sums.index_add_(2, cell, shares)
        counts += cell.bincount(minlength=2 * num_places)
        is_pair = _pairs(key, number)
        paired += torch.einsum("lbhqk,bqk->lh", weights, is_pair.double())
        num_paired += int(is_pair.sum())
        on_batch(len(index))
    means = (sums / counts[:, None]).unflatten(2, (2, num_places))  # 0 / 0 where none was counted
    return AttentionByPlace(means.numpy(), counts.view(2, num_places).numpy(), (paired / num_paired).numpy())


def _shorter(problems: Problems) -> Tensor:
    return torch.from_numpy(np.minimum(problems.x_length, problems.y_length))


def said_places(targets: Tensor, vocabulary: Vocabulary) -> Tensor:
    """The place, 1 for units, of the answer's digit that is said at each token; 0 where none is: (B, T) -> (B, T).

    targets    . . . . . F 4 4 +      reversed
    places     . . . . . 1 2 3 .
    """
    is_digit = torch.isin(targets, torch.tensor(vocabulary.digit_ids))
    count = is_digit.cumsum(1)
    place = count if vocabulary.reversed else count[:, -1:] + 1 - count
    return torch.where(is_digit, place, 0)


def places_of(input_ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """The place, 1 for units, of each digit in its whole number; 0 elsewhere: (B, T) -> (B, T)."""
    digit_ids = torch.tensor(vocabulary.digit_ids)
    if vocabulary.reversed:
        return block_position_ids(input_ids, digit_ids)
    return block_position_ids(input_ids.flip(1), digit_ids).flip(1)


def _pairs(place: Tensor, number: Tensor) -> Tensor:
    """Which token is a digit of y, and which the digit of x at its place: (B, T, T).

    Args:
        place: (B, T) of each digit, 0 for a delimiter or padding.
        number: (B, T) which number it belongs to, 1 for x, 2 for y.
    """
    is_x, is_y = (place > 0) & (number == 1), (place > 0) & (number == 2)
    return is_y[:, :, None] & is_x[:, None, :] & (place[:, :, None] == place[:, None, :])


def _kinds_of_keys(key_place: Tensor, number: Tensor, said_place: Tensor) -> Tensor:
    """Which of CATEGORIES each key is to each token that says a digit: three (B, T) -> (B, T, C, T).

    Args:
        key_place, number: see `_pairs`; padding comes later than all that is said, so nobody looks at it.
        said_place: of the digit said.
    """
    key, said = key_place[:, None, :], said_place[:, :, None]  # (B, 1, T), (B, T, 1)
    is_digit, is_x = key > 0, (number == 1)[:, None, :]
    is_own, is_below = is_digit & (key == said), is_digit & (key == said - 1)
    others = is_digit & ~is_own & ~is_below
    return torch.stack([is_own & is_x, is_own & ~is_x, is_below, (~is_digit).expand_as(is_own), others], dim=2)
