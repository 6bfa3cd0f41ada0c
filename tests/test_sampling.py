import itertools

import numpy as np
import pytest

from simple_llm.arithmetic.digits import to_integers
from simple_llm.arithmetic.operands import Operands
from simple_llm.config.settings import Split
from simple_llm.data.problems import from_integers
from simple_llm.data.sampling import draw_unique, OutOfProblemsError, Sampler
from simple_llm.data.split import ordered_keys, split_sides

RANGES = [
    *((0, 9999, 10), (0, 9999, 16), (0, 9999, 2), (0, 0, 10), (5, 5, 3), (0, 1, 2), (0, 99, 36), (9990, 9999, 10)),
    *((95, 105, 10), (17, 4711, 16), (0, 10**100 - 1, 10), (10**99 + 7, 10**100 - 1, 16), (2**64 - 3, 2**64 + 3, 10)),
]


def pairs_of(problems):
    return list(zip(to_integers(problems.x, problems.base), to_integers(problems.y, problems.base), strict=True))


def short(value):
    """Of a number in the name of a test."""
    return str(value) if value < 10**10 else f"{len(str(value))}-digits"


def num_digits(value, base):
    count = 1
    while value := value // base:
        count += 1
    return count


def within(count, num_draws, share):
    """Whether a count of independent draws is less than six standard deviations from its mean."""
    return abs(count - num_draws * share) < 6 * (num_draws * share * (1 - share)) ** 0.5 + 1


# ---- The strata -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stratum", ["uniform", "lengths", "carries"])
@pytest.mark.parametrize(("minimum", "maximum", "base"), RANGES, ids=short)
def test_every_operand_is_in_the_range(stratum, minimum, maximum, base):
    sampler = Sampler(Operands(minimum, maximum, base))
    problems = sampler.strata[stratum](np.random.default_rng(0), 2000)
    assert problems.base == base
    assert problems.x.shape == problems.y.shape == (num_digits(maximum, base), len(problems))
    assert max(problems.x.max(initial=0), problems.y.max(initial=0)) < base
    assert all(minimum <= x <= maximum and minimum <= y <= maximum for x, y in pairs_of(problems))
    if stratum != "carries":
        assert len(problems) == 2000


