"""The forward pass over a static cache, for decoding in bulk: the trained weights and nothing around them.

Shape letters in this file: B rows, T new tokens, S tokens in the cache, L blocks, H heads, D channels of a head,
C = H D channels, V tokens in the vocabulary.

transformers' own pass is the one that trains and that generate() uses; at the size of these models and rows most of its
time goes into what surrounds the arithmetic. This one says the same (a test compares them).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from simple_llm.model.architecture import Readable
from simple_llm.model.places_simple_llm import in_window, Places, table_rows


def gelu_new(state: Tensor) -> Tensor:
    """GPT-2's approximation of GELU (Hendrycks and Gimpel, arXiv 1606.08415), rounded as transformers has it."""
    inner = math.sqrt(2.0 / math.pi) * (state + 0.044715 * torch.pow(state, 3.0))
    return 0.5 * state * (1.0 + torch.tanh(inner))


ACTIVATIONS = {"gelu": functional.gelu, "gelu_new": gelu_new}  # ours, and GPT-2's own


@dataclass
class Cache:
    """Keys and values of the tokens read so far, with room for more.

    Attributes:
        keys, values: (L, B, H, room, D).
        is_token: (B, room), False for padding.
        positions: (B, room) position IDs.
        length: S, tokens read so far, padding included.
    """

    keys: Tensor
    values: Tensor
    is_token: Tensor
    positions: Tensor
    length: int = 0

    def select(self, index: Tensor) -> "Cache":
        """Take some rows, in any order and any number of times: so a prefix is read once and used often."""
        chosen = self._empty(len(index), self.keys.size(3))
        for old, new in ((self.keys, chosen.keys), (self.values, chosen.values)):
            torch.index_select(old[:, :, :, : self.length], 1, index, out=new[:, :, :, : self.length])
        for old, new in ((self.is_token, chosen.is_token), (self.positions, chosen.positions)):
            new[:, : self.length] = old[:, : self.length].index_select(0, index)
        chosen.length = self.length
        return chosen

    def branch(self, row: Tensor, length: int, column: Tensor, room: int) -> "Cache":
        """Take rows as they were when `length` tokens were read, and behind those the token in one other column.

        Args:
            row, column: (R,).
            room: of the new cache.
        """
        branch = self._empty(len(row), room)
        for old, new in ((self.keys, branch.keys), (self.values, branch.values)):
            new[:, :, :, :length] = old[:, :, :, :length].index_select(1, row)
            new[:, :, :, length] = old.transpose(2, 3)[:, row, column]
        for old, new in ((self.is_token, branch.is_token), (self.positions, branch.positions)):
            new[:, :length] = old[:, :length].index_select(0, row)
            new[:, length] = old[row, column]
        branch.length = length + 1
        return branch

    def _empty(self, num_rows: int, room: int) -> "Cache":
        num_layers, _, num_heads, _, width = self.keys.shape
        shape = (num_layers, num_rows, num_heads, room, width)
        keys, values = (self.keys.new_empty(shape) for _ in "kv")
        is_token, positions = (one.new_empty(num_rows, room) for one in (self.is_token, self.positions))
        return Cache(keys, values, is_token, positions)


@dataclass(frozen=True)
class Block:
    """The weights of one block, matrices (outputs, inputs) in the engine's dtype."""

    norm_1: tuple[Tensor, Tensor]
    query_key_value: tuple[Tensor, Tensor]
    projection: tuple[Tensor, Tensor]
    norm_2: tuple[Tensor, Tensor]
    widening: tuple[Tensor, Tensor]
    narrowing: tuple[Tensor, Tensor]


