"""What each token of a text sees, as contexts: with a scratchpad of columns a text is learned as no more than these.

Shape letters in this file: B rows in the batch, T tokens in a row, L addresses looked at, N contexts, V tokens in the
vocabulary, K kinds, H heads, D channels of a head, C = H D channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.places_simple_llm import Grid, KINDS


class InView(NamedTuple):
    """Contexts, as `ContextEngine.logits` is asked for them.

    Attributes:
        tokens, kinds: (N, L + 1) of what stands at the addresses looked at and, last, of the token that asks.
        is_seen: (N, L + 1) whether something stands there.
    """

    tokens: Tensor
    kinds: Tensor
    is_seen: Tensor


def in_view_of_work(tokens: Tensor, grid: Grid) -> InView:
    """What the tokens of the work see, row by row: (B, T) -> N contexts, one for each of `grid.is_work`.

    Args:
        grid: of these tokens, whole rows in which no two tokens of a row have one address.
    """
    addresses, order = grid.addresses.sort(1)
    looks = grid.looks.flatten(1)  # (B, T L)
    found = torch.searchsorted(addresses, looks).clamp(max=tokens.size(1) - 1)
    index = order.gather(1, found)
    comes_after = index.view_as(grid.looks) > torch.arange(tokens.size(1), device=tokens.device)[:, None]
    is_seen = (addresses.gather(1, found) == looks).view_as(grid.looks) & ~comes_after

    def with_own(values: Tensor, own: Tensor) -> Tensor:
        return torch.cat([values.view_as(grid.looks), own[..., None]], 2)[grid.is_work]

    return InView(
        with_own(tokens.gather(1, index), tokens),
        with_own(grid.kinds.gather(1, index), grid.kinds),
        with_own(is_seen, torch.zeros_like(grid.is_work)),
    )


def distinct(contexts: InView, targets: Tensor) -> tuple[InView, Tensor, Tensor]:
    """Each context with its target once: N contexts, (N,) -> fewer of them, their targets, and how often each occurred.

    So nothing is worked out twice: a batch of texts shows many contexts again and again.
    """
    num_tokens = int(torch.maximum(contexts.tokens.max(), targets.max())) + 1
    cells = (contexts.tokens * len(KINDS) + contexts.kinds) * 2 + contexts.is_seen
    cells[:, :-1] *= contexts.is_seen[:, :-1]  # what is not seen does not matter
    code = targets
    for column in cells.unbind(1):
        code = code * (2 * num_tokens * len(KINDS)) + column
    _, which, counts = code.unique(return_inverse=True, return_counts=True)
    example = torch.empty_like(counts).scatter(0, which, torch.arange(len(which), device=which.device))
    return InView(*(values[example] for values in contexts)), targets[example], counts


def context_logits(model: SimpleLLMForCausalLM, contexts: InView) -> Tensor:
    """What a model of one block says in contexts, (N, V), with gradients: keys, values and queries are tables."""
    transformer, [block] = model.transformer, model.transformer.h
    states = (transformer.wte.weight[:, None] + transformer.wpe.weight[: len(KINDS)]).flatten(0, 1)  # (V K, C)
    queries, keys, values = block.attn.c_attn(block.ln_1(states)).chunk(3, dim=1)
    cells = contexts.tokens * len(KINDS) + contexts.kinds
    seen, own = cells[:, :-1], cells[:, -1]
    heads = (model.config.n_head, -1)
    query = functional.embedding(own, queries).unflatten(-1, heads)  # (N, H, D)
    keys, values = (functional.embedding(seen, table).unflatten(-1, heads) for table in (keys, values))  # (N, L, H, D)
    scores = (keys * query[:, None]).sum(-1) * query.size(-1) ** -0.5  # (N, L, H)
    weights = scores.masked_fill(~contexts.is_seen[:, :-1, None], -torch.inf).softmax(1)
    state = functional.embedding(own, states) + block.attn.c_proj((weights[..., None] * values).sum(1).flatten(1))
    state = state + block.mlp(block.ln_2(state))
    return model.lm_head(transformer.ln_f(state))