@pytest.mark.parametrize(("minimum", "maximum", "base"), RANGES, ids=short)
def test_uniform_operands_fill_every_tenth_of_the_range_alike_and_do_not_depend_on_each_other(minimum, maximum, base):
    num_values, num_draws = maximum - minimum + 1, 5000
    num_parts = min(10, num_values)
    bounds = [-(-part * num_values // num_parts) for part in range(num_parts + 1)]  # first of each part, rounded up
    share = [(last - first) / num_values for first, last in itertools.pairwise(bounds)]
    pairs = pairs_of(Sampler(Operands(minimum, maximum, base)).uniform(np.random.default_rng(1), num_draws))
    parts = [tuple((value - minimum) * num_parts // num_values for value in pair) for pair in pairs]
    for one, other in itertools.product(range(num_parts), repeat=2):
        assert within(parts.count((one, other)), num_draws, share[one] * share[other])


@pytest.mark.parametrize(("minimum", "maximum", "base"), [(0, 9999, 10), (0, 9999, 16), (0, 99, 2), (7, 1234, 10)])
def test_the_lengths_stratum_has_as_many_operands_of_every_length_and_uniform_ones_within_it(minimum, maximum, base):
    pairs = pairs_of(Sampler(Operands(minimum, maximum, base)).lengths(np.random.default_rng(2), 20_000))
    possible = sorted({num_digits(value, base) for value in range(minimum, maximum + 1)})
    lengths = [(num_digits(x, base), num_digits(y, base)) for x, y in pairs]
    for pair in itertools.product(possible, repeat=2):
        assert within(lengths.count(pair), 20_000, 1 / len(possible) ** 2)
    for length in possible:
        values = [value for value in range(minimum, maximum + 1) if num_digits(value, base) == length]
        drawn = [value for pair in pairs for value in pair if num_digits(value, base) == length]
        lower_half = set(values[: len(values) // 2])
        assert within(sum(value in lower_half for value in drawn), len(drawn), len(lower_half) / len(values))
        if len(values) <= 20:
            assert set(drawn) == set(values)


def test_the_lengths_stratum_reaches_every_length_up_to_a_hundred_digits():
    problems = Sampler(Operands(0, 10**100 - 1, 10)).lengths(np.random.default_rng(3), 20_000)
    for lengths in (problems.x_length, problems.y_length):
        for length in range(1, 101):
            assert within(int((lengths == length).sum()), 20_000, 0.01)


@pytest.mark.parametrize(("base", "maximum"), [(10, 9999), (16, 9999), (2, 1023), (36, 36**3 - 1)])
def test_the_carries_stratum_has_every_chain_there_is_and_long_ones_more_often_than_chance(base, maximum):
    sampler, width = Sampler(Operands(0, maximum, base)), num_digits(maximum, base)
    planted, chance = (
        stratum(np.random.default_rng(4), 50_000).longest_chain for stratum in (sampler.carries, sampler.uniform)
    )
    possible = set(from_integers([(maximum, value) for value in range(maximum + 1)], base, width).longest_chain)
    assert set(planted.tolist()) == possible | {0}
    longest = max(possible)
    assert (planted >= longest - 1).mean() > 1.3 * (chance >= longest - 1).mean()


def test_long_carry_chains_are_common_in_the_carries_stratum_of_long_numbers():
    sampler = Sampler(Operands(0, 10**20 - 1, 10))
    planted = sampler.carries(np.random.default_rng(5), 20_000).longest_chain
    chance = sampler.uniform(np.random.default_rng(5), 20_000).longest_chain
    assert (chance >= 10).mean() < 0.02
    assert (planted >= 10).mean() > 0.2
    assert all((planted == length).any() for length in range(21))


@pytest.mark.parametrize("near_miss", [8, 10])
def test_some_planted_chains_have_a_place_that_only_nearly_passes_the_carry_on(near_miss):
    """Its sum is one off, and at least two places around it on either side pass a carry on or would."""
    sampler = Sampler(Operands(0, 10**20 - 1, 10))

    def share(stratum) -> float:
        problems = stratum(np.random.default_rng(6), 20_000)
        totals = problems.x + problems.y  # (W, N)
        nines = totals == 9
        return (nines[:-4] & nines[1:-3] & (totals[2:-2] == near_miss) & nines[3:-1] & nines[4:]).any(axis=0).mean()

    assert share(sampler.uniform) < 0.005
    assert share(sampler.carries) > 0.015


@pytest.mark.parametrize(("minimum", "maximum", "base"), [(0, 40, 10), (5, 5, 2), (9990, 9999, 10), (30, 300, 16)])
def test_all_pairs_are_all_pairs_in_order(minimum, maximum, base):
    found = [pair for chunk in Sampler(Operands(minimum, maximum, base)).all_pairs() for pair in pairs_of(chunk)]
    assert found == list(itertools.product(range(minimum, maximum + 1), repeat=2))


# ---- Unique problems from some sides --------------------------------------------------------------


def pairs_on_sides(minimum, maximum, split, sides):
    pairs = list(itertools.product(range(minimum, maximum + 1), repeat=2))
    side = split_sides(from_integers(pairs, 7, num_digits(maximum, 7)), split)
    return {pair for pair, one in zip(pairs, side, strict=True) if one in sides}


def check_draw(draw, minimum, maximum, split, sides, asked):
    pairs = pairs_of(draw.problems)
    assert len(pairs) == len(set(pairs)) == sum(asked.values()) == sum(draw.drawn.values())
    assert all(minimum <= x <= maximum and minimum <= y <= maximum for x, y in pairs)
    assert set(split_sides(draw.problems, split).tolist()) <= set(sides)
    assert draw.asked == asked
    for name, count in asked.items():
        assert draw.drawn[name] >= count if name == "uniform" else draw.drawn[name] <= count


@pytest.mark.parametrize(("minimum", "maximum", "base"), [one for one in RANGES if one[1] - one[0] > 4000], ids=short)
@pytest.mark.parametrize("sides", [(0, 1), (2,), (1,)])
def test_drawn_problems_are_unique_in_range_and_on_their_side(minimum, maximum, base, sides):
    asked = {"uniform": 600, "lengths": 200, "carries": 200}
    draw = draw_unique(Sampler(Operands(minimum, maximum, base)), Split(), sides, asked, np.random.default_rng(0))
    check_draw(draw, minimum, maximum, Split(), sides, asked)
    # In random order: the first rows are no more often of one half of the range than the last ones.
    x = [x > (minimum + maximum) // 2 for x, _ in pairs_of(draw.problems)]
    assert abs(sum(x[:500]) - sum(x[500:])) < 6 * 250**0.5


@pytest.mark.parametrize(
    ("minimum", "maximum", "base"),
    [(0, 30, 10), (0, 30, 2), (0, 99, 16), (9990, 9999, 10), (10**30 - 12, 10**30 - 1, 10), (5, 5, 10), (0, 1, 2)],
)
def test_asking_for_all_problems_gives_all_of_them_and_asking_for_one_more_tells_how_many_there_are(
    minimum, maximum, base
):
    split, sides, sampler = Split(seed=1), (0, 1), Sampler(Operands(minimum, maximum, base))
    expected = pairs_on_sides(minimum, maximum, split, sides)
    lengths = len(expected) // 5
    for asked in (
        {"uniform": len(expected), "lengths": 0, "carries": 0},
        {"uniform": len(expected) - 2 * lengths, "lengths": lengths, "carries": lengths},
        {"uniform": 0, "lengths": len(expected), "carries": 0},
        {"uniform": 0, "lengths": 0, "carries": len(expected)},
    ):
        draw = draw_unique(sampler, split, sides, asked, np.random.default_rng(0))
        check_draw(draw, minimum, maximum, split, sides, asked)
        assert set(pairs_of(draw.problems)) == expected
        with pytest.raises(OutOfProblemsError) as caught:
            draw_unique(sampler, split, sides, {**asked, "uniform": asked["uniform"] + 1}, np.random.default_rng(0))
        assert caught.value.available == len(expected)


def test_none_of_none_is_an_empty_draw():
    expected = pairs_on_sides(5, 5, Split(), (2,))
    assert expected == set()
    draw = draw_unique(Sampler(Operands(5, 5, 10)), Split(), (2,), {"uniform": 0}, np.random.default_rng(0))
    assert len(draw.problems) == 0


class OnesOnly(Sampler):
    """Its carries stratum knows but few problems, 1 + y."""

    @property
    def strata(self):
        def ones(rng, count):
            problems = self.uniform(rng, count)
            return problems[problems.x[0] == 1]

        return {**super().strata, "carries": ones}


def test_a_stratum_that_runs_out_is_made_up_by_uniform():
    asked = {"uniform": 10, "lengths": 0, "carries": 60}
    draw = draw_unique(OnesOnly(Operands(0, 9, 10)), Split(), (0, 1), asked, np.random.default_rng(0))
    check_draw(draw, 0, 9, Split(), (0, 1), asked)
    assert draw.drawn["carries"] == sum(x == 1 for x, _ in pairs_on_sides(0, 9, Split(), (0, 1)))
    assert draw.drawn["uniform"] == 70 - draw.drawn["carries"]


def test_half_of_the_planted_chains_carry_all_the_way_and_a_quarter_not_at_all():
    """Sums of 9 in places 1 to 3 of five: the place below decides whether they carry."""
    problems = Sampler(Operands(0, 99999, 10)).carries(np.random.default_rng(7), 50_000)
    totals = problems.x + problems.y  # (W, N)
    planted = (totals[1:4] == 9).all(axis=0) & (totals[0] != 9)
    assert planted.sum() > 1000
    assert 0.6 < (totals[0] >= 10)[planted].mean() < 0.72  # two thirds of those without a near miss


@pytest.mark.parametrize(
    ("split", "sides"),
    [
        (Split(train=0.001, validation=0.001), (0, 1)),
        (Split(train=0.95, validation=0.0499), (2,)),
        (Split(train=0.999, validation=0.0005), (1,)),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 10, 100])
def test_a_side_with_a_small_share_is_found(split, sides, count):
    for seed in range(3):
        asked = {"uniform": count, "lengths": 0}
        draw = draw_unique(Sampler(Operands(0, 9999, 16)), split, sides, asked, np.random.default_rng(seed))
        check_draw(draw, 0, 9999, split, sides, asked)


def test_a_stratum_of_a_small_side_is_not_given_up_too_early():
    asked = {"uniform": 0, "lengths": 400, "carries": 0}
    split = Split(train=0.001, validation=0.001)
    draw = draw_unique(Sampler(Operands(0, 10**12, 10)), split, (0, 1), asked, np.random.default_rng(0))
    assert draw.drawn == {"uniform": 0, "lengths": 400, "carries": 0}


def test_few_problems_out_of_a_list_longer_than_expected_are_unique():
    # The test side of 0 to 99 has 1,000 problems on average; take a split on which it has many more.
    splits = (Split(train=0.8, validation=0.1, seed=seed) for seed in range(30))
    split = max(splits, key=lambda one: len(pairs_on_sides(0, 99, one, (2,))))
    assert len(pairs_on_sides(0, 99, split, (2,))) > 1024
    for count in (1, 2, 3):
        for seed in range(5):
            draw = draw_unique(
                Sampler(Operands(0, 99, 10)), split, (2,), {"uniform": count}, np.random.default_rng(seed)
            )
            check_draw(draw, 0, 99, split, (2,), {"uniform": count})


def test_pairs_of_a_narrow_range_of_wide_numbers_have_keys_of_their_own():
    for first in (990, 10**30, 2**64 - 5):
        operands = range(first, first + 10)
        pairs = from_integers(itertools.product(operands, repeat=2), 10, 31)
        keys = ordered_keys(pairs, 7, operands)  # 100 pairs, 128 keys
        assert len(set(keys.tolist())) == 100
        assert int(keys.max()) < 128


def test_the_same_seed_draws_the_same_problems_and_another_seed_others():
    asked = {"uniform": 300, "lengths": 100, "carries": 100}
    for sampler in (Sampler(Operands(0, 9999, 10)), Sampler(Operands(0, 29, 10)), Sampler(Operands(0, 10**50, 10))):
        one, same, other = (
            pairs_of(draw_unique(sampler, Split(), (0, 1), asked, np.random.default_rng(seed)).problems)
            for seed in (7, 7, 8)
        )
        assert one == same
        assert set(one) != set(other)


# ---- Like another ---------------------------------------------------------------------------------


def kind(x, y, base):
    """Lengths, and the places that pass on a carry."""
    carries, carry = [], 0
    for place in range(max(num_digits(x, base), num_digits(y, base))):
        carry = int(x // base**place % base + y // base**place % base + carry >= base)
        carries.append(carry)
    return num_digits(x, base), num_digits(y, base), carries


@pytest.mark.parametrize("pair", [(0, 0), (5, 5), (7, 95), (999, 1), (120, 8_880), (9_999, 9_999), (40, 3_000)])
def test_problems_like_another_have_its_lengths_and_carries_and_there_are_many(pair):
    drawn = Sampler(Operands(0, 9999, 10)).like(np.random.default_rng(0), from_integers([pair], 10, 4), 2000)
    assert len(drawn) == 2000
    assert all(kind(x, y, 10) == kind(*pair, 10) for x, y in pairs_of(drawn))
    below_100 = sum(kind(x, y, 10) == kind(*pair, 10) for x, y in itertools.product(range(100), repeat=2))
    assert len(set(pairs_of(drawn))) >= (0.8 * below_100 if max(pair) < 100 else 9)


def test_problems_like_another_stay_in_range():
    drawn = Sampler(Operands(300, 700, 16)).like(np.random.default_rng(0), from_integers([(0x1FF, 0x201)], 16, 3), 3000)
    assert 0 < len(drawn) < 3000
    assert {300 <= value <= 700 for pair in pairs_of(drawn) for value in pair} == {True}
