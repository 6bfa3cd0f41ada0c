"""One optimizer step: a batch in slices, shared among processes, and what its gradient does to the weights."""

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor

from simple_llm.batches import BatchOrder, Examples, position_offsets
from simple_llm.config.settings import Training
from simple_llm.errors import DivergedError, UsageError
from simple_llm.half_depth import at_half_depth
from simple_llm.losses import TrainingLoss
from simple_llm.machine import autocast, resolve_precision
from simple_llm.modeling_simple_llm import IGNORE_INDEX, SimpleLLMForCausalLM
from simple_llm.processes import ALONE, Processes
from simple_llm.training.optimizer import build_optimizers, learning_rate_scale, Muon


@dataclass(frozen=True)
class Learner:
    """A model and what changes it.

    Attributes:
        loss: of the model; its backward passes sum the gradient over the processes.
        dtype: of the matrix products.
    """

    model: SimpleLLMForCausalLM
    loss: torch.nn.Module
    optimizers: tuple[Muon, torch.optim.AdamW]
    config: Training
    dtype: torch.dtype
    processes: Processes

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
        is_half = step < (self.config.half_depth_steps or 0)
        with at_half_depth(self.model) if is_half else contextlib.nullcontext():
            loss = self.accumulate_gradients(examples, step)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        if not (loss + norm).isfinite():
            raise DivergedError(f"loss {loss.item():g} and gradient norm {norm.item():g} at step {step}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss

    def accumulate_gradients(self, examples: Examples, step: int) -> Tensor:
        """Add up the gradients of a step's batch, a slice at a time and over the processes; return the whole loss.

        Two processes with one slice each add the same two numbers as one process with two slices.
        """
        indices = BatchOrder(len(examples), self.config.batch_size, self.config.seed).indices(step)  # (B,)
        batch = examples[indices]
        offsets = position_offsets(len(batch), self.model.config.max_position_offset, self.config.seed, step)
        num_targets, num_place_targets = (
            (targets != IGNORE_INDEX).sum().clamp(min=1) for targets in (batch.targets, batch.place_targets)
        )
        num_slices = self.config.accumulation_steps * self.processes.count
        total = torch.zeros((), device=self.model.device)
        slices = torch.arange(len(batch)).chunk(num_slices)[self.processes.share]
        for index, rows in enumerate(slices, 1):
            slice_, slice_offsets = batch[rows].to(self.model.device), offsets[rows].to(self.model.device)
            is_last = index == len(slices)
            with contextlib.nullcontext() if is_last or self.processes.count == 1 else self.loss.no_sync():
                with autocast(self.model.device, self.dtype):
                    loss = self.loss(slice_, slice_offsets, num_targets, num_place_targets)
                loss.backward()
            total += loss.detach()
        return self.processes.sum(total)


def make_learner(model: SimpleLLMForCausalLM, config: Training, processes: Processes = ALONE) -> Learner:
    """Ready a model for training.

    Raises:
        UsageError: a batch cannot be shared evenly among the processes.
    """
    num_slices = config.accumulation_steps * processes.count
    if config.batch_size % num_slices:
        raise UsageError(
            f"training.batch_size: {config.batch_size} is not a multiple of {processes.count} processes "
            f"times training.accumulation_steps = {config.accumulation_steps}"
        )
    if model.device.type == "cpu":
        model.set_attn_implementation("eager")  # its backward pass is twice as fast as sdpa's on a CPU
    if config.compile:
        model.transformer.compile()
    dtype = resolve_precision(config.precision, model.device)
    optimizers = build_optimizers(model, config, dtype)
    loss = TrainingLoss(model.train(), config.deep_supervision)
    loss = processes.replicate(loss, leaves_some_out=config.half_depth_steps is not None)
    return Learner(model, loss, optimizers, config, dtype, processes)


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Mix seed, step and process into a generator seed, so that randomness is a function of them alone."""
    return (seed * 1_000_003 + step + rank * 7_368_787_937_563) % 2**63
