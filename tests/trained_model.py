"""The smallest model that really adds: 100,000 weights, numbers from 0 to 99 in base 10, half a minute of training."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import trainer
from simple_llm.batches import Vocabulary
from simple_llm.config import DataConfig, Model, Numbers, Split, TrainConfig, Training
from simple_llm.model_folder import build_model, vocabulary_of
from simple_llm.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.resuming import Run
from simple_llm.tokenization_simple_llm import SimpleLLMTokenizer
from tests.tiny_models import all_pairs, make_tokenizer

DATA = DataConfig(numbers=Numbers(max=99, base=10), split=Split(train=0.9, validation=0.05))
STEPS = {1: 500, 2: 350, "all": 250}  # of training, by tokens a step


def config_for(tokens_per_step: int | str, max_steps: int) -> TrainConfig:
    return TrainConfig(
        model=Model(n_layer=2, n_head=4, n_embd=64, n_positions=8, tokens_per_step=tokens_per_step),
        training=Training(
            batch_size=128,
            max_steps=max_steps,
            warmup_steps=20,
            learning_rate=3e-3,
            muon_learning_rate=0.02,
            save_every=10**6,
            precision="fp32",
            device="cpu",
        ),
    )


@dataclass(frozen=True)
class TrainedModel:
    """What training made.

    Attributes:
        half: the same model after a part of a shorter training; it is right on some pairs and wrong on others.
    """

    model: SimpleLLMForCausalLM
    half: SimpleLLMForCausalLM
    tokenizer: SimpleLLMTokenizer
    vocabulary: Vocabulary
    data: DataConfig
    result: dict[str, object]


def train_small_model(tokens_per_step: int | str) -> TrainedModel:
    tokenizer = make_tokenizer(DATA, says_all=tokens_per_step == "all")
    half, _ = _train(config_for(tokens_per_step, 60), tokenizer)
    model, result = _train(config_for(tokens_per_step, STEPS[tokens_per_step]), tokenizer)
    return TrainedModel(model, half, tokenizer, vocabulary_of(tokenizer), DATA, result)


def _train(train: TrainConfig, tokenizer: SimpleLLMTokenizer) -> tuple[SimpleLLMForCausalLM, dict[str, object]]:
    """Train on the training side of all pairs, as trainer.py does."""
    torch.manual_seed(train.training.seed)
    model = build_model(DATA, train, tokenizer)
    data = trainer.prepare_data(all_pairs(99), DATA, train, vocabulary_of(tokenizer))
    with tempfile.TemporaryDirectory() as folder:
        result = trainer.train_model(model, data, train.training, Run(Path(folder), {}))
    return model.eval(), result
