"""How good a model is, in counts: exact matches, bounds, margins, strata.

Shape letters in this file: N problems, B rows in a batch, T tokens, A answer tokens, V tokens in the vocabulary.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simple_llm.modeling_simple_llm import IGNORE_INDEX, SimpleLLMForCausalLM


@dataclass(frozen=True)
class Score:
    """Exact matches; scores of separate problems add up."""

    num_correct: int = 0
    num_total: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(self.num_correct + other.num_correct, self.num_total + other.num_total)

    def __str__(self) -> str:
        return f"{self.num_correct:,} / {self.num_total:,}"

    @property
    def is_perfect(self) -> bool:
        """Whether all are right, of at least one."""
        return self.num_correct == self.num_total > 0

    @property
    def error_rate_upper_95(self) -> float:
        """One-sided 95% upper bound on the error rate."""
        return clopper_pearson_upper(self.num_total - self.num_correct, self.num_total)


def clopper_pearson_upper(num_errors: int, num_total: int, confidence: float = 0.95) -> float:
    """Largest error rate that would still show so few errors with probability 1 - confidence.

    The exact one-sided bound (Clopper and Pearson, Biometrika 1934). No error in 10,000 means a rate below 3.0e-4.
    """
    if num_errors >= num_total:
        return 1.0
    if num_errors == 0:
        return -math.expm1(math.log1p(-confidence) / num_total)
    low, high = num_errors / num_total, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _log_probability_of_at_most(num_errors, num_total, middle) > math.log1p(-confidence):
            low = middle
        else:
            high = middle
    return high


def _log_probability_of_at_most(num_errors: int, num_total: int, rate: float) -> float:
    """Log of the binomial distribution's lower tail."""
    if rate >= 1.0:
        return -math.inf
    i = np.arange(1, num_errors + 1)
    log_ratios = np.log((num_total - i + 1) / i) + math.log(rate) - math.log1p(-rate)
    log_terms = np.concatenate([[0.0], np.cumsum(log_ratios)]) + num_total * math.log1p(-rate)
    return float(np.logaddexp.reduce(log_terms))


@torch.inference_mode()
def is_exact(model: SimpleLLMForCausalLM, inputs: Tensor, targets: Tensor, batch_size: int = 1024) -> NDArray[np.bool_]:
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
        wanted = wanted.to(model.device)
        said = model(input_ids=batch.to(model.device)).logits.argmax(-1)  # (B, T)
        found.append(((said == wanted) | (wanted == IGNORE_INDEX)).all(1).cpu().numpy())
    return np.concatenate(found)


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


def by_stratum(is_correct: NDArray[np.bool_], stratum: NDArray[np.int64]) -> dict[int, Score]:
    """Score each stratum by itself: (N,) and (N,) -> {stratum: Score}, in order."""
    return {
        int(value): Score(int(is_correct[stratum == value].sum()), int((stratum == value).sum()))
        for value in np.unique(stratum)
    }
