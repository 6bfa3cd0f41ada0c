import itertools

import pytest
import torch
from transformers import DynamicCache

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operands import Operands
from simple_llm.data.problems import from_integers
from simple_llm.evaluation.margins import row_margins
from simple_llm.model import window_decoding
from simple_llm.model.decoding import Decoder
from simple_llm.model.engine import Engine
from simple_llm.model.places_simple_llm import in_window, table_rows
from simple_llm.model.tokens import prompt_tokens
from simple_llm.proof.pair_tree import PairTree
from tests.greedy import say_alone
from tests.test_decoding import check_every_path, prompts_for, without_padding
from tests.tiny_models import all_pairs, make_vocabulary, tiny_model

pytestmark = pytest.mark.library

CHUNK = 16  # fewer places than usual are read together, and a few numbers have more of them
WINDOWS = [(0, 1), (1, 1), (2, 0), (1, 2), (0, 0)]


def windowed_model(left: int, right: int, period: int | None = 4, num_layers: int = 1, **settings):
    """A random model with a window that says digits and delimiters alone."""
    model = tiny_model(
        n_layer=num_layers, attention_window={"left": left, "right": right}, position_period=period, **settings
    )
    with torch.no_grad():
        model.transformer.wte.weight[:2] = 0.0  # padding and unknown have the logit 0, and some other one is above
    return model


# ---- The window -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "right"), WINDOWS)
def test_a_key_is_seen_if_it_is_no_digit_or_its_place_is_near(left, right):
    places = torch.arange(6)
    sees = in_window(places[None], places[None], left, right)[0]
    for query, key in itertools.product(range(6), repeat=2):
        assert sees[query, key] == (key == 0 or query - left <= key <= query + right)


def test_the_rows_of_the_position_table_come_again():
    assert table_rows(torch.arange(10), 4).tolist() == [0, 1, 2, 3, 4, 1, 2, 3, 4, 1]
    assert table_rows(torch.arange(10), None).tolist() == list(range(10))


@torch.inference_mode()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("left", "right"), WINDOWS)
def test_one_layer_depends_on_what_is_in_view_and_on_nothing_else(left, right, attention):
    """Change one digit at a time of + 1 2 3 4 5 + 6 7 8 9 1 + 7 9 1; which logits change is what the rule says."""
    model = windowed_model(left, right)
    model.set_attn_implementation(attention)
    row = [*prompt_tokens(from_integers([(54321, 19876)], 10, 5), make_vocabulary())[0].tolist(), 10, 12, 4]
    places = [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    before = model(input_ids=torch.tensor([row])).logits[0]
    for key, place in enumerate(places):
        if place == 0:
            continue
        changed = list(row)
        changed[key] = 3 if changed[key] != 3 else 4
        after = model(input_ids=torch.tensor([changed])).logits[0]
        differs = (after != before).any(-1).tolist()
        for query, query_place in enumerate(places):
            is_seen = query >= key and query_place - left <= place <= query_place + right
            assert differs[query] == is_seen, (query, key)


@torch.inference_mode()
def test_a_cache_needs_the_places_of_what_it_holds():
    model = windowed_model(0, 1)
    cache = DynamicCache(config=model.config)
    model(input_ids=torch.tensor([[2, 5, 2]]), cache=cache)
    with pytest.raises(ValueError, match="key_position_ids"):
        model(input_ids=torch.tensor([[6]]), position_ids=torch.tensor([[1]]), cache=cache)


@torch.inference_mode()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("left", "right"), WINDOWS)
def test_generate_sees_the_same_in_a_static_cache(left, right, attention):
    """And with eager attention in the ways in which `check_every_path` asks with sdpa."""
    model = windowed_model(left, right, num_layers=2)
    model.set_attn_implementation(attention)
    prompts = without_padding(prompts_for(1))[::2]
    expected = [say_alone(model, prompt, 7) for prompt in prompts]
    ways = [{"cache_implementation": "static"}, *([{"use_cache": False}, {}] if attention == "eager" else [])]
    for prompt, answer in zip(prompts, expected, strict=True):
        for settings in ways:
            said = model.generate(torch.tensor([prompt]), max_new_tokens=7, **settings)[0, len(prompt) :].tolist()
            assert said == answer, settings


# ---- Every path says the same ---------------------------------------------------------------------


@pytest.mark.parametrize(("num_layers", "period"), [(1, None), (3, 4)])
@pytest.mark.parametrize(("left", "right"), WINDOWS)
def test_every_path_says_the_same(left, right, num_layers, period):
    said = check_every_path(windowed_model(left, right, period, num_layers), prompts_for(1), 7)
    assert len(set(map(tuple, said))) > 2


@torch.inference_mode()
@pytest.mark.parametrize(("num_layers", "left", "right"), [(1, 0, 1), (2, 2, 1), (1, 1, 3)])
def test_places_beyond_a_chunk_are_answered_as_the_whole_row_is(left, right, num_layers, monkeypatch):
    """Numbers of very different lengths, side by side."""
    monkeypatch.setattr(window_decoding, "CHUNK", CHUNK)
    model = windowed_model(left, right, num_layers=num_layers, seed=3)
    with torch.no_grad():
        model.transformer.wte.weight[2] *= 0.3  # it goes on for long
    width = 2 * CHUNK + 3
    pairs = [(7, 10**width // 3), (10**width // 7, 10 ** (CHUNK + 1) // 9), (5, 6), (10**CHUNK - 1, 1)]
    prompts = prompt_tokens(from_integers(pairs, 10, width), make_vocabulary())
    answers = Decoder(Engine(model, torch.float32)).decode(prompts, width + 2).tokens
    said = [say_alone(model, prompt, width + 2) for prompt in without_padding(prompts)]
    assert max(map(len, said)) > 2 * CHUNK
    assert [row[: len(one)].tolist() for row, one in zip(answers, said, strict=True)] == said


@torch.inference_mode()
@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_walk_over_all_pairs_sees_through_the_same_window(num_layers):
    model, vocabulary = windowed_model(0, 1, period=2, num_layers=num_layers), make_vocabulary()
    reader = Engine(model, torch.float32)
    walked = (
        PairTree(reader, vocabulary, Operands(0, 129, vocabulary.base), ADDITION, max_tokens=700)
        .margins(0, 129)
        .flatten()
    )
    rows = row_margins(reader, all_pairs(129), vocabulary)
    assert torch.allclose(walked, rows, atol=1e-4)
