import itertools
import json
from collections import Counter

import numpy as np
import pytest

from simple_llm.arithmetic.digits import to_integers
from simple_llm.arithmetic.operands import Operands
from simple_llm.config.settings import DataConfig, Numbers, Split
from simple_llm.data.problems import concatenate, Problems
from simple_llm.data.sampling import Sampler
from simple_llm.data.split import split_sides, TEST
from simple_llm.evaluation.held_out import (
    evaluate_sample,
    held_out_sample,
    held_out_strata,
    HeldOut,
    STRATA,
    STRATUM_SIZE,
)
from simple_llm.evaluation.scoring import Score
from simple_llm.model.decoding import Decoder
from simple_llm.model.folder import LoadedModel
from simple_llm.model.tokenizer_files import vocabulary_of
from tests.oracle import PerfectAdder
from tests.tiny_models import all_pairs, make_tokenizer, make_train_config

pytestmark = pytest.mark.usefixtures("oracle_engine")

DATA = DataConfig(numbers=Numbers(max=999, base=10))
SAMPLER = Sampler.of(DATA.numbers)


def pairs_of(problems: Problems) -> list[tuple[int, int]]:
    return list(zip(*(to_integers(digits, problems.base) for digits in (problems.x, problems.y)), strict=True))


def load_oracle(data: DataConfig = DATA, tokens_per_step: int = 1, **planted) -> LoadedModel:
    """A perfect model of a config, as if it had been read from a folder."""
    tokenizer = make_tokenizer(data)
    oracle = PerfectAdder(vocabulary_of(tokenizer, tokens_per_step), data.numbers.base, tokens_per_step, **planted)
    return LoadedModel(oracle, tokenizer, data, make_train_config(tokens_per_step), sha256="0" * 64, manifest={})


def evaluate(loaded: LoadedModel, sample: Problems, added: Problems, num_asked: int = 400):
    problems = HeldOut(seed=0, num_asked=num_asked, sample=sample, added=added)
    return evaluate_sample(loaded, Decoder.of(loaded.model), problems, on_batch=lambda num_problems: None)


@pytest.fixture(scope="module")
def sample() -> Problems:
    return held_out_sample(SAMPLER, DATA.split, 400, seed=0)


@pytest.fixture(scope="module")
def added(sample) -> Problems:
    return held_out_strata(SAMPLER, DATA.split, sample, seed=0)


# ---- Samples --------------------------------------------------------------------------------------


def test_a_sample_is_of_the_test_side_and_has_no_pair_twice(sample, added):
    everything = concatenate([sample, added])
    assert len(sample) == 400
    assert (split_sides(everything, DATA.split) == TEST).all()
    assert len(set(pairs_of(everything))) == len(everything)


def test_a_sample_is_a_function_of_its_seed(sample, added):
    again = held_out_sample(SAMPLER, DATA.split, 400, seed=0)
    assert pairs_of(again) == pairs_of(sample)
    assert pairs_of(held_out_strata(SAMPLER, DATA.split, again, seed=0)) == pairs_of(added)
    assert not set(pairs_of(held_out_sample(SAMPLER, DATA.split, 400, seed=1))) >= set(pairs_of(sample)[:20])


def test_a_sample_larger_than_the_test_side_is_all_of_it():
    sampler = Sampler(Operands(0, 30, 10))
    side = split_sides(all_pairs(30), DATA.split)
    held_out = {pair for pair, at in zip(itertools.product(range(31), repeat=2), side, strict=True) if at == TEST}
    drawn = pairs_of(held_out_sample(sampler, DATA.split, 10_000, seed=0))
    assert len(drawn) == len(held_out)
    assert set(drawn) == held_out


def carry_chain_by_hand(x: int, y: int) -> int:
    """Most places in a row that pass on a carry, by school arithmetic."""
    chain = longest = carry = 0
    while x or y or carry:
        carry = int(x % 10 + y % 10 + carry >= 10)
        chain = chain + 1 if carry else 0
        longest = max(longest, chain)
        x, y = x // 10, y // 10
    return longest


STRATUM_BY_HAND = {
    "by_operand_length": lambda x, y: max(len(str(x)), len(str(y))),
    "by_second_operand_length": lambda x, y: len(str(y)),
    "by_longest_carry_chain": carry_chain_by_hand,
}


def test_every_stratum_is_topped_up_as_far_as_the_test_side_goes(sample, added):
    assert set(STRATUM_BY_HAND) == set(STRATA)
    listed = concatenate(list(SAMPLER.all_pairs()))
    held_out = pairs_of(listed[split_sides(listed, DATA.split) == TEST])
    assert len(listed) == 1_000_000
    for stratum_of in STRATUM_BY_HAND.values():
        there_are = Counter(stratum_of(*pair) for pair in held_out)
        shown = Counter(stratum_of(*pair) for pair in (*pairs_of(sample), *pairs_of(added)))
        assert shown.keys() == there_are.keys()
        for stratum, count in there_are.items():
            assert shown[stratum] >= min(STRATUM_SIZE, count), stratum
    num_short = sum(len(str(x)) == len(str(y)) == 1 for x, y in held_out)
    assert 0 < num_short < STRATUM_SIZE  # so there is a stratum that cannot be filled


