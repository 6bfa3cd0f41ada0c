"""Work on paper in bulk: the tokens are those said one at a time, and a text that goes wrong does no harm to others."""

import functools
import itertools
import random

import numpy as np
import pytest
import torch

from simple_llm.arithmetic.paper import read
from simple_llm.model import known_contexts
from simple_llm.model.columns_decoding import ColumnsDecoder, Result
from simple_llm.processes import Processes
from tests.paper import RAISED, read_off, written
from tests.planted_contexts import (
    Context,
    one_at_a_time,
    one_at_a_time_contexts,
    PlantedEngine,
    right,
    right_but_for,
    Says,
)
from tests.test_grid import characters, END, EXAMPLES, grid_model, PAD, problems, QUESTIONS, text_of, tokens_of

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]


@pytest.fixture(autouse=True)
def asked_alone(monkeypatch):
    """A planted table has no contexts but those that are met, so neighbours are not asked for."""
    monkeypatch.setattr(known_contexts, "FEW", 0)


def question_of(text: str) -> str:
    return text[: text.index("|") + 1]


def prompts_of(questions: list[str], base: int = 10) -> torch.Tensor:
    length = max(map(len, questions))
    return torch.tensor([tokens_of(question.ljust(length, "_"), base) for question in questions])


def decoder_of(says: Says, base: int = 10) -> ColumnsDecoder:
    return ColumnsDecoder(PlantedEngine(says, base))


def said_by(decoder: ColumnsDecoder, questions: list[str], base: int = 10, **settings) -> list[str]:
    """What is said, without padding; that = is where an answer is finished is checked."""
    answers = decoder.decode(prompts_of(questions, base), **settings)
    texts = [text_of(row, base).rstrip("_") for row in answers.tokens.tolist()]
    assert answers.is_finished.tolist() == [text.endswith("=") for text in texts]
    return texts


def value_of(result: Result | None, base: int) -> int | tuple[int, int] | None:
    if result is None:
        return None
    value, rest = (
        None if digits is None else sum(int(digit) * base**place for place, digit in enumerate(digits))
        for digits in (result.digits, result.rest)
    )
    assert rest is None or not result.is_negative
    return (value, rest) if rest is not None else -value if result.is_negative else value


def symbols_of(text: str, base: int) -> list[int]:
    """As paper.py has them: the tokens of test_grid in another order."""
    order = characters(base)[8:] + "|+-*/="
    return [order.index(character) for character in text]


def as_read(text: str, base: int) -> int | tuple[int, int] | None:
    """What is read off a whole text by its form, as paper.py has it."""
    if set(text) & set("_?"):
        return None
    [value] = read(np.array([symbols_of(text, base)]), base)
    return value


# ---- What is right --------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [2, 3, 10])
def test_a_right_model_writes_the_texts_of_all_operations_side_by_side(base):
    others = ("/", [3, 40]), ("*", [0, 0]), ("-", [5, 5])
    texts = problems(base, 600) + [written(operator, numbers, base) for operator, numbers in others]
    questions = [question_of(text) for text in texts]
    decoder = decoder_of(right(base), base)
    said = said_by(decoder, questions, base)
    assert [question + answer for question, answer in zip(questions, said, strict=True)] == texts
    results = decoder.results(prompts_of(questions, base))
    assert [value_of(result, base) for result in results] == [read_off(text, base) for text in texts]
    assert [result.num_tokens for result in results] == list(map(len, said))


def test_long_numbers():
    draw = random.Random(2)
    numbers = [
        [draw.randrange(10**size) for size in sizes] for sizes in [(50, 40), (5, 60), (60, 5), (80, 33, 81, 4, 79)]
    ]
    texts = [written(operator, pair, 10) for operator in "*-/" for pair in numbers[:3]] + [written("+", numbers[3], 10)]
    questions = [question_of(text) for text in texts]
    decoder = decoder_of(right(10))
    assert [*map(str.__add__, questions, said_by(decoder, questions))] == texts
    results = decoder.results(prompts_of(questions))
    assert [value_of(result, 10) for result in results] == [read_off(text, 10) for text in texts]


