import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simple_llm.errors import UsageError
from simple_llm.evaluation.lengths import problems_of_length
from simple_llm.evaluation.margins import lead, row_logits
from simple_llm.model.calculator import Calculator
from simple_llm.model.decoding import SURE
from simple_llm.model.engine import Engine
from simple_llm.model.folder import LoadedModel
from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.prompts import Prompt
from simple_llm.proof.all_lengths import (
    context_logits,
    contexts,
    count_contexts,
    num_contexts,
    prove_all_lengths,
)
from simple_llm.proof.rounding import rounding_at_lengths
from tests.tiny_models import all_pairs, make_digits, make_vocabulary, tiny_model
from tests.trained_model import any_length_config

pytestmark = pytest.mark.library

SHAPES = [
    (2, 0, 1, 2),
    (3, 0, 1, 2),
    (2, 1, 1, 3),
    (2, 2, 1, 4),
    (2, 0, 2, 3),
    (3, 1, 1, 3),
]  # base, left, right, period


def view(tokens: list[str], left: int, right: int, period: int) -> tuple:
    """What the last token of a row sees, by definition: digits by number and distance, and the rest of its place."""
    numbers, places = "".join(tokens).split("+")[1:], []
    place = len(numbers[-1])
    for number, digits in enumerate(numbers):
        places += [
            (number, at - place, digit) for at, digit in enumerate(digits, 1) if place - left <= at <= place + right
        ]
    return len(numbers), (place - 1) % period if place else -1, tuple(places)


def views_of_problems(base, left, right, period, width):
    """Walk through all sums of numbers of up to `width` digits: what each token of the sum sees, and the right one."""
    found = {}
    for x, y in itertools.product(range(base**width), repeat=2):
        x_digits, y_digits, z_digits = ("".join(map(str, make_digits(value, base))) for value in (x, y, x + y))
        for said in range(len(z_digits) + 1):
            key = view(list(f"+{x_digits}+{y_digits}+{z_digits[:said]}"), left, right, period)
            right_token = f"{z_digits}+"[said]
            assert found.setdefault(key, right_token) == right_token, "what is in view decides what is right"
    return found


def views_listed(base, left, right, period):
    """The same of the contexts, each written as its row of tokens and places."""
    vocabulary, found = make_vocabulary(base), {}
    names = {vocabulary.delimiter_id: "+", **{token: str(digit) for digit, token in enumerate(vocabulary.digit_ids)}}
    for some in contexts(base, left, right, period):
        tokens, places, right_tokens = some.tokens(vocabulary)
        for key, right_token in zip(views_of(some, tokens, places, names, period), right_tokens.tolist(), strict=True):
            assert found.setdefault(key, names[right_token]) == names[right_token]
    return found


def views_of(some, tokens, places, names, period):
    """Keys of contexts, as `view` gives them."""
    place = some.sight.place
    number = (places[0] == 0).cumsum(0).tolist()
    assert number[-1] == 3
    for row in tokens.tolist():
        seen = zip(row, places[0].tolist(), number, strict=True)
        digits = tuple((of - 1, at - place, names[token]) for token, at, of in seen if at)
        yield 3, (place - 1) % period if place else -1, digits


@pytest.mark.parametrize("shape", SHAPES)
def test_contexts_are_counted_as_they_are_listed(shape):
    assert count_contexts(*shape) == sum(map(len, contexts(*shape)))


@pytest.mark.parametrize(("shape", "width"), [((2, 0, 1, 2), 5), ((3, 0, 1, 2), 5), ((2, 1, 1, 3), 7)])
def test_the_contexts_are_those_that_occur_in_problems(shape, width):
    """All sums wide enough to show every one of them."""
    occurring, listed = views_of_problems(*shape, width), views_listed(*shape)
    assert occurring.keys() <= listed.keys()
    assert all(listed[key] == right for key, right in occurring.items())
    assert listed.keys() == occurring.keys()  # nothing is listed that never occurs


