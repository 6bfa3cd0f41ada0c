import pytest
import torch
from transformers import pipeline

from simple_llm.model.answers import Answers
from simple_llm.model.decoding import Decoder, sorted_by_shape
from simple_llm.model.engine import Engine
from simple_llm.model.tokens import answer_tokens, prompt_tokens, Vocabulary
from tests.greedy import say_alone
from tests.oracle import PerfectAdder
from tests.tiny_models import all_pairs, make_data_config, make_tokenizer, make_vocabulary, problems_of, tiny_model

pytestmark = pytest.mark.library

PAIRS = [(0, 0), (99, 1), (12, 873), (9999, 9999), (5, 67), (7, 8), (31, 4159), (1, 2), (45, 55), (1342, 879), (12, 9)]
KINDS = [1, 2, "all"]


def vocabulary_for(k: int | str) -> Vocabulary:
    return make_vocabulary(tokens_per_step=k)


def oracle(k: int | str, **settings) -> PerfectAdder:
    return PerfectAdder(vocabulary_for(k), tokens_per_step=k, **settings)


def prompts_for(k: int | str, pairs=PAIRS) -> torch.Tensor:
    return prompt_tokens(problems_of(pairs), vocabulary_for(k))


def decode(reader, prompts: torch.Tensor, max_answer_tokens: int, batch_size: int = 1024, **settings) -> Answers:
    """Decode in batches of so many prompts."""
    budget = batch_size * reader.bytes_per_token() * (prompts.size(1) + max_answer_tokens)
    return Decoder(reader).decode(prompts, max_answer_tokens, budget, **settings)


def without_padding(rows: torch.Tensor) -> list[list[int]]:
    return [row[row != make_vocabulary().pad_id].tolist() for row in rows]


def right_answers(k: int | str, pairs=PAIRS) -> list[list[int]]:
    """By Python's own addition; after a carry digit the whole answer in one pass has no delimiter."""
    answers = []
    for x, y in pairs:
        is_carry = len(str(x + y)) > max(len(str(x)), len(str(y)))
        end = [] if k == "all" and is_carry else [make_vocabulary().delimiter_id]
        answers.append([3 + int(digit) for digit in reversed(str(x + y))] + end)
    return answers


# ---- With an oracle -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 1024])
@pytest.mark.parametrize("k", KINDS)
def test_answers_come_in_the_order_of_the_prompts_whatever_their_lengths(k, batch_size):
    done = []
    answers = decode(oracle(k), prompts_for(k), 6, batch_size, on_batch=done.append)
    assert without_padding(answers.tokens) == right_answers(k)
    assert answers.tokens.shape == (len(PAIRS), 6)
    assert answers.is_finished.all()
    assert answers.margins.tolist() == [10.0] * len(PAIRS)
    assert answers.logits is None
    assert sum(done) == len(PAIRS)
    assert max(done) <= batch_size


@pytest.mark.parametrize("k", [1, 2])
def test_fault_28_an_answer_that_does_not_end_is_unfinished_and_has_every_token_there_is_room_for(k):
    endless = frozenset([(12, 873), (1, 2)])
    answers = decode(oracle(k, endless=endless), prompts_for(k), 7)
    one = make_vocabulary().digit_ids[1]
    expected = [[one] * 7 if pair in endless else answer for pair, answer in zip(PAIRS, right_answers(k), strict=True)]
    assert without_padding(answers.tokens) == expected
    assert answers.is_finished.tolist() == [pair not in endless for pair in PAIRS]


@pytest.mark.parametrize("k", KINDS)
def test_an_answer_that_needs_more_tokens_than_allowed_is_cut_and_unfinished(k):
    pairs = [(9, 9), (1, 999), (3, 4)]  # 18+ has three tokens, 1000+ five, 7+ two; all at once they need no + but 7
    answers = decode(oracle(k), prompts_for(k, pairs), 3)
    assert without_padding(answers.tokens) == [answer[:3] for answer in right_answers(k, pairs)]
    assert answers.is_finished.tolist() == [True, False, True]


@pytest.mark.parametrize("k", KINDS)
def test_nothing_is_left_after_the_end_of_an_answer(k):
    """The oracle goes on saying 1 after an end, and the longest answer of the batch keeps all others going."""
    pairs = [(1, 2), (1, 9999), (5, 6)]
    assert without_padding(decode(oracle(k), prompts_for(k, pairs), 8).tokens) == right_answers(k, pairs)


def test_what_a_batch_raises_ends_the_work():
    def stop(num_prompts):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        decode(oracle(1), prompts_for(1), 6, 4, on_batch=stop)


