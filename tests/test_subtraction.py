"""Differences, below zero too, on their whole way: rows, sides, tokens, text, prompts, proofs, by Python's integers."""

import itertools
import re

import numpy as np
import pytest
import torch

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import to_integers
from simple_llm.arithmetic.operands import Operands
from simple_llm.arithmetic.subtraction import SUBTRACTION
from simple_llm.config.conflicts import conflicts
from simple_llm.config.settings import AttentionWindow, DataConfig, Model, Numbers, Operations, Split, TrainConfig
from simple_llm.data.problems import concatenate, from_integers
from simple_llm.data.rows import RowFormat
from simple_llm.data.sampling import Sampler
from simple_llm.data.split import split_sides
from simple_llm.errors import UsageError
from simple_llm.evaluation.lengths import refuse_long_lengths
from simple_llm.evaluation.margins import row_margins
from simple_llm.model.decoding import Decoder
from simple_llm.model.engine import Engine
from simple_llm.model.folder import LoadedModel
from simple_llm.model.prompts import parse_prompt, PromptError
from simple_llm.model.tokens import answer_tokens, make_examples, prompt_tokens, read_answers, row_tokens
from simple_llm.proof.all_pairs import Prover
from simple_llm.proof.pair_tree import PairTree
from tests.test_tokens import show
from tests.tiny_models import make_tokenizer, make_vocabulary, tiny_model

pytestmark = pytest.mark.library

BOTH = (ADDITION, SUBTRACTION)
PAIRS = list(itertools.product(range(31), repeat=2))
WAYS = [1, 2, "all"]


def differences(pairs, base=10, width=2):
    return from_integers(pairs, base, width, SUBTRACTION)


def of_both(pairs, base=10, width=2):
    """The sums and the differences, by turns."""
    problems = concatenate([from_integers(pairs, base, width, one) for one in BOTH])
    return problems[np.arange(2 * len(pairs)).reshape(2, -1).T.ravel()]


def written(problems, vocabulary, tokens):
    """Rows of tokens as text, with - for the sign."""
    return [
        "".join("-" if token == vocabulary.sign_id else show(torch.tensor([token]), vocabulary) for token in row)
        for row in tokens.tolist()
    ]


def value_of(problems):
    values = to_integers(problems.z, problems.base)
    return [-value if is_negative else value for value, is_negative in zip(values, problems.is_negative, strict=True)]


def in_digits(value, base, is_reversed=True):
    """A number as text, least significant digit first, its sign last; or the other way round."""
    digits, rest = "", abs(value)
    while rest or not digits:
        rest, digit = divmod(rest, base)
        digits += "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit]
    digits += "-" * (value < 0)
    return digits if is_reversed else digits[::-1]


# ---- Numbers and rows -----------------------------------------------------------------------------


@pytest.mark.parametrize("base", [2, 3, 10, 16, 36])
def test_differences_are_pythons_and_have_their_sign_for_every_pair(base):
    pairs = list(itertools.product(range(min(base**3, 60)), repeat=2))
    assert value_of(differences(pairs, base, 6)) == [x - y for x, y in pairs]
    assert value_of(of_both(pairs, base, 6)) == [value for x, y in pairs for value in (x + y, x - y)]


@pytest.mark.parametrize("is_reversed", [True, False])
@pytest.mark.parametrize("base", [2, 10, 16])
def test_rows_of_both_operations_are_as_the_design_has_them_and_are_read_back(base, is_reversed):
    problems, layout = of_both(PAIRS, base, 5), RowFormat(base, is_reversed)
    content = layout.write(problems)
    number = lambda value: in_digits(value, base, is_reversed)  # noqa: E731
    expected = [
        row
        for x, y in PAIRS
        for row in (
            f"{number(x)}|{number(y)}|{number(x + y)}",
            f"{number(x)}|-{number(y)}|{number(x - y)}",
        )
    ]
    assert content.decode().splitlines() == expected
    assert len(content) <= layout.most_bytes(problems)
    again = layout.parse(content, 5)
    assert (again.x == problems.x).all()
    assert (again.which == problems.which).all()
    assert (again.is_negative == problems.is_negative).all()


def test_the_row_of_the_design():
    assert RowFormat(10).write(differences([(342, 879)], width=3)) == b"243|-978|735-\n"


@pytest.mark.parametrize(
    "row",
    ["243|-978|735", "243|-978|535-", "879|-243|-537", "978|-243|735-", "243|978|735-", "5|-5|0-", "5|-|5", "5|--5|5"],
)
def test_a_row_that_is_no_difference_is_named(row):
    layout = RowFormat(10)
    content = layout.write(differences([(1, 2)], width=3)) + row.encode() + b"\n"
    with pytest.raises(ValueError, match=r"row 2: expected .*, found " + re.escape(repr(row))):
        layout.parse(content, 3)


