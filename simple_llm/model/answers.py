"""What a model said to many prompts.

Shape letters in this file: N prompts, B prompts in a batch, A tokens of the longest answer, V tokens in the vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from simple_llm.model.architecture import Architecture
from simple_llm.processes import Processes


@dataclass(frozen=True)
class Said:
    """What one batch of prompts was answered.

    Attributes:
        tokens: (B, A), padding after the end.
        logits: (B, A, V) that each was chosen by.
        is_said: (B, A), False after the end.
        is_finished: (B,).
    """

    tokens: Tensor
    logits: Tensor
    is_said: Tensor
    is_finished: Tensor


@dataclass(frozen=True)
class Answers:
    """What the model said to N prompts.

    Attributes:
        tokens: (N, A) up to and with the token that ends the answer, then padding.
        is_finished: (N,) whether the answer was ended.
        margins: (N,) smallest lead of a token that was said over the second best.
        logits: (N, A, V) that each token was chosen by, or None where they were not kept.
    """

    tokens: Tensor
    is_finished: Tensor
    margins: Tensor
    logits: Tensor | None

    @classmethod
    def empty(
        cls, num_prompts: int, num_tokens: int, config: Architecture, keep_logits: bool, dtype: torch.dtype
    ) -> "Answers":
        return cls(
            torch.full((num_prompts, num_tokens), config.pad_token_id),
            torch.zeros(num_prompts, dtype=torch.bool),
            torch.zeros(num_prompts, dtype=dtype),
            torch.zeros(num_prompts, num_tokens, config.vocab_size, dtype=dtype) if keep_logits else None,
        )

    def keep(self, index: Tensor, said: Said) -> None:
        """Write down what some of the prompts, (B,), were answered."""
        best, second = said.logits.topk(2, dim=-1).values.unbind(-1)  # (B, A) each
        self.tokens[index], self.is_finished[index] = said.tokens.cpu(), said.is_finished.cpu()
        self.margins[index] = torch.where(said.is_said, best - second, torch.inf).amin(1).cpu()
        if self.logits is not None:
            self.logits[index] = said.logits.cpu()

    def gathered(self, processes: Processes, num_prompts: int) -> "Answers":
        """Put together what the processes answered, each its share of the prompts."""
        if processes.count == 1:
            return self
        return Answers(
            processes.gather(self.tokens, num_prompts),
            processes.gather(self.is_finished.long(), num_prompts) > 0,
            processes.gather(self.margins, num_prompts),
            None if self.logits is None else processes.gather(self.logits, num_prompts),
        )
