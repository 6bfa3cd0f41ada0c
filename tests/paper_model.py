"""Small models that really calculate on paper: trained in seconds on all contexts of a small base."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from simple_llm.arithmetic import BY_NAME
from simple_llm.arithmetic.contexts import contexts
from simple_llm.config.settings import DataConfig, Model, Numbers, Operations, TrainConfig, Training
from simple_llm.model.contexts_in_view import context_logits, InView
from simple_llm.model.known_contexts import TokenSymbols
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.network import save_model
from simple_llm.model.tokenizer_files import save_tokenizer
from simple_llm.training.learner import build_model
from tokenizer import train_tokenizer

# Of what is trained for tests: base, operations, and steps until every context is right by far, on any processor.
KINDS = {
    "all four": (3, ("add", "subtract", "multiply", "divide"), 450),
    "decimal sums": (10, ("add",), 450),
    "differences": (3, ("subtract",), 200),
    "products": (2, ("multiply",), 150),
}
ON_PAPER = TrainConfig(
    model=Model(n_layer=1, n_head=4, n_embd=32, n_positions=6, tokens_per_step=1, scratchpad="columns"),
    training=Training(batch_size=16, max_steps=2, warmup_steps=1, precision="fp32", device="cpu"),
)


def paper_data(base: int, names: Sequence[str] = tuple(BY_NAME)) -> DataConfig:
    """Numbers of up to two digits, three in a sum, operations as often as each other."""
    shares = {one: 1 / len(names) if one in names else 0.0 for one in BY_NAME}
    return DataConfig(numbers=Numbers(max=base**2 - 1, base=base, operands=3), operations=Operations(**shares))


def untrained_on_paper(data: DataConfig) -> SimpleLLMForCausalLM:
    """A model that knows nothing, with larger weights than usual: the few steps that follow are enough then."""
    torch.manual_seed(0)
    model = build_model(data, ON_PAPER, train_tokenizer(iter([]), data, ON_PAPER))
    with torch.no_grad():
        for matrix in model.parameters():
            matrix.mul_(10 if matrix.ndim == 2 else 1)
    return model


def train_on_paper(data: DataConfig, steps: int) -> SimpleLLMForCausalLM:
    """Train a model of one block on each context of its operations, all of them in every step."""
    model = untrained_on_paper(data)
    tokens = TokenSymbols(model.config).tokens
    listed = [contexts(one.symbol, data.numbers.base) for one in data.operations.known]
    symbols, kinds, is_seen, says = (
        torch.from_numpy(np.concatenate([getattr(one, name) for one in listed]).astype(np.int64))
        for name in ("symbols", "kinds", "is_seen", "says")
    )
    ids = torch.from_numpy(tokens)
    asked, right = InView(ids[symbols.clamp(min=0)], kinds.clamp(min=0), is_seen.bool()), ids[says]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        loss = functional.cross_entropy(context_logits(model, asked), right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def write_on_paper(folder: Path, data: DataConfig, steps: int) -> SimpleLLMForCausalLM:
    """Write the folder of a model that was trained so, as save_model does; 0 steps: of one that knows nothing."""
    tokenizer = train_tokenizer(iter([]), data, ON_PAPER)
    model = train_on_paper(data, steps) if steps else untrained_on_paper(data)
    save_tokenizer(tokenizer, folder)
    facts = {"step": 1, "num_correct": 0, "num_total": 0, "num_parameters": model.num_parameters()}
    save_model(folder, model, data, ON_PAPER, facts)
    return model


def write_kind(folder: Path, kind: str) -> Path:
    """Write the folder of one of KINDS; return it."""
    base, names, steps = KINDS[kind]
    write_on_paper(folder, paper_data(base, names), steps)
    return folder
