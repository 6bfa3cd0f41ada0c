"""What training makes smaller: the cross entropy of the answers, and of a count that the early blocks are asked for.

Shape letters in this file: B rows in a batch, T tokens in a row, C channels, V tokens in the vocabulary.

Both are sums over a slice of the batch, divided by counts over the whole batch, so that slices add up.
"""

import torch
from torch import Tensor
from torch.nn import functional

from simple_llm.modeling_simple_llm import IGNORE_INDEX, SimpleLLMForCausalLM

COUNTING_BLOCK = 2  # the state after this block is asked for the count: the first that can know it
_MAX_COUNT = 3  # +x+y+z+ has four delimiters; the first is count 0
_SHARPNESS = 4.0  # channels of a normalized state are about 1 in size; as logits they should be able to say 99%


def training_loss(
    model: SimpleLLMForCausalLM,
    inputs: Tensor,
    targets: Tensor,
    offsets: Tensor,
    num_targets: Tensor,
    num_tokens: Tensor,
    count_weight: float,
) -> Tensor:
    """Cross entropy a target, plus `count_weight` times that of the count a token.

    Args:
        inputs, targets: (B, T).
        offsets: (B, 1) added to the block positions of the digits.
        num_targets, num_tokens: in the whole batch, of which this may be a slice.
    """
    positions = model.position_ids(inputs)  # (B, T)
    positions = torch.where(positions > 0, positions + offsets, positions)
    output = model(input_ids=inputs, position_ids=positions, use_cache=False, output_hidden_states=count_weight > 0)
    loss = (
        functional.cross_entropy(
            output.logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
        )
        / num_targets
    )
    if count_weight > 0:
        state = output.hidden_states[min(COUNTING_BLOCK, model.config.n_layer)]
        counting = counting_loss(state, delimiter_counts(inputs, model.config.eos_token_id, model.config.pad_token_id))
        loss = loss + count_weight * counting / num_tokens
    return loss


def delimiter_counts(input_ids: Tensor, delimiter_id: int, pad_id: int) -> Tensor:
    """Count the delimiters up to each token, the first as 0; IGNORE_INDEX for padding. (B, T) -> (B, T).

    tokens     + 2 1 + 9 1 + 1 3 + PAD      (12 + 19 = 31)
    counts     0 0 0 1 1 1 2 2 2 3 .
    """
    counts = (input_ids == delimiter_id).long().cumsum(1) - 1
    return torch.where(input_ids == pad_id, IGNORE_INDEX, counts.clamp(max=_MAX_COUNT))


def counting_loss(state: Tensor, counts: Tensor) -> Tensor:
    """Sum of the cross entropies of `counts`, read from the first channels of a state.

    The last digit of a short second operand and the answer's first digit share their position ID; only the number
    of delimiters before them tells which is which, and attention, an average, learns to count slowly. Asked for
    the count early (deep supervision, Lee et al., arXiv 1409.5185), every later block has it. There are no
    weights for this: the state itself is made to say it, and a finished model is no different from any other.

    Args:
        state: (B, T, C) residual stream.
        counts: (B, T).
    """
    channels = functional.layer_norm(state.float(), state.shape[-1:])[..., : _MAX_COUNT + 1]  # (B, T, 4)
    logits = channels * _SHARPNESS
    return functional.cross_entropy(logits.flatten(0, 1), counts.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
