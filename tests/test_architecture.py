"""Answers need torch, weights, config.json and the tokens: what is read without transformers is what it would read."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers.activations import ACT2FN

from simple_llm.model.architecture import Architecture, Weights
from simple_llm.model.engine import ACTIVATIONS, Engine
from simple_llm.model.folder import KEPT_MODEL, load_model, OF_GPT2
from simple_llm.model.modeling_simple_llm import SimpleLLMConfig, SimpleLLMForCausalLM
from simple_llm.model.network import load_network
from simple_llm.model.tokenization_simple_llm import SimpleLLMTokenizer
from simple_llm.model.tokenizer_files import load_tokenizer, tokenizer_sha256, vocabulary_of
from tests.tiny_models import make_data_config, make_tokenizer, tiny_model

pytestmark = pytest.mark.library

REPOSITORY = Path(__file__).resolve().parents[1]
SIZES = [
    {},
    {"n_layer": 3, "n_inner": 24},
    {"position_embedding": "sinusoidal"},
    {"position_embedding": "none", "tokens_per_step": 2},
    {"attention_window": {"left": 0, "right": 1}, "position_period": 4},
]


def architecture_of(model: SimpleLLMForCausalLM) -> Architecture:
    said = model.config.to_dict()
    return Architecture(**{name: said[name] for name in Architecture().settings()})


def test_the_defaults_are_those_of_the_librarys_config():
    said = SimpleLLMConfig().to_dict()
    assert {name: said[name] for name in Architecture().settings()} == Architecture().settings()
    assert {name: said[name] for name in OF_GPT2} == OF_GPT2


def weights_of(model: SimpleLLMForCausalLM) -> Weights:
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    return Weights(architecture_of(model), tensors)


@pytest.mark.parametrize("settings", SIZES)
def test_the_shapes_are_those_of_the_librarys_model(settings):
    model = tiny_model(**settings)
    tensors = weights_of(model).state_dict()
    assert architecture_of(model).shapes() == {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("settings", SIZES)
def test_weights_alone_say_to_the_bit_what_the_model_says(settings):
    model = tiny_model(**settings)
    weights = weights_of(model)
    assert weights.num_parameters() == model.num_parameters()
    rows = torch.tensor([[2, 3, 4, 2, 5, 6, 2], [2, 7, 2, 8, 2, 0, 0]])
    is_token = rows != 0
    assert torch.equal(weights.position_ids(rows, is_token.long()), model.position_ids(rows, is_token.long()))
    said = []
    for one in (model, weights):
        engine = Engine(one, torch.float32)
        positions = engine.position_ids(rows, is_token.long())
        said.append(engine.read(rows, positions, is_token, engine.new_cache(2, 7), 7))
    assert torch.equal(*said)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_the_librarys_to_the_bit(name):
    state = torch.linspace(-9, 9, 4001)
    assert torch.equal(ACTIVATIONS[name](state), ACT2FN[name](state))


@pytest.mark.parametrize(
    ("setting", "value"), [("n_layer", 0), ("n_layer", True), ("layer_norm_epsilon", "small"), ("self_test", {"a": 1})]
)
def test_a_setting_of_another_type_or_out_of_range_is_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        Architecture(**{setting: value})


@pytest.mark.parametrize("says_all", [False, True])
def test_the_tokens_are_those_of_the_librarys_tokenizer(says_all, tmp_path):
    made = make_tokenizer(make_data_config(), says_all=says_all)
    made.save_pretrained(tmp_path)
    by_library, alone = SimpleLLMTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    check_same_tokens(by_library, alone)


def test_the_tokens_of_work_on_paper_are_those_of_the_librarys_tokenizer():
    check_same_tokens(SimpleLLMTokenizer.from_pretrained(KEPT_MODEL), load_tokenizer(KEPT_MODEL))


def check_same_tokens(by_library, alone) -> None:
    assert alone.get_vocab() == by_library.get_vocab()
    assert len(alone) == len(by_library)
    assert tokenizer_sha256(alone) == tokenizer_sha256(by_library)
    assert vocabulary_of(alone, 1) == vocabulary_of(by_library, 1)
    assert (alone.pad_token, alone.pad_token_id) == (by_library.pad_token, by_library.pad_token_id)
    assert (alone.end_id, alone.sign_ids, alone.carry_ids) == (
        by_library.end_id,
        by_library.sign_ids,
        by_library.carry_ids,
    )
    assert alone.convert_ids_to_tokens(alone.convert_tokens_to_ids(["3", "+", "?"])) == ["3", "+", alone.unk_token]


def test_the_kept_model_is_loaded_in_both_ways_alike():
    alone, network = load_model(KEPT_MODEL), load_network(KEPT_MODEL)
    assert alone.hashes == network.hashes
    said = network.model.config.to_dict()
    assert {name: said[name] for name in alone.model.config.settings()} == alone.model.config.settings()
    rows = torch.tensor([[2, 12, 10, 17]])
    assert torch.equal(alone.model.grid(rows).looks, network.model.grid(rows).looks)


def test_one_answer_needs_no_model_of_the_library():
    command = [sys.executable, "-X", "importtime", "inference.py", "--model", str(KEPT_MODEL), "57*46"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "57*46=2622\n"
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "torch" in imported
    assert not imported & {"transformers", "huggingface_hub", "matplotlib"}