@pytest.mark.parametrize("k", KINDS)
def test_no_prompt_gets_no_answer(k):
    answers = decode(oracle(k), prompts_for(k, []), 6, keep_logits=True)
    assert answers.tokens.shape == (0, 6)
    assert answers.logits.shape == (0, 6, 13)


def test_prompts_of_one_shape_and_one_first_operand_lie_side_by_side():
    pairs = [(5, 12), (17, 3), (17, 12), (5, 3), (6, 12), (17, 13), (5, 45), (16, 14)]
    order = sorted_by_shape(prompts_for(1, pairs), oracle(1).config).tolist()
    assert [pairs[index] for index in order] == [
        *[(5, 3)],
        *[(5, 12), (5, 45), (6, 12)],
        *[(17, 3)],
        *[(16, 14), (17, 12), (17, 13)],
    ]


class CountingReader:
    """Counts the tokens that a reader is given."""

    def __init__(self, reader):
        self.reader, self.num_tokens = reader, 0

    def __getattr__(self, name):
        return getattr(self.reader, name)

    def read(self, tokens, positions, is_token, cache, num_last):
        self.num_tokens += tokens.numel()
        return self.reader.read(tokens, positions, is_token, cache, num_last)


@pytest.mark.parametrize("k", KINDS)
def test_a_first_operand_in_common_is_read_once(k):
    pairs = [(2431, y) for y in range(5000, 5040)]
    counted = CountingReader(oracle(k))
    answers = decode(counted, prompts_for(k, pairs), 6)
    assert without_padding(answers.tokens) == right_answers(k, pairs)
    num_read_after_prompts = {1: 40 * 4, 2: 40 * 4, "all": 0}[k]  # 7431+: the tokens said before the last step
    assert counted.num_tokens == len("+2431+") + 40 * len("5000+") + num_read_after_prompts


@pytest.mark.parametrize("k", KINDS)
def test_first_operands_in_common_may_be_of_any_length_and_so_may_the_others(k):
    pairs = [(x, y) for x in (1, 45, 9999) for y in (2, 6, 31, 78, 4159, 9999)]
    prompts = prompts_for(k, pairs)
    assert without_padding(decode(CountingReader(oracle(k)), prompts, 6).tokens) == right_answers(k, pairs)
    model = tiny_model(k)
    answers = decode(Engine(model, torch.float32), prompts, 6).tokens
    said = [say_alone(model, prompt, 6) for prompt in without_padding(prompts)]
    assert [row[: len(one)].tolist() for row, one in zip(answers, said, strict=True)] == said


def test_rows_that_have_ended_are_read_no_further():
    pairs = [(1, 2)] * 6 + [(1, 9999)] * 2
    counted = CountingReader(oracle(1))
    decode(counted, prompts_for(1, pairs), 8)
    num_first_two_steps = 8  # all read the first digit
    num_later_steps = 2 * 4  # 0000 of 10000, after 3+ had ended
    assert counted.num_tokens == len("+1+") + 8 * len("9999+") + num_first_two_steps + num_later_steps


def test_what_the_first_reader_is_not_sure_of_the_second_decides():
    """The first is wrong on some and says so by a small lead; where its lead is large it is believed."""
    wrong = {(12, 873): 1, (7, 8): 2}
    unsure, sure = oracle(2, wrong=wrong, logit=0.5), oracle(2, wrong=wrong, logit=5.0)
    assert without_padding(Decoder(unsure, oracle(2)).decode(prompts_for(2), 6).tokens) == right_answers(2)
    believed = without_padding(Decoder(sure, oracle(2)).decode(prompts_for(2), 6).tokens)
    assert [said == right for said, right in zip(believed, right_answers(2), strict=True)] == [
        pair not in wrong for pair in PAIRS
    ]


# ---- Every path says the same ---------------------------------------------------------------------


def say_by_generate(model, prompts: list[list[int]], max_answer_tokens: int, **settings) -> list[list[int]]:
    """What generate() says to prompts in one left-padded batch, without padding after the end."""
    pad, end = model.config.pad_token_id, model.config.eos_token_id
    length = max(map(len, prompts))
    rows = torch.tensor([[pad] * (length - len(prompt)) + prompt for prompt in prompts])
    out = model.generate(rows, attention_mask=(rows != pad).long(), max_new_tokens=max_answer_tokens, **settings)
    answers = []
    for prompt, said in zip(prompts, out[:, length:].tolist(), strict=True):
        if model.config.tokens_per_step == "all":
            said = said[: len(prompt) - prompt.index(end, 1) - 1]
        answers.append(said[: said.index(end) + 1] if end in said else said)
    return answers


