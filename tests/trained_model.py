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
TRAIN = TrainConfig(
    model=Model(n_layer=2, n_head=4, n_embd=64, n_positions=8, tokens_per_step=1),
    training=Training(
        batch_size=128,
        max_steps=500,
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


def train_small_model() -> TrainedModel:
    tokenizer = make_tokenizer(DATA)
    vocabulary = vocabulary_of(tokenizer)
    half, _ = _train(TRAIN.model_copy(update={"training": TRAIN.training.model_copy(update={"max_steps": 60})}))
    model, result = _train(TRAIN)
    return TrainedModel(model, half, tokenizer, vocabulary, DATA, result)


def _train(train: TrainConfig) -> tuple[SimpleLLMForCausalLM, dict[str, object]]:
    """Train on the training side of all pairs, as trainer.py does."""
    tokenizer = make_tokenizer(DATA)
    torch.manual_seed(train.training.seed)
    model = build_model(DATA, train, tokenizer)
    rows = trainer.prepare_data(all_pairs(99), DATA, train, vocabulary_of(tokenizer))
    with tempfile.TemporaryDirectory() as folder:
        result = trainer.train_model(model, rows, train.training, Run(Path(folder), {}))
    return model.eval(), result
