"""The first steps at half of the depth: every second block alone, until the others join.

A block adds to its input what its two projections (c_proj) make of it. Where those start at zero it adds nothing, so
it can be left out, with its work, and put in later without a change to what the model says: the loss goes on from
where it was (growth that keeps the loss, Shen et al., arXiv 2203.06211).

    blocks, step 0          0 . 2 . 4 . 6 .
    from half_depth_steps   0 1 2 3 4 5 6 7        1, 3, 5 and 7 begin as identities
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from simple_llm.modeling_simple_llm import SimpleLLMForCausalLM


@torch.no_grad()
def start_as_identities(model: SimpleLLMForCausalLM) -> None:
    """Make the blocks that are left out at first add nothing."""
    for block in model.transformer.h[1::2]:
        for projection in (block.attn.c_proj, block.mlp.c_proj):
            projection.weight.zero_()
            projection.bias.zero_()


@contextlib.contextmanager
def at_half_depth(model: SimpleLLMForCausalLM) -> Iterator[None]:
    """Have every second block add nothing, at no cost, inside the `with` block.

    What the model says is the same only while those blocks are as `start_as_identities` left them.
    """
    left_out = model.transformer.h[1::2]
    for block in left_out:
        block.forward = _pass_on
    try:
        yield
    finally:
        for block in left_out:
            del block.forward  # what its class has comes back


def _pass_on(hidden_states: Tensor, *arguments: object, **settings: object) -> Tensor:
    return hidden_states