@torch.inference_mode()
def check_every_path(model, prompts: torch.Tensor, max_answer_tokens: int) -> list[list[int]]:
    """Compare everything that decodes with the definition; return what was said."""
    rows = without_padding(prompts)
    expected = [say_alone(model, row, max_answer_tokens) for row in rows]
    for settings in ({}, {"use_cache": False}):
        assert say_by_generate(model, rows, max_answer_tokens, **settings) == expected
        some = range(0, len(rows), 3)
        alone = [say_by_generate(model, [rows[index]], max_answer_tokens, **settings)[0] for index in some]
        assert alone == [expected[index] for index in some]
    for batch_size in (1, 4, 1024):
        answers = decode(Engine(model, torch.float32), prompts, max_answer_tokens, batch_size)
        # Padding may be said too: a random model knows no better. It is compared as it stands.
        assert [row[: len(said)].tolist() for row, said in zip(answers.tokens, expected, strict=True)] == expected
    half_precision = Decoder(Engine(model, torch.bfloat16), Engine(model, torch.float32))
    said = half_precision.decode(prompts, max_answer_tokens).tokens
    assert [row[: len(one)].tolist() for row, one in zip(said, expected, strict=True)] == expected
    return expected


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize("position_embedding", ["block", "learned", "none"])
def test_a_random_model_says_the_same_on_every_path(position_embedding, k):
    said = check_every_path(tiny_model(k, position_embedding), prompts_for(k), 7)
    assert len(set(map(tuple, said))) > 3  # or it says the same to all and nothing is tested


@pytest.mark.parametrize("k", KINDS)
def test_a_trained_model_says_the_same_on_every_path(trained_for, k):
    trained = trained_for(k)
    problems = all_pairs(99)[slice(0, None, 397)]
    prompts = prompt_tokens(problems, trained.vocabulary)
    said = check_every_path(trained.model, prompts, 4)
    assert said == without_padding(answer_tokens(problems, trained.vocabulary))
    check_every_path(trained.half, prompts[::2], 4)


@pytest.mark.parametrize("k", KINDS)
def test_the_pipeline_says_the_same_in_decimal_and_in_the_users_order(trained_for, k):
    trained = trained_for(k)
    pairs = [(0, 0), (99, 99), (7, 8), (45, 6), (6, 45), (95, 5)]
    adder = pipeline("text-generation", model=trained.model, tokenizer=trained.tokenizer)
    expected = [f"{x}+{y}={x + y}" for x, y in pairs]
    assert [adder(f"{x}+{y}=")[0]["generated_text"] for x, y in pairs] == expected
    together = adder([f"{x}+{y}=" for x, y in pairs], batch_size=len(pairs))
    assert [one[0]["generated_text"] for one in together] == expected


def test_the_pipeline_says_long_sums_to_their_end_with_a_model_of_every_length(any_length):
    adder = pipeline("text-generation", model=any_length.model, tokenizer=any_length.tokenizer)
    for x, y in ((7, 8), (999_999_999_999, 1), (10**20, 10**19), (3**200, 3**199)):
        assert adder(f"{x}+{y}=")[0]["generated_text"] == f"{x}+{y}={x + y}"


@pytest.mark.parametrize("k", KINDS)
def test_fault_23_the_pipeline_drops_leading_zeros(k):
    tokenizer = make_tokenizer(make_data_config(), says_all=k == "all")
    adder = pipeline("text-generation", model=tiny_model(k), tokenizer=tokenizer)
    answers = {}
    for text in ("7+45=", "007+45=", "07+00045=", "0+9=", "000+09="):
        x, y = text.strip("=").split("+")
        said = adder(text, max_new_tokens=6)[0]["generated_text"].removeprefix(text)
        answers.setdefault((int(x), int(y)), set()).add(said)
    assert len(answers) == 2
    assert all(len(said) == 1 for said in answers.values())  # a random model's, but of one sum always the same


@torch.inference_mode()
@pytest.mark.parametrize("k", KINDS)
def test_the_kept_logits_are_those_of_one_pass_over_the_whole_row(k):
    model = tiny_model(k)
    end = model.config.eos_token_id
    prompts = prompts_for(k)
    answers = decode(Engine(model, torch.float32), prompts, 6, batch_size=4, keep_logits=True)
    for prompt, said, logits in zip(without_padding(prompts), answers.tokens.tolist(), answers.logits, strict=True):
        num_said = len(say_alone(model, prompt, 6))
        row = prompt if k == "all" else prompt + said[:num_said]
        whole = model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
        start = prompt.index(end, 1) + 1 if k == "all" else len(prompt) - k  # what says the first token
        assert torch.allclose(logits[:num_said], whole[start : start + num_said], atol=1e-4)
        assert logits[:num_said].argmax(-1).tolist() == said[:num_said]
