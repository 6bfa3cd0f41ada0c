"""The list of contexts in the file that proves a model: the package's own, what texts show, and Python's integers."""

import itertools
import random

import pytest

from simple_llm.arithmetic import contexts as listed_by_the_package
from simple_llm.arithmetic.symbols import shown
from simple_llm.model import verify
from simple_llm.model.places_simple_llm import in_view
from simple_llm.proof import all_lengths
from tests.test_grid import grid_model, padded, problems
from tests.tiny_models import make_vocabulary

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]

OPERATORS = "+-*/"

Context = tuple[tuple, tuple]  # the cell (token, kind) that asks, and those it sees


def list_of(operator: str, base: int) -> list[tuple[Context, str]]:
    return list((verify.division if operator == "/" else verify.rows)(operator, base))


# ---- The list -------------------------------------------------------------------------------------


def package_list(operator: str, base: int) -> dict[Context, str]:
    """The package's contexts as this file has them."""
    some = listed_by_the_package.contexts(operator, base)
    found = {}
    for symbols, kinds, seen, says in zip(some.symbols, some.kinds, some.is_seen, some.says, strict=True):
        cells = [(shown([symbol], base), int(kind)) for symbol, kind in zip(symbols, kinds, strict=True)]
        key = cells[-1], tuple(sorted(cell for cell, is_seen in zip(cells, seen, strict=True) if is_seen))
        found[key] = shown([says], base)
    assert len(found) == len(some)
    return found


@pytest.mark.parametrize("base", [2, 3, 4, 7, 10])
@pytest.mark.parametrize("operator", OPERATORS)
def test_two_lists_that_know_nothing_of_each_other_are_one(operator: str, base: int) -> None:
    mine = list_of(operator, base)
    assert dict(mine) == package_list(operator, base)
    assert len(dict(mine)) == len(mine)


@pytest.mark.parametrize("base, counts", [(10, [693, 753, 14_510, 18_722]), (16, [1683, 1779, 83_216, 106_119])])
def test_there_are_as_many_contexts_as_are_known(base: int, counts: list[int]) -> None:
    assert [len(list_of(operator, base)) for operator in OPERATORS] == counts


@pytest.mark.parametrize("base", [2, 3, 10])
def test_texts_show_contexts_of_the_list_and_go_on_as_it_says(base: int) -> None:
    """What is seen is asked of the model that travels, texts are written by Python's integers."""
    model, shows_plus = grid_model(base), 0
    answers = {operator: dict(list_of(operator, base)) for operator in OPERATORS}
    for text in problems(base, 400):
        grid = model.grid(padded([text], base))
        sees = in_view(grid.looks, grid.addresses)[0].tolist()
        cells = list(zip(text, grid.kinds[0].tolist(), strict=True))
        for index in range(text.index("|"), len(text) - 1):
            key = cells[index], tuple(sorted(itertools.compress(cells[: index + 1], sees[index])))
            assert answers[text[0]][key] == text[index + 1], (text, key)
            shows_plus += text[0] == "/" and text[index + 1] == "+"
    assert shows_plus > 5  # quotients that are put back


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_context_that_is_wrong_or_missing_is_noticed(operator: str, capsys: pytest.CaptureFixture) -> None:
    answers = dict(list_of(operator, 3))
    verify.check_the_list(operator, 3, answers, None)
    end = next(key for key, right in answers.items() if right == "=")
    with pytest.raises(SystemExit) as stopped:
        verify.check_the_list(operator, 3, answers | {end: "|"}, None)
    assert stopped.value.code == 7
    wrong = {key: "1" if right == "2" else right for key, right in answers.items()}
    with pytest.raises((SystemExit, KeyError)):
        verify.check_the_list(operator, 3, wrong, None)
    del answers[end]
    with pytest.raises(KeyError):
        verify.check_the_list(operator, 3, answers, None)


# ---- The list for a window ------------------------------------------------------------------------


def package_window_list(base: int, left: int, right: int, period: int) -> list[tuple[Context, str]]:
    vocabulary, found = make_vocabulary(base, tokens_per_step=1), []
    names = {vocabulary.delimiter_id: "+", **dict(zip(vocabulary.digit_ids, verify.DIGITS, strict=False))}
    for some in all_lengths.contexts(base, left, right, period):
        for tokens, places, right_token in zip(*(one.tolist() for one in some.tokens(vocabulary)), strict=True):
            rows = [1 + (place - 1) % period if place else 0 for place in places]
            cells = [(names[token], row) for token, row in zip(tokens, rows, strict=True)]
            found.append(((cells[-1], tuple(sorted(cells))), names[right_token]))
    return found


@pytest.mark.parametrize(
    "base, left, right, period", [(2, 0, 1, 2), (3, 0, 1, 2), (2, 1, 1, 3), (2, 0, 2, 3), (5, 0, 1, 4)]
)
def test_two_lists_for_a_window_are_one(base: int, left: int, right: int, period: int) -> None:
    mine = list(verify.window_sums(base, left, right, period))
    assert sorted(mine) == sorted(package_window_list(base, left, right, period))
    answers = dict(mine)
    assert len(answers) == len(set(mine))  # what is in view decides what is right
    verify.check_the_list("+", base, answers, (left, right, period))


def test_a_context_of_a_window_that_is_wrong_or_missing_is_noticed() -> None:
    answers = dict(verify.window_sums(2, 0, 1, 2))
    for key in random.Random(0).sample(sorted(answers), 10):
        others = {one: right for one, right in answers.items() if one != key}
        for changed in (others, others | {key: "?"}):
            with pytest.raises(SystemExit):
                verify.check_the_list("+", 2, changed, (0, 1, 2))


@pytest.mark.slow
def test_a_window_in_base_10_has_as_many_contexts_as_are_known() -> None:
    assert sum(1 for _ in verify.window_sums(10, 0, 1, 4)) == 108_996