def test_numbers_may_begin_with_zeros():
    questions = ["*750*6400|", "+210+3+400000+0|", "-0-00|", "-10-0000|", "/00/65|", "/24710000/65|", "/240/1|"]
    decoder = decoder_of(right(10))
    assert said_by(decoder, questions) == [one_at_a_time(right(10), question) for question in questions]
    results = decoder.results(prompts_of(questions))
    assert [value_of(result, 10) for result in results] == [2622, 19, 0, 1, (0, 0), (31, 6), (42, 0)]
    assert [result.digits.tolist() for result in results[:3]] == [[2, 2, 6, 2], [9, 1], [0]]


def test_rows_of_products_and_sums_go_side_by_side():
    """A row of a product is three tokens behind the one above, a row of a sum one."""
    decoder = decoder_of(right(10))

    def num_steps(operator: str, numbers: list[int]) -> int:
        [result] = decoder.results(prompts_of([question_of(written(operator, numbers, 10))]))
        return result.num_steps

    for n, m in itertools.product([1, 2, 7, 30], repeat=2):  # 111 * 11
        assert num_steps("*", [int("1" * n), int("1" * m)]) == max(3 * (m - 1) + 2 * n + 1, 3 * m + 1)
    for width, count in itertools.product([1, 2, 7, 30], [2, 3, 9]):
        assert num_steps("+", [10 ** (width - 1)] * count) == max(count - 2 + 2 * width + 1, count)
    assert num_steps("+", [9, 1, 90]) == 1 + 2 * 2 + 2  # both rows grow


# ---- One at a time --------------------------------------------------------------------------------


def mostly_well_formed(base: int, seed: int) -> Says:
    """A function of the context that says any numbers, in texts that often have their form and sometimes none."""
    digits, everything = characters(base)[8 : 8 + base], characters(base)

    def says(context: Context) -> str:
        draw = random.Random(f"{seed} {context}")
        if draw.random() < (0.01 if base > 3 else 0.06):
            return draw.choice(everything)
        return draw.choice(well_formed(*context))

    def well_formed(own: tuple[str, str], sees: tuple[tuple[str, str], ...]) -> str:
        """All that may follow, one of them at random."""
        kinds = {kind for _, kind in sees}
        operator = next(sign for sign in "/*-+" if (sign, "sign") in sees)
        has_column = "operand" in kinds or ("digit" in kinds and operator != "/")
        if own[1] == "sign":
            return digits if len(sees) > 1 else "="
        if own == ("|", "carry") and "head" not in kinds:
            return "="
        if own[1] in ("digit", "top"):
            return RAISED[:base] if has_column else "|"
        if has_column:
            return digits
        may_follow = {"/": "||+", "-": "|-" if "head" in kinds else "|"}
        return may_follow.get(operator, digits + base * "|")

    return says


def most_put_back(text: str) -> int:
    return max(group.count("+") for group in text.split("|"))


@pytest.mark.parametrize(("base", "seed"), [(2, 0), (2, 1), (2, 2), (3, 3), (3, 4), (10, 5), (10, 6)])
def test_fault_46_whatever_a_model_says_the_tokens_are_those_said_one_at_a_time(base, seed):
    says = mostly_well_formed(base, seed)
    questions = [question_of(text) for text in problems(base, 120, seed)]
    decoder = decoder_of(says, base)
    said, results = said_by(decoder, questions, base), decoder.results(prompts_of(questions, base))
    num_whole = 0
    for question, answer, result in zip(questions, said, results, strict=True):
        expected = one_at_a_time(says, question, len(answer) + 50)
        whole = as_read(question + expected, base)
        if question[0] == "/" and most_put_back(expected) > base:
            whole = None
        num_whole += whole is not None
        assert answer == expected if whole is not None else expected.startswith(answer), question
        assert value_of(result, base) == whole, question
        assert result is None or result.num_tokens == len(answer)
    assert 20 < num_whole < 115


# ---- What goes wrong ------------------------------------------------------------------------------


@functools.cache
def asked_for() -> dict[str, set[Context]]:
    """Some right texts, and the contexts in them."""
    texts = problems(10, 40, 7)
    return {text: set(one_at_a_time_contexts(right(10), question_of(text))[1]) for text in texts}


