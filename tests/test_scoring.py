import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from simple_llm.evaluation.margins import is_exact, logit_margins
from simple_llm.evaluation.scoring import by_stratum, clopper_pearson_upper, Score
from simple_llm.model.decoding import Decoder
from simple_llm.model.tokens import answer_tokens, make_examples, prompt_tokens
from tests.oracle import PerfectAdder
from tests.tiny_models import all_pairs, make_vocabulary, tiny_model

pytestmark = pytest.mark.usefixtures("oracle_engine")

VOCABULARY = make_vocabulary()


# ---- Counts and bounds ----------------------------------------------------------------------------


def test_scores_of_separate_problems_add_up():
    total = Score(3, 4) + Score(1_000, 1_000) + Score()
    assert total == Score(1003, 1004)
    assert str(total) == "1,003 / 1,004"
    assert not total.is_perfect
    assert Score(7, 7).is_perfect
    assert not Score(0, 0).is_perfect


@pytest.mark.parametrize("num_total", [1, 10, 59, 10_000, 10**8])
def test_no_error_leaves_a_rate_that_would_show_none_one_time_in_twenty(num_total):
    upper = clopper_pearson_upper(0, num_total)
    assert upper == pytest.approx(1 - 0.05 ** (1 / num_total), rel=1e-6)
    assert Score(num_total, num_total).error_rate_upper_95 == upper


def test_the_bounds_that_the_documents_state():
    assert clopper_pearson_upper(0, 10_000) == pytest.approx(3.0e-4, rel=0.01)
    assert clopper_pearson_upper(0, 100_000) == pytest.approx(3.0e-5, rel=0.01)


@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_the_bound_is_where_the_binomial_tail_is_what_is_left_of_the_confidence(confidence):
    for num_total in range(1, 13):
        for num_errors in range(num_total):
            rate = clopper_pearson_upper(num_errors, num_total, confidence)
            tail = sum(math.comb(num_total, i) * rate**i * (1 - rate) ** (num_total - i) for i in range(num_errors + 1))
            assert tail == pytest.approx(1 - confidence, rel=1e-6), (num_errors, num_total)
        assert clopper_pearson_upper(num_total, num_total, confidence) == 1


def test_the_bound_holds_for_many_problems_and_errors():
    rate = clopper_pearson_upper(300, 100_000)
    assert 0.003 < rate < 0.0034
    i = np.arange(301)
    log_choose = np.concatenate([[0], np.cumsum(np.log((100_000 - i[:-1]) / (i[:-1] + 1)))])
    tail = np.exp(log_choose + i * math.log(rate) + (100_000 - i) * math.log1p(-rate)).sum()
    assert tail == pytest.approx(0.05, rel=1e-4)


def test_strata_are_scored_each_by_itself_and_in_order():
    is_correct = np.array([True, False, True, True, False, True])
    assert by_stratum(is_correct, np.array([2, 10, 2, 1, 2, 10])) == {1: Score(1, 1), 2: Score(2, 3), 10: Score(1, 2)}
    assert list(by_stratum(is_correct, np.array([2, 10, 2, 1, 2, 10]))) == [1, 2, 10]


# ---- Exact match ----------------------------------------------------------------------------------


def count_by_decoding(model, problems, vocabulary=VOCABULARY) -> int:
    """Exact answers, by saying each of them."""
    right = answer_tokens(problems, vocabulary)
    said = Decoder.of(model).decode(prompt_tokens(problems, vocabulary), right.size(1)).tokens
    return int((said == right).all(1).sum())


def count_exact(model, problems, vocabulary=VOCABULARY, batch_size: int = 1024) -> int:
    examples = make_examples(problems, replace(vocabulary, tokens_per_step=model.config.tokens_per_step))
    found = is_exact(model, examples.inputs, examples.targets, batch_size)
    assert len(found) == len(problems)
    return found.sum()