def test_what_should_stand_in_a_wrong_row_is_said():
    with pytest.raises(ValueError, match="expected the difference '735-'"):
        RowFormat(10).parse(b"243|-978|535-\n", 3)


def test_a_difference_has_a_side_of_its_own_and_its_exchange_another():
    split = Split()
    pairs = [(x, y) for x, y in itertools.product(range(200), repeat=2) if x < y]
    one, other = (split_sides(differences(some, width=3), split) for some in (pairs, [(y, x) for x, y in pairs]))
    sums = split_sides(from_integers(pairs, 10, 3), split)
    for sides in (one, other):
        assert abs((sides == 0).mean() - 0.8) < 0.02
    assert abs((one == other).mean() - 0.66) < 0.02  # 0.8^2 + 0.1^2 + 0.1^2
    assert abs((one == sums).mean() - 0.66) < 0.02
    in_16 = split_sides(differences(pairs, 16, 3), split)
    assert (in_16 == one).all()  # by value, not by digits


def test_planted_chains_of_borrows_are_long_and_half_of_them_are_whole():
    drawn = Sampler(Operands(0, 99999, 10), SUBTRACTION).carries(np.random.default_rng(0), 20_000)
    others = Sampler(Operands(0, 99999, 10), SUBTRACTION).lengths(np.random.default_rng(0), 20_000)
    assert (drawn.longest_chain >= 4).mean() > 1.5 * (others.longest_chain >= 4).mean()
    for x, y, chain in zip(*(to_integers(d, 10) for d in (drawn.x, drawn.y)), drawn.longest_chain[:500], strict=False):
        num_places = len(str(max(x, y)))
        borrows = "".join("1" if x % 10**place < y % 10**place else "0" for place in range(1, num_places + 1))
        assert max(map(len, borrows.split("0"))) == chain


def test_a_chain_of_borrows_ends_with_the_numbers_however_many_places_there_are():
    pairs = {(3, 5): 1, (5, 3): 0, (0, 0): 0, (10, 19): 2, (100, 1): 2, (99, 100): 1, (0, 101): 3}
    for width in (3, 4, 50):
        assert differences(pairs, width=width).longest_chain.tolist() == list(pairs.values())


# ---- Tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("is_reversed", [True, False])
def test_in_model_text_the_operator_takes_the_place_of_the_middle_delimiter(k, is_reversed):
    problems, vocabulary = differences(PAIRS), make_vocabulary(10, is_reversed, k, BOTH)
    rows = written(problems, vocabulary, row_tokens(problems, vocabulary).tokens)
    for row, (x, y) in zip(rows, PAIRS, strict=True):
        x, y, z = (in_digits(value, 10, is_reversed) for value in (x, y, x - y))
        assert row.rstrip("P") == f"+{x}-{y}+{z}+"


def test_in_one_pass_a_difference_is_said_as_on_an_odometer_and_the_sign_comes_last():
    problems, vocabulary = differences(PAIRS), make_vocabulary(10, True, "all", BOTH)
    prompts = written(problems, vocabulary, prompt_tokens(problems, vocabulary))
    answers = written(problems, vocabulary, answer_tokens(problems, vocabulary))
    for (x, y), prompt, answer in zip(PAIRS, prompts, answers, strict=True):
        width = max(len(str(x)), len(str(y)))
        assert prompt.rstrip("P") == f"+{str(x)[::-1]}-{str(y).zfill(width)[::-1]}+"
        odometer = str((x - y) % 10**width).zfill(width)
        assert answer.rstrip("P") == odometer[::-1] + ("-" if x < y else "+")


@pytest.mark.parametrize("k", WAYS)
@pytest.mark.parametrize("base", [2, 10, 16])
def test_answers_to_both_operations_are_read_back(base, k):
    problems, vocabulary = of_both(PAIRS, base, 5), make_vocabulary(base, True, k, BOTH)
    assert read_answers(answer_tokens(problems, vocabulary), vocabulary) == value_of(problems)


def test_answers_written_from_the_top_are_read_back():
    problems, vocabulary = of_both(PAIRS), make_vocabulary(10, False, 1, BOTH)
    assert read_answers(answer_tokens(problems, vocabulary), vocabulary) == value_of(problems)