def changed(text: str, *places: tuple[int, str]) -> tuple[str, Says, set[Context]]:
    """A question, a model that is right but for what it says at some places of the work on it, and where that is."""
    question = question_of(text)
    _, asked = one_at_a_time_contexts(right(10), question)
    others = {asked[place]: says for place, says in places}
    return question, right_but_for(10, others), set(others)


PRODUCT, QUOTIENT, SUM, DIFFERENCE, PUT_BACK = EXAMPLES
WRONG = [
    (PRODUCT, [(2, "|")], "2⁴|"),  # a row ends early
    (PRODUCT, [(3, "=")], "2⁴4="),  # and the text
    (PRODUCT, [(5, "=")], "2⁴4³3="),
    (PRODUCT, [(1, "3")], "23"),  # a digit where a carry is due
    (PRODUCT, [(2, "⁵")], "2⁴⁵"),  # a carry where a digit is
    (PRODUCT, [(5, "4")], "2⁴4³34"),  # a row does not end
    (PRODUCT, [(5, "⁴")], "2⁴4³3⁴"),
    (PRODUCT, [(5, "-")], "2⁴4³3-"),
    (PRODUCT, [(5, "*")], "2⁴4³3*"),
    (PRODUCT, [(4, "⁰")], "2⁴4³⁰"),
    (PRODUCT, [(8, "?")], "2⁴4³3|2³?"),
    (PRODUCT, [(0, "_")], ""),
    (PRODUCT, [(12, "|")], "2⁴4³3|2³6²2||"),  # a text does not end
    (PRODUCT, [(12, "2")], "2⁴4³3|2³6²2|2"),
    (PRODUCT, [(6, "|"), (12, "-")], "2⁴4³3||"),  # the first of two
    (PRODUCT, [(5, "+"), (6, "=")], "2⁴4³3+"),  # which is said after the second
    (SUM, [(6, "-")], "5⁰8⁰8⁰-"),
    (SUM, [(6, "="), (7, "⁰")], "5⁰8⁰8⁰="),
    (SUM, [(6, "+")], "5⁰8⁰8⁰+"),
    (SUM, [(6, "1")], "5⁰8⁰8⁰1|9⁰8⁰8⁰1⁰1|="),  # wrong, but a text of work
    (DIFFERENCE, [(6, "|")], "3¹6¹4¹|="),
    (DIFFERENCE, [(6, "0")], "3¹6¹4¹0"),
    (DIFFERENCE, [(6, "+")], "3¹6¹4¹+"),
    (DIFFERENCE, [(13, "-")], "3¹6¹4¹-7¹3¹5¹-"),
    (DIFFERENCE, [(13, "1")], "3¹6¹4¹-7¹3¹5¹1"),
    (DIFFERENCE, [(14, "|")], "3¹6¹4¹-7¹3¹5¹||"),
    (QUOTIENT, [(0, "⁰")], "⁰"),  # no guess
    (QUOTIENT, [(0, "=")], "="),
    (QUOTIENT, [(3, "+")], "07⁰+"),
    (QUOTIENT, [(5, "-")], "07⁰1⁰-"),
    (QUOTIENT, [(5, "0")], "07⁰1⁰0"),
    (QUOTIENT, [(5, "=")], "07⁰1⁰="),
    (QUOTIENT, [(18, "0")], "07⁰1⁰|36²0¹|16¹0⁰|0"),
    (QUOTIENT, [(18, "+")], "07⁰1⁰|36²0¹|16¹0⁰|+"),
    (PUT_BACK, [(12, "⁰")], "03⁰1⁰|32²9²+⁰"),
    (PUT_BACK, [(12, "=")], "03⁰1⁰|32²9²+="),
    (PUT_BACK, [(17, "9")], "03⁰1⁰|32²9²+28⁰3¹9"),
]


