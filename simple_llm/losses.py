"""What training makes smaller: the cross entropy of the answers, and of what the middle of the model says of them.

Shape letters in this file: B rows in a batch, T tokens in a row, V tokens in the vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional

from simple_llm.batches import Examples
from simple_llm.modeling_simple_llm import IGNORE_INDEX, SimpleLLMForCausalLM


class TrainingLoss(torch.nn.Module):
    """Cross entropy a target, plus `deep_supervision` times that of a place target.

    The state after the middle block, read by the model's own head, is asked for the place targets (deep supervision,
    Lee et al., arXiv 1409.5185): as soon as the second operand's digit is there, the sum's digit can be known. The
    blocks above have only to look it up where it is to be said. A model of one block has no middle and is not asked;
    nor is one with an attention window, in which that digit may wait for a carry out of view.
    """

    def __init__(self, model: SimpleLLMForCausalLM, deep_supervision: float) -> None:
        super().__init__()
        self.model, self.deep_supervision = model, deep_supervision
        sees_all = model.config.attention_window is None
        self.middle = model.config.n_layer // 2 if deep_supervision and sees_all else 0

    def forward(self, batch: Examples, offsets: Tensor, num_targets: Tensor, num_place_targets: Tensor) -> Tensor:
        """Both terms are sums over a slice of the batch, divided by counts over the whole batch, so that slices add up.

        Args:
            offsets: (B, 1) added to the block positions of the digits.
            num_targets, num_place_targets: in the whole batch, of which this may be a slice.
        """
        model = self.model
        positions = model.position_ids(batch.inputs)  # (B, T)
        positions = torch.where(positions > 0, positions + offsets, positions)
        output = model(
            input_ids=batch.inputs, position_ids=positions, use_cache=False, output_hidden_states=self.middle > 0
        )
        loss = _summed_cross_entropy(output.logits, batch.targets) / num_targets
        if self.middle:
            state = output.hidden_states[self.middle]  # after that many blocks
            logits = model.lm_head(model.transformer.ln_f(state))
            loss = loss + self.deep_supervision * _summed_cross_entropy(logits, batch.place_targets) / num_place_targets
        return loss


def _summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over the targets that are not hidden: (B, T, V), (B, T) -> ()."""
    return functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