@pytest.mark.parametrize("shape", SHAPES)
def test_a_context_is_told_as_a_problem_in_which_it_occurs(shape):
    base = shape[0]
    for some in contexts(*shape):
        for index in range(0, len(some), 17):
            x, y = some.problem(index)
            place, lowest, num_shown = some.sight.place, some.sight.lowest, some.z.shape[1]
            x_digits, y_digits, z_digits = (make_digits(value, base) for value in (x, y, x + y))
            assert (z_digits[place] if place < len(z_digits) else -1) == some.right[index]
            for digits, shown in (
                (x_digits, some.x[index, : some.sight.x_digits]),
                (y_digits, some.y[index, : some.sight.y_digits]),
                (z_digits, some.z[index, :num_shown]),
            ):
                assert digits[lowest - 1 : lowest - 1 + len(shown)] == shown.tolist()


# ---- Trained models -------------------------------------------------------------------------------


def test_a_model_trained_on_five_digits_is_right_in_every_context(any_length):
    proof = prove_all_lengths(Engine(any_length.model, torch.float32), any_length.vocabulary)
    assert (proof["checked"], proof["wrong"], proof["failures"]) == (proof["expected"], 0, [])
    assert proof["min_logit_margin"] > 1
    rounding = rounding_at_lengths(any_length.model, any_length.vocabulary, (10, 300))
    assert 0 < max(rounding["float32"].values()) < 1e-3 < proof["min_logit_margin"] / 2
    assert 1e-3 < max(rounding["bfloat16"].values()) < (SURE + proof["min_logit_margin"]) / 2


@pytest.mark.parametrize("which", ["model", "half"])
def test_the_proof_and_all_sums_up_to_four_digits_agree(any_length, which):
    """Every token of every sum leads by as much as it does in the context that it is an instance of."""
    vocabulary, reader = any_length.vocabulary, Engine(getattr(any_length, which), torch.float32)
    margins, num_wrong = {}, 0
    names = {token: str(digit) for digit, token in enumerate(vocabulary.digit_ids)}
    for some in contexts(3, 0, 1, 2):
        tokens, places, _ = some.tokens(vocabulary)
        leads = lead(*context_logits(reader, some, vocabulary)).tolist()
        margins |= dict(zip(views_of(some, tokens, places, names, 2), leads, strict=True))
        num_wrong += sum(one <= 0 for one in leads)
    problems, row = all_pairs(80, base=3), 0
    met = set()
    for logits, targets in row_logits(reader, problems, vocabulary):
        leads = lead(logits, targets.clamp(min=0))
        for one, wanted in zip(leads, targets, strict=True):
            x, y = divmod(row, 81)
            x_digits, y_digits, z_digits = ("".join(map(str, make_digits(value, 3))) for value in (x, y, x + y))
            for said, margin in enumerate(one[wanted != IGNORE_INDEX].tolist()):
                key = view(list(f"+{x_digits}+{y_digits}+{z_digits[:said]}"), 0, 1, 2)
                met.add(key)
                assert margin == pytest.approx(margins[key], abs=1e-3)
            row += 1
    proof = prove_all_lengths(reader, vocabulary)
    assert proof["wrong"] == num_wrong
    assert (proof["wrong"] == 0) == (which == "model")
    assert len(met) > 0.85 * len(margins)


class WrongInOneContext:
    """A reader that errs where the last token sees certain tokens and nowhere else."""

    def __init__(self, reader, tokens, places, said):
        self.reader, self.tokens, self.places, self.said = reader, tokens, places, said

    def __getattr__(self, name):
        return getattr(self.reader, name)

    def read(self, tokens, positions, is_token, cache, num_last):
        logits = self.reader.read(tokens, positions, is_token, cache, num_last)
        if tokens.shape[1:] == self.tokens.shape and torch.equal(positions[0], self.places):
            logits[(tokens == self.tokens).all(1), :, self.said] += 100.0
        return logits


