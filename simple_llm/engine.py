"""The forward pass over a static cache, for decoding in bulk: the trained weights and nothing around them.

Shape letters in this file: B rows, T new tokens, S tokens in the cache, L blocks, H heads, D channels of a head,
C = H D channels, V tokens in the vocabulary.

transformers' own pass is the one that trains and that generate() uses; at the size of these models and rows most of its
time goes into what surrounds the arithmetic. This one says the same (a test compares them).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from simple_llm.modeling_simple_llm import SimpleLLMForCausalLM


@dataclass
class Cache:
    """Keys and values of the tokens read so far, with room for more.

    Attributes:
        keys, values: (B, L, room, H, D).
        is_token: (B, room), False for padding.
        length: S, tokens read so far, padding included.
    """

    keys: Tensor
    values: Tensor
    is_token: Tensor
    length: int = 0

    def select(self, index: Tensor) -> "Cache":
        """Take some rows, in any order and any number of times: so a prefix is read once and used often."""
        selected = (one.index_select(0, index) for one in (self.keys, self.values, self.is_token))
        return Cache(*selected, self.length)


@dataclass(frozen=True)
class _Block:
    """The weights of one block, matrices (outputs, inputs) in the engine's dtype."""

    norm_1: tuple[Tensor, Tensor]
    query_key_value: tuple[Tensor, Tensor]
    projection: tuple[Tensor, Tensor]
    norm_2: tuple[Tensor, Tensor]
    widening: tuple[Tensor, Tensor]
    narrowing: tuple[Tensor, Tensor]


class Engine:
    """A model's weights, ready to read tokens.

    Args:
        dtype: of the matrix products and the cache; sums along the way and norms are at least float32.
    """

    def __init__(self, model: SimpleLLMForCausalLM, dtype: torch.dtype) -> None:
        self.config, self.dtype, self.device = model.config, dtype, model.device
        self.position_ids = model.position_ids
        wide = torch.promote_types(dtype, torch.float32)
        transformer = model.transformer
        self.activation = transformer.h[0].mlp.act
        self.tokens, self.positions = (table.weight.detach().to(wide) for table in (transformer.wte, transformer.wpe))
        self.blocks = [
            _Block(
                self._weights(block.ln_1, wide),
                self._transposed(block.attn.c_attn),
                self._transposed(block.attn.c_proj),
                self._weights(block.ln_2, wide),
                self._transposed(block.mlp.c_fc),
                self._transposed(block.mlp.c_proj),
            )
            for block in transformer.h
        ]
        self.final_norm = self._weights(transformer.ln_f, wide)
        self.head = model.lm_head.weight.detach().to(dtype)  # (V, C)

    def _transposed(self, module: torch.nn.Module) -> tuple[Tensor, Tensor]:
        """Weights of GPT-2's (inputs, outputs) layers as (outputs, inputs), which few rows multiply faster."""
        weight, bias = self._weights(module, self.dtype)
        return weight.mT.contiguous(), bias

    @staticmethod
    def _weights(module: torch.nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return module.weight.detach().to(dtype), module.bias.detach().to(dtype)

    def bytes_per_token(self) -> int:
        """What a token takes while it is read: its keys and values in every block, and the widest state."""
        width = self.config.n_embd
        return (2 * self.config.n_layer + 8) * width * self.dtype.itemsize + 8 * width

    def new_cache(self, num_rows: int, room: int) -> Cache:
        """An empty cache for B rows of at most `room` tokens."""
        config = self.config
        shape = (num_rows, config.n_layer, room, config.n_head, config.n_embd // config.n_head)
        keys, values = (torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in "kv")
        return Cache(keys, values, torch.zeros(num_rows, room, dtype=torch.bool, device=self.device))

    def read(self, tokens: Tensor, positions: Tensor, is_token: Tensor, cache: Cache, num_last: int) -> Tensor:
        """Read new tokens behind those in the cache, and put them into it.

        Args:
            tokens, positions, is_token: (B, T); where `is_token` is False there is padding, which nobody sees.
            num_last: how many of the new tokens to return logits for.

        Returns:
            (B, num_last, V) logits, at least float32.
        """
        start, end = cache.length, cache.length + tokens.size(1)
        cache.is_token[:, start:end] = is_token
        cache.length = end
        sees = _sees(cache.is_token[:, :end], start) if end - start > 1 or not cache.is_token[:, :end].all() else None
        state = functional.embedding(tokens, self.tokens) + functional.embedding(positions, self.positions)  # (B, T, C)
        for block, keys, values in zip(self.blocks, cache.keys.unbind(1), cache.values.unbind(1), strict=True):
            fused = functional.linear(self._normed(state, block.norm_1), *block.query_key_value)  # (B, T, 3 C)
            query, key, value = fused.view(*tokens.shape, 3, *keys.shape[2:]).unbind(2)  # (B, T, H, D) each
            keys[:, start:end], values[:, start:end] = key, value
            if block is self.blocks[-1]:  # the tokens before have said what they are asked for: keys and values
                state, query = state[:, -num_last:], query[:, -num_last:]
                sees = sees if sees is None else sees[..., -num_last:, :]
            seen = _attention(query, keys[:, :end], values[:, :end], sees)  # (B, T, C)
            state = state + functional.linear(seen, *block.projection)
            widened = self.activation(functional.linear(self._normed(state, block.norm_2), *block.widening))
            state = state + functional.linear(widened, *block.narrowing)
        return functional.linear(self._normed(state, self.final_norm), self.head).to(state.dtype)

    def _normed(self, state: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        return functional.layer_norm(state, state.shape[-1:], *weights, self.config.layer_norm_epsilon).to(self.dtype)


def _attention(query: Tensor, keys: Tensor, values: Tensor, sees: Tensor | None) -> Tensor:
    """Attention of T new tokens to S: (B, T, H, D), twice (B, S, H, D) and (B, 1, T, S) to (B, T, C)."""
    query, keys, values = (one.transpose(1, 2) for one in (query, keys, values))  # (B, H, ., D)
    if query.dtype == torch.bfloat16 and sees is not None:  # so short and in bfloat16, matrix products are faster
        scores = (query @ keys.mT) * query.size(-1) ** -0.5  # (B, H, T, S)
        seen = scores.masked_fill(~sees, -torch.inf).softmax(-1) @ values
    else:
        seen = functional.scaled_dot_product_attention(query, keys, values, attn_mask=sees)
    return seen.transpose(1, 2).flatten(2)


def _sees(is_token: Tensor, start: int) -> Tensor:
    """Which token sees which: those before it and itself, padding excepted. (B, S) -> (B, 1, S - start, S).

    Padding sees itself too, or its row of weights would be 0 / 0.
    """
    column = torch.arange(is_token.size(1), device=is_token.device)
    row = column[start:, None]
    return ((column <= row) & is_token[:, None] | (column == row))[:, None]
