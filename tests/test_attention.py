import json

import numpy as np
import pytest
import torch

from simple_llm.config.settings import TrainConfig
from simple_llm.evaluation.attention_maps import (
    attention_by_place,
    attention_maps,
    attention_weights,
    CATEGORIES,
    CELLS,
    cells_in_view,
    places_of,
    said_places,
)
from simple_llm.evaluation.pictures import draw_by_place, draw_layer, draw_overview
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import LoadedModel
from simple_llm.model.network import load_network
from tests.paper import written
from tests.tiny_models import all_pairs, make_digits, make_vocabulary, problems_of, tiny_model

pytestmark = pytest.mark.library

KINDS = [1, 2, "all"]
WINDOW = {"attention_window": {"left": 0, "right": 1}}


@pytest.fixture
def adder_for(trained_for):
    def make(k):
        trained = trained_for(k)
        train = TrainConfig.model_validate({"model": {"tokens_per_step": k}})
        loaded = LoadedModel(trained.model, trained.tokenizer, trained.data, train, "", {})
        return Calculator(loaded, torch.device("cpu"))

    return make


def test_weights_are_those_of_the_first_layers_queries_and_keys():
    model = tiny_model(1)
    rows = torch.tensor([[2, 4, 5, 2, 6, 7, 2], [2, 9, 2, 3, 2, 9, 9]])
    block = model.transformer.h[0]
    state = model.transformer.wte(rows) + model.transformer.wpe(model.position_ids(rows))
    query, key, _ = block.attn.c_attn(block.ln_1(state)).split(16, dim=-1)
    for head in range(2):
        channels = slice(8 * head, 8 * head + 8)
        scores = query[..., channels] @ key[..., channels].mT / 8**0.5
        scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
        torch.testing.assert_close(attention_weights(model, rows)[0, :, head], scores.softmax(-1))


@pytest.mark.parametrize(("k", "settings"), [*((k, {}) for k in KINDS), (1, WINDOW)])
def test_to_look_changes_nothing(k, settings):
    model = tiny_model(k, **settings)
    rows = torch.tensor([[2, 4, 5, 2, 6, 7, 2]])
    before = model(input_ids=rows).logits
    weights = attention_weights(model, rows)  # (L, B, H, T, T)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 2, 7))
    assert torch.equal(model(input_ids=rows).logits, before)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("k", KINDS)
def test_each_token_is_said_where_the_maps_say(adder_for, k):
    """The logits at that token, computed by themselves, choose what was said."""
    adder = adder_for(k)
    write = adder.loaded.tokenizer.convert_ids_to_tokens
    for text, answer in (("7+58", "56"), ("99+1", "001"), ("0+0", "0")):
        maps = attention_maps(adder, adder.parse(text))
        assert "".join(token for token in maps.said if token not in (None, "+")) == answer
        row = torch.tensor([adder.loaded.tokenizer.convert_tokens_to_ids(maps.tokens)])
        chosen = write(adder.model(input_ids=row).logits[0].argmax(-1).tolist())
        assert all(said in (None, choice) for said, choice in zip(maps.said, chosen, strict=True))
        assert maps.positions == adder.model.position_ids(row)[0].tolist()
        assert maps.weights.shape == (adder.model.config.n_layer, 4, row.size(1), row.size(1))


# ---- By place -------------------------------------------------------------------------------------


def test_places_are_counted_from_the_units_whichever_end_comes_first():
    row = torch.tensor([[2, 4, 5, 2, 6, 2, 3, 3]])
    assert places_of(row, make_vocabulary()).tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    assert places_of(row, make_vocabulary(is_reversed=False)).tolist() == [[0, 2, 1, 0, 1, 0, 2, 1]]
    targets = torch.tensor([[-100, -100, 5, 4, 3, 2], [-100, 5, 4, 2, -100, -100]])
    assert said_places(targets, make_vocabulary()).tolist() == [[0, 0, 1, 2, 3, 0], [0, 1, 2, 0, 0, 0]]
    assert said_places(targets, make_vocabulary(is_reversed=False)).tolist() == [[0, 0, 3, 2, 1, 0], [0, 2, 1, 0, 0, 0]]