@pytest.mark.parametrize("which", [0, 100, 500, 700])
def test_fault_30_a_wrong_context_that_was_planted_is_found_and_told_as_a_problem(any_length, which):
    vocabulary, seen = any_length.vocabulary, 0
    for some in contexts(3, 0, 1, 2):
        if which < seen + len(some):
            tokens, places, right = (one[which - seen] for one in some.tokens(vocabulary))
            problem, digit = some.problem(which - seen), some.sight.place + 1
            break
        seen += len(some)
    said = next(token for token in vocabulary.digit_ids if token != right)
    reader = WrongInOneContext(Engine(any_length.model, torch.float32), tokens, places, said)
    proof = prove_all_lengths(reader, vocabulary)
    assert proof["wrong"] == 1
    [failure] = proof["failures"]
    assert (int(failure["x"]), int(failure["y"]), failure["digit"]) == (*problem, digit)
    assert failure["said"] == str(vocabulary.digit_ids.index(said))
    assert proof["min_logit_margin"] < 0


def test_what_cannot_be_listed_is_refused_with_the_reason(any_length):
    window = {"left": 0, "right": 1}
    for reason, changes in (
        ("attention_window", {}),
        ("position_period", {"attention_window": window}),
        ("second block", {"attention_window": window, "position_period": 4, "n_layer": 2}),
        ("not in view", {"attention_window": {"left": 1, "right": 0}, "position_period": 4}),
    ):
        with pytest.raises(UsageError, match=reason):
            num_contexts(tiny_model(**{"n_layer": 1, **changes}).config)
    assert num_contexts(any_length.model.config) == count_contexts(3, 0, 1, 2)


# ---- Long sums ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def add(any_length):
    loaded = LoadedModel(any_length.model, any_length.tokenizer, any_length.data, any_length_config(1), "0" * 64, {})
    adder = Calculator(loaded, torch.device("cpu"))
    return lambda *pairs: adder.answer([Prompt(str(x), str(y)) for x, y in pairs])


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_long_sums_are_right(add, data):
    """Carries that run far, digits that are equal, lengths that differ."""
    width = data.draw(st.sampled_from([1, 7, 64, 65, 129, 400]), label="digits")
    parts = [data.draw(st.sampled_from("012"), label="digit") * data.draw(st.integers(1, width)) for _ in range(4)]
    x = int("1" + "".join(parts[:2]), 3)
    y = data.draw(st.sampled_from([3**width - 1 - x % 3**width, int(parts[2], 3), x, 1, int(parts[3] + "2", 3)]))
    assert add((x, y), (y, x)) == [str(x + y), str(x + y)]


def test_a_carry_runs_through_5000_digits_and_one_digit_meets_5000(add):
    all_twos = 3**5000 - 1
    pairs = [(all_twos, 1), (1, all_twos), (2, 3**4999 + 7), (all_twos, all_twos)]
    for (x, y), said in zip(pairs, add(*pairs), strict=True):
        assert len(said) > 2000
        assert from_decimal(said) == x + y


def from_decimal(text: str) -> int:
    """int() without its limit."""
    half = len(text) // 2
    return (
        int(text)
        if len(text) < 4000
        else from_decimal(text[:half]) * 10 ** (len(text) - half) + from_decimal(text[half:])
    )


# ---- Problems of a length -------------------------------------------------------------------------


@pytest.mark.parametrize("num_digits", [1, 2, 40])
def test_problems_have_the_length_asked_for(num_digits):
    chains = {}
    for kind in ("uniform", "carries"):
        problems = problems_of_length(np.random.default_rng(0), 7, num_digits, 50, kind)
        assert set(problems.x_length) | set(problems.y_length) == {num_digits}
        chains[kind] = np.median(problems.longest_chain)
    assert num_digits < 40 or chains["carries"] > 2 * chains["uniform"]


def test_a_model_says_how_long_numbers_may_be(any_length):
    config = any_length_config(1)
    assert config.model.most_digits is None
    bounded = config.model.model_copy(update={"attention_window": None, "position_period": None, "n_positions": 20})
    assert bounded.most_digits == 18
    assert bounded.model_copy(update={"position_embedding": "learned"}).most_digits == 5
