import itertools
import sys
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simple_llm.arithmetic.integers import digit_count
from simple_llm.config.settings import DataConfig, Numbers
from simple_llm.data.problems import from_integers
from simple_llm.model.notation_simple_llm import from_digits, to_digits
from simple_llm.model.prompts import parse_prompt
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.model.tokens import prompt_tokens
from tests.tiny_models import make_tokenizer

pytestmark = pytest.mark.library

BASES = [2, 3, 10, 16, 36]
KINDS = list(itertools.product(BASES, [True, False]))
HUGE = st.integers(0, 300) | st.builds(
    lambda exponent, rest: 10**exponent + rest, st.integers(0, 12_000), st.integers(0)
)


@cache
def tokenizer_of(base, is_reversed=True):
    return make_tokenizer(DataConfig(numbers=Numbers(base=base, reversed=is_reversed)))


@pytest.fixture
def unlimited_conversion():
    """Let int() and str() convert any number, as the oracle here; the code under test must do without."""

    def convert(function, *arguments):
        limit = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        try:
            return function(*arguments)
        finally:
            sys.set_int_max_str_digits(limit)

    return convert


def digits_by_hand(value, base):
    digits = ""
    while value or not digits:
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[value % base] + digits
        value //= base
    return digits


# ---- Whole numbers and digits ---------------------------------------------------------------------


@pytest.mark.parametrize("base", range(2, 37))
def test_small_numbers_are_written_as_by_hand_and_read_as_python_reads_them(base):
    for value in range(1500):
        digits = digits_by_hand(value, base)
        assert to_digits(value, base) == digits
        assert from_digits(digits, base) == int(digits, base) == value


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("places", [64, 128, 256, 4096])
def test_numbers_around_a_power_of_the_base_are_written_and_read(base, places):
    # Where the conversion begins to halve numbers, and halves them once more.
    largest = to_digits(base - 1, base)
    assert to_digits(base**places - 1, base) == largest * places
    assert to_digits(base**places, base) == "1" + "0" * places
    assert to_digits(base**places + 1, base) == "1" + "0" * (places - 1) + "1"
    assert from_digits(largest * places, base) == base**places - 1
    assert from_digits("1" + "0" * places, base) == base**places


@given(HUGE)
def test_huge_numbers_are_written_and_read_in_hexadecimal_as_python_does(value):
    assert to_digits(value, 16) == f"{value:X}"
    assert from_digits(f"{value:X}", 16) == value


@given(HUGE, st.sampled_from(BASES))
def test_huge_numbers_are_read_back_as_they_were_written(value, base):
    digits = to_digits(value, base)
    assert digits == "0" or not digits.startswith("0")
    assert from_digits(digits, base) == value


