"""The forward pass that training differentiates: GPT-2 block by block, for the tokens that an answer depends on.

Shape letters in this file: B rows in a batch, T tokens in a row, N tokens that something depends on, M that are asked,
H heads, D channels of a head, C = H D channels, V tokens in the vocabulary.

Nearly all of a step is products of states and weights, each token's state by itself; attention alone looks from one
token to another, and only back. So what stands behind the last token that is asked, padding or not, changes no loss.
In the last block a token matters for its key and its value alone, unless it is asked itself.

    tokens              + 2 4 3 + 9 7 8 + 1 2 2 1 +        + 7 + 5 + 2 1 +            (one token a step)
    asked                               ? ? ? ? ?                  ? ? ?
    in the blocks       x x x x x x x x x x x x x          x x x x x x x
    in the last MLP                     x x x x x                  x x x

transformers' own pass says the same of all B T tokens (a test compares logits and gradients).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.places_simple_llm import in_window, table_rows


def logits_after(
    model: SimpleLLMForCausalLM, tokens: Tensor, positions: Tensor, is_asked: Mapping[int, Tensor]
) -> dict[int, Tensor]:
    """What the model's head makes of the states of some tokens, after all blocks or after the first few.

    Args:
        tokens, positions: (B, T) token IDs and position IDs; padding stands behind everything else of its row.
        is_asked: (B, T) which tokens are asked, by the number of blocks; the number of all of them is there.

    Returns:
        By the number of blocks: (M, V) logits of the tokens asked, row by row.
    """
    transformer, last = model.transformer, len(model.transformer.h)
    is_needed = torch.stack([*is_asked.values()]).any(0).flip(1).cumsum(1).flip(1) > 0  # (B, T)
    needed = Chosen.of(is_needed)
    asked = {number: is_one[is_needed].nonzero()[:, 0] for number, is_one in is_asked.items()}  # (M,) of the N
    sees = _sees(positions, model.config.attention_window)
    rows = table_rows(positions, model.config.position_period)
    state = transformer.drop(transformer.wte(needed.take(tokens)) + transformer.wpe(needed.take(rows)))  # (N, C)
    logits = {}
    for number, block in enumerate(transformer.h, 1):
        seen = _attention(block.attn, block.ln_1(state), needed, sees)
        if number == last:
            state, seen = (one.index_select(0, asked[last]) for one in (state, seen))  # (M, C)
        state = state + block.attn.resid_dropout(block.attn.c_proj(seen))
        state = state + block.mlp(block.ln_2(state))
        if number in asked:
            said = state if number == last else state.index_select(0, asked[number])
            logits[number] = model.lm_head(transformer.ln_f(said))
    return logits


class Chosen(NamedTuple):
    """Some tokens of a batch.

    Attributes:
        index: (N,) in the batch, row behind row.
        shape: B, T.
    """

    index: Tensor
    shape: torch.Size

    @classmethod
    def of(cls, is_chosen: Tensor) -> "Chosen":
        return cls(is_chosen.flatten().nonzero()[:, 0], is_chosen.shape)

    def take(self, values: Tensor) -> Tensor:
        """(B, T, ...) -> (N, ...)."""
        return values.flatten(0, 1).index_select(0, self.index)

    def spread(self, values: Tensor) -> Tensor:
        """(N, C) -> (B, T, C), 0 for the tokens that are not chosen."""
        spread = values.new_zeros(self.shape.numel(), values.size(1)).index_copy_(0, self.index, values)
        return spread.unflatten(0, self.shape)


def _attention(attention: torch.nn.Module, state: Tensor, needed: Chosen, sees: Tensor) -> Tensor:
    """What each token sees, its heads side by side: (N, C) -> (N, C).

    Args:
        needed: whose states these are; the other tokens are seen by none of them.
        sees: (B or 1, 1, T, T) which token sees which.
    """
    heads = (3, attention.num_heads, attention.head_dim)
    fused = needed.spread(attention.c_attn(state)).unflatten(2, heads)  # (B, T, 3, H, D)
    query, keys, values = fused.permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
    scores = (query @ keys.mT) * attention.head_dim**-0.5
    weights = scores.masked_fill(~sees, -torch.inf).softmax(-1).to(values.dtype)
    seen = attention.attn_dropout(weights) @ values
    return needed.take(seen.transpose(1, 2).flatten(2))


def _sees(positions: Tensor, window: dict[str, int] | None) -> Tensor:
    """Which token sees which: those before it and itself, as far as a window reaches: (B, T) -> (B or 1, 1, T, T)."""
    sees = torch.ones(2 * positions.shape[1:], dtype=torch.bool, device=positions.device).tril()[None]
    return (sees & in_window(positions, positions, **window) if window else sees)[:, None]
