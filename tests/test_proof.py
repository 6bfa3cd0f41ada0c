import itertools
import json
import math

import pytest
import torch

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operands import Operands
from simple_llm.errors import ArtefactError
from simple_llm.evaluation.margins import row_margins
from simple_llm.model.decoding import Decoder
from simple_llm.model.engine import Engine
from simple_llm.model.tokens import answer_tokens, prompt_tokens
from simple_llm.proof.all_pairs import Prover
from simple_llm.proof.pair_tree import PairTree
from simple_llm.proof.rounding import rounding
from simple_llm.proof.shards import read_shard, Shard, shard_bounds, shard_path, total, write_shard
from tests.oracle import PerfectAdder
from tests.tiny_models import all_pairs, make_vocabulary, problems_of, tiny_model

KINDS = [1, 2, "all"]


def oracle(k: int | str, base: int = 10, **settings) -> PerfectAdder:
    return PerfectAdder(make_vocabulary(base, tokens_per_step=k), base, k, **settings)


def in_models_order(x: int, y: int, base: int) -> bool:
    """Whether y has at least the digits of x."""
    return len(digits(x, base)) <= len(digits(y, base))


def digits(value: int, base: int) -> list[int]:
    rest, found = divmod(value, base)
    return [found, *(digits(rest, base) if rest else [])]


# ---- The walk and the rows agree ------------------------------------------------------------------


def check_walk(model, vocabulary, minimum: int, maximum: int, max_tokens: int) -> torch.Tensor:
    """Compare the walk with a check row by row and with greedy decoding, on every pair; return the margins."""
    k, base = model.config.tokens_per_step, len(vocabulary.digit_ids)
    reader = Engine(model, torch.float32)
    margins = PairTree(reader, vocabulary, Operands(minimum, maximum, vocabulary.base), ADDITION, max_tokens).margins(
        minimum, maximum
    )
    values = range(minimum, maximum + 1)
    pairs = list(itertools.product(values, repeat=2))
    problems = problems_of(pairs, base, len(digits(maximum, base)))
    is_asked = torch.tensor([k != "all" or in_models_order(x, y, base) for x, y in pairs]).view_as(margins)
    assert torch.equal(margins.isfinite(), is_asked)
    by_row = row_margins(reader, problems, vocabulary).view_as(margins)
    assert torch.allclose(margins[is_asked], by_row[is_asked], atol=1e-3)
    right = answer_tokens(problems, vocabulary)
    said = Decoder(reader).decode(prompt_tokens(problems, vocabulary), right.size(1)).tokens
    is_right = (said == right).all(1).view_as(margins)
    sure = margins.abs() > 1e-3
    assert torch.equal((margins > 0)[is_asked & sure], is_right[is_asked & sure])
    return margins


@pytest.mark.parametrize("k", KINDS)
def test_walk_and_greedy_decoding_agree_on_all_pairs_of_a_trained_and_of_a_half_trained_model(trained_for, k):
    trained = trained_for(k)
    margins = check_walk(trained.model, trained.vocabulary, 0, 99, max_tokens=500)
    assert (margins > 0).float().mean() > 0.99
    half = check_walk(trained.half, trained.vocabulary, 0, 49, max_tokens=500)
    assert 0 < (half > 0).float().mean() < 1


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize(("position_embedding", "base"), [("block", 16), ("learned", 10), ("none", 16)])
def test_walk_and_greedy_decoding_agree_on_random_models(position_embedding, base, k):
    model = tiny_model(k, position_embedding, base)
    check_walk(model, make_vocabulary(base, tokens_per_step=k), 0, 39, max_tokens=64)


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize(("minimum", "maximum"), [(0, 0), (95, 112), (0, 9), (12_340, 12_350)])
def test_any_range_is_walked(minimum, maximum, k):
    check_walk(tiny_model(k), make_vocabulary(tokens_per_step=k), minimum, maximum, max_tokens=10)