@pytest.mark.parametrize("num_digits", [3999, 4000, 4001, 4300, 4301, 8001, 50_000])
def test_more_decimal_digits_than_python_converts_at_once(unlimited_conversion, num_digits):
    text = ("7294036158" * (num_digits // 10 + 1))[:num_digits]
    value = unlimited_conversion(int, text)
    assert from_digits(text, 10) == value
    assert to_digits(value, 10) == text


# ---- Numbers of the model text --------------------------------------------------------------------


@pytest.mark.parametrize(("base", "is_reversed"), KINDS)
def test_numbers_are_written_in_the_base_and_the_order_of_the_tokenizer_and_read_back(base, is_reversed):
    tokenizer = tokenizer_of(base, is_reversed)
    assert (tokenizer.base, tokenizer.reversed) == (base, is_reversed)
    for value in range(600):
        written = digits_by_hand(value, base)[:: -1 if is_reversed else 1]
        for zeros in ("", "0", "0000"):
            assert tokenizer.write_number(f"{zeros}{value}") == written
        assert tokenizer.read_number(written) == str(value)
        leading_zero = written + "0" if is_reversed else "0" + written
        assert tokenizer.read_number(leading_zero) == str(value)
    assert tokenizer.read_number("") == ""
    assert tokenizer.read_number("000") == "0"


@given(st.text(st.sampled_from("0123456789"), min_size=1, max_size=200), st.sampled_from(KINDS))
def test_a_number_is_read_back_without_its_leading_zeros(decimal, kind):
    tokenizer = tokenizer_of(*kind)
    assert tokenizer.read_number(tokenizer.write_number(decimal)) == str(int(decimal))


@pytest.mark.parametrize(("base", "is_reversed"), KINDS)
def test_a_number_of_ten_thousand_digits_is_read_back(base, is_reversed):
    decimal = "12345678900" * 910
    tokenizer = tokenizer_of(base, is_reversed)
    assert tokenizer.read_number(tokenizer.write_number("000" + decimal)) == decimal


# ---- Sums -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "is_reversed", "text", "model_text"),
    [
        (16, True, "1342+879", "+E35+F63+"),
        (16, True, "1342+879=", "+E35+F63+"),
        (16, True, " 1342 + 879 = ", "+E35+F63+"),
        (16, True, "001342+0879=", "+E35+F63+"),
        (16, True, "1342+879=2221", "+E35+F63+DA8+"),
        (10, True, "1342+879=2221", "+2431+978+1222+"),
        (10, False, "1342+879=2221", "+1342+879+2221+"),
        (16, False, "1342+879", "+53E+36F+"),
        (10, True, "0+0=0", "+0+0+0+"),
        (10, True, "00+000=", "+0+0+"),
        (2, True, "2+3", "+01+11+"),
        (16, True, "+E35+F63+", "+E35+F63+"),  # model text is taken as it is
    ],
)
def test_a_sum_is_written_as_model_text(base, is_reversed, text, model_text):
    assert tokenizer_of(base, is_reversed).to_model_text(text) == model_text


@pytest.mark.parametrize(
    "text",
    [
        *("", "12", "12+", "12+x", "a+b", "-1+2", "1.0+2", "1e9+1", "1_0+1", "٣+4", "1+\uff12", "1+2+3", "1+2=x"),
        *("1+2==", "1 2+3", "1+2=3=4", "E35+F63", "1-2"),
    ],
)
def test_fault_22_text_that_is_no_sum_is_refused_by_the_tokenizer_too(text):
    with pytest.raises(ValueError, match="expected a sum"):
        tokenizer_of(16).to_model_text(text)
    with pytest.raises(ValueError, match="expected a sum"):
        tokenizer_of(16)(text)
    with pytest.raises(ValueError, match="expected a sum"):
        tokenizer_of(16)(["1+1", text])


@pytest.mark.parametrize("beginning", ["1+1", "1+1=", "1+1=2", "1", "1+", ""])
def test_fault_22_no_number_of_spaces_before_a_wrong_character_takes_hours_in_the_tokenizer(beginning):
    with pytest.raises(ValueError, match="expected a sum"):
        tokenizer_of(16).to_model_text(beginning + " " * 200_000 + "x")


@pytest.mark.parametrize(
    ("model_text", "text"),
    [
        ("+E35+F63+", "1342+879="),
        ("+E35+F63+DA", "1342+879=173"),  # an answer that is not finished yet: AD
        ("+E35+F63+DA8", "1342+879=2221"),
        ("+E35+F63+DA8+", "1342+879=2221"),
        ("+E35+F63+DA8+77+", "1342+879=2221"),  # what is said after the end is no part of the sum
        ("+E35+F63+DA80+", "1342+879=2221"),  # a leading zero
        ("+E35+F63+000+", "1342+879=0"),
        ("+E35+F63++", "1342+879="),
        ("+E35", "1342"),
        ("+E35+", "1342+"),
        ("+", "+"),
    ],
)
def test_model_text_is_written_as_a_sum(model_text, text):
    assert tokenizer_of(16).to_decimal_text(model_text) == text


@pytest.mark.parametrize("base", [2, 10, 16])
def test_every_small_sum_comes_back_from_model_text(base):
    tokenizer = tokenizer_of(base)
    for x, y in itertools.product(range(21), repeat=2):
        for text in (f"{x}+{y}=", f"{x}+{y}={x + y}"):
            assert tokenizer.to_decimal_text(tokenizer.to_model_text(text)) == text


# ---- Tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("base", "is_reversed"), KINDS)
def test_the_tokens_are_padding_unknown_plus_and_the_digits_of_the_base(base, is_reversed):
    tokenizer = tokenizer_of(base, is_reversed)
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:base]
    assert set(tokenizer.get_vocab()) == {"<|pad|>", "<|unk|>", "+", *digits}
    assert tokenizer.convert_ids_to_tokens(tokenizer.digit_ids) == list(digits)
    assert tokenizer.convert_ids_to_tokens(tokenizer.delimiter_id) == "+"
    assert sorted(tokenizer.get_vocab().values()) == list(range(base + 3))
    assert "+" not in tokenizer.all_special_tokens  # or decoding would drop it


