"""Problems of all operations, bases and numbers of operands: drawn, split, written, tokenized, read and drawn on paper.

What is expected is by Python's integers.
"""

import itertools
import json
import random
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simple_llm.arithmetic import BY_NAME, OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import DIGIT_ALPHABET, to_integers
from simple_llm.arithmetic.drawing import drawn
from simple_llm.arithmetic.operation import Operation
from simple_llm.arithmetic.paper import texts
from simple_llm.arithmetic.symbols import NOTHING
from simple_llm.config.settings import DataConfig, Numbers, Operations, Sizes, Split, TrainConfig
from simple_llm.data.problems import concatenate, from_integers, Problems
from simple_llm.data.rows import RowFormat
from simple_llm.data.sampling import draw_unique, Sampler
from simple_llm.data.split import split_sides
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.model.tokens import answer_tokens, prompt_tokens, read_results, row_tokens
from tests.paper_model import ON_PAPER
from tests.pipeline import write_configs
from tests.test_paper import columns_of
from tokenizer import train_tokenizer

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]

Asked = tuple[Operation, tuple[int, ...]]
IN_A_ROW = TrainConfig.model_validate({"model": {"tokens_per_step": 1, "position_embedding": "none"}})


@st.composite
def asked(draw: st.DrawFn, most: int = 5) -> Asked:
    """An operation and its numbers; sums of up to `most`."""
    operation = draw(st.sampled_from(OPERATIONS))
    count = draw(st.integers(2, most)) if operation.takes_many else 2
    size = draw(st.sampled_from([10, 1000, 10**12, 10**40]))
    numbers = draw(st.lists(st.integers(0, size), min_size=count, max_size=count))
    if operation.leaves_rest:
        numbers[1] += numbers[1] == 0
    return operation, tuple(numbers)


def problems_of(some: list[Asked], base: int) -> Problems:
    width = len(in_base(max(max(numbers) for _, numbers in some), base))
    return concatenate([from_integers([numbers], base, width, operation) for operation, numbers in some])


def in_base(value: int, base: int) -> str:
    """Most significant digit first."""
    text = ""
    while value or not text:
        text, value = DIGIT_ALPHABET[value % base] + text, value // base
    return text


def answers_of(operation: Operation, numbers: tuple[int, ...]) -> tuple[int, ...]:
    x, y = numbers[:2]
    of_each = {"add": (sum(numbers),), "subtract": (x - y,), "multiply": (x * y,)}
    return of_each.get(operation.name) or divmod(x, y)


# ---- Rows and the split ---------------------------------------------------------------------------


@given(st.lists(asked(), min_size=1, max_size=8), st.integers(2, 36), st.booleans())
def test_rows_of_all_operations_are_written_as_by_hand_and_read_back(some, base, is_reversed):
    layout, problems = RowFormat(base, is_reversed, most_operands=5), problems_of(some, base)
    turn = (lambda text: text[::-1]) if is_reversed else (lambda text: text)
    rows = []
    for operation, numbers in some:
        symbol = "" if operation is ADDITION else operation.symbol
        first, *others = (turn(in_base(number, base)) for number in numbers)
        answer, *rest = answers_of(operation, numbers)
        said = turn("-" * (answer < 0) + in_base(abs(answer), base))
        rows.append("|".join([first, *(symbol + one for one in others), said, *(turn(in_base(r, base)) for r in rest)]))
    content = "".join(f"{row}\n" for row in rows).encode()
    assert layout.write(problems) == content
    assert len(content) <= layout.most_bytes(problems)
    again = layout.parse(content, problems.x.shape[0])
    assert layout.write(again) == content and (again.which == problems.which).all()
    assert again.num_numbers.tolist() == [len(numbers) for _, numbers in some]
    for index, (_, numbers) in enumerate(some):
        got = [to_integers(one[:, index : index + 1], base)[0] for one in again.numbers[: len(numbers)]]
        assert tuple(got) == numbers