def counted_one_by_one(model, pairs, k):
    """The same by definition: every problem by itself, every weight looked up and put where it belongs."""
    sums = np.zeros((2, 2, 2, 3, len(CATEGORIES)))  # two layers, two heads; 99 + 99 has three places
    counts = np.zeros((2, 3), int)
    paired = []
    for x, y in pairs:
        if k == "all" and x >= 10 > y:
            x, y = y, x
        x_digits, y_digits, z_digits = (make_digits(value, 10) for value in (x, y, x + y))
        read = x_digits, y_digits, *(() if k == "all" else (z_digits,))
        row, place = [2], [0]
        for digits in read:
            row += [3 + digit for digit in digits] + [2]
            place += [*range(1, len(digits) + 1), 0]
        first = len(x_digits) + 2 if k == "all" else len(x_digits) + len(y_digits) + 3 - k  # says the units
        weights = attention_weights(model, torch.tensor([row]))[:, 0].numpy()
        for one in range(min(len(x_digits), len(y_digits))):  # behind the first delimiter, and behind the second
            paired.append(weights[:, :, len(x_digits) + 2 + one, 1 + one])
        for said_place in range(1, min(len(x_digits), len(y_digits)) + 1):
            with_carry = int(x % 10 ** (said_place - 1) + y % 10 ** (said_place - 1) >= 10 ** (said_place - 1))
            counts[with_carry, said_place - 1] += 1
            for key, (token, key_place) in enumerate(zip(row, place, strict=True)):
                own = 0 if key < len(x_digits) + 1 else 1
                kind = 3 if token == 2 else {said_place: own, said_place - 1: 2}.get(key_place, 4)
                sums[:, :, with_carry, said_place - 1, kind] += weights[:, :, first + said_place - 1, key]
    with np.errstate(invalid="ignore"):
        return sums / counts[:, :, None], counts, np.mean(paired, axis=0)


@pytest.mark.parametrize(("k", "settings"), [*((k, {}) for k in KINDS), (1, WINDOW)])
def test_shares_by_place_are_those_of_the_definition(k, settings):
    model = tiny_model(k, **settings)
    problems = all_pairs(99)[::37]
    pairs = [divmod(number, 100) for number in range(0, 10_000, 37)]
    measured = attention_by_place(model, problems, make_vocabulary(tokens_per_step=k))
    shares, counts, pairing = counted_one_by_one(model, pairs, k)
    assert np.array_equal(measured.counts, counts)
    np.testing.assert_allclose(measured.shares, shares, atol=1e-6)
    np.testing.assert_allclose(measured.pairing, pairing, atol=1e-6)
    assert not measured.counts[:, 2].any()  # no operand has a hundreds digit
    np.testing.assert_allclose(measured.mean_shares().sum(-1), 1)
    expected_effect = shares[:, :, 1, 1] - shares[:, :, 0, 1]  # into the tens; into the units no carry comes
    np.testing.assert_allclose(measured.carry_effect(), expected_effect, atol=1e-6)


def test_no_carry_no_effect():
    measured = attention_by_place(tiny_model(1), problems_of([(1, 2), (30, 4)]), make_vocabulary())
    assert not measured.carry_effect().any()


# ---- Pictures and the script ----------------------------------------------------------------------


