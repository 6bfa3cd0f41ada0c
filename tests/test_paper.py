"""Work on paper: texts and answers by a slow writer, and the list of contexts by what a model sees of real texts."""

import itertools
import random

import numpy as np
import pytest
import torch

from simple_llm.arithmetic import contexts as contexts_module
from simple_llm.arithmetic import division, multiplication, paper
from simple_llm.arithmetic.contexts import Contexts, contexts
from simple_llm.arithmetic.digits import digits_of
from simple_llm.arithmetic.integers import digit_count
from simple_llm.arithmetic.paper import Numbers, questions, read, texts
from simple_llm.arithmetic.row import PRODUCT, Row, SUM, TAKEN
from simple_llm.arithmetic.symbols import NOTHING, RAISED, shown, sign, SIGNS
from simple_llm.model.places_simple_llm import columns_grid, in_view, KINDS
from tests import paper as slow

pytestmark = pytest.mark.library

RESULT = {"+": lambda *numbers: sum(numbers), "-": lambda x, y: x - y, "*": lambda x, y: x * y, "/": divmod}
COUNTS = {10: {"*": 14_510, "/": 18_722, "+": 693, "-": 753}, 16: {"*": 83_216, "/": 106_119, "+": 1_683, "-": 1_779}}


def columns_of(problems: list[tuple], base: int) -> list[Numbers]:
    """The first numbers of all problems, the second ones, and so on; None is an absent number."""
    found = []
    for numbers in zip(*problems, strict=True):
        width = max(digit_count(number or 0, base) for number in numbers)
        written = Numbers.of(digits_of([number or 0 for number in numbers], base, width))
        is_there = np.array([number is not None for number in numbers])
        found.append(Numbers(written.digits, written.length * is_there))
    return found


def check(operator: str, problems: list[tuple], base: int) -> None:
    """Compare texts, questions and what is read with the slow writer's and Python's."""
    numbers = columns_of(problems, base)
    symbols, asked = texts(operator, numbers, base), questions(operator, numbers, base)
    present = [[number for number in problem if number is not None] for problem in problems]
    for text, question, of_problem in zip(symbols, asked, present, strict=True):
        expected = slow.written(operator, of_problem, base)
        assert shown(text, base) == expected
        assert shown(question, base) == expected[: expected.index("|") + 1]
    assert read(symbols, base) == [RESULT[operator](*of_problem) for of_problem in present]


# ---- Steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [2, 3, 10, 16])
@pytest.mark.parametrize("kind", [np.int16, np.int64])
def test_a_step_of_a_product_and_of_a_quotient_is_divmod_for_every_column(base, kind):
    cells = np.indices((base,) * 4).reshape(4, -1).astype(kind)
    cells = cells[:, cells[3] <= cells[0]]
    for row, of_integers in (
        (PRODUCT, lambda head, operand, above, carry: above + head * operand + carry),
        (TAKEN, lambda head, operand, above, carry: above - head * operand - carry),
    ):
        digit, carry = row.step(*cells, base)
        assert digit.dtype == carry.dtype == kind
        expected = [divmod(of_integers(*cell), base) for cell in cells.T.tolist()]
        assert digit.tolist() == [one[1] for one in expected]
        assert carry.tolist() == [abs(one[0]) for one in expected]


@pytest.mark.parametrize("base", [2, 3, 10, 16, 36])
def test_carries_are_at_most_the_head_and_of_sums_at_most_one(base):
    head, carry = np.indices((base, base))
    assert ((carry <= head) == PRODUCT.reached(base)).all()
    assert ((carry <= head) == TAKEN.reached(base)).all()
    assert ((carry <= 1) == SUM.reached(base)).all()


def test_the_examples_of_the_docstrings():
    assert multiplication.step(4, 5, 3, 3, 10) == (6, 2)
    assert division.step(3, 5, 7, 2, 10) == (0, 1)
    assert (division.guess(1, 7, 5, 10), division.guess(1, 7, 1, 10)) == (3, 9)
    lines = [line.split("   ") for line in paper.__doc__.splitlines() if "|=" in line]
    assert len(lines) == 5
    for line in lines:
        problem, text = [part.strip() for part in line if part.strip()][:2]
        numbers = tuple(int(word) for word in problem.split()[::2])
        assert shown(texts(text[0], columns_of([numbers], 10), 10)[0], 10) == text


# ---- Texts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("base", "most"), [(2, 40), (3, 30), (4, 20)])
@pytest.mark.parametrize("operator", "+-*/")
def test_every_small_problem_is_written_and_read_as_by_hand(operator, base, most):
    check(operator, list(itertools.product(range(most), range(operator == "/", most))), base)


