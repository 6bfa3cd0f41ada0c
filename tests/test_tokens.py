import itertools

import numpy as np
import pytest
import torch

from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokens import (
    answer_tokens,
    make_examples,
    pad_left,
    place_targets,
    prompt_tokens,
    read_answers,
    row_tokens,
)
from tests.tiny_models import all_pairs, make_digits, make_vocabulary, problems_of

pytestmark = pytest.mark.library

HIDDEN = IGNORE_INDEX
WRITINGS = list(itertools.product([10, 16], [True, False]))  # base, least significant digit first


def show(tokens: torch.Tensor, vocabulary) -> str:
    """Write token IDs as the design does: digits, +, P for padding, . for a hidden target."""
    characters = {vocabulary.delimiter_id: "+", vocabulary.pad_id: "P", HIDDEN: "."}
    characters |= {token: "0123456789ABCDEF"[digit] for digit, token in enumerate(vocabulary.digit_ids)}
    return "".join(characters[token] for token in tokens.tolist())


def written(value: int, base: int, is_reversed: bool) -> str:
    digits = "".join("0123456789ABCDEF"[digit] for digit in make_digits(value, base))
    return digits if is_reversed else digits[::-1]


# ---- Rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("base", "is_reversed"), WRITINGS)
def test_rows_are_the_numbers_between_delimiters_for_all_pairs_to_30(base, is_reversed):
    problems, vocabulary = all_pairs(30, base), make_vocabulary(base, is_reversed)
    rows, prompts = row_tokens(problems, vocabulary), prompt_tokens(problems, vocabulary)
    answers = answer_tokens(problems, vocabulary)
    pairs = list(itertools.product(range(31), repeat=2))
    assert len(rows) == len(pairs) == 961
    for index, (x, y) in enumerate(pairs):
        x_text, y_text, z_text = (written(value, base, is_reversed) for value in (x, y, x + y))
        assert show(rows.tokens[index], vocabulary).rstrip("P") == f"+{x_text}+{y_text}+{z_text}+"
        assert show(prompts[index], vocabulary).rstrip("P") == f"+{x_text}+{y_text}+"
        assert show(answers[index], vocabulary).rstrip("P") == f"{z_text}+"
        assert rows.answer_start[index] == len(f"+{x_text}+{y_text}+")


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(("base", "is_reversed"), WRITINGS)
def test_each_input_is_paired_with_the_answer_token_k_ahead_of_it_for_all_pairs_to_30(base, is_reversed, k):
    problems, vocabulary = all_pairs(30, base), make_vocabulary(base, is_reversed, k)
    examples = make_examples(problems, vocabulary)
    inputs, targets = examples.inputs, examples.targets
    width = row_tokens(problems, vocabulary).tokens.size(1)
    assert inputs.shape == targets.shape == (961, width - k)
    for index, (x, y) in enumerate(itertools.product(range(31), repeat=2)):
        prompt = "+" + "+".join(written(value, base, is_reversed) for value in (x, y)) + "+"
        row = prompt + written(x + y, base, is_reversed) + "+"
        expected = "".join(
            row[column + k] if len(prompt) <= column + k < len(row) else "." for column in range(width - k)
        )
        assert show(targets[index], vocabulary) == expected
        assert show(inputs[index], vocabulary) == row.ljust(width, "P")[:-k]


def test_rows_and_targets_are_those_drawn_in_the_design(vocabulary):
    [tokens] = row_tokens(problems_of([(1342, 879)]), vocabulary).tokens
    assert show(tokens, vocabulary) == "+2431+978+1222+"
    hexadecimal = make_vocabulary(16)
    [tokens] = row_tokens(problems_of([(1342, 879)], 16), hexadecimal).tokens
    assert show(tokens, hexadecimal) == "+E35+F63+DA8+"

    two_a_step = make_vocabulary(tokens_per_step=2)
    examples = make_examples(problems_of([(21, 378), (12, 19), (2431, 978)]), two_a_step)
    assert [show(row, vocabulary) for row in examples.inputs[:2]] == ["+12+873+993+P", "+21+91+13+PPP"]
    assert [show(row, vocabulary) for row in examples.targets[:2]] == ["......993+...", ".....13+....."]


