"""Which rows a batch has, and how far their positions are moved: functions of seed and step alone.

Shape letters in this file: B rows in a batch.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class BatchOrder:
    """Which rows each step sees: epoch after epoch, each shuffled anew, batches running across the seam.

    A function of the seed and the step alone, so that a resumed run needs no state.
    """

    num_rows: int
    batch_size: int
    seed: int

    def indices(self, step: int) -> NDArray[np.int64]:
        """Row indices of a step's batch, where all batches have one size: (B,)."""
        return self.rows(step * self.batch_size, (step + 1) * self.batch_size)

    def rows(self, first: int, end: int) -> NDArray[np.int64]:
        """Row indices of those from `first` to before `end` in all epochs: (end - first,)."""
        position = np.arange(first, end)
        epoch, index = np.divmod(position, self.num_rows)
        picked = [_epoch_order(self.num_rows, self.seed, int(e))[index[epoch == e]] for e in np.unique(epoch)]
        return np.concatenate(picked)


@lru_cache(maxsize=2)
def _epoch_order(num_rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(num_rows)


def evenly_by_length(rows_by_length: list[NDArray[np.int64]], count: int, seed: int, step: int) -> NDArray[np.int64]:
    """Draw rows, each length as often as any other however few rows have it: (count,)."""
    rng = np.random.default_rng((seed, step, 2))
    lengths = rng.integers(len(rows_by_length), size=count)
    return np.array([rng.choice(rows_by_length[length]) for length in lengths], np.int64)


def position_offsets(num_rows: int, max_offset: int, seed: int, step: int) -> Tensor:
    """Draw what to add to the block positions of each row, 0 to max_offset: (B, 1). A function of seed and step."""
    generator = torch.Generator().manual_seed(int(np.random.default_rng((seed, step, 1)).integers(2**62)))
    return torch.randint(0, max_offset + 1, (num_rows, 1), generator=generator)
