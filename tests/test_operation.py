"""An operation is its step in a column: the steps, and what follows from them, against Python's own numbers."""

import itertools

import numpy as np
import pytest

from simple_llm.arithmetic import OPERATIONS, subtraction
from simple_llm.arithmetic.addition import ADDITION, step
from simple_llm.arithmetic.columns import carries, longest_chain, num_quiet, work
from tests.tiny_models import make_digits

BASES = [2, 3, 10, 16, 36]
BY_COLUMNS = [operation for operation in OPERATIONS if operation.step]


def columns(values, base, width):
    """Digit arrays, least significant first: (width, N)."""
    digits = [make_digits(value, base) for value in values]
    return np.array([one + [0] * (width - len(one)) for one in digits], np.uint8).T


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_a_step_of_addition_is_divmod_for_every_column(base, kind):
    x, y, carry = (
        np.array(one, kind) for one in zip(*itertools.product(range(base), range(base), (0, 1)), strict=True)
    )
    digit, carry_out = step(x, y, carry, base)
    assert digit.dtype == carry_out.dtype == kind
    expected = [divmod(int(a) + int(b) + int(c), base) for a, b, c in zip(x, y, carry, strict=True)]
    assert list(zip(carry_out.tolist(), digit.tolist(), strict=True)) == expected


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_a_step_of_subtraction_is_divmod_for_every_column(base, kind):
    x, y, borrow = (
        np.array(one, kind) for one in zip(*itertools.product(range(base), range(base), (0, 1)), strict=True)
    )
    digit, given = subtraction.step(x, y, borrow, base)
    assert digit.dtype == given.dtype == kind
    expected = [divmod(int(a) - int(b) - int(c), base) for a, b, c in zip(x, y, borrow, strict=True)]
    assert list(zip((-given.astype(int)).tolist(), digit.tolist(), strict=True)) == expected


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("operation", BY_COLUMNS, ids=lambda one: one.name)
def test_beside_a_digit_the_quiet_ones_make_no_carry_the_last_passes_one_on_and_the_others_make_one(operation, base):
    for x, quiet in enumerate(num_quiet(operation, base).tolist()):
        alone, after_one = ([operation.step(x, y, carry, base)[1] for y in range(base)] for carry in (0, 1))
        assert alone == [0] * quiet + [1] * (base - quiet)
        assert after_one == [0] * (quiet - 1) + [1] * (base - quiet + 1)


@pytest.mark.parametrize("base", BASES)
def test_answers_carries_and_chains_follow_for_every_pair_to_three_columns(base):
    values = range(min(base**3, 60))
    pairs = list(itertools.product(values, repeat=2))
    x, y = (columns(one, base, 6) for one in zip(*pairs, strict=True))
    assert (work(ADDITION, x, y, base) == columns([a + b for a, b in pairs], base, 7)).all()
    into = [[a % base**column + b % base**column >= base**column for a, b in pairs] for column in range(7)]
    assert (carries(ADDITION, x, y, base) == np.array(into)).all()
    runs = ["".join("1" if one[index] else "0" for one in into).split("0") for index in range(len(pairs))]
    assert longest_chain(ADDITION, x, y, base).tolist() == [max(map(len, run)) for run in runs]