def test_a_sign_elsewhere_than_at_the_top_makes_no_number():
    vocabulary = make_vocabulary(10, True, 1, BOTH)
    one, sign, end, pad = vocabulary.digit_ids[1], vocabulary.sign_id, vocabulary.delimiter_id, vocabulary.pad_id
    zero = vocabulary.digit_ids[0]
    said = [[one, one, sign, end], [one, sign, one, end], [sign, one, end, pad], [sign, end, pad, pad]]
    said += [[one, sign, sign, end], [zero, sign, end, pad], [one, sign, end, sign]]
    assert read_answers(torch.tensor(said), vocabulary) == [-11, None, None, None, None, None, -1]
    in_one_pass = make_vocabulary(10, True, "all", BOTH)
    assert read_answers(torch.tensor([[one, one, sign], [sign, one, one]]), in_one_pass) == [-89, None]


@pytest.mark.parametrize("k", WAYS)
def test_each_token_of_a_difference_is_a_target_and_its_columns_are_given_to_the_middle(k):
    problems, vocabulary = differences(PAIRS), make_vocabulary(10, True, k, BOTH)
    examples = make_examples(problems, vocabulary)
    targets = [row.replace(".", "") for row in written(problems, vocabulary, examples.targets)]
    answers = [row.rstrip("P") for row in written(problems, vocabulary, answer_tokens(problems, vocabulary))]
    assert targets == answers
    given = [row.replace(".", "") for row in written(problems, vocabulary, examples.place_targets)]
    for (x, y), digits in zip(PAIRS, given, strict=True):
        assert digits == str((x - y) % 1000).zfill(3)[::-1][: len(digits)]
        assert len(digits) == (max(len(str(x)), len(str(y))) if k == "all" else len(str(y)))


# ---- Text -----------------------------------------------------------------------------------------


def tokenizer_of(k=1, base=10, is_reversed=True):
    data = DataConfig(
        operations=Operations(add=0.5, subtract=0.5), numbers=Numbers(base=base, reversed=is_reversed, max=9999)
    )
    return make_tokenizer(data, says_all=k == "all")


@pytest.mark.parametrize(
    ("k", "base", "is_reversed"), [(1, 10, True), (2, 16, True), (1, 10, False), ("all", 16, True)]
)
def test_text_goes_to_the_tokens_that_training_writes_and_comes_back(k, base, is_reversed):
    tokenizer, vocabulary = tokenizer_of(k, base, is_reversed), make_vocabulary(base, is_reversed, k, BOTH)
    pairs = [(0, 0), (342, 879), (879, 342), (9999, 7), (7, 9999), (100, 99), (5, 5)]
    for operation in BOTH:
        for x, y in pairs:
            problem = from_integers([(x, y)], base, 4, operation)
            text, value = operation.write(x, y), operation.of_integers(x, y)
            prompt = [token for token in prompt_tokens(problem, vocabulary)[0].tolist() if token]
            assert tokenizer(f"{text}=").input_ids == prompt
            answer = [token for token in answer_tokens(problem, vocabulary)[0].tolist() if token]
            said = tokenizer.decode(prompt + answer)
            shown = f"{text}=" if not (k == "all" and operation is ADDITION and x > y) else f"{y}+{x}="
            assert said in (f"{shown}{value}", f"{text}={value}")
            assert tokenizer.decode(answer) == str(value)
            if k != "all":
                assert tokenizer(f"{text}={value}").input_ids == prompt + answer
    assert tokenizer("342 \u2212 879 =").input_ids == tokenizer("342-879=").input_ids


def test_rubbish_with_signs_is_shown_and_never_an_error():
    tokenizer = tokenizer_of()
    ids = tokenizer.get_vocab()
    for row in itertools.product("+-17", repeat=5):
        assert isinstance(tokenizer.decode([ids[one] for one in row]), str)


def test_an_answer_further_below_zero_than_one_pass_can_say_is_refused_and_not_written_as_another():
    tokenizer = tokenizer_of("all")
    assert tokenizer.decode(tokenizer("5-7=-10").input_ids) == "5-7=-10"
    with pytest.raises(ValueError, match="-1000 has more digits than one pass says"):
        tokenizer("5-7=-1000")


def test_fault_45_a_tokenizer_that_only_adds_refuses_a_difference():
    with pytest.raises(ValueError, match="expected a sum of two whole numbers such as 1342\\+879=, got '5-3='"):
        make_tokenizer(DataConfig())("5-3=")


