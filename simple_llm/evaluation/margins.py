"""The right answer before a model's eyes: whether it says it, and how far each right token is ahead of the others.

Shape letters in this file: N problems, B rows in a batch, T tokens, A answer tokens, V tokens in the vocabulary.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simple_llm.data.problems import Problems
from simple_llm.model.decoding import Reader
from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokens import make_examples, Vocabulary

if TYPE_CHECKING:
    from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM


def lead(logits: Tensor, right: Tensor) -> Tensor:
    """How far the right token is ahead of the best other one; 0 or less is wrong. (..., V), (...) -> (...)."""
    right_logit = logits.gather(-1, right[..., None])[..., 0]
    others = logits.scatter(-1, right[..., None], -math.inf)
    return right_logit - others.amax(-1)


def logit_margins(logits: Tensor, right: Tensor, pad_id: int) -> Tensor:
    """Smallest lead of the right token over the best other one, over each answer up to its first error.

    Args:
        logits: (N, A, V) that the tokens were chosen by.
        right: (N, A) the right answers, padded.

    Returns:
        (N,) margins; negative where an answer is wrong.
    """
    leads = lead(logits, right)  # (N, A)
    num_errors_before = (leads <= 0).long().cumsum(1) - (leads <= 0).long()
    is_counted = (right != pad_id) & (num_errors_before == 0)  # after an error the text is no longer the right one
    return torch.where(is_counted, leads, math.inf).amin(1)


@torch.inference_mode()
def is_exact(
    model: "SimpleLLMForCausalLM", inputs: Tensor, targets: Tensor, batch_size: int = 256
) -> NDArray[np.bool_]:
    """Say of each row whether the model says its whole answer, in one pass over the row.

    The row holds the right answer, and each place asks for the most likely next token given it. That is the same
    as greedy decoding being exact: as long as every token said so far is right, both see the same text, and the
    first wrong one makes both wrong.

    Args:
        inputs, targets: (N, T), see `make_examples`.

    Returns:
        (N,)
    """
    found = [np.zeros(0, bool)]
    if not len(inputs):  # split() would give one batch of no row, which a model takes for an error
        return found[0]
    for batch, wanted in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
        wanted = wanted.to(model.device, torch.long)
        said = model(input_ids=batch.to(model.device, torch.long)).logits.argmax(-1)  # (B, T)
        found.append(((said == wanted) | (wanted == IGNORE_INDEX)).all(1).cpu().numpy())
    return np.concatenate(found)


def row_margins(reader: Reader, problems: Problems, vocabulary: Vocabulary) -> Tensor:
    """Check problems one row each, the right answer read with it: (N,) margins, as `PairTree.margins` gives them."""
    margins = [torch.zeros(0)]
    for logits, targets in row_logits(reader, problems, vocabulary):
        is_target = targets != IGNORE_INDEX
        leads = torch.where(is_target, lead(logits, torch.where(is_target, targets, 0)), math.inf)
        margins.append(leads.amin(1).float().cpu())
    return torch.cat(margins)


@torch.inference_mode()
def row_logits(
    reader: Reader, problems: Problems, vocabulary: Vocabulary, batch_size: int = 2048
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read problems one row each, with the right answers: yields logits (B, T, V) and targets (B, T) of each batch."""
    config = reader.config
    examples = make_examples(problems, vocabulary)
    for first in range(0, len(problems), batch_size):
        batch = examples[torch.arange(first, min(first + batch_size, len(problems)))].to(reader.device)
        is_token = batch.inputs != config.pad_token_id
        cache = reader.new_cache(len(batch), batch.inputs.size(1))
        positions = reader.position_ids(batch.inputs, is_token.long())
        yield reader.read(batch.inputs, positions, is_token, cache, batch.inputs.size(1)), batch.targets
