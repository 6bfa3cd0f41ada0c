"""The reference recipe for so many seconds, to compare a track with; runs/speedrun.py --baseline starts it.

    python3 -m runs.reference_recipe --track A --seed 0 --seconds 30 --started SECONDS --folder DIR

The default architecture, one token a step, with AdamW for all weights at 1.5e-4, cosine decay, dropout 0.1, batches of
1,024, fp32 and uniform pairs in base 16. The cosine goes by the share of the seconds that has passed, so it ends where
they do. Then it counts on the very problems that the track's own run with this seed is validated and tested on. Ends in
one JSON line.
"""

import argparse
import itertools
import json
import math
import os
import time

import torch

from data_generator import draw_problems
from runs.speedrun_seed import add_options, count, draw_rows, made_tokenizer, test_sample, validation_problems
from runs.tracks import edge_problems, recipe, Track, TRACKS, without
from simple_llm import command_line
from simple_llm.arithmetic.digits import to_integers
from simple_llm.config.settings import DataConfig, Model, Sampling, TrainConfig
from simple_llm.data.problems import from_integers, Problems
from simple_llm.data.split import split_sides, TRAIN
from simple_llm.machine import resolve_device
from simple_llm.model.folder import LoadedModel
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.model.tokens import Examples, make_examples
from simple_llm.training.batches import BatchOrder
from simple_llm.training.learner import build_model, step_seed, TrainingLoss

MODEL = Model(tokens_per_step=1, dropout=0.1)
LEARNING_RATE = 1.5e-4
BATCH_SIZE = 1024
BASE = 16


def main(arguments: argparse.Namespace) -> None:
    track = TRACKS[arguments.track]
    data, train = recipe(track.name, arguments.recipes, arguments.seed, arguments.overrides)
    device = resolve_device(train.training.device)
    loaded, step = train_for(track, data, device, arguments.started, arguments.seconds)
    facts = {
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - arguments.started, 3),
        "cpu_seconds": round(sum(os.times()[:4]), 3),
        "step": step,
        "num_parameters": loaded.model.num_parameters(),
    }
    measured = {
        name: count(loaded, in_base(problems, loaded.data))["counts"]
        for name, problems in held_out_problems(track, data, train).items()
    }
    print(json.dumps({**facts, "exact": measured}))


def train_for(
    track: Track, data: DataConfig, device: torch.device, started: float, seconds: float
) -> tuple[LoadedModel, int]:
    """Train from nothing until the seconds since the start are over; return the model and how many steps it took."""
    uniform = Sampling(uniform=1, lengths=0, carries=0)
    numbers = data.numbers.model_copy(update={"base": BASE, "reversed": True})
    data, train = data.model_copy(update={"numbers": numbers, "sampling": uniform}), TrainConfig(model=MODEL)
    rows = without(draw_problems(data).problems, track.edge_cases)
    tokenizer = made_tokenizer(rows, data, train)
    examples = make_examples(rows[split_sides(rows, data.split) == TRAIN], vocabulary_of(tokenizer, 1))
    torch.manual_seed(data.seed)
    model = build_model(data, train, tokenizer).to(device)
    if device.type == "cpu":
        model.set_attn_implementation("eager")  # what decodes is twice as fast there; training has its own pass
    step = learn(model, examples, data.seed, started, seconds)
    return LoadedModel(model.eval(), tokenizer, data, train, "", {}), step


def learn(model: SimpleLLMForCausalLM, examples: Examples, seed: int, started: float, seconds: float) -> int:
    """Take steps until the seconds are over; the one that is begun by then is finished."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    loss_of, order = TrainingLoss(model.train(), deep_supervision=0.0), BatchOrder(len(examples), BATCH_SIZE, seed)
    offsets = torch.zeros(BATCH_SIZE, 1, dtype=torch.long, device=model.device)  # no position is shifted
    for step in itertools.count():
        share = (time.monotonic() - started) / seconds
        if share >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * cosine(share)
        torch.manual_seed(step_seed(seed, step))  # for dropout
        batch = examples[order.indices(step)].to(model.device)
        num_targets = (batch.targets != IGNORE_INDEX).sum()
        loss_of(batch, offsets, num_targets, num_targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    raise AssertionError("unreachable: the count has no end")


def cosine(share: float) -> float:
    """Share of the peak learning rate when that share of the time has passed: from 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * share)) / 2


def held_out_problems(track: Track, data: DataConfig, train: TrainConfig) -> dict[str, Problems]:
    """What the track's own run with this seed is validated and tested on."""
    validation = validation_problems(draw_rows(track, data, train.training.num_deciding), data, train)
    edges = {"edge_cases": edge_problems(track, data)} if track.edge_cases else {}
    return {"validation": validation, "test": test_sample(data), **edges}


def in_base(problems: Problems, data: DataConfig) -> Problems:
    """The same problems in another config's base."""
    pairs = zip(to_integers(problems.x, problems.base), to_integers(problems.y, problems.base), strict=True)
    return from_integers(pairs, data.numbers.base, data.operand_digits)


if __name__ == "__main__":
    parser = command_line.parser(__doc__)
    add_options(parser)
    parser.add_argument("--seconds", type=float, required=True)
    command_line.run(main, parser.parse_intermixed_args())