def test_the_tokens_of_a_sum_are_those_of_its_model_text_one_a_character():
    for text, tokens in (("1342+879=", "+E35+F63+"), ("1342+879=2221", "+E35+F63+DA8+"), ("+E35+F6", "+E35+F6")):
        encoded = tokenizer_of(16)(text)
        assert tokenizer_of(16).convert_ids_to_tokens(encoded["input_ids"]) == list(tokens)
        assert encoded["attention_mask"] == [1] * len(tokens)
        assert set(encoded) == {"input_ids", "attention_mask"}


OPERANDS = st.builds(lambda zeros, value: "0" * zeros + str(value), st.integers(0, 3), st.integers(0, 10**30))
SUMS = st.tuples(OPERANDS, OPERANDS, st.none() | OPERANDS)


def canonical(x, y, z):
    return f"{int(x)}+{int(y)}=" + ("" if z is None else str(int(z)))


@given(st.lists(SUMS, min_size=1, max_size=5), st.sampled_from(KINDS))
def test_a_batch_is_padded_on_the_left_and_decoded_to_the_sums_without_leading_zeros(sums, kind):
    tokenizer = tokenizer_of(*kind)
    texts = [f"{x}+{y}=" + (z or "") for x, y, z in sums]
    batch = tokenizer(texts, padding=True)
    width = max(map(len, batch["input_ids"]))
    for text, one, ids, mask in zip(texts, sums, batch["input_ids"], batch["attention_mask"], strict=True):
        alone = tokenizer(text)["input_ids"]
        padding = width - len(alone)
        assert ids == [tokenizer.pad_token_id] * padding + alone
        assert mask == [0] * padding + [1] * len(alone)
        assert tokenizer.decode(ids, skip_special_tokens=True) == canonical(*one)
        assert tokenizer.decode(ids) == "<|pad|>" * padding + canonical(*one)
    assert tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True) == [canonical(*one) for one in sums]


@pytest.mark.parametrize(("base", "is_reversed"), KINDS)
def test_fault_23_the_tokenizer_drops_the_same_leading_zeros_as_the_scripts(base, is_reversed):
    """Its text is what pipeline() and AutoTokenizer take; the scripts make tokens of what parse_prompt has read."""
    tokenizer, numbers = tokenizer_of(base, is_reversed), Numbers(base=base, reversed=is_reversed)
    for zeros in itertools.product(["", "0", "0000"], repeat=2):
        for values in itertools.product([0, 7, 10, 999, 9999], repeat=2):
            text = "+".join(f"{zero}{value}" for zero, value in zip(zeros, values, strict=True))
            prompt = parse_prompt(text, numbers)
            assert str(prompt) == "{}+{}".format(*values)
            ids = tokenizer(f"{text}=")["input_ids"]
            assert tokenizer.decode(ids) == f"{prompt}="
            problem = from_integers([(int(prompt.x), int(prompt.y))], base, digit_count(9999, base))
            assert prompt_tokens(problem, vocabulary_of(tokenizer, 1)).tolist() == [ids]


@given(st.sampled_from(KINDS), st.data())
def test_whatever_a_model_says_is_decoded(kind, data):
    tokenizer = tokenizer_of(*kind)
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=20))
    for skips in (True, False):
        text = tokenizer.decode(ids, skip_special_tokens=skips)
        assert ("<|pad|>" in text) == (not skips and tokenizer.pad_token_id in ids)