@given(asked(), st.integers(2, 36), st.integers(2, 36), st.randoms(use_true_random=False))
def test_the_side_of_a_problem_is_that_of_its_numbers_in_any_order_where_they_may_change_places(
    one, base, other_base, rng
):
    operation, numbers = one
    shuffled = list(numbers)
    rng.shuffle(shuffled)
    split = Split(train=0.4, validation=0.3)
    [side] = split_sides(problems_of([one], base), split)
    assert [side] == split_sides(problems_of([one], other_base), split).tolist()
    beside = problems_of([one, (ADDITION, (1, 2, 3, 4, 5))], base)  # in arrays of more operands
    assert split_sides(beside, split)[0] == side
    if operation.commutes:
        assert [side] == split_sides(problems_of([(operation, tuple(shuffled))], base), split).tolist()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_pairs_of_one_operation_are_on_sides_of_their_own_and_in_order_where_it_matters(operation):
    pairs = list(itertools.product(range(1, 60), repeat=2))
    split = Split(train=0.5, validation=0.25)
    side = dict(zip(pairs, split_sides(from_integers(pairs, 10, 2, operation), split).tolist(), strict=True))
    differ = sum(side[x, y] != side[y, x] for x, y in pairs)
    assert (differ == 0) == operation.commutes
    if not operation.commutes:
        assert 0.55 < differ / len(pairs) < 0.7  # two independent sides: 1 - (1/4 + 1/16 + 1/16)
    for other in OPERATIONS:
        others = split_sides(from_integers(pairs, 10, 2, other), split).tolist()
        assert (others == list(side.values())) == (other is operation)


def test_sides_of_sums_of_two_are_what_they_were_before_there_were_others():
    """As commit 26a1c64 computed them, when sums were all there was."""
    pairs = [(x, y) for x in range(12) for y in range(3)]
    sides = split_sides(from_integers(pairs, 10, 2), Split())
    assert "".join(map(str, sides.tolist())) == SIDES_OF_SUMS


SIDES_OF_SUMS = "000000000002001020100000200000000000"


# ---- Drawing ----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.sampled_from(OPERATIONS),
    st.integers(2, 36),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(2, 4),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_what_is_drawn_is_in_the_sizes_of_its_operation(operation, base, first, second, operands, large_digits):
    sizes = Sizes(**{operation.name: [first, second]})
    numbers = Numbers(max=1, base=base, operands=operands, sizes=sizes)
    sampler = Sampler.of(numbers, operation, large_digits)
    rng = np.random.default_rng(0)
    for stratum in sampler.strata.values():
        problems = stratum(rng, 200)
        x, y, *more = (to_integers(number, base) for number in problems.numbers)
        assert min(x) >= 0 and max(x) < base**first
        assert min(y) >= operation.leaves_rest
        assert all(value < base**second for column in (y, *more) for value in column)
        assert set(problems.num_numbers.tolist()) <= set(range(2, 1 + (operands if operation.takes_many else 2)))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_a_share_of_the_numbers_has_mostly_the_two_largest_digits_in_a_division_of_the_divisors(operation):
    numbers = Numbers(max=10**30 - 1, base=10)

    def share(large_digits: float) -> tuple[float, float]:
        problems = Sampler.of(numbers, operation, large_digits).uniform(np.random.default_rng(1), 4000)
        return tuple(float(((number >= 8).mean(0) > 0.5).mean()) for number in problems.numbers[:2])

    assert max(share(0.0)) < 0.01
    first, second = share(0.3)
    assert 0.25 < second < 0.35
    assert first < 0.01 if operation.leaves_rest else 0.25 < first < 0.35


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_problems_are_drawn_once_each_whatever_stratum_they_are_of(operation):
    """Where most problems of two operands are drawn, by all strata, few are left to come twice unseen."""
    sampler = Sampler.of(Numbers(max=99, base=10, operands=3), operation, 0.2)
    asked_for = dict.fromkeys(sampler.strata, 2500)
    problems = draw_unique(sampler, Split(), (0, 1), asked_for, np.random.default_rng(0)).problems
    rows = RowFormat(10, most_operands=3).write(problems).split(b"\n")[:-1]
    assert len(rows) == len(set(rows)) == sum(asked_for.values())


# ---- Tokens ---------------------------------------------------------------------------------------


def tokenizer_of(base: int, train: TrainConfig, is_reversed: bool = True):
    shares = dict.fromkeys(BY_NAME, 0.25)
    data = DataConfig(numbers=Numbers(max=9, base=base, reversed=is_reversed), operations=Operations(**shares))
    return train_tokenizer(iter([]), data, train)


