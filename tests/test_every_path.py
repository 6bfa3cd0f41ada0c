"""Every way to ask a trained model says the same: inference.py, generate() alone and in batches, and pipeline()."""

import logging
import random
import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import load_model
from simple_llm.model.network import save_model
from simple_llm.model.tokenizer_files import save_tokenizer
from tests.trained_model import any_length_config, config_for

pytestmark = pytest.mark.library

KINDS = [1, 2, "all", "any length"]
NUM_SUMS = 40
BATCH_SIZE = 16
SETTINGS = [
    {},
    {"use_cache": False},
    {"cache_implementation": "static"},
    {"do_sample": True, "top_k": 1},
    {"do_sample": True, "temperature": 1e-3},
]


@pytest.fixture(scope="module", params=KINDS)
def folder(request, trained_for, tmp_path_factory):
    """The folder of a model that adds, as save_model writes it."""
    kind = request.param
    trained = request.getfixturevalue("any_length") if kind == "any length" else trained_for(kind)
    made = tmp_path_factory.mktemp("trained")
    train = any_length_config(350) if kind == "any length" else config_for(kind, 1)
    save_tokenizer(trained.tokenizer, made)
    save_model(made, trained.model, trained.data, train, {"step": 1})
    return made


@pytest.fixture(scope="module")
def sums(folder) -> list[str]:
    """Sums of numbers of every length, some of them longer than in training where the model knows every length."""
    rng = random.Random(7)
    loaded = load_model(folder)
    longest = 8 if loaded.train.model.knows_every_length else 2
    numbers = [rng.randrange(10 ** rng.randint(1, longest)) for _ in range(2 * NUM_SUMS)]
    return [f"{x}+{y}=" for x, y in zip(numbers[::2], numbers[1::2], strict=True)]


@pytest.fixture(scope="module")
def expected(folder, sums) -> list[str]:
    """What inference.py says: by this package's own decoding."""
    adder = Calculator(load_model(folder), torch.device("cpu"))
    answers = adder.answer([adder.parse(text) for text in sums])
    return [text + answer for text, answer in zip(sums, answers, strict=True)]


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


@pytest.fixture(scope="module")
def add(folder):
    return pipeline("text-generation", model=str(folder), trust_remote_code=True)


def test_the_models_here_are_right_or_these_tests_show_little(sums, expected):
    right = [f"{text}{sum(map(int, text.strip('=').split('+')))}" for text in sums]
    assert sum(one == other for one, other in zip(right, expected, strict=True)) >= NUM_SUMS - 2


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_generate_says_what_inference_says_to_one_sum_after_another(model, tokenizer, sums, expected, number):
    num_sums = NUM_SUMS // 2 if number == 0 else NUM_SUMS // 5  # the others are asked all of them in batches
    prompts = [tokenizer(text, return_tensors="pt") for text in sums[:num_sums]]
    said = [tokenizer.decode(model.generate(**prompt, **SETTINGS[number])[0]) for prompt in prompts]
    assert said == canonical(expected[:num_sums], tokenizer)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_generate_says_what_inference_says_to_batches(model, tokenizer, sums, expected, settings):
    said = []
    for first in range(0, NUM_SUMS, BATCH_SIZE):
        batch = tokenizer(sums[first : first + BATCH_SIZE], padding=True, return_tensors="pt")
        said += tokenizer.batch_decode(model.generate(**batch, **settings), skip_special_tokens=True)
    assert said == canonical(expected, tokenizer)


@pytest.mark.parametrize("batch_size", [1, BATCH_SIZE])
def test_pipeline_says_what_inference_says(add, sums, expected, batch_size):
    said = add(sums, batch_size=batch_size)
    assert [one[0]["generated_text"] for one in said] == expected
    assert [add(text)[0]["generated_text"] for text in sums[:5]] == expected[:5]


def test_fault_42_pipeline_answers_what_does_not_end_in_an_equals_sign(add, tokenizer, sums, expected):
    texts = [text.rstrip("=") for text in sums[:8]] + [f" {text.replace('+', ' + ')[:-1]} " for text in sums[:8]]
    said = [one[0]["generated_text"] for one in add(texts, batch_size=3)]
    assert said == 2 * canonical(expected[:8], tokenizer)
    alone = add(texts[0], return_full_text=False)[0]["generated_text"]
    assert f"{sums[0]}{alone}" == expected[0]


def test_fault_42_what_would_stop_at_a_text_is_refused_by_its_name(model, tokenizer, sums):
    with pytest.raises(NotImplementedError, match="stop_strings is not supported"):
        model.generate(**tokenizer(sums[0], return_tensors="pt"), stop_strings=["+"], tokenizer=tokenizer)


def test_no_path_makes_the_library_warn(folder, sums, caplog):
    """A name that the library is about to drop is announced by a warning before it is."""
    caplog.set_level(logging.WARNING)
    logging.getLogger("transformers").addHandler(caplog.handler)  # whose records go no further
    with warnings.catch_warnings(action="error"):
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        batch = tokenizer(sums[:3], padding=True, return_tensors="pt")
        for settings in SETTINGS:
            tokenizer.batch_decode(model.generate(**batch, **settings))
        pipeline("text-generation", model=model, tokenizer=tokenizer)(sums[0])
        model.train()(**batch, labels=batch["input_ids"]).loss.backward()
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records] == []


def canonical(texts: list[str], tokenizer) -> list[str]:
    """As tokens are written again: the longer number second, where the model wants it so."""
    return [tokenizer.to_decimal_text(tokenizer.to_model_text(text)) for text in texts]