def test_pictures_are_drawn_of_any_number_of_heads(adder_for, tmp_path):
    maps = attention_maps(adder_for("all"), adder_for("all").parse("7+58"))
    by_place = attention_by_place(tiny_model(1), all_pairs(99)[::50], make_vocabulary())
    draw_layer(maps, 1, "7+58=65", tmp_path / "layer.png")
    draw_overview(maps, "7+58=65", tmp_path / "overview.png")
    draw_by_place(by_place, "two heads", tmp_path / "by_place.png")
    assert {path.name for path in tmp_path.iterdir()} == {"layer.png", "overview.png", "by_place.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


def test_the_script_draws_every_layer_and_writes_the_numbers(run_folder, call_script):
    called = call_script("visualize.py", "--model", "model", "--samples", "40", "--json", "12+34", cwd=run_folder)
    assert called.exit_code == 0, called.stderr
    document = json.loads(called.stdout.splitlines()[-1])
    written = {run_folder / path for path in document.pop("written")}
    names = {"attention_layer_1.png", "attention_overview.png", "attention_by_place.png", "attention.json"}
    assert {path.name for path in written} == names
    assert json.loads((run_folder / "model" / "attention.json").read_text()) == document
    manifest = json.loads((run_folder / "model" / "manifest.json").read_text())
    assert document["model_sha256"] == manifest["files"]["model.safetensors"]["sha256"]
    assert np.allclose(np.array(document["mean_shares"]).sum(-1), 1, atol=1e-3)
    assert called.stdout.splitlines()[1].split()[:2] == ["1", "1"]  # a line a head


def test_pictures_go_where_they_are_asked_to_and_the_model_folder_stays(run_folder, call_script):
    before = sorted((run_folder / "model").iterdir())
    asked = ("--model", "model", "--output", "pictures/here", "--samples", "5")
    assert call_script("visualize.py", *asked, "1+1", cwd=run_folder).exit_code == 0
    assert (run_folder / "pictures" / "here" / "attention_overview.png").exists()
    assert sorted((run_folder / "model").iterdir()) == before


# ---- Work on paper --------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["5+17+3+8", "5-17", "17*5", "77/5", "1/5"])
def test_the_map_of_work_on_paper_shows_all_of_it_and_attention_on_what_is_in_view_alone(on_paper, prompt):
    """A token of the work sees the operator, and at most one token each in four more cells."""
    calculator = Calculator(load_network(on_paper("all four")), torch.device("cpu"))
    maps = attention_maps(calculator, calculator.parse(prompt))
    operator = next(one for one in prompt if not one.isdigit())
    text = written(operator, [int(number) for number in prompt.split(operator)], 3)
    assert "".join(maps.tokens) + "=" == text
    start = text.index("|")
    assert maps.said == [None] * start + list(text[start + 1 :])
    views = cells_in_view(calculator, maps)
    assert [(view["token"], view["says"]) for view in views] == list(zip(text[start:], text[start + 1 :], strict=False))
    is_seen = (maps.weights > 0).any((0, 1))  # (T, T)
    for row, view in zip(is_seen[start:], views, strict=True):
        seen = [token for token, is_one in zip(maps.tokens, row, strict=True) if is_one]
        cells = [view[cell] for cell in CELLS if cell in view]
        assert set(seen) == set(cells) and len(cells) - 1 <= len(seen) <= len(cells)  # an operator may be the head too
    assert view["says"] == "=" and view["operator"] == operator
    np.testing.assert_allclose(maps.weights.sum(-1), 1, atol=1e-5)


def test_of_work_on_paper_the_script_draws_maps_and_tells_what_each_token_sees(on_paper, tmp_path, call_script):
    asked = ("visualize.py", "--model", str(on_paper("all four")), "--output", "pictures")
    called = call_script(*asked, "--json", "5*7", cwd=tmp_path)
    assert called.exit_code == 0, called.stderr
    *lines, last = called.stdout.splitlines()
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == [
        "attention_layer_1.png",
        "attention_overview.png",
    ]
    assert lines[0].split() == ["token", "says", *CELLS]
    assert lines[1].split() == ["|", "2", "*", "1", "2", "-", "|"]  # 12 * 21 in base 3 begins with 1 * 2
    first = {"token": "|", "says": "2", "operator": "*", "head": "1", "operand": "2", "carry": "|"}
    assert json.loads(last)["in_view"][0] == first
    for option in ("--samples", "--seed"):
        called = call_script(*asked, option, "3", "5*7", cwd=tmp_path)
        assert called.exit_code == 2
        assert called.stderr == "--samples and --seed are of averages by place, which work on paper does not have\n"


def test_a_model_without_sums_is_drawn_at_a_problem_that_it_knows(on_paper, tmp_path, call_script):
    called = call_script("visualize.py", "--model", str(on_paper("differences")), "--output", "here", cwd=tmp_path)
    assert called.exit_code == 0, called.stderr
    assert called.stdout.splitlines()[1].split()[2] == "-"


@pytest.mark.parametrize("prompt", ["1-1", "1+", "1+999999", "-1+1", ""])
def test_what_is_no_sum_of_this_model_is_refused(run_folder, call_script, prompt):
    called = call_script("visualize.py", "--model", "model", prompt, cwd=run_folder)
    assert called.exit_code == 2
    assert called.stderr.startswith(f"{prompt or repr(prompt)}: ")
    assert len(called.stderr.strip().splitlines()) == 1
    assert not (run_folder / "model" / "attention.json").exists()