@pytest.mark.parametrize("k", [1, 2])
def test_one_pass_finds_as_many_exact_answers_as_decoding_with_an_oracle_that_errs(k):
    pairs = list(itertools.product(range(16), repeat=2))
    wrong = {(x, y): value for index, (x, y) in enumerate(pairs) if index % 7 == 0 for value in [x + y + index % 10]}
    num_right = sum(wrong.get(pair, sum(pair)) == sum(pair) for pair in pairs)
    endless = frozenset([(3, 4), (15, 15)])
    num_right -= sum(wrong.get(pair, sum(pair)) == sum(pair) for pair in endless)
    oracle, problems = PerfectAdder(VOCABULARY, tokens_per_step=k, wrong=wrong, endless=endless), all_pairs(15)
    assert 200 < num_right < 256
    assert count_exact(oracle, problems) == count_by_decoding(oracle, problems) == num_right


@pytest.mark.parametrize("k", [1, 2])
def test_one_pass_and_decoding_agree_on_models_that_guess(k):
    """Random models with few different weights are right now and then, as the sums of 0 to 3 are short."""
    counts = []
    for seed in range(30):
        model = tiny_model(k, seed=seed)
        counts.append(count_by_decoding(model, all_pairs(3)))
        assert count_exact(model, all_pairs(3), batch_size=5) == counts[-1]
    assert any(counts), "no model was ever right, so nothing was compared"


def test_one_pass_and_decoding_agree_on_a_half_trained_model(trained):
    counts = []
    for x in range(16):
        problems = all_pairs(15)[slice(16 * x, 16 * x + 16)]
        counts.append(count_by_decoding(trained.half, problems))
        assert count_exact(trained.half, problems) == counts[-1]
    assert 0 < sum(counts) < 256


def test_no_row_is_no_error():
    """As a process has none whose share of a few validation rows is empty."""
    none = torch.zeros(0, 5, dtype=int)
    for model in (PerfectAdder(VOCABULARY), tiny_model()):
        found = is_exact(model, none, none)
        assert (found.shape, found.dtype) == ((0,), bool)


# ---- Margins --------------------------------------------------------------------------------------


def margin_by_definition(logits, right, pad_id) -> float:
    smallest = math.inf
    for values, token in zip(logits.tolist(), right.tolist(), strict=True):
        if token == pad_id:
            break
        lead = values[token] - max(value for other, value in enumerate(values) if other != token)
        smallest = min(smallest, lead)
        if lead <= 0:
            break  # from here on the text is no longer the right one
    return smallest


def test_margins_agree_with_their_definition():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 4, 5, generator=generator)
    length = torch.randint(1, 5, (500, 1), generator=generator)
    right = torch.randint(1, 5, (500, 4), generator=generator).where(torch.arange(4) < length, 0)
    logits = logits.scatter_add(2, right[..., None], torch.full((500, 4, 1), 2.0))  # so that many are right
    margins = logit_margins(logits, right, pad_id=0)
    expected = [margin_by_definition(*row, pad_id=0) for row in zip(logits, right, strict=True)]
    assert margins.tolist() == pytest.approx(expected)
    assert {margin > 0 for margin in expected} == {True, False}


@pytest.mark.parametrize("k", [1, 2])
def test_a_margin_is_positive_where_the_answer_is_exact_and_negative_where_it_is_not(k):
    wrong = {(1, 2): 4, (7, 8): 16, (9, 9): 8, (0, 0): 10}
    problems = all_pairs(9)
    oracle = PerfectAdder(VOCABULARY, tokens_per_step=k, wrong=wrong, logit=7.5)
    right = answer_tokens(problems, VOCABULARY)
    answers = Decoder.of(oracle).decode(prompt_tokens(problems, VOCABULARY), right.size(1), keep_logits=True)
    margins = logit_margins(answers.logits, right, VOCABULARY.pad_id).tolist()
    pairs = itertools.product(range(10), repeat=2)
    assert margins == [-7.5 if pair in wrong else 7.5 for pair in pairs]