def test_fault_45_a_prompt_is_read_with_its_operation_and_what_was_not_learned_is_refused():
    numbers = Numbers(max=9999)
    prompt = parse_prompt(" 342 \u2212 0879= ", numbers, operations=BOTH)
    assert (prompt.x, prompt.y, prompt.operation, str(prompt)) == ("342", "879", SUBTRACTION, "342-879")
    for minus in "-\u2212":
        with pytest.raises(PromptError, match="trained on sums alone, such as 1342\\+879"):
            parse_prompt(f"5{minus}3", numbers)
    with pytest.raises(PromptError, match="trained on differences alone, such as 342-879"):
        parse_prompt("342+879", numbers, operations=(SUBTRACTION,))
    with pytest.raises(
        PromptError, match=r"column 1: '-' is not expected here, numbers are written without a sign; write"
    ):
        parse_prompt("-5-3", numbers, operations=BOTH)


# ---- Proofs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", WAYS)
@pytest.mark.parametrize(
    ("minimum", "maximum", "first", "last"), [(0, 130, 0, 12), (0, 130, 94, 105), (0, 130, 128, 130), (8, 57, 8, 57)]
)
def test_the_walk_over_all_differences_says_what_a_row_each_says(k, minimum, maximum, first, last):
    model, vocabulary = two_operation_model(k), make_vocabulary(10, True, k, BOTH)
    reader, operands = Engine(model, torch.float32), Operands(minimum, maximum, 10)
    walked = PairTree(reader, vocabulary, operands, SUBTRACTION, max_tokens=300).margins(first, last)
    pairs = list(itertools.product(range(first, last + 1), operands.values))
    rows = row_margins(reader, differences(pairs, 10, 3), vocabulary)
    assert torch.isfinite(walked).all()
    assert torch.allclose(walked.flatten(), rows, atol=1e-4)
    shard = Prover((reader,), vocabulary, operands, SUBTRACTION).count(first, last)
    assert (shard.checked, shard.wrong) == (len(pairs), int((~(rows > 0)).sum()))


def two_operation_model(k):
    vocabulary = make_vocabulary(10, True, k, BOTH)
    return tiny_model(
        k,
        vocab_size=4 + 10,
        digit_token_ids=list(vocabulary.digit_ids),
        sign_token_ids={SUBTRACTION.symbol: vocabulary.sign_id},
    )


@pytest.mark.parametrize("k", WAYS)
def test_generate_says_to_differences_what_the_decoder_of_this_package_says(k):
    model, vocabulary = two_operation_model(k), make_vocabulary(10, True, k, BOTH)
    problems = of_both([(3, 17), (17, 3), (99, 99), (0, 5), (42, 7)])
    prompts = prompt_tokens(problems, vocabulary)
    answers = Decoder(Engine(model, torch.float32)).decode(prompts, 4)
    for prompt, answer in zip(prompts.tolist(), answers.tokens.tolist(), strict=True):
        row = torch.tensor([[token for token in prompt if token]])
        said = model.generate(row, max_new_tokens=4, do_sample=False)[0, row.size(1) :].tolist()
        assert [token for token in answer if token] == [token for token in said if token]


# ---- Config ---------------------------------------------------------------------------------------


def test_the_sign_has_its_token_in_what_is_counted_and_no_place_in_the_table():
    both = Operations(add=0.5, subtract=0.5)
    data = DataConfig(operations=both, numbers=Numbers(max=999, base=10))
    assert (data.answer_digits, data.answer_tokens, data.row_tokens) == (4, 5, 14)
    data = DataConfig(operations=Operations(add=0.0, subtract=1.0), numbers=Numbers(max=999, base=10))
    assert (data.answer_digits, data.answer_tokens) == (3, 5)  # 735-+


def test_shares_that_do_not_add_up_and_windows_that_cannot_see_the_sign_are_refused():
    data = DataConfig(operations=Operations(add=0.5, subtract=0.4))
    assert [one.keys[0] for one in conflicts(data, TrainConfig())] == ["operations.add"]
    data = DataConfig(operations=Operations(add=0.5, subtract=0.5))
    assert not list(conflicts(data, TrainConfig()))
    window = Model(attention_window=AttentionWindow(), position_period=3, tokens_per_step=1)
    assert "operations.subtract" in [key for one in conflicts(data, TrainConfig(model=window)) for key in one.keys]


def test_a_model_without_sums_is_not_measured_on_sums_of_each_length():
    data = DataConfig(operations=Operations(add=0.0, subtract=1.0))
    loaded = LoadedModel(tiny_model(), make_tokenizer(data), data, TrainConfig(), "a" * 64, {})
    with pytest.raises(UsageError, match="--lengths draws sums, and this model was trained on none"):
        refuse_long_lengths(loaded, [1])


def test_the_registry_has_each_name_and_symbol_once():
    for field in ("name", "symbol", "noun", "verb", "title"):
        values = [getattr(one, field) for one in OPERATIONS]
        assert len(set(values)) == len(values)
    assert list(Operations.model_fields) == [one.name for one in OPERATIONS]