@pytest.mark.parametrize(("text", "places", "expected"), WRONG)
def test_fault_46_an_answer_ends_where_its_work_goes_wrong_and_others_are_as_they_were(text, places, expected):
    question, says, wrong = changed(text, *places)
    others = [other for other, asked in asked_for().items() if not asked & wrong]
    assert len(others) > 10
    questions = list(map(question_of, others))
    together = [*questions[::2], question, *questions[1::2]]
    decoder = decoder_of(says)
    said = dict(zip(together, said_by(decoder, together), strict=True))
    assert said.pop(question) == expected
    assert said == {question_of(other): other[len(question_of(other)) :] for other in others}
    assert one_at_a_time(says, question, len(expected)) == expected or not expected
    results = dict(zip(together, decoder.results(prompts_of(together)), strict=True))
    assert value_of(results.pop(question), 10) == as_read(question + expected, 10)
    assert [value_of(results[question_of(other)], 10) for other in others] == [read_off(other, 10) for other in others]


@pytest.mark.parametrize("base", [2, 10])
def test_fault_46_a_divisor_is_put_back_no_more_often_than_the_base(base):
    def says(context: Context) -> str:
        (own, kind), sees = context
        if ("/", "sign") not in sees:
            return right(base)(context)
        if kind in ("digit", "top"):
            return RAISED[1]
        return "1" if own in "|+1" or "operand" in {kind for _, kind in sees} else "+"

    text, other = said_by(decoder_of(says, base), ["/111/11|", "+1+1|"], base)
    assert text == "+".join(["11¹1¹"] * (base + 1)) + "+"
    assert one_at_a_time(says, "/111/11|", len(text)) == text
    assert other == one_at_a_time(right(base), "+1+1|")


# ---- Weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [2, 3, 10])
@pytest.mark.parametrize("seed", range(2))
def test_of_random_weights_the_tokens_are_those_of_generate(base, seed):
    model = grid_model(base, seed=seed)
    questions = [question_of(text) for text in problems(base, 32, seed)]
    answers = ColumnsDecoder.of(model).decode(prompts_of(questions, base), keep_logits=True)
    num_tokens = (answers.margins < torch.inf).sum()
    for index, question in enumerate(questions):
        row = answers.tokens[index]
        num_said = int((row != PAD).sum())
        num_tokens += num_said
        prompt = torch.tensor([tokens_of(question, base)])
        generated = model.generate(prompt, max_new_tokens=num_said)[0, prompt.size(1) :]
        assert torch.equal(row[:num_said], generated), question
        assert answers.is_finished[index] == (generated[-1] == END)
        with torch.inference_mode():
            whole = model(input_ids=torch.cat([prompt[0], generated])[None]).logits[0, prompt.size(1) - 1 : -1]
        assert torch.allclose(answers.logits[index, :num_said], whole, atol=1e-4)
        best, second = whole.topk(2).values.unbind(-1)
        assert torch.isclose(answers.margins[index], (best - second).min(), atol=1e-4)
        assert not answers.logits[index, num_said:].any()
    assert num_tokens > len(questions)


def test_a_model_of_two_blocks_is_refused():
    with pytest.raises(ValueError, match="2 blocks"):
        ColumnsDecoder.of(grid_model(n_layer=2))


# ---- In bulk --------------------------------------------------------------------------------------


