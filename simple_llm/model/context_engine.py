"""A model of one block as a function of what is in view: for a scratchpad of columns, whatever the length of a text.

Shape letters in this file: N contexts, L cells of one, V tokens in the vocabulary, K kinds, H heads, D channels of a
head, C = H D channels.

In one block keys, values and queries depend on token and kind alone, so they are tables, and what a token says is
worked out from the rows of those it sees. Decoding and proof ask this one function.
"""

import torch
from torch import Tensor

from simple_llm.model.architecture import Readable
from simple_llm.model.engine import Engine
from simple_llm.model.places_simple_llm import KINDS


class ContextEngine:
    """A model's weights as tables, ready to be asked for contexts.

    Args:
        model: of one block.
        dtype: of the matrix products; sums along the way and norms are at least float32.

    Raises:
        ValueError: the model has more than one block.
    """

    @torch.inference_mode()
    def __init__(self, model: Readable, dtype: torch.dtype) -> None:
        self.engine = Engine(model, dtype)
        self.config, self.device, self.dtype = model.config, model.device, dtype
        if len(self.engine.blocks) != 1:
            raise ValueError(f"a model of {len(self.engine.blocks)} blocks is no function of what is in view")
        tokens, kinds = self.config.vocab_size, len(KINDS)
        every_token, every_kind = (
            grid.reshape(1, -1).to(self.device)
            for grid in torch.meshgrid(torch.arange(tokens), torch.arange(kinds), indexing="ij")
        )
        self.states = self.engine.embed(every_token, every_kind)[0]  # (V K, C)
        tables = self.engine.query_key_value(self.states[None], self.engine.blocks[0])  # (1, H, V K, D) each
        self.queries, self.keys, self.values = (table[0].transpose(0, 1).contiguous() for table in tables)

    @torch.inference_mode()
    def logits(self, tokens: Tensor, kinds: Tensor, is_seen: Tensor) -> Tensor:
        """Ask for contexts.

        Args:
            tokens, kinds: (N, L) what stands in each cell; the last is the one that asks.
            is_seen: (N, L) which of them it sees; what stands in the others does not matter.

        Returns:
            (N, V) at least float32.
        """
        rows = tokens * len(KINDS) + kinds
        own = rows[:, -1]
        keys, values = self.keys[rows], self.values[rows]  # (N, L, H, D)
        scores = (keys * self.queries[own, None]).sum(-1)  # (N, L, H)
        weights = scores.masked_fill(~is_seen[..., None], -torch.inf).softmax(1)
        seen = (weights[..., None] * values).sum(1)  # (N, H, D)
        state = self.engine.after_attention(self.states[own, None], seen[:, :, None], self.engine.blocks[0])
        return self.engine.logits(state)[:, 0]
