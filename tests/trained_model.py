"""Small models that really add: up to 50,000 weights a layer, numbers from 0 to 99 in base 10, seconds of training."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

import trainer
from simple_llm.config.settings import AttentionWindow, DataConfig, Model, Numbers, Split, TrainConfig, Training
from simple_llm.data.problems import concatenate, Problems
from simple_llm.data.sampling import Sampler
from simple_llm.files.names import WEIGHTS
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.tokenization_simple_llm import SimpleLLMTokenizer
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.model.tokens import Vocabulary
from simple_llm.training.learner import build_model
from simple_llm.training.run import Run
from tests.tiny_models import all_pairs, make_tokenizer

DATA = DataConfig(numbers=Numbers(max=99, base=10), split=Split(train=0.9, validation=0.05))
ANY_LENGTH_DATA = DataConfig(numbers=Numbers(max=3**5 - 1, base=3), split=Split(train=0.9, validation=0.05))
# By tokens a step: what is said before its neighbours are known takes a second look, and more width.
LAYERS, WIDTHS = {1: 1, 2: 2, "all": 2}, {1: 32, 2: 64, "all": 64}
STEPS = {1: 500, 2: 350, "all": 250}  # of training


def config_for(tokens_per_step: int | str, max_steps: int) -> TrainConfig:
    return TrainConfig(
        model=Model(
            n_layer=LAYERS[tokens_per_step],
            n_head=4,
            n_embd=WIDTHS[tokens_per_step],
            n_positions=8,
            tokens_per_step=tokens_per_step,
        ),
        training=Training(
            batch_size=128,
            max_steps=max_steps,
            warmup_steps=20,
            learning_rate=3e-3,
            muon_learning_rate=0.02,
            save_every=max(1, max_steps // 2),
            precision="fp32",
            device="cpu",
        ),
    )


@dataclass(frozen=True)
class TrainedModel:
    """What training made.

    Attributes:
        half: the same model half-way; it is right on some pairs and wrong on others.
    """

    model: SimpleLLMForCausalLM
    half: SimpleLLMForCausalLM
    tokenizer: SimpleLLMTokenizer
    vocabulary: Vocabulary
    data: DataConfig
    result: dict[str, object]


def train_small_model(tokens_per_step: int | str) -> dict[str, object]:
    """Train, as trainer.py does; what comes back can be handed from one process to another."""
    train = config_for(tokens_per_step, STEPS[tokens_per_step])
    return _train(DATA, train, all_pairs(99))


def load_small_model(tokens_per_step: int | str, trained: dict[str, object]) -> TrainedModel:
    """Build what `train_small_model` trained."""
    half, model = _build(tokens_per_step), _build(tokens_per_step)
    half.load_state_dict(trained["half"], strict=False)  # tied weights are there once
    model.load_state_dict(trained["model"], strict=False)
    tokenizer = _tokenizer(tokens_per_step)
    vocabulary = vocabulary_of(tokenizer, tokens_per_step)
    return TrainedModel(model.eval(), half.eval(), tokenizer, vocabulary, DATA, trained["result"])


def _tokenizer(tokens_per_step: int | str) -> SimpleLLMTokenizer:
    return make_tokenizer(DATA, says_all=tokens_per_step == "all")


def _build(tokens_per_step: int | str) -> SimpleLLMForCausalLM:
    return build_model(DATA, config_for(tokens_per_step, 1), _tokenizer(tokens_per_step))


def train_any_length_model() -> dict[str, object]:
    """Train one block with an attention window on ternary sums of up to five digits: exact for every length."""
    sampler, rng = Sampler.of(ANY_LENGTH_DATA.numbers), np.random.default_rng(0)
    problems = concatenate([sampler.strata["lengths"](rng, 12_000), sampler.strata["carries"](rng, 6_000)])
    return _train(ANY_LENGTH_DATA, any_length_config(350), problems)


def _train(data: DataConfig, train: TrainConfig, problems: Problems) -> dict[str, object]:
    """Train on the training side of some problems; the weights half-way are those of a checkpoint."""
    tokenizer = make_tokenizer(data, says_all=train.model.tokens_per_step == "all")
    prepared = trainer.prepare_data(problems, data, train, vocabulary_of(tokenizer, train.model.tokens_per_step))
    torch.manual_seed(train.training.seed)
    model = build_model(data, train, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        result = trainer.train_model(model, prepared, train.training, Run(Path(folder), {}))
        half = load_file(Path(folder) / "checkpoints" / f"step-{train.training.max_steps // 2}" / WEIGHTS)
    return {"half": half, "model": {name: one.detach() for name, one in model.named_parameters()}, "result": result}


def load_any_length_model(trained: dict[str, object]) -> TrainedModel:
    """Build what `train_any_length_model` trained."""
    tokenizer = make_tokenizer(ANY_LENGTH_DATA)
    model, half = (build_model(ANY_LENGTH_DATA, any_length_config(1), tokenizer) for _ in range(2))
    model.load_state_dict(trained["model"], strict=False)
    half.load_state_dict(trained["half"], strict=False)
    vocabulary = vocabulary_of(tokenizer, 1)
    return TrainedModel(model.eval(), half.eval(), tokenizer, vocabulary, ANY_LENGTH_DATA, trained["result"])


def any_length_config(max_steps: int) -> TrainConfig:
    model = Model(
        n_layer=1,
        n_head=2,
        n_embd=32,
        n_positions=3,
        tokens_per_step=1,
        attention_window=AttentionWindow(left=0, right=1),
        position_period=2,
    )
    training = config_for(1, max_steps).training.model_copy(update={"batch_size": 64})
    return TrainConfig(model=model, training=training)