@pytest.mark.parametrize("base", [2, 3, 4])
def test_every_small_sum_of_up_to_four_numbers(base):
    check("+", list(itertools.product(range(6), range(6), (None, 0, 1, 5), (None, 0, 3, 4))), base)


@pytest.mark.parametrize("base", [10, 16])
@pytest.mark.parametrize("operator", "+-*/")
def test_long_problems_are_written_and_read_as_by_hand(operator, base):
    rng, problems = random.Random(base), []
    for index in range(150):
        sizes = [base ** rng.randint(1, 30) for _ in range(5 if operator == "+" else 2)]
        numbers = [rng.randrange(1, size) if index % 3 else size - rng.randint(1, 2) for size in sizes]
        numbers[1] = numbers[1] or 1
        problems.append(tuple(None if place > 1 and rng.random() < 0.3 else one for place, one in enumerate(numbers)))
    check(operator, problems, base)


def test_leading_zeros_are_worked_on_too_and_no_problems_have_no_texts():
    zeros = Numbers(np.array([[7], [0], [0]]), np.array([3]))
    assert shown(texts("+", [zeros, zeros], 10)[0], 10) == "+700+700|4¹1⁰0⁰|="
    assert read(texts("/", [zeros, Numbers(zeros.digits, np.array([1]))], 10), 10) == [(1, 0)]
    none = Numbers(np.zeros((2, 0), np.uint8), np.zeros(0, np.int64))
    for operator in RESULT:
        assert read(texts(operator, [none, none], 10), 10) == []


@pytest.mark.parametrize(
    ("operator", "problem", "message"),
    [
        ("/", (1, 0), "a divisor is 0"),
        ("+", (None, 1), "is absent"),
        ("*", (1, 2, 3), "no work on paper has the operator '\\*' and 3 numbers"),
        ("+", (1,), "and 1 numbers"),
        ("=", (1, 2), "the operator '='"),
    ],
)
def test_what_cannot_be_written_is_refused(operator, problem, message):
    with pytest.raises(ValueError, match=message):
        texts(operator, columns_of([problem], 10), 10)


# ---- Reading ----------------------------------------------------------------------------------------


def symbols_of(text: str, base: int = 10) -> list[int]:
    alphabet = slow.DIGITS[:base] + slow.RAISED[:base] + "".join(SIGNS)
    return [alphabet.find(character) for character in text]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "=",
            "|=",
            "*|=",
            "*75*64|=",
            "*75*64|2⁴4³3|2³6²2|",
            "*75*64|2⁴4³3|2³6²2",
            "*75*64|2⁴4³3|=",
            "75*64|2⁴|=",
        ),
        *("*75*64|2⁴4³3|2³6²2|=|", "*75*64|2⁴4³3|2³6²22|=", "*75*64|2⁴4³3|23⁶²2|=", "*75*64|2⁴4³3|2³6²2|2³6²2|="),
        *("*75+64|2⁴4³3|2³6²2|=", "*7⁵*64|2⁴4³3|2³6²2|=", "*75*64|2⁴4³3+2³6²2|=", "*75*64|2⁴4³3?|2³6²2|=", "*75**|=|="),
        *(
            "+21|=",
            "+21+378+4|5⁰8⁰8⁰|=",
            "+21+378|5⁰8⁰|=",
            "+21+378|5⁰8⁰8⁰|9⁰8⁰8⁰|=",
            "+2+3||=",
            "+2+|5⁰|=",
            "=2=3|5⁰|=",
        ),
        *("-243-978|3¹6¹4¹-7¹3¹5¹-7¹3¹5¹|=", "-243-978|=", "-2-1-1|1⁰|=", "-243-978-3¹6¹4¹|=", "-5-3|2⁰2|="),
        *("/2471/65|07⁰1⁰|36²0¹|=", "/2471/65|07⁰1⁰|36²0¹|16¹0|=", "/2471/65|07⁰1⁰|36²0¹|⁰6¹0⁰|=", "/5/0|05⁰|="),
        *("/7/21|07⁰0⁰|=", "/5/1||=", "/5/1+55⁰|=", "/2471/65|=", "|/2471/65|07⁰1⁰|36²0¹|16¹0⁰|="),
    ],
)
def test_what_is_no_text_has_no_answer(text):
    assert read(np.array([symbols_of(text)], np.int16).reshape(1, -1), 10) == [None]