@pytest.mark.parametrize("base", [10, 16])
def test_to_say_all_at_once_the_longer_operand_is_second_and_says_the_answer_for_all_pairs_to_110(base):
    problems, vocabulary = all_pairs(110, base), make_vocabulary(base, tokens_per_step="all")
    examples = make_examples(problems, vocabulary)
    prompts, answers = prompt_tokens(problems, vocabulary), answer_tokens(problems, vocabulary)
    assert torch.equal(examples.inputs, prompts)
    for index, (x, y) in enumerate(itertools.product(range(111), repeat=2)):
        first, second = (written(value, base, True) for value in (x, y))
        if len(first) > len(second):
            first, second = second, first
        answer = written(x + y, base, True)
        answer += "+" if len(answer) == len(second) else ""  # after a carry digit the answer has ended
        lead = "." * len(f"+{first}+")
        assert show(prompts[index], vocabulary).rstrip("P") == f"+{first}+{second}+"
        assert show(answers[index], vocabulary).rstrip("P") == answer
        assert show(examples.targets[index], vocabulary).rstrip(".") == lead + answer
        assert show(examples.place_targets[index], vocabulary).rstrip(".") == lead + answer[: len(second)]


@pytest.mark.parametrize("says_all", [False, True])
@pytest.mark.parametrize(("base", "is_reversed"), WRITINGS)
def test_answers_are_read_back(base, is_reversed, says_all):
    problems = problems_of([(0, 0), (0, 7), (9999, 9999), (15, 1), (123, 4000), (8191, 1)], base, 5)
    vocabulary = make_vocabulary(base, is_reversed, "all" if says_all else 1)
    assert read_answers(answer_tokens(problems, vocabulary), vocabulary) == [0, 7, 19998, 16, 4123, 8192]


def test_what_is_no_number_is_not_read(vocabulary):
    one, end, pad, unknown = vocabulary.digit_ids[1], vocabulary.delimiter_id, vocabulary.pad_id, 1
    said = [[one, one, end], [end, one, one], [pad, one, one], [one, unknown, end], [one, end, unknown], [one] * 3]
    said += [[one, pad, end], [one, pad, one], [one, pad, pad], [one, end, pad]]
    assert read_answers(torch.tensor(said), vocabulary) == [11, None, None, None, 1, 111, None, None, 1, 1]
    many = torch.full((1, 60), one)
    assert read_answers(many, vocabulary) == [int("1" * 60)]
    assert read_answers(torch.zeros(0, 3, dtype=torch.long), vocabulary) == []


def test_no_problem_gives_no_row(vocabulary):
    assert row_tokens(problems_of([]), vocabulary).tokens.size(0) == 0
    assert answer_tokens(problems_of([]), vocabulary).shape == (0, 0)


# ---- What the middle of the model is asked for ----------------------------------------------------


@pytest.mark.parametrize(("base", "is_reversed"), WRITINGS)
def test_each_digit_of_the_second_operand_is_given_the_sums_digit_of_its_place_for_all_pairs_to_30(base, is_reversed):
    problems, vocabulary = all_pairs(30, base), make_vocabulary(base, is_reversed)
    targets = place_targets(problems, vocabulary, num_columns=12)
    assert targets.shape == (961, 12)
    for index, (x, y) in enumerate(itertools.product(range(31), repeat=2)):
        x_text, y_text, z_text = (written(value, base, True) for value in (x, y, x + y))
        expected = "." * len(f"+{x_text}+") + z_text[: len(y_text)] if is_reversed else ""
        assert show(targets[index], vocabulary) == expected.ljust(12, ".")


def test_examples_are_selected_together(vocabulary):
    examples = make_examples(all_pairs(9), make_vocabulary(tokens_per_step=2))
    some = examples[np.array([34, 5])]
    assert (len(examples), len(some)) == (100, 2)
    assert [show(row, vocabulary) for row in some.inputs] == ["+3+4+7", "+0+5+5"]
    assert [show(row, vocabulary) for row in some.targets] == ["...7+.", "...5+."]
    assert [show(row, vocabulary) for row in some.place_targets] == ["...7..", "...5.."]


# ---- Padding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, "all"])
def test_rows_are_found_by_their_length_for_all_pairs_to_110(k):
    lengths = []
    for x, y in itertools.product(map(str, range(111)), repeat=2):
        lengths.append(len(x + y) if k == "all" else len(x + y + str(int(x) + int(y))))
    found = make_examples(all_pairs(110), make_vocabulary(tokens_per_step=k)).rows_by_length
    assert [np.unique(np.array(lengths)[rows]).tolist() for rows in found] == [[one] for one in sorted({*lengths})]
    assert np.sort(np.concatenate(found)).tolist() == list(range(111 * 111))


def test_padding_moves_to_the_left_and_nothing_else_changes(vocabulary):
    rows = prompt_tokens(problems_of([(1, 2), (12, 345), (9999, 1)]), vocabulary)
    moved = pad_left(rows, vocabulary.pad_id)
    assert [show(row, vocabulary) for row in rows] == ["+1+2+PPP", "+21+543+", "+9999+1+"]
    assert [show(row, vocabulary) for row in moved] == ["PPP+1+2+", "+21+543+", "+9999+1+"]