# ---- Evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2])
def test_a_perfect_model_is_found_perfect(sample, added, k):
    evaluation = evaluate(load_oracle(tokens_per_step=k, logit=6.0), sample, added)
    assert evaluation.score == Score(400, 400)
    assert evaluation.failures == []
    assert evaluation.min_logit_margin == 6.0
    assert evaluation.num_commuting == 400
    for table in evaluation.tables.values():
        assert all(row["correct"] == row["total"] for row in table)


@pytest.mark.parametrize("k", [1, 2])
def test_fault_30_planted_errors_are_reported_exactly_those(sample, added, k):
    pairs = pairs_of(sample)
    off_by_one, too_long, endless = pairs[0], pairs[123], pairs[399]
    wrong = {off_by_one: sum(off_by_one) + 1, too_long: 10 * sum(too_long) + 5}
    loaded = load_oracle(tokens_per_step=k, wrong=wrong, endless=frozenset([endless]))
    evaluation = evaluate(loaded, sample, added)

    assert evaluation.score == Score(397, 400)
    said = {pair: (str(value)[::-1] + "+")[:5] for pair, value in wrong.items()} | {endless: "11111"}
    expected = [{"x": str(x), "y": str(y), "sum": str(x + y), "said": said[x, y]} for x, y in pairs if (x, y) in said]
    assert evaluation.failures == expected
    assert evaluation.min_logit_margin == -10.0
    summary = evaluation.summary()
    assert (summary["correct"], summary["total"], summary["min_logit_margin"]) == (397, 400, -10.0)
    assert summary["error_rate_upper_95"] == Score(397, 400).error_rate_upper_95


@pytest.mark.parametrize("k", [1, 2])
def test_fault_28_an_answer_without_an_end_counts_as_wrong(sample, added, k):
    endless = frozenset(pairs_of(sample)[5:8])
    evaluation = evaluate(load_oracle(tokens_per_step=k, endless=endless), sample, added)
    assert evaluation.score == Score(397, 400)
    assert {(int(one["x"]), int(one["y"])) for one in evaluation.failures} == endless


def test_problems_added_for_the_tables_count_there_and_not_in_the_total(sample, added):
    planted = pairs_of(added)[:5]
    evaluation = evaluate(load_oracle(wrong={pair: sum(pair) + 1 for pair in planted}), sample, added)
    assert evaluation.score == Score(400, 400)
    assert evaluation.failures == []
    assert evaluation.min_logit_margin == 10.0
    for name, stratum_of in STRATUM_BY_HAND.items():
        in_sample = Counter(stratum_of(*pair) for pair in pairs_of(sample))
        in_all = in_sample + Counter(stratum_of(*pair) for pair in pairs_of(added))
        errors = Counter(stratum_of(*pair) for pair in planted)
        assert evaluation.tables[name] == [
            {"stratum": s, "correct": in_all[s] - errors[s], "total": in_all[s], "sampled": in_sample[s]}
            for s in sorted(in_all)
        ]


def test_pairs_whose_order_matters_are_counted_in_either_order(sample, added):
    pairs = pairs_of(sample)
    one_way = [pair for pair in pairs if pair[0] != pair[1] and pair[::-1] not in pairs][:3]
    both_ways = [pair for pair in pairs if pair[0] != pair[1]][-2:]
    wrong = dict.fromkeys(one_way, 0) | {other: 0 for pair in both_ways for other in (pair, pair[::-1])}
    evaluation = evaluate(load_oracle(wrong=wrong), sample, added)
    agree = sum(wrong.get(pair, sum(pair)) == wrong.get(pair[::-1], sum(pair)) for pair in pairs)
    assert evaluation.num_commuting == agree <= 397
    assert evaluation.score.num_total - evaluation.score.num_correct == sum(pair in wrong for pair in pairs)


def test_no_added_problem_is_fine(sample):
    none = sample[np.zeros(len(sample), bool)]
    assert evaluate(load_oracle(), sample, none).score == Score(400, 400)


def test_another_base_and_another_order_of_digits_are_scored_alike():
    for numbers in (Numbers(max=999, base=16), Numbers(max=999, base=7, reversed=False)):
        data = DataConfig(numbers=numbers, split=Split(seed=3))
        drawn = held_out_sample(Sampler.of(numbers), data.split, 60, seed=0)
        x, y = pairs_of(drawn)[7]
        evaluation = evaluate(load_oracle(data, wrong={(x, y): x + y - 1 if x + y else 1}), drawn, drawn[:0])
        assert evaluation.score == Score(59, 60)
        assert [(one["x"], one["y"]) for one in evaluation.failures] == [(str(x), str(y))]


def test_a_trained_model_is_found_as_good_as_its_answers_are(trained):
    sampler = Sampler.of(trained.data.numbers)
    loaded = LoadedModel(
        trained.model,
        trained.tokenizer,
        trained.data,
        make_train_config(trained.model.config.tokens_per_step),
        "0" * 64,
        {},
    )
    drawn = held_out_sample(sampler, trained.data.split, 10_000, seed=0)
    evaluation = evaluate(loaded, drawn, held_out_strata(sampler, trained.data.split, drawn, seed=0), 10_000)
    assert evaluation.score == Score(len(drawn), len(drawn))
    assert evaluation.score.num_total == (split_sides(drawn, trained.data.split) == TEST).sum() > 400
    assert evaluation.min_logit_margin > 0
    json.dumps(evaluation.summary())