def shown(operation: Operation, numbers: tuple[int, ...]) -> str:
    answer, *rest = answers_of(operation, numbers)
    return f"{operation.write(*numbers)}={answer}" + (f" r {rest[0]}" if any(rest) else "")


@settings(max_examples=40)
@given(st.lists(asked(), min_size=1, max_size=6), st.integers(2, 36), st.sampled_from(["columns", "row", "top first"]))
def test_what_is_asked_and_answered_goes_into_tokens_and_back(some, base, how):
    """Of work on paper the texts are short: its numbers are cut to few digits."""
    train = ON_PAPER if how == "columns" else IN_A_ROW
    if how == "columns":
        some = [(operation, tuple(number % 10**6 for number in numbers)) for operation, numbers in some]
        some = [(one, (x, y + one.leaves_rest, *more)) for one, (x, y, *more) in some]
    else:
        some = [(operation, numbers[:2]) for operation, numbers in some]
    tokenizer = tokenizer_of(base, train, is_reversed=how != "top first")
    vocabulary, problems = vocabulary_of(tokenizer, 1), problems_of(some, base)
    prompts, answers, rows = (make(problems, vocabulary) for make in (prompt_tokens, answer_tokens, row_tokens))
    assert read_results(prompts, answers, vocabulary) == [answers_of(*one) for one in some]
    unpadded = lambda row: [token for token in row.tolist() if token != vocabulary.pad_id]  # noqa: E731
    for index, one in enumerate(some):
        prompt, answer = unpadded(prompts[index]), unpadded(answers[index])
        assert tokenizer(f"{one[0].write(*one[1])}=").input_ids == prompt
        assert unpadded(rows.tokens[index]) == prompt + answer
        assert int(rows.answer_start[index]) == len(prompt)
        assert answer[-1] == vocabulary.end_id
        assert tokenizer.decode(prompt + answer) == shown(*one)
        if how != "columns":
            assert tokenizer(shown(*one)).input_ids == prompt + answer


@pytest.mark.parametrize("train", [ON_PAPER, IN_A_ROW], ids=["columns", "row"])
def test_rubbish_is_read_as_no_answer_or_as_one_and_never_an_error(train):
    vocabulary = vocabulary_of(tokenizer_of(3, train), 1)
    rng = random.Random(0)
    some = [(rng.choice(OPERATIONS), (rng.randrange(40), rng.randrange(1, 40))) for _ in range(400)]
    prompts = prompt_tokens(problems_of(some, 3), vocabulary)
    generator = torch.Generator().manual_seed(0)
    rubbish = torch.randint(0, 8 if train is IN_A_ROW else 17, (400, 9), generator=generator)
    results = read_results(prompts, rubbish, vocabulary)
    assert len(results) == 400
    assert all(one is None or all(isinstance(value, int) for value in one) for one in results)
    assert sum(one is None for one in results) > 200


# ---- Work drawn for people --------------------------------------------------------------------------


@settings(max_examples=60)
@given(asked(), st.integers(2, 16))
def test_each_line_of_drawn_work_is_what_python_computes(one, base):
    operation, numbers = one
    numbers = tuple(number % base**5 for number in numbers)
    numbers = (numbers[0], numbers[1] + operation.leaves_rest, *numbers[2:])
    [text] = texts(operation.symbol, columns_of([numbers], base), base)
    question, blank, *lines = drawn(text[text != NOTHING].tolist(), base).split("\n")
    assert question == f" {operation.symbol} ".join(in_base(number, base) for number in numbers)
    assert blank == ""
    rows = [re.fullmatch(r" *([0-9A-Z]+)(?: {4,}(.*))?", line) for line in lines]  # others are carries above a row
    values = [(int(row[1], base), row[2] or "") for row in rows if row]
    LINES[operation.name](numbers, values, base)


def check_sum(numbers: tuple[int, ...], values: list[tuple[int, str]], base: int) -> None:
    assert [value for value, _ in values] == list(itertools.accumulate(numbers))
    assert [note for _, note in values][1:] == [f"+ {in_base(number, base)}" for number in numbers[1:]]