@pytest.mark.parametrize("base", [2, 10, 36])
def test_rubbish_has_no_answer_and_never_an_error(base):
    rng = np.random.default_rng(0)
    some = texts("/", columns_of([(rng.integers(10**6), 1 + rng.integers(10**3)) for _ in range(300)], base), base)
    some = np.where(rng.random(some.shape) < 0.1, rng.integers(-3, 2 * base + 9, some.shape), some)
    anything = rng.integers(2 * base, 2 * base + 6, (2000, 12)) - rng.integers(0, 2 * base, (2000, 12)) ** 2
    for rubbish in (some, anything, np.full((2, 5), NOTHING), np.zeros((2, 0), int)):
        assert len(read(rubbish.astype(np.int16), base)) == len(rubbish)
        assert all(isinstance(shown(text, base), str) for text in rubbish)


def test_every_symbol_is_shown_as_another_character():
    assert shown(np.arange(78), 36) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ" + RAISED + "|+-*/="
    assert len(set(shown(np.arange(78), 36))) == 78
    assert shown(np.array([1, NOTHING, 99, sign("=", 10), NOTHING, NOTHING]), 10) == "1??="


# ---- Contexts ---------------------------------------------------------------------------------------


def in_one_number(cells: list, base: int):
    """Contexts as numbers, of the operator, one symbol of each kind, the symbol that asks, and its kind."""
    code = 0 * cells[0]
    for cell in cells:
        code = code * (2 * base + 8) + cell
    return code


def listed(found: Contexts) -> dict[int, int]:
    """What follows in each context of a list."""
    symbols, others = found.symbols.astype(np.int64) + 1, slice(1, -1)
    is_of = [found.is_seen[:, others] & (found.kinds[:, others] == kind) for kind in range(len(KINDS))]
    assert all(one.sum(1).max() <= 1 for one in is_of)
    seen = [(symbols[:, others] * one).sum(1) for one in is_of]
    codes = in_one_number([symbols[:, 0], *seen, symbols[:, -1], found.kinds[:, -1].astype(np.int64)], found.base)
    assert len(set(codes.tolist())) == len(found)
    return dict(zip(codes.tolist(), found.says.tolist(), strict=True))