@pytest.mark.parametrize(("base", "is_reversed"), KINDS)
def test_a_tokenizer_that_is_saved_and_loaded_is_the_same(tmp_path, base, is_reversed):
    tokenizer = tokenizer_of(base, is_reversed)
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    assert (loaded.base, loaded.reversed, loaded.padding_side) == (base, is_reversed, "left")
    assert loaded.get_vocab() == tokenizer.get_vocab()
    texts = ["1342+879=", "7+07=14"]
    assert loaded(texts, padding=True).data == tokenizer(texts, padding=True).data
    assert loaded.decode(loaded("1342+879=2221")["input_ids"]) == "1342+879=2221"


def test_where_all_is_said_at_once_the_longer_number_goes_second_and_like_lengths_stay(tmp_path):
    tokenizer = make_tokenizer(DataConfig(numbers=Numbers(base=16)), says_all=True)
    assert tokenizer.to_model_text("1342+7=") == "+7+E35+"
    assert tokenizer.to_model_text("7+1342=") == "+7+E35+"
    assert tokenizer.to_model_text("1342+7=1349") == "+7+E35+545+"
    assert tokenizer.to_model_text("15+1") == "+F+1+"  # one digit each in base 16
    assert tokenizer.to_model_text("16+9") == "+9+01+"
    tokenizer.save_pretrained(tmp_path)
    assert type(tokenizer).from_pretrained(tmp_path).to_model_text("1342+7=") == "+7+E35+"


@pytest.mark.parametrize(("base", "is_reversed"), KINDS)
def test_an_answer_by_itself_is_decoded_to_decimal(base, is_reversed):
    """pipeline() decodes the tokens that are new and puts them behind the prompt."""
    tokenizer = tokenizer_of(base, is_reversed)
    for x, y in ((0, 0), (1342, 879), (9999, 9999), (7, 93)):
        ids = tokenizer(f"{x}+{y}={x + y}")["input_ids"]
        num_prompt = len(tokenizer(f"{x}+{y}=")["input_ids"])
        assert tokenizer.decode(ids[num_prompt:]) == str(x + y)
        assert tokenizer.decode(ids[num_prompt:-1]) == str(x + y)  # without its delimiter
        assert tokenizer.decode(ids) == f"{x}+{y}={x + y}"


def test_tokens_are_decoded_in_whatever_they_come(tmp_path):
    tokenizer = tokenizer_of(10)
    encoded = tokenizer("87+65=152")
    ids, text = encoded["input_ids"], "87+65=152"
    tensor, array = torch.tensor(ids), np.array(ids)
    for one in (ids, tuple(ids), iter(ids), tensor, array, list(tensor), list(array), encoded):
        assert tokenizer.decode(one) == text
    for many in ([ids, ids], torch.stack([tensor, tensor]), [tensor, tensor], np.stack([array, array]), [ids, tensor]):
        assert tokenizer.decode(many) == tokenizer.batch_decode(many) == [text, text]
    for flat in (ids, tensor):
        assert tokenizer.batch_decode(flat) == [text]
    assert tokenizer.decode(ids[1]) == tokenizer.decode(tensor[1]) == "7"
    assert (tokenizer.decode([]), tokenizer.batch_decode([])) == ("", [])
    for strange in ([99], [-1], 99):
        with pytest.raises(ValueError, match="is no token ID of the 13 there are"):
            tokenizer.decode(strange)


@pytest.mark.parametrize(
    "settings", [{"text_pair": "1+2="}, {"is_split_into_words": True}, {"return_offsets_mapping": True}], ids=str
)
def test_what_would_count_in_text_that_nobody_typed_is_refused(settings):
    with pytest.raises(NotImplementedError, match=next(iter(settings))):
        tokenizer_of(10)("87+65=", **settings)


def test_a_sum_is_not_cut_to_another_sum():
    tokenizer = tokenizer_of(10)
    with pytest.raises(ValueError, match="truncation to max_length=5 would cut a sum of 7 tokens"):
        tokenizer("87+65=", truncation=True, max_length=5)
    assert tokenizer("87+65=", truncation=True, max_length=7)["input_ids"] == tokenizer("87+65=")["input_ids"]
    with pytest.raises(ValueError, match="takes one text"):
        tokenizer.tokenize(["1+2=", "3+4="])
