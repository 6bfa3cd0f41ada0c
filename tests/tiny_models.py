"""Models, problems and tokenizers of a size that tests can afford."""

from collections.abc import Iterable

import torch

import tokenizer as tokenizer_script
import trainer
from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import NEGATIVE
from simple_llm.arithmetic.operation import Operation
from simple_llm.config.settings import DataConfig, Model, Numbers, TrainConfig, Training
from simple_llm.data.problems import from_integers, Problems
from simple_llm.model.modeling_simple_llm import SimpleLLMConfig, SimpleLLMForCausalLM
from simple_llm.model.tokenization_simple_llm import SimpleLLMTokenizer
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.model.tokens import Examples, Vocabulary
from simple_llm.training import learner
from simple_llm.training.learner import build_model, Learner


def make_vocabulary(
    base: int = 10,
    is_reversed: bool = True,
    tokens_per_step: int | str = 1,
    operations: Iterable[Operation] = (ADDITION,),
) -> Vocabulary:
    """The IDs that a tokenizer of this project gives: padding 0, unknown 1, + 2, other operators, then the digits."""
    symbols = sorted({ADDITION.symbol, *(one.symbol for one in operations)})
    ids = {symbol: 2 + index for index, symbol in enumerate(symbols)}
    return Vocabulary(
        tuple(range(2 + len(ids), 2 + len(ids) + base)),
        delimiter_id=2,
        pad_id=0,
        operator_ids=tuple(ids[one.symbol] if one in operations else None for one in OPERATIONS),
        sign_id=ids.get(NEGATIVE),
        reversed=is_reversed,
        tokens_per_step=tokens_per_step,
    )


def make_tokenizer(data: DataConfig, says_all: bool = False) -> SimpleLLMTokenizer:
    train = TrainConfig(model=Model(tokens_per_step="all" if says_all else 2))
    return tokenizer_script.train_tokenizer(iter([]), data, train)


def make_data_config(maximum: int = 99, base: int = 10) -> DataConfig:
    return DataConfig(numbers=Numbers(max=maximum, base=base))


def make_train_config(
    tokens_per_step: int | str = 1, n_layer: int = 1, dropout: float = 0.0, **training: object
) -> TrainConfig:
    """One layer, or as many as asked for, of width 16 on the CPU in fp32."""
    settings = {"batch_size": 16, "max_steps": 4, "warmup_steps": 1, "precision": "fp32", "device": "cpu", **training}
    shape = {"n_layer": n_layer, "n_head": 2, "n_embd": 16, "n_positions": 8}
    model = Model(**shape, dropout=dropout, tokens_per_step=tokens_per_step)
    return TrainConfig(model=model, training=Training(**settings))


def make_learner(train: TrainConfig) -> tuple[Learner, Examples]:
    """Ready a fresh model of a config to learn all pairs below 20."""
    data = make_data_config()
    tokenizer = make_tokenizer(data)
    torch.manual_seed(0)
    model = build_model(data, train, tokenizer)
    rows = trainer.prepare_data(
        all_pairs(19), data, train, vocabulary_of(tokenizer, train.model.tokens_per_step)
    ).training
    return learner.make_learner(model, train.training), rows


def tiny_model(
    tokens_per_step: int | str = 1, position_embedding: str = "block", base: int = 10, seed: int = 2, **settings: object
) -> SimpleLLMForCausalLM:
    """A random model whose weights are large enough that it says different things to different prompts."""
    torch.manual_seed(seed)
    vocabulary = make_vocabulary(base)
    config = SimpleLLMConfig(
        **{
            "vocab_size": base + 3,
            "n_layer": 2,
            "n_head": 2,
            "n_embd": 16,
            "n_positions": 40,
            "initializer_range": 0.5,
            "digit_token_ids": list(vocabulary.digit_ids),
            "tokens_per_step": tokens_per_step,
            "position_embedding": position_embedding,
            "bos_token_id": None,
            "eos_token_id": vocabulary.delimiter_id,
            "pad_token_id": vocabulary.pad_id,
            **settings,
        }
    )
    model = SimpleLLMForCausalLM(config).eval()
    with torch.no_grad():  # short vectors of one length, or one token or the one that was read last would always win
        tokens = model.transformer.wte.weight
        tokens.copy_(torch.nn.functional.normalize(tokens - tokens.mean(0), dim=1))
    model.generation_config.do_sample = False
    return model


def problems_of(pairs: Iterable[tuple[int, int]], base: int = 10, width: int = 4) -> Problems:
    return from_integers(pairs, base, width)


def all_pairs(maximum: int, base: int = 10) -> Problems:
    """Every ordered pair of 0 to `maximum`, in order."""
    pairs = [(x, y) for x in range(maximum + 1) for y in range(maximum + 1)]
    return from_integers(pairs, base, max(1, len(make_digits(maximum, base))))


def make_digits(value: int, base: int) -> list[int]:
    """Digits of a number, least significant first, by Python's own arithmetic."""
    digits = [value % base]
    while value := value // base:
        digits.append(value % base)
    return digits