def occurring(symbols: np.ndarray, base: int) -> dict[int, int]:
    """What follows in each context of some texts, as the mask of a model has it."""
    size, found = (symbols != NOTHING).sum(1), []
    for some in np.array_split(np.argsort(size), 1 + len(symbols) * symbols.shape[1] // 20_000):
        text = torch.from_numpy(symbols[some, : size[some].max()].astype(np.int64))
        kind_of_symbol = torch.tensor([2] * base + [3] * base + [4, 5, 6, 7, 8, 1, 0])  # NOTHING is the last
        grid = columns_grid(kind_of_symbol[text])
        sees = in_view(grid.looks, grid.addresses).tril()
        is_of = torch.nn.functional.one_hot(grid.kinds, len(KINDS)).float()  # (B, T, kinds)
        is_of[:, 0] = 0
        counted = torch.cat([is_of, is_of * (text[..., None] + 1)], 2)
        count, seen = (sees.float() @ counted).long().split(len(KINDS), 2)
        assert count.max() <= 1
        codes = in_one_number([text[:, :1] + 1 + 0 * text, *seen.unbind(2), text + 1, grid.kinds], base)
        is_asked = grid.is_work[:, :-1]
        found.append(torch.stack([codes[:, :-1][is_asked], text[:, 1:][is_asked]], 1).unique(dim=0))
    pairs = torch.cat(found).unique(dim=0).tolist()
    assert len(dict(pairs)) == len(pairs)  # one symbol follows
    return dict(pairs)


def strings(base: int, widest: int, least_top: int = 0) -> Numbers:
    """All strings of up to so many digits, leading zeros too."""
    some = [(*digits, *[0] * (widest - length), length) for length in range(1, widest + 1)
            for digits in itertools.product(range(base), repeat=length) if digits[-1] >= least_top]  # fmt: skip
    return Numbers(np.array(some).T[:-1], np.array(some).T[-1])


def every(operator: str, base: int, *widest: int) -> np.ndarray:
    """Texts of all problems of all strings of digits."""
    some = [strings(base, width, int(operator == "/" and place > 0)) for place, width in enumerate(widest)]
    index = np.indices([len(one.length) for one in some]).reshape(len(some), -1)
    numbers = [Numbers(one.digits[:, which], one.length[which]) for one, which in zip(some, index, strict=True)]
    return texts(operator, numbers, base)


@pytest.mark.parametrize(("base", "operator"), [(base, one) for base, of_base in COUNTS.items() for one in of_base])
def test_there_are_as_many_contexts_as_are_known(base, operator):
    assert len(listed(contexts(operator, base))) == COUNTS[base][operator]


def test_the_kinds_are_those_of_the_model():
    assert contexts_module.KINDS == KINDS


SMALL = [(base, operator, 3, 3) for base in (2, 3, 4) for operator in "+-*" if (base, operator) != (3, "*")]
SMALL += [(3, "*", 4, 3), (2, "/", 5, 4), (3, "/", 4, 4)]


@pytest.mark.parametrize(("base", "operator", "x_digits", "y_digits"), SMALL)
def test_what_occurs_in_all_small_problems_is_what_is_listed(base, operator, x_digits, y_digits):
    """All, and nothing else: no context of these bases is out of reach."""
    assert occurring(every(operator, base, x_digits, y_digits), base) == listed(contexts(operator, base))


def test_what_occurs_in_quotients_of_base_4_is_what_is_listed():
    """All of 3 digits by 3, and some of 4 by 4: only there y is put back over two zeros."""
    found = occurring(every("/", 4, 3, 3), 4) | occurring(every("/", 4, 4, 4)[::7], 4)
    assert found == listed(contexts("/", 4))


@pytest.mark.parametrize("base", [10, 16])
@pytest.mark.parametrize("operator", "+-*/")
def test_what_occurs_in_larger_problems_is_listed(operator, base):
    found = occurring(random_texts(operator, base, 2000 if operator in "+-" else 700), base)
    expected = listed(contexts(operator, base))
    assert found.items() <= expected.items()
    assert len(found) > 0.9 * len(expected) or (operator in "*/" and len(found) > 5000)


def random_texts(operator: str, base: int, number: int) -> np.ndarray:
    """Problems of up to 7 digits, most digits the highest one in some, so that y is put back often."""
    rng, numbers = np.random.default_rng(base), []
    for place in range(4 if operator == "+" else 2):
        digits = rng.integers(0, base, (7, number))
        digits = np.where((rng.random(number) < 0.3) & (rng.random((7, number)) < 0.7), base - 1, digits)
        if operator == "/":
            digits = np.maximum(digits, place)
        numbers.append(Numbers.cut(digits, rng.integers(place < 2, 8 if operator != "/" else 8 - 2 * place, number)))
    return texts(operator, numbers, base)


@pytest.mark.parametrize("base", [3, 10])
@pytest.mark.parametrize("operator", "+-*/")
def test_what_follows_in_a_column_is_what_python_calculates(operator, base):
    asked = contexts(operator, base)
    bar, plus = sign("|", base), sign("+", base)
    for cells, kind, says in zip(asked.symbols.tolist(), asked.kinds[:, -1], asked.says.tolist(), strict=True):
        _, head, operand, above, carry, top, own = cells
        is_guess = operator == "/" and own == bar
        if says >= 2 * base or is_guess or operand == above == NOTHING:
            continue  # a sign, a guess, or what stands above all columns
        into = carry - base if carry // base == 1 else 0
        if operator == "+" or (operator == "/" and head == plus):
            result = max(above, top, 0) + max(operand, 0) + into
        elif operator == "-":
            result = (max(above, 0) if head != NOTHING else -above) - max(operand, 0) - into
        else:
            result = max(above, 0) + (head * operand + into) * (1 if operator == "*" else -1)
        after, digit = divmod(result, base)
        is_digit = KINDS[kind] in ("digit", "top")
        assert (own, says) == (digit, base + abs(after)) if is_digit else says == digit


@pytest.mark.parametrize("operator", "+-*/")
def test_an_error_that_is_planted_in_one_column_is_found(monkeypatch, operator):
    name = {"+": "SUM", "-": "DIFFERENCE", "*": "PRODUCT", "/": "TAKEN"}[operator]
    right = getattr(paper, name)

    def step(head, operand, above, carry, base):
        digit, following = right.step(head, operand, above, carry, base)
        is_wrong = (operand == 2) & (above == 1) & (carry == 0)
        return (digit + is_wrong) % base, following

    wrong, problems = Row(step, right.grows), list(itertools.product(range(27), range(operator == "/", 27)))
    found = occurring(every(operator, 3, 3, 3), 3)
    with monkeypatch.context() as planted:
        planted.setattr(contexts_module, name, wrong)
        assert not found.items() <= listed(contexts(operator, 3)).items()
    monkeypatch.setattr(paper, name, wrong)
    with pytest.raises(AssertionError):
        check(operator, problems, 3)