def test_batches_answer_what_one_batch_answers():
    questions = [question_of(text) for text in problems(10, 90)]
    decoder, prompts = decoder_of(right(10)), prompts_of(questions)
    for answer in (decoder.decode, decoder.results):
        sizes = []
        whole = answer(prompts)
        in_parts = answer(prompts, memory_budget=10_000, on_batch=sizes.append)
        assert len(sizes) > 5 and sum(sizes) == len(questions)
        if isinstance(whole, list):
            assert [value_of(one, 10) for one in in_parts] == [value_of(one, 10) for one in whole]
        else:
            assert torch.equal(in_parts.tokens, whole.tokens) and in_parts.is_finished.all()
            assert torch.equal(in_parts.margins, whole.margins)

        def stop(num_prompts: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            answer(prompts, on_batch=stop)


def test_no_prompts_have_no_answers():
    decoder = decoder_of(right(10))
    answers = decoder.decode(prompts_of(QUESTIONS)[:0], keep_logits=True)
    assert [len(one) for one in (answers.tokens, answers.is_finished, answers.margins, answers.logits)] == [0] * 4
    assert decoder.results(prompts_of(QUESTIONS)[:0]) == []


def test_longer_answers_are_cut():
    decoder = decoder_of(right(10))
    whole, cut = (decoder.decode(prompts_of(QUESTIONS), most, keep_logits=True) for most in (None, 14))
    assert torch.equal(cut.tokens, whole.tokens[:, :14])
    assert torch.equal(cut.logits, whole.logits[:, :14])
    assert cut.is_finished.tolist() == [len(text) - len(question_of(text)) <= 14 for text in EXAMPLES]
    assert torch.equal(whole.logits.argmax(-1), whole.tokens)
    assert whole.margins.tolist() == cut.margins.tolist() == [0.5] * len(QUESTIONS)
    assert torch.equal(decoder.decode(prompts_of(QUESTIONS), 1000).tokens, whole.tokens)


class OneOfTwo(Processes):
    """One of two processes that do not know of each other: what the other one found is 0."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def largest(self, number: int) -> int:
        return 200


def test_processes_share_prompts():
    whole = decoder_of(right(10)).decode(prompts_of(QUESTIONS))
    both = [
        ColumnsDecoder(PlantedEngine(right(10), 10), OneOfTwo(rank, 2)).decode(prompts_of(QUESTIONS), keep_logits=True)
        for rank in range(2)
    ]
    tokens = both[0].tokens + both[1].tokens
    width = whole.tokens.size(1)
    assert torch.equal(tokens[:, :width], whole.tokens) and (tokens[:, width:] == PAD).all() and tokens.size(1) == 200
    assert (both[0].is_finished ^ both[1].is_finished).all()
    assert torch.equal(both[0].margins + both[1].margins, whole.margins)
    assert torch.equal((both[0].logits + both[1].logits)[:, :width].argmax(-1), whole.tokens)


@pytest.mark.parametrize(
    "row",
    [
        *("75*64|", "*75*64", "*75*64|2", "*7_5*64|", "*75*64||", "*75*64|=", "*75*64?|", "*7⁴*64|", "|", "_"),
        *("*75+64|", "*75*64*3|", "*75|", "**64|", "*75*|", "/75/60|", "/75/0|", "-1-2-3|", "+5|", "*75=64|"),
    ],
)
def test_rows_that_are_no_question_are_refused(row):
    decoder = decoder_of(right(10))
    for answer in (decoder.decode, decoder.results):
        with pytest.raises(ValueError, match="1 of 2 rows are no question"):
            answer(prompts_of(["*75*64|", row]))


def test_what_was_asked_is_known():
    decoder = decoder_of(right(10))
    engine, prompts = decoder.engine, prompts_of([question_of(text) for text in asked_for()])
    first = decoder.decode(prompts)
    num_asked = engine.num_asked
    num_tokens = int((first.tokens != PAD).sum())
    assert num_asked == len(decoder.known) == len(set.union(*asked_for().values())) < num_tokens
    assert engine.num_calls < first.tokens.size(1)
    assert torch.equal(decoder.decode(prompts).tokens, first.tokens)
    decoder.results(prompts)
    assert engine.num_asked == num_asked
    decoder.decode(prompts_of(["/2471998/658|"]))
    assert engine.num_asked == len(decoder.known) > num_asked


def test_a_step_is_one_call_for_everything_that_is_due():
    texts = [written("*", [10**20 - 1, 3456789], 10), written("/", [987654321, 4321], 10), EXAMPLES[2], EXAMPLES[3]]
    decoder = decoder_of(right(10))
    results = decoder.results(prompts_of([question_of(text) for text in texts]))
    assert decoder.engine.num_calls <= max(result.num_steps for result in results) < 110


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_that_are_asked_too_change_nothing(seed, monkeypatch):
    model = grid_model(seed=seed)
    prompts = prompts_of([question_of(text) for text in EXAMPLES])
    alone, together = ColumnsDecoder.of(model), ColumnsDecoder.of(model)
    expected = alone.decode(prompts)
    monkeypatch.setattr(known_contexts, "FEW", 8)
    found = together.decode(prompts)
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(found.margins, expected.margins)
    assert len(together.known) > len(alone.known)
