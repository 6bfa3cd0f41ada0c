"""The mean of the last weights, which is what a run with `training.averaging` evaluates and leaves.

Each step goes by a batch alone and jumps to and fro around where all of them point; the mean lies in the middle
(Polyak and Juditsky, SIAM J. Control Optim. 30, 1992; over a fixed rate Izmailov et al., arXiv 1803.05407). Training
goes on from the weights, which the mean changes nothing of.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from simple_llm.config.settings import Training


class MeanWeights:
    """Exponential moving mean of a model's weights; every process of a run computes the same one.

    Attributes:
        tensors: by the names of the weights; empty before the mean begins, and without one for ever.
    """

    def __init__(self, model: torch.nn.Module, config: Training) -> None:
        self.model, self.config = model, config
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, num_steps: int) -> None:
        """Take in the weights as they are after so many optimizer steps.

        The mean is that of all from its beginning on, until one more weighs less in it than a moving mean gives to it.
        """
        start = self.config.averaging_start
        if start is None or num_steps < start:
            return
        share = max(1 - self.config.averaging.decay, 1 / (num_steps - start + 1))
        for name, weight in self.model.named_parameters():
            if num_steps == start:
                self.tensors[name] = weight.detach().clone()
            else:
                self.tensors[name].lerp_(weight, share)

    def exchange(self) -> None:
        """Let the model's weights and their mean change places, where there is one; nothing is copied."""
        for name, weight in self.model.named_parameters() if self.tensors else ():
            weight.data, self.tensors[name] = self.tensors[name], weight.data

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the model hold the mean inside the `with` block, where there is one."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()
