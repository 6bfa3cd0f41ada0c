import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import DIGIT_ALPHABET, to_integers
from simple_llm.config.settings import Split
from simple_llm.data.problems import concatenate, from_integers, from_written
from simple_llm.data.rows import RowFormat
from simple_llm.data.split import ordered_keys, split_sides

BASES = [2, 3, 10, 16, 36]
ALL_SMALL_PAIRS = list(itertools.product(range(41), repeat=2))


def digits_of(value, base):
    """Least significant first; zero has one."""
    digits = [value % base]
    while value := value // base:
        digits.append(value % base)
    return digits


def text_of(value, base):
    """Most significant first."""
    return "".join("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] for digit in reversed(digits_of(value, base)))


def small_problems(base, spare_places=0):
    return from_integers(ALL_SMALL_PAIRS, base, len(digits_of(40, base)) + spare_places)


def large_pairs(count, num_digits, seed=0):
    rng = random.Random(seed)
    return [tuple(rng.randrange(10 ** rng.randint(1, num_digits)) for _ in "xy") for _ in range(count)]


# ---- Digit arrays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_integers_are_written_place_by_place_and_read_back(base):
    problems = small_problems(base, spare_places=1)
    for column, pair in enumerate(ALL_SMALL_PAIRS):
        for operand, value in zip((problems.x, problems.y), pair, strict=True):
            digits = digits_of(value, base)
            assert operand[:, column].tolist() == digits + [0] * (problems.x.shape[0] - len(digits))
    assert list(zip(to_integers(problems.x, base), to_integers(problems.y, base), strict=True)) == ALL_SMALL_PAIRS


@pytest.mark.parametrize("base", BASES)
def test_a_number_that_does_not_fit_is_refused(base):
    from_integers([(base**3 - 1, 0)], base, 3)
    for pair in ((base**3, 0), (0, base**3)):
        with pytest.raises(ValueError, match="more than 3 digits"):
            from_integers([pair], base, 3)


@pytest.mark.parametrize("base", BASES)
def test_sums_and_lengths_are_those_of_python_integers(base):
    problems = small_problems(base)
    assert to_integers(problems.z, base) == [x + y for x, y in ALL_SMALL_PAIRS]
    assert problems.z.max() < base
    for lengths, numbers in (
        (problems.x_length, (x for x, _ in ALL_SMALL_PAIRS)),
        (problems.y_length, (y for _, y in ALL_SMALL_PAIRS)),
        (problems.z_length, (x + y for x, y in ALL_SMALL_PAIRS)),
    ):
        assert lengths.tolist() == [len(digits_of(number, base)) for number in numbers]


@pytest.mark.parametrize("base", BASES)
def test_wide_sums_are_those_of_python_integers(base):
    pairs = [*large_pairs(200, 100), (10**100 - 1, 1), (10**100 - 1, 10**100 - 1), (0, 0)]
    problems = from_integers(pairs, base, 340)
    assert to_integers(problems.z, base) == [x + y for x, y in pairs]
    assert problems.z_length.tolist() == [len(digits_of(x + y, base)) for x, y in pairs]


def longest_chain_by_hand(x, y, base):
    """A place passes on a carry if the digits up to it make base^places or more."""
    num_places = max(len(digits_of(x, base)), len(digits_of(y, base)))
    passes = "".join(
        "x" if x % base**place + y % base**place >= base**place else " " for place in range(1, num_places + 1)
    )
    return max(map(len, passes.split(" ")))


@pytest.mark.parametrize("base", BASES)
def test_the_longest_carry_chain_is_that_found_by_hand(base):
    expected = [longest_chain_by_hand(x, y, base) for x, y in ALL_SMALL_PAIRS]
    assert small_problems(base, spare_places=2).longest_chain.tolist() == expected
    pairs = large_pairs(300, 12)
    assert from_integers(pairs, base, 45).longest_chain.tolist() == [
        longest_chain_by_hand(x, y, base) for x, y in pairs
    ]


def test_the_carry_chains_of_the_docstring():
    examples = {(25, 31): 0, (5, 5): 1, (999, 1): 3, (999, 999): 3}
    assert from_integers(examples, 10, 3).longest_chain.tolist() == list(examples.values())


def test_a_selection_of_problems_is_that_of_a_list():
    problems = small_problems(10)
    mask = np.arange(len(problems)) % 3 == 1
    index = np.array([7, 7, 0, 1680, 3])
    for selected, expected in (
        (problems[mask], [pair for pair, kept in zip(ALL_SMALL_PAIRS, mask, strict=True) if kept]),
        (problems[index], [ALL_SMALL_PAIRS[i] for i in index]),
        (problems[10:20], ALL_SMALL_PAIRS[10:20]),
        (problems[:0], []),
        (problems[np.zeros(len(problems), bool)], []),
        (problems.swapped, [(y, x) for x, y in ALL_SMALL_PAIRS]),
        (concatenate([problems[:3], problems[8:9]]), ALL_SMALL_PAIRS[:3] + ALL_SMALL_PAIRS[8:9]),
    ):
        assert list(zip(to_integers(selected.x, 10), to_integers(selected.y, 10), strict=True)) == expected
        assert len(selected) == len(expected)


# ---- The split ------------------------------------------------------------------------------------

ALL_MEDIUM_PAIRS = list(itertools.product(range(150), repeat=2))
WORD = 2**64
SPLIT = Split(train=0.8, validation=0.1)


def mix_by_hand(word):
    """The finalizer of SplitMix64 in Python integers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
    return word ^ (word >> 31)


def side_by_hand(x, y, split):
    def hashed(value):
        return mix_by_hand((value % WORD + mix_by_hand((value - value % WORD) % (2**31 - 1))) % WORD)

    low, high = sorted((hashed(x), hashed(y)))
    key = (mix_by_hand(low ^ mix_by_hand((split.seed + 0x9E3779B97F4A7C15) % WORD)) + high) % WORD
    fraction = (mix_by_hand(key) >> 11) / 2**53
    return 0 if fraction < split.train else 1 if fraction < split.train + split.validation else 2


# A published model's test side must stay its test side, so the rule is written down a second time.
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("split", [Split(), Split(train=0.3, validation=0.4, seed=1), Split(seed=2**63 - 1)])
def test_the_side_of_a_problem_is_what_the_rule_says_in_python_integers(split):
    for pairs, base, width in (
        (ALL_MEDIUM_PAIRS, 10, 3),
        (large_pairs(500, 25), 10, 25),
        (large_pairs(300, 80), 7, 96),
    ):
        expected = [side_by_hand(x, y, split) for x, y in pairs]
        assert split_sides(from_integers(pairs, base, width), split).tolist() == expected


def test_both_orders_of_a_problem_are_on_one_side():
    for pairs, width in ((ALL_MEDIUM_PAIRS, 3), (large_pairs(2000, 60), 60)):
        problems = from_integers(pairs, 10, width)
        assert (split_sides(problems, Split()) == split_sides(problems.swapped, Split())).all()


@pytest.mark.parametrize("num_digits", [2, 18, 20, 60])  # 2^64 has 20 decimal digits
def test_the_side_depends_on_the_numbers_alone_and_not_on_base_or_width(num_digits):
    pairs = large_pairs(500, num_digits)
    sides = {
        tuple(split_sides(from_integers(pairs, base, len(digits_of(10**num_digits, base)) + spare), Split()))
        for base in BASES
        for spare in (0, 1, 70)
    }
    assert len(sides) == 1
    assert set(sides.pop()) == {0, 1, 2}


@pytest.mark.parametrize("num_digits", [3, 40])
@pytest.mark.parametrize("split", [Split(), Split(train=0.5, validation=0.25, seed=9)])
def test_the_sides_have_the_shares_that_were_asked_for(num_digits, split):
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 10, (2, num_digits, 200_000), np.uint8)
    problems = from_integers([], 10, num_digits)
    problems = type(problems).of(ADDITION, digits[0], digits[1], 10)
    counts = np.bincount(split_sides(problems, split), minlength=3)
    # Five standard deviations of 100,000 independent draws: with 3 digits most pairs are there once, some twice.
    for count, share in zip(counts, (split.train, split.validation, 1 - split.train - split.validation), strict=True):
        assert abs(count / 200_000 - share) < 5 * (share * (1 - share) / 100_000) ** 0.5


def test_the_sides_have_their_shares_for_every_first_operand():
    # No number is mostly on one side: sums of 1,000 sides, six standard deviations.
    problems = from_integers(itertools.product(range(100), range(1000)), 10, 3)
    train = (split_sides(problems, SPLIT) == 0).reshape(100, 1000).sum(axis=1)
    assert abs(train - 800).max() < 6 * (1000 * 0.8 * 0.2) ** 0.5


def test_another_seed_is_another_independent_split():
    problems = from_integers(ALL_MEDIUM_PAIRS, 10, 3)
    sides = [split_sides(problems, Split(train=0.5, validation=0.25, seed=seed)) == 0 for seed in (0, 1, 2, 2**63 - 1)]
    for one, other in itertools.combinations(sides, 2):
        assert abs((one == other).mean() - 0.5) < 0.03  # 11,325 unordered pairs: six standard deviations


def test_numbers_that_agree_modulo_two_to_the_64_are_told_apart():
    low = large_pairs(500, 18)
    plain = split_sides(from_integers(low, 10, 25), SPLIT)
    for multiple in (1, 2, 3, 1000):
        shifted = split_sides(from_integers([(x + multiple * WORD, y) for x, y in low], 10, 25), SPLIT)
        assert 0.2 < (plain != shifted).mean() < 0.5  # independent sides differ with probability 0.34


# ---- Keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("base", "num_bits"), [(10, 14), (10, 15), (10, 64), (2, 12), (2, 13), (16, 16), (3, 64)])
def test_every_ordered_pair_has_a_key_of_its_own(base, num_bits):
    # Every pair of two digits, or six in base 2: as many as there are keys where the base is a power of two.
    num_values = base ** (6 if base == 2 else 2)
    problems = from_integers(itertools.product(range(num_values), repeat=2), base, 6 if base == 2 else 2)
    keys = ordered_keys(problems, num_bits)
    assert len(set(keys.tolist())) == num_values**2
    assert int(keys.max()) < 2**num_bits


def test_wide_pairs_have_keys_of_their_own_but_for_chance():
    pairs = sorted({*large_pairs(5000, 40), *((y, x) for x, y in large_pairs(5000, 40))})
    keys = ordered_keys(from_integers(pairs, 10, 40), 44)
    assert len(set(keys.tolist())) == len(pairs)  # a pair of equal keys has probability 3e-6
    assert int(keys.max()) < 2**44


@pytest.mark.parametrize("num_bits", [44, 52])
def test_keys_that_cannot_hold_a_pair_do_not_depend_on_its_lowest_digits_alone(num_bits):
    # 64 bits of two hexadecimal numbers; these pairs differ above the bits that a cut would keep.
    pairs = [(x << 20, 5) for x in range(4096)] + [(5, x << 20) for x in range(4096)]
    keys = ordered_keys(from_integers(pairs, 16, 8), num_bits)
    assert len(set(keys.tolist())) == len(pairs)


# ---- Rows of text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "is_reversed", "row"),
    [(16, True, b"E35|F63|DA8\n"), (10, True, b"2431|978|1222\n"), (10, False, b"1342|879|2221\n")],
)
def test_the_row_of_the_docstring_is_written_and_read(base, is_reversed, row):
    layout = RowFormat(base, is_reversed)
    assert layout.write(from_integers([(1342, 879)], base, 4)) == row
    parsed = layout.parse(row, 4)
    assert (to_integers(parsed.x, base), to_integers(parsed.y, base)) == ([1342], [879])


def rows_by_hand(pairs, layout):
    step = -1 if layout.reversed else 1
    return "".join(
        layout.column_delimiter.join(text_of(number, layout.base)[::step] for number in (x, y, x + y))
        + layout.row_delimiter
        for x, y in pairs
    ).encode()


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("is_reversed", [True, False])
@pytest.mark.parametrize("delimiters", ["|\n", ",;", "+ ", "\t\r"])
def test_every_small_problem_is_written_as_by_hand_and_read_back(base, is_reversed, delimiters):
    problems, layout = small_problems(base, spare_places=1), RowFormat(base, is_reversed, *delimiters)
    content = layout.write(problems)
    assert content == rows_by_hand(ALL_SMALL_PAIRS, layout)
    parsed = layout.parse(content, problems.x.shape[0])
    assert (parsed.x == problems.x).all()
    assert (parsed.y == problems.y).all()


def test_many_wide_rows_are_written_as_by_hand_and_read_back():
    pairs, layout = large_pairs(9000, 30), RowFormat(16)
    content = layout.write(from_integers(pairs, 16, 25))
    assert content == rows_by_hand(pairs, layout)
    parsed = layout.parse(content, 25)
    assert list(zip(to_integers(parsed.x, 16), to_integers(parsed.y, 16), strict=True)) == pairs


def test_no_problems_are_no_bytes_and_the_other_way_round():
    assert RowFormat(10).write(from_integers([], 10, 3)) == b""
    assert len(RowFormat(10).parse(b"", 3)) == 0


def pairs_by_hand(content, layout, width):
    """Read rows one by one; the pairs, or the number of the first bad row."""
    column, row_end = layout.column_delimiter.encode(), layout.row_delimiter.encode()
    *rows, rest = content.split(row_end)
    pairs = []
    for number, row in enumerate(rows, 1):
        try:
            x, y, z = (field.decode()[:: -1 if layout.reversed else 1] for field in row.split(column))
            values = [int(field, layout.base) for field in (x, y, z)]
        except ValueError:
            return number
        # int() takes more than digits: signs, spaces, small letters, leading zeros
        is_canonical = [text_of(value, layout.base) if value >= 0 else None for value in values] == [x, y, z]
        if not is_canonical or values[0] + values[1] != values[2] or max(len(x), len(y)) > width:
            return number
        pairs.append((values[0], values[1]))
    return len(rows) + 1 if rest else pairs


BAD_ROWS = [
    *(b"12|34", b"12|34|64|1", b"||", b"|1|1", b"1|1|", b"", b"1 |1|2", b"1|1|2 ", b"+1|1|2", b"1|1|2\r", b"a|1|b"),
    *(b"1|1|3", b"10|1|11", b"1|10|11", b"0|0|00", b"00|0|0", b"1234|1|2234", b"1|1234|2234", b"-1|1|0"),
    *(b"1_1|1|21", b"\xff|1|1", b"\xd9\xa3|1|4", b"\0|0|0", b"1|1", b"1,1,2", b"1111111111111111|1|1"),
]


@pytest.mark.parametrize("bad", BAD_ROWS, ids=repr)
@pytest.mark.parametrize("position", [0, 1, 4])
def test_a_bad_row_is_refused_by_its_number(bad, position):
    layout, good = RowFormat(10), [b"12|34|46", b"0|0|0", b"999|999|8991", b"7|05|75"]
    content = b"\n".join([*good[:position], bad, *good[position:]]) + b"\n"
    assert pairs_by_hand(content, layout, 3) == position + 1
    with pytest.raises(ValueError, match=rf"^row {position + 41}: ") as caught:
        layout.parse(content, 3, first_row=41)
    assert len(str(caught.value).splitlines()) == 1


def test_the_first_of_several_bad_rows_is_named():
    for content in (b"1|1|2\n1|1|3\n1|1|1\n", b"1|1|2\n1|1|3\n1|1|2", b"1|1|2\n1|1|3\n1|1"):
        with pytest.raises(ValueError, match=r"^row 2: "):
            RowFormat(10).parse(content, 3)


def test_a_row_that_ends_in_the_middle_is_refused():
    layout, content = RowFormat(10), b"12|34|46\n56|7|36\n"
    for length in range(1, len(content)):
        if length == len(b"12|34|46\n"):
            continue  # a whole row
        with pytest.raises(ValueError, match=rf"^row {1 if length < 9 else 2}: "):
            layout.parse(content[:length], 2)


LAYOUTS = st.builds(RowFormat, st.sampled_from(BASES), st.booleans(), st.sampled_from("|,"), st.sampled_from("\n;"))


@given(
    LAYOUTS,
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2), st.sampled_from([*b"012Aaz|,\n; \0\xff"])), max_size=3),
    st.integers(1, 7),
)
def test_a_damaged_file_is_read_as_by_hand_or_refused_at_the_row_found_by_hand(layout, pairs, damages, width):
    content = bytearray(rows_by_hand(pairs, layout))
    for position, num_removed, character in damages:
        content[position : position + num_removed] = [character] if num_removed < 2 else []
    expected = pairs_by_hand(bytes(content), layout, width)
    if isinstance(expected, list):
        parsed = layout.parse(bytes(content), width)
        found = zip(to_integers(parsed.x, layout.base), to_integers(parsed.y, layout.base), strict=True)
        assert list(found) == expected
    else:
        with pytest.raises(ValueError, match=rf"^row {expected}: "):
            layout.parse(bytes(content), width)


def test_the_alphabet_is_that_of_python():
    assert [int(character, 36) for character in DIGIT_ALPHABET] == list(range(36))
    assert DIGIT_ALPHABET.upper() == DIGIT_ALPHABET


@pytest.mark.parametrize("base", [2, 10, 36])
def test_digits_are_read_from_text_of_any_length(base):
    pairs = [(0, 0), (1342, 879), (base**70 + 5, 3), (7, base**70 - 1)]
    written = [[to_text(value, base) for value in pair] for pair in pairs]
    problems = from_written(written, base, np.zeros(len(written), np.uint8))
    assert list(zip(to_integers(problems.x, base), to_integers(problems.y, base), strict=True)) == pairs


def to_text(value, base):
    """Least significant digit first."""
    text = DIGIT_ALPHABET[value % base]
    while value := value // base:
        text += DIGIT_ALPHABET[value % base]
    return text


@pytest.mark.parametrize("base", BASES)
def test_a_carry_comes_into_a_place_where_what_is_below_adds_up_to_more_than_fits(base):
    carries = small_problems(base).carries
    for place, row in enumerate(carries):
        below = base**place
        assert row.tolist() == [x % below + y % below >= below for x, y in ALL_SMALL_PAIRS]
