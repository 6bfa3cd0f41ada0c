"""How good a model is, in counts: exact matches, bounds, strata.

Shape letters in this file: N problems.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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


def by_stratum(is_correct: NDArray[np.bool_], stratum: NDArray[np.int64]) -> dict[int, Score]:
    """Score each stratum by itself: (N,) and (N,) -> {stratum: Score}, in order."""
    return {
        int(value): Score(int(is_correct[stratum == value].sum()), int((stratum == value).sum()))
        for value in np.unique(stratum)
    }