@pytest.mark.parametrize("k", KINDS)
def test_blocks_of_first_operands_and_of_rows_give_the_same_margins(k):
    reader, vocabulary = oracle(k), make_vocabulary(tokens_per_step=k)
    whole = PairTree(reader, vocabulary, Operands(3, 33, vocabulary.base), ADDITION, 10_000).margins(3, 33)
    assert whole.isfinite().any()
    for max_tokens, size in ((10, 7), (100, 1), (33, 31)):
        tree = PairTree(reader, vocabulary, Operands(3, 33, vocabulary.base), ADDITION, max_tokens)
        parts = [tree.margins(first, min(first + size - 1, 33)) for first in range(3, 34, size)]
        assert torch.equal(torch.cat(parts), whole)


# ---- Counting -------------------------------------------------------------------------------------


def prove(readers, k: int | str, minimum: int, maximum: int, base: int = 10) -> tuple[dict, list[Shard]]:
    prover = Prover(readers, make_vocabulary(base, tokens_per_step=k), Operands(minimum, maximum, base))
    bounds = [(first, min(first + 12, maximum)) for first in range(minimum, maximum + 1, 13)]
    shards = [prover.count(first, last) for first, last in bounds]
    return total(shards, Operands(minimum, maximum, base)), shards


@pytest.mark.parametrize("base", [10, 16])
@pytest.mark.parametrize("k", KINDS)
def test_fault_30_planted_mistakes_are_found_every_one_and_nothing_else(k, base):
    pairs = [(3, 4), (99, 99), (0, 0), (12, 95), (7, 88), (42, 24)]
    # One too many in the place above: with k = all the digits below are said before the pair is known.
    wrong = {(x, y): x + y + base ** max(len(digits(x, base)), len(digits(y, base))) for x, y in pairs}
    certificate, _ = prove((oracle(k, base, wrong=wrong),), k, 0, 99, base)
    expected = set(wrong)
    if k == "all":  # x + y and y + x of different lengths are one prompt
        expected |= {(y, x) for x, y in wrong if len(digits(x, base)) != len(digits(y, base))}
    assert {tuple(pair) for pair in certificate["failures"]} == expected
    assert certificate["wrong"] == len(certificate["failures"]) == len(expected)
    assert certificate["checked"] == certificate["expected"] == 10_000
    assert certificate["min_logit_margin"] == -10.0
    assert tuple(certificate["min_logit_margin_at"]) in expected


@pytest.mark.parametrize("k", KINDS)
def test_a_perfect_model_is_proved(k):
    certificate, shards = prove((oracle(k),), k, 55, 120)
    assert (certificate["wrong"], certificate["failures"]) == (0, [])
    assert certificate["checked"] == 66**2
    num_prompts = sum(k != "all" or in_models_order(x, y, 10) for x, y in itertools.product(range(55, 121), repeat=2))
    assert certificate["prompts"] == num_prompts
    assert certificate["min_logit_margin"] == 10.0
    assert len({shard.digest for shard in shards}) > 1 or k != "all"


@pytest.mark.parametrize("logit", [0.0, math.nan])
@pytest.mark.parametrize("k", KINDS)
def test_a_tie_and_what_is_not_a_number_are_wrong(k, logit):
    shard = Prover((oracle(k, logit=logit),), make_vocabulary(tokens_per_step=k), Operands(0, 9, 10)).count(0, 9)
    assert (shard.checked, shard.wrong) == (100, 100)


@pytest.mark.parametrize("logit", [0.5, math.nan])
def test_what_is_no_sure_number_in_the_first_reader_goes_to_the_second(logit):
    readers = oracle(1, logit=logit), oracle(1)
    shard = Prover(readers, make_vocabulary(), Operands(0, 9, 10)).count(0, 9)
    assert (shard.wrong, shard.decided_again) == (0, 100)