class Engine(Places):
    """A model's weights, ready to read tokens.

    Args:
        dtype: of the matrix products and the cache; sums along the way and norms are at least float32.
    """

    def __init__(self, model: Readable, dtype: torch.dtype) -> None:
        self.config, self.dtype, self.device = model.config, dtype, model.device
        self.activation = ACTIVATIONS[model.config.activation_function]
        wide = torch.promote_types(dtype, torch.float32)
        tensors = {name.removeprefix("transformer."): one.detach() for name, one in model.state_dict().items()}

        def layer(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            return tensors[f"{name}.weight"].to(dtype), tensors[f"{name}.bias"].to(dtype)

        self.tokens, self.positions = (tensors[f"{name}.weight"].to(wide) for name in ("wte", "wpe"))
        self.blocks = [
            Block(
                layer(f"{block}.ln_1", wide),
                self._query_key_value(*layer(f"{block}.attn.c_attn", wide)),
                _transposed(*layer(f"{block}.attn.c_proj", dtype)),
                layer(f"{block}.ln_2", wide),
                _transposed(*layer(f"{block}.mlp.c_fc", dtype)),
                _transposed(*layer(f"{block}.mlp.c_proj", dtype)),
            )
            for block in (f"h.{number}" for number in range(model.config.n_layer))
        ]
        self.final_norm = layer("ln_f", wide)
        self.head = self.tokens.to(dtype)  # (V, C) the token table once more

    def _query_key_value(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Attention's first layer, with the scale of the scores, D^-1/2, in the queries."""
        width = self.config.n_embd
        scale = torch.ones(3 * width, dtype=weight.dtype, device=self.device)
        scale[:width] = (width // self.config.n_head) ** -0.5
        weight, bias = _transposed(weight * scale, bias * scale)
        return weight.to(self.dtype), bias.to(self.dtype)

    def bytes_per_token(self) -> int:
        """What a token takes while it is read: its keys and values in every block, and the widest state."""
        width = self.config.n_embd
        return (2 * self.config.n_layer + 8) * width * self.dtype.itemsize + 8 * width

    def new_cache(self, num_rows: int, room: int) -> Cache:
        """An empty cache for B rows of at most `room` tokens."""
        config = self.config
        shape = (config.n_layer, num_rows, config.n_head, room, config.n_embd // config.n_head)
        keys, values = (torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in "kv")
        is_token = torch.zeros(num_rows, room, dtype=torch.bool, device=self.device)
        return Cache(keys, values, is_token, torch.zeros(num_rows, room, dtype=torch.long, device=self.device))

    def read(
        self,
        tokens: Tensor,
        positions: Tensor,
        is_token: Tensor,
        cache: Cache,
        num_last: int,
        sees: Tensor | None = None,
    ) -> Tensor:
        """Read new tokens behind those in the cache, and put them into it.

        Args:
            tokens, positions, is_token: (B, T); where `is_token` is False there is padding, which nobody sees.
            num_last: how many of the new tokens to return logits for.
            sees: (T, S + T) which new token sees which token, the same in all rows; none of them may be padding.
                By default each sees itself and what comes before it. An attention window narrows it down.

        Returns:
            (B, num_last, V) logits, at least float32.
        """
        start, end = cache.length, cache.length + tokens.size(1)
        cache.is_token[:, start:end], cache.positions[:, start:end] = is_token, positions
        cache.length = end
        window = self.config.attention_window
        if sees is None and (end - start > 1 or window or not cache.is_token[:, :end].all()):
            sees = _sees(cache.is_token[:, :end], start)
        if window:
            sees = sees & _in_window(cache.positions[:, :end], start, **window)
        mask = None if sees is None else torch.zeros_like(sees, dtype=self.dtype).masked_fill_(~sees, -torch.inf)
        first_asked = end - start - num_last
        state = self.embed(tokens, positions)
        for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
            query, keys[:, :, start:end], values[:, :, start:end] = self.query_key_value(state, block)
            if block is self.blocks[-1]:  # the tokens before have said what they are asked for: keys and values
                state, query = state[:, first_asked:], query[:, :, first_asked:]
                mask = mask if mask is None else mask[..., first_asked:, :]
            seen = _attention(query, keys[:, :, :end], values[:, :, :end], mask)
            state = self.after_attention(state, seen, block)
        return self.logits(state)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Start with what the tables say of tokens and positions: twice (B, T) to (B, T, C), at least float32."""
        rows = table_rows(positions, self.config.position_period)
        return functional.embedding(tokens, self.tokens) + functional.embedding(rows, self.positions)

    def query_key_value(self, state: Tensor, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of a block, the queries multiplied by D^-1/2: (B, T, C) to three (B, H, T, D)."""
        fused = functional.linear(self._normed(state, block.norm_1), *block.query_key_value)  # (B, T, 3 C)
        num_heads = self.config.n_head
        fused = fused.view(*state.shape[:2], 3, num_heads, state.size(2) // num_heads).transpose(1, 3)
        return fused.unbind(2)

    def after_attention(self, state: Tensor, seen: Tensor, block: Block) -> Tensor:
        """Add to the state what a block's attention saw, (B, H, T, D), and what its layers make of that."""
        seen = seen.transpose(1, 2).flatten(2)  # (B, T, C)
        state = state + functional.linear(seen, *block.projection).to(state.dtype)
        widened = self.activation(functional.linear(self._normed(state, block.norm_2), *block.widening))
        state += functional.linear(widened, *block.narrowing).to(state.dtype)
        return state

    def logits(self, state: Tensor) -> Tensor:
        """What the state after the last block says: (B, T, C) to (B, T, V)."""
        return functional.linear(self._normed(state, self.final_norm), self.head).to(state.dtype)

    def _normed(self, state: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        return functional.layer_norm(state, state.shape[-1:], *weights, self.config.layer_norm_epsilon).to(self.dtype)


def _transposed(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of GPT-2's (inputs, outputs) layers as (outputs, inputs), which few rows multiply faster."""
    return weight.mT.contiguous(), bias


def _attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of T new tokens to S: (B, H, T, D), twice (B, H, S, D) and (B, 1, T, S) or (T, S) to (B, H, T, D).

    Args:
        query: multiplied by D^-1/2 already.
        mask: added to the scores.
    """
    if query.device.type == "cpu":  # rows are so short that matrix products are faster here
        scores = query @ keys.mT  # (B, H, T, S)
        if mask is not None:
            scores += mask
        if query.dtype == torch.bfloat16:  # the largest score is slow to find; what is too large for exp gives NaN
            weights = scores.exp_()
            seen = weights @ values
            return seen / weights.sum(-1, keepdim=True).expand_as(seen).contiguous()  # to divide by a column is slow
        return scores.softmax(-1) @ values
    return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=1.0)


def _sees(is_token: Tensor, start: int) -> Tensor:
    """Which token sees which: those before it and itself, padding excepted. (B, S) -> (B, 1, S - start, S).

    Padding sees itself too, or its row of weights would be 0 / 0.
    """
    column = torch.arange(is_token.size(1), device=is_token.device)
    row = column[start:, None]
    return ((column <= row) & is_token[:, None] | (column == row))[:, None]


def _in_window(positions: Tensor, start: int, left: int, right: int) -> Tensor:
    """Which new token has which in its window: (B, S) -> (B, 1, S - start, S), or (1, 1, ...) if all rows agree."""
    first = positions[:1]
    rows = first if torch.equal(positions, first.expand_as(positions)) else positions
    return in_window(rows[:, start:], rows, left, right)[:, None]
