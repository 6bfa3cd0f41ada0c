"""One optimizer step: a batch in slices, shared among processes, and what its gradient does to the weights.

Shape letters in this file: B rows in a batch, T tokens in a row, V tokens in the vocabulary.

What training makes smaller is the cross entropy of the answers, and of what the middle of the model says of them.
"""

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from simple_llm.config.settings import DataConfig, TrainConfig, Training
from simple_llm.errors import DivergedError, UsageError
from simple_llm.machine import autocast, resolve_precision
from simple_llm.model.contexts_in_view import context_logits, distinct, in_view_of_work
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.network import greedy, model_config
from simple_llm.model.notation_simple_llm import Notation
from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokens import Examples
from simple_llm.processes import ALONE, Processes
from simple_llm.training.averaging import MeanWeights
from simple_llm.training.batches import BatchOrder, evenly_by_length, position_offsets
from simple_llm.training.forward_pass import logits_after
from simple_llm.training.optimizer import build_optimizers, learning_rate_scale, Muon


@dataclass(frozen=True)
class Learner:
    """A model and what changes it.

    Attributes:
        loss: of the model; its backward passes sum the gradient over the processes.
        mean: of the weights after each step, where the config asks for it.
        dtype: of the matrix products.
    """

    model: SimpleLLMForCausalLM
    loss: torch.nn.Module
    optimizers: tuple[Muon, torch.optim.AdamW]
    mean: MeanWeights
    config: Training
    dtype: torch.dtype
    processes: Processes

    @property
    def num_slices(self) -> int:
        """In which a batch is computed, over all processes."""
        return self.config.accumulation_steps * self.processes.count

    def step(self, examples: Examples, step: int) -> Tensor:
        """Take one optimizer step; return the mean loss a target, before it.

        Raises:
            DivergedError: the loss or the gradient is not finite; the weights are left as they were.
        """
        scale = learning_rate_scale(step, self.config)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = scale * optimizer.defaults["lr"]
        torch.manual_seed(step_seed(self.config.seed, step, self.processes.rank))  # for dropout
        loss = self.accumulate_gradients(examples, step)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        if not (loss + norm).isfinite():
            raise DivergedError(f"loss {loss.item():g} and gradient norm {norm.item():g} at step {step}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.mean.update(step + 1)
        return loss

    def accumulate_gradients(self, examples: Examples, step: int) -> Tensor:
        """Add up the gradients of a step's batch, a slice at a time and over the processes; return the whole loss.

        Two processes with one slice each add the same two numbers as one process with two slices.
        """
        chosen, offsets = self.choose_rows(examples, step)
        batch = examples[chosen]
        num_targets, num_place_targets = (
            (targets != IGNORE_INDEX).sum().clamp(min=1) for targets in (batch.targets, batch.place_targets)
        )
        total = torch.zeros((), device=self.model.device)
        slices = torch.arange(len(batch)).tensor_split(self.num_slices)[self.processes.share]
        for index, rows in enumerate(slices, 1):
            slice_, slice_offsets = batch[rows].to(self.model.device), offsets[rows].to(self.model.device)
            is_last = index == len(slices)
            with contextlib.nullcontext() if is_last or self.processes.count == 1 else self.loss.no_sync():
                with autocast(self.model.device, self.dtype):
                    loss = self.loss(slice_, slice_offsets, num_targets, num_place_targets)
                loss.backward()
            total += loss.detach()
        return self.processes.sum(total)

    def choose_rows(self, examples: Examples, step: int) -> tuple[NDArray[np.int64], Tensor]:
        """The rows that a step learns from, (B,): those next in turn, or the hardest of more than those.

        In the end most rows have been learned, and say nothing more; to see that, a forward pass is enough (selective
        backpropagation, Jiang et al., arXiv 1910.00762), without dropout.

        Returns:
            with the rows, (B, 1) what is added to the positions of each.
        """
        rows, hard_rows, device = batch_indices(examples, self.config, step), self.config.hard_rows, self.model.device
        offsets = position_offsets(len(rows), self.model.config.max_position_offset, self.config.seed, step)
        if hard_rows is None or step < hard_rows.start:
            return rows, offsets
        losses = []
        self.model.eval()
        for index in np.split(np.arange(len(rows)), self.num_slices)[self.processes.share]:
            with autocast(device, self.dtype):
                losses.append(row_losses(self.model, examples[rows[index]].to(device), offsets[index].to(device)))
        self.model.train()
        losses = self.processes.gather(torch.stack(losses), self.num_slices).flatten().cpu()
        hardest = np.sort(losses.argsort(descending=True, stable=True)[: self.config.num_hard_rows].numpy())
        return rows[hardest], offsets[hardest]


def build_model(data: DataConfig, train: TrainConfig, tokenizer: Notation) -> SimpleLLMForCausalLM:
    """Make the model of a config with fresh weights, drawn from torch's global generator."""
    return greedy(SimpleLLMForCausalLM(model_config(train, tokenizer)), data)


def make_learner(model: SimpleLLMForCausalLM, config: Training, processes: Processes = ALONE) -> Learner:
    """Ready a model for training.

    Raises:
        UsageError: a batch cannot be shared evenly among the processes, or there are more of them than hard rows.
    """
    if not config.can_be_computed_in(config.accumulation_steps * processes.count):
        hard_rows = f" with {config.num_hard_rows} hard rows" if config.num_hard_rows else ""
        raise UsageError(
            f"training.batch_size: {config.batch_size}{hard_rows} cannot be divided evenly among {processes.count} "
            f"processes times training.accumulation_steps = {config.accumulation_steps}"
        )
    dtype = resolve_precision(config.precision, model.device)
    optimizers, mean = build_optimizers(model, config, dtype), MeanWeights(model, config)
    loss = TrainingLoss(model.train(), config.deep_supervision)
    if config.compile:
        loss.compile()
    return Learner(model, processes.replicate(loss), optimizers, mean, config, dtype, processes)


def batch_indices(examples: Examples, config: Training, step: int) -> NDArray[np.int64]:
    """Choose the rows that a step looks at: of all in turn, and the share that is drawn evenly by length: (B,)."""
    if config.hard_rows is not None:
        first, end = config.rows_before(step), config.rows_before(step + 1)
        return BatchOrder(len(examples), config.batch_size, config.seed).rows(first, end)
    num_even = int(config.even_lengths * config.batch_size)
    in_turn = BatchOrder(len(examples), config.batch_size - num_even, config.seed).indices(step)
    if not num_even:
        return in_turn
    return np.concatenate([in_turn, evenly_by_length(examples.rows_by_length, num_even, config.seed, step)])


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Mix seed, step and process into a generator seed, so that randomness is a function of them alone."""
    return (seed * 1_000_003 + step + rank * 7_368_787_937_563) % 2**63


# ---- The loss -------------------------------------------------------------------------------------


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
        self.has_columns = model.config.scratchpad == "columns"
        sees_all = model.config.attention_window is None and not self.has_columns
        self.middle = model.config.n_layer // 2 if deep_supervision and sees_all else 0

    def forward(self, batch: Examples, offsets: Tensor, num_targets: Tensor, num_place_targets: Tensor) -> Tensor:
        """Both terms are sums over a slice of the batch, divided by counts over the whole batch, so that slices add up.

        Args:
            offsets: (B, 1) added to the block positions of the digits.
            num_targets, num_place_targets: in the whole batch, of which this may be a slice.
        """
        model = self.model
        if self.has_columns:
            return self._of_columns(batch) / num_targets
        positions = shifted_positions(model, batch.inputs, offsets)
        asked = [(model.config.n_layer, batch.targets, 1 / num_targets)]
        if self.middle:
            asked.append((self.middle, batch.place_targets, self.deep_supervision / num_place_targets))
        is_asked = {number: targets != IGNORE_INDEX for number, targets, _ in asked}
        logits = logits_after(model, batch.inputs, positions, is_asked)
        return sum(
            weight * functional.cross_entropy(logits[number].float(), targets[is_asked[number]], reduction="sum")
            for number, targets, weight in asked
        )

    def _of_columns(self, batch: Examples) -> Tensor:
        """Cross entropy of work on paper, summed over its tokens; what is behind the longest text is cut off."""
        num_tokens = 1 + int((batch.targets != IGNORE_INDEX).any(0).nonzero().max())
        inputs, targets = batch.inputs[:, :num_tokens], batch.targets[:, :num_tokens]
        grid = self.model.grid(inputs)
        contexts, targets, counts = distinct(in_view_of_work(inputs, grid), targets[grid.is_work])
        losses = functional.cross_entropy(context_logits(self.model, contexts).float(), targets, reduction="none")
        return (losses * counts).sum()


def shifted_positions(model: SimpleLLMForCausalLM, tokens: Tensor, offsets: Tensor) -> Tensor:
    """Position IDs of a batch, those of the digits shifted: (B, T), (B, 1) -> (B, T)."""
    positions = model.position_ids(tokens)
    return torch.where(positions > 0, positions + offsets, positions)


@torch.no_grad()
def row_losses(model: SimpleLLMForCausalLM, batch: Examples, offsets: Tensor) -> Tensor:
    """Cross entropy of each row, summed over its answer: (B,).

    Args:
        offsets: (B, 1) added to the block positions of the digits.
    """
    is_asked = batch.targets != IGNORE_INDEX
    positions = shifted_positions(model, batch.inputs, offsets)
    logits = logits_after(model, batch.inputs, positions, {model.config.n_layer: is_asked})
    losses = torch.zeros_like(is_asked, dtype=torch.float32)
    said = logits[model.config.n_layer].float()
    losses[is_asked] = functional.cross_entropy(said, batch.targets[is_asked], reduction="none")
    return losses.sum(1)