def test_what_the_first_reader_is_not_sure_of_the_second_decides():
    wrong = {(3, 4): 8, (12, 95): 108}
    unsure = oracle(2, wrong=wrong, logit=0.5)
    certificate, _ = prove((unsure, oracle(2)), 2, 0, 99)
    assert (certificate["wrong"], certificate["decided_again"]) == (0, 10_000)
    certificate, _ = prove((oracle(2), oracle(2, wrong={(1, 1): 3})), 2, 0, 99)  # sure of all: the second is not asked
    assert (certificate["wrong"], certificate["decided_again"]) == (0, 0)


def test_shards_cover_a_range_once():
    for minimum, maximum in ((0, 0), (0, 99), (0, 9999), (17, 1234), (0, 3 * 10**6)):
        bounds = shard_bounds(Operands(minimum, maximum, 10))
        assert bounds[0][0] == minimum
        assert bounds[-1][1] == maximum
        assert all(last + 1 == first for (_, last), (first, _) in itertools.pairwise(bounds))


# ---- Shards on the disk ---------------------------------------------------------------------------


@pytest.fixture
def shards() -> list[Shard]:
    return prove((oracle(1),), 1, 0, 60)[1]


def test_shards_missing_or_doubled_are_refused(shards):
    assert total(reversed(shards), Operands(0, 60, 10))["checked"] == 61**2
    for index in range(len(shards)):
        with pytest.raises(ArtefactError, match="missing"):
            total(shards[:index] + shards[index + 1 :], Operands(0, 60, 10))
        with pytest.raises(ArtefactError, match="counted twice"):
            total([*shards, shards[index]], Operands(0, 60, 10))
    with pytest.raises(ArtefactError, match="pairs were checked"):
        short = Shard(**{**shards[0].__dict__, "checked": shards[0].checked - 1})
        total([short, *shards[1:]], Operands(0, 60, 10))


def test_a_shard_is_read_back_for_the_same_subject_only(tmp_path, shards):
    subject = {"model_sha256": "f" * 64, "range": [0, 60]}
    write_shard(tmp_path, shards[1], subject)
    [path] = tmp_path.iterdir()
    again = read_shard(path, subject)
    assert total([shards[0], again, *shards[2:]], Operands(0, 60, 10)) == total(shards, Operands(0, 60, 10))
    assert read_shard(path, {**subject, "range": [0, 61]}) is None
    assert read_shard(tmp_path / "shard-0-1.json", subject) is None
    content = path.read_bytes()
    other = path.with_name("shard-0-12.json")
    other.write_bytes(content)  # another shard's name
    assert read_shard(other, subject) is None
    for damaged in (content[:-20], b"", b"{}", b"[]", json.dumps({"subject": subject, "shard": 3}).encode()):
        path.write_bytes(damaged)
        assert read_shard(path, subject) is None


def test_no_bit_of_a_shard_can_change(tmp_path, shards):
    subject = {"model_sha256": "f" * 64, "range": [0, 60]}
    write_shard(tmp_path, shards[1], subject)
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    for position, bit in itertools.product(range(len(content)), range(8)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << bit
        path.write_bytes(flipped)
        assert read_shard(path, subject) in (None, shards[1]), (position, bit)  # 1E-5 is 1e-5


def test_shards_of_other_ranges_and_of_the_table_lie_side_by_side(tmp_path, shards):
    subjects = [{"range": [0, 60]}, {"range": [0, 99]}, {"range": [0, 60], "method": "table"}, {}]
    for subject in subjects:
        write_shard(tmp_path, shards[0], subject)
    assert len(list(tmp_path.iterdir())) == len(subjects)
    assert all(read_shard(shard_path(tmp_path, 0, 12, subject), subject) for subject in subjects)


# ---- Rounding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", KINDS)
def test_rounding_is_the_largest_difference_from_float64(k):
    model, vocabulary = tiny_model(k), make_vocabulary(tokens_per_step=k)
    largest = rounding(model, all_pairs(20), vocabulary)
    assert 0 < largest["float32"] < 1e-4 < largest["bfloat16"] < 1.0