def check_difference(numbers: tuple[int, ...], values: list[tuple[int, str]], base: int) -> None:
    x, y = numbers
    assert values[0][0] == x
    assert values[-1][0] == abs(x - y)
    assert ("below zero" in values[-1][1]) == (x < y)
    width = max(len(in_base(number, base)) for number in numbers)
    assert values[1][0] == (x - y) % base**width


def check_product(numbers: tuple[int, ...], values: list[tuple[int, str]], base: int) -> None:
    x, y = numbers
    above = 0
    for (value, note), digit in zip(values, reversed(in_base(y, base)), strict=False):
        above = above // base + x * int(digit, base)
        assert value == above
        assert note.startswith(f"{in_base(x, base)} * {digit}")
    assert values[-1][0] == x * y
    assert len(values) == len(in_base(y, base)) + 1


def check_quotient(numbers: tuple[int, ...], values: list[tuple[int, str]], base: int) -> None:
    x, y = numbers
    assert values[0][0] == x
    if len(values) > 1:
        assert values[-1][0] == x % y
    heads = ""
    for index, (_, note) in enumerate(values[1:], 1):
        is_last = index + 1 == len(values) or not values[index + 1][1].startswith("too much")
        if is_last:
            heads += note.rpartition("so ")[2] if note.startswith("too much") else note.split()[1]
    assert int(heads or "0", base) == x // y


LINES = {"add": check_sum, "subtract": check_difference, "multiply": check_product, "divide": check_quotient}


# ---- The scripts, without a scratchpad --------------------------------------------------------------


def test_the_scripts_go_through_with_all_operations_in_one_row(tmp_path, call_script):
    data = {
        "numbers": {"max": 48, "base": 7, "sizes": {"divide": [3, 1], "add": [2, 1]}},
        "operations": {"add": 0.1, "subtract": 0.2, "multiply": 0.3, "divide": 0.4},
        "sampling": {"uniform": 0.5, "lengths": 0.3, "carries": 0.2, "large_digits": 0.3},
        "storage": {"path": "sequences.txt", "num_sequences": 1000},
    }
    training = {"batch_size": 32, "max_steps": 4, "warmup_steps": 1, "eval_every": 2, "save_every": 2}
    train = {
        "paths": {"model": "model"},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 8, "tokens_per_step": 2},
        "training": {**training, "eval_problems": 20, "precision": "fp32", "device": "cpu"},
    }
    write_configs(tmp_path, data, train)
    for name, *options in (
        ("data_generator.py",),
        ("tokenizer.py",),
        ("trainer.py",),
        ("evaluate.py", "--samples", "30"),
    ):
        called = call_script(name, *options, cwd=tmp_path)
        assert called.exit_code == 0, called.stderr
    symbols = [re.search(r"\|([-*/]?)", row)[1] for row in (tmp_path / "sequences.txt").read_text().splitlines()]
    assert [symbols.count(one) for one in ("", "-", "*", "/")] == [100, 200, 300, 400]
    report = json.loads((tmp_path / "model" / "evaluation.json").read_text())
    assert {name: one["total"] for name, one in report["operations"].items()} == dict.fromkeys(BY_NAME, 30)
    for option, told in (
        ("--exhaustive", "--exhaustive goes from column to column, as no product does; see --samples\n"),
        ("--all-lengths", "--all-lengths needs model.attention_window, or model.scratchpad = columns"),
    ):
        called = call_script("evaluate.py", option, cwd=tmp_path)
        assert called.exit_code == 2 and called.stderr.startswith(told) and called.stderr.count("\n") == 1
    called = call_script("inference.py", "48*48", "342/6", "0/6", "48-9", "48+6", cwd=tmp_path)
    assert called.exit_code == 0, called.stderr
    assert [line.partition("=")[0] for line in called.stdout.splitlines()] == ["48*48", "342/6", "0/6", "48-9", "48+6"]
    for typed, largest in (("48+7", 6), ("343/6", 342), ("7/7", 6), ("49*1", 48)):
        called = call_script("inference.py", typed, cwd=tmp_path)
        assert (called.exit_code, called.stdout) == (2, "")
        assert f"is above {largest}, the largest this model knows" in called.stderr
