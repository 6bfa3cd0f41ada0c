import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_llm.config.settings import Numbers
from simple_llm.model.prompts import MAX_CHARACTERS, parse_prompt, PromptError

NUMBERS = Numbers()  # 0 to 9999

# A second writing of the rule: what a prompt is, and what may yet become one.
PROMPT = re.compile(r"[ \t]*([0-9]+)[ \t]*\+[ \t]*([0-9]+)[ \t]*=?[ \t]*")
BEGINNING = re.compile(r"[ \t]*([0-9]+[ \t]*(\+[ \t]*([0-9]+[ \t]*(=[ \t]*)?)?)?)?")


def refusal(text, numbers=NUMBERS):
    with pytest.raises(PromptError) as caught:
        parse_prompt(text, numbers)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    ("text", "x", "y"),
    [
        *[("1342+879", "1342", "879"), ("12 + 7", "12", "7"), ("  12\t+7  ", "12", "7"), ("0+0", "0", "0")],
        *[("12+7=", "12", "7"), ("12 + 7 = ", "12", "7"), ("9999+9999", "9999", "9999")],
    ],
)
def test_fault_22_a_sum_is_read_with_or_without_spaces_around_its_signs(text, x, y):
    check_read(text, x, y)


@pytest.mark.parametrize(
    ("text", "x", "y"),
    [("007+1", "7", "1"), ("000+00", "0", "0"), ("00009999+010", "9999", "10"), ("0" * 5000 + "5+5", "5", "5")],
)
def test_fault_23_leading_zeros_are_dropped(text, x, y):
    check_read(text, x, y)


def check_read(text, x, y):
    prompt = parse_prompt(text, NUMBERS)
    assert (prompt.x, prompt.y) == (x, y)
    assert str(prompt) == f"{x}+{y}"


@pytest.mark.parametrize(
    ("text", "column", "character"),
    [
        ("12+x", 4, "x"),
        ("x", 1, "x"),
        ("٣+4", 1, "٣"),  # Arabic-Indic
        ("3+٤", 3, "٤"),
        ("1२+4", 2, "२"),  # Devanagari
        ("\uff11+1", 1, "\uff11"),  # full width
        ("1+1²", 4, "²"),
        ("1\uff0b1", 2, "\uff0b"),  # a full-width plus
        ("1e9+1", 2, "e"),
        ("1+0x1F", 4, "x"),
        ("-5+3", 1, "-"),
        ("5+-3", 3, "-"),
        ("1_0+1", 2, "_"),
        ("1,000+1", 2, ","),
        ("3.0+1", 2, "."),
        ("1\0+1", 2, "\0"),
        ("1+1\n", 4, "\n"),
        ("1\u00a0+1", 2, "\u00a0"),  # a space that does not break
        ("\ufeff1+1", 1, "\ufeff"),  # a byte order mark
        ("1+\udcff", 3, "\udcff"),  # what is left of a byte that is not UTF-8
        ("+5", 1, "+"),
        ("1++1", 3, "+"),
        ("1+1+1", 4, "+"),
        ("1 2+3", 3, "2"),
        ("1+2 3", 5, "3"),
        ("1+1==", 5, "="),
        ("1=1", 2, "="),
        ("1+1=2", 5, "2"),
        ("1%1", 2, "%"),
        ("1+1;", 4, ";"),
    ],
)
def test_fault_22_the_first_wrong_character_is_named_with_its_column(text, column, character):
    message = refusal(text)
    assert f"column {column}: {character!r} is not " in message
    assert "1342+879" in message  # what a prompt looks like


@pytest.mark.parametrize("beginning", ["1+1", "1+1=", "1", "1+", ""])
def test_fault_22_no_number_of_spaces_before_a_wrong_character_takes_hours(beginning):
    text = beginning + " " * 100_000 + "\t" * 100_000 + "x"
    assert f"column {len(text)}: 'x' is not " in refusal(text)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "nothing to add"),
        ("   ", "nothing to add"),
        ("12", "no + in it"),
        ("12 ", "no + in it"),
        ("12+", "no second number"),
        ("12 + ", "no second number"),
        ("10000+1", "10000 is above 9999"),
        ("1+12345", "12345 is above 9999"),
        ("12345+54321", "12345 is above 9999"),
        ("9" * 10_000 + "+1", "is above 9999"),
        ("1+" + "9" * MAX_CHARACTERS, "characters"),
        ("x" * 10**6, "characters"),
    ],
)
def test_what_is_missing_or_too_much_is_named(text, part):
    message = refusal(text)
    assert part in message
    assert len(message) < 200


def test_both_ends_of_the_range_are_in_it():
    numbers = Numbers(min=7, max=120)
    for value in range(300):
        for text in (f"{value}+50", f"50+{value}", f"000{value} + 0050="):
            if 7 <= value <= 120:
                assert "50" in (parse_prompt(text, numbers).x, parse_prompt(text, numbers).y)
            else:
                assert f"{value} is {'below 7' if value < 7 else 'above 120'}" in refusal(text, numbers)


def test_a_range_of_a_hundred_digits_is_compared_by_value():
    numbers = Numbers(min=10**99, max=10**100 - 2)
    for value in (10**99, 10**99 + 1, 10**100 - 2):
        assert int(parse_prompt(f"{value}+{value}", numbers).x) == value
    assert "is below" in refusal(f"{10**99 - 1}+{10**99}", numbers)
    assert "is above" in refusal(f"{10**99}+{10**100 - 1}", numbers)


def check_like_the_oracle(text):
    found = PROMPT.fullmatch(text)
    if found and all(int(operand) <= 9999 for operand in found.groups()):
        prompt = parse_prompt(text, NUMBERS)
        assert (prompt.x, prompt.y) == tuple(str(int(operand)) for operand in found.groups())
        return
    message = refusal(text)
    if found:
        assert "is above 9999" in message
    elif BEGINNING.fullmatch(text):
        assert "column" not in message
    else:
        lengths = (length for length in range(1, len(text) + 1) if not BEGINNING.fullmatch(text[:length]))
        assert f": column {next(lengths)}: " in message


@pytest.mark.parametrize("length", range(7))
def test_every_short_text_is_read_or_refused_as_the_rule_says(length):
    for letters in itertools.product("0+= x", repeat=length):
        check_like_the_oracle("".join(letters))


@given(
    st.text(st.sampled_from("0123456789+= \t"), max_size=16)
    | st.text(st.sampled_from("019+= \t\n\r\0\x1b\x85\u2028-_.eE٣²") | st.characters(), max_size=12)
)
def test_any_text_is_read_or_refused_as_the_rule_says(text):
    check_like_the_oracle(text)
