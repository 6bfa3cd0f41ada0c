import itertools

import pytest
import torch

from simple_llm.batches import answer_tokens, prompt_tokens, Vocabulary
from simple_llm.decoding import decode_greedily
from tests.oracle import PerfectAdder
from tests.tiny_models import all_pairs, make_vocabulary, problems_of, tiny_model

VOCABULARY = make_vocabulary()
PAIRS = [(0, 0), (99, 1), (12, 873), (9999, 9999), (5, 67), (7, 8), (31, 4159), (1, 2), (45, 55), (1342, 879)]


def without_padding(rows: torch.Tensor) -> list[list[int]]:
    return [row[row != VOCABULARY.pad_id].tolist() for row in rows]


def right_answers(pairs, vocabulary: Vocabulary = VOCABULARY) -> list[list[int]]:
    """By Python's own addition."""
    return [[3 + int(digit) for digit in reversed(str(x + y))] + [vocabulary.delimiter_id] for x, y in pairs]


# ---- With an oracle -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 1024])
@pytest.mark.parametrize("k", [1, 2])
def test_answers_come_in_the_order_of_the_prompts_whatever_their_lengths(k, batch_size):
    prompts = prompt_tokens(problems_of(PAIRS), VOCABULARY)
    done = []
    answers = decode_greedily(PerfectAdder(VOCABULARY, tokens_per_step=k), prompts, 6, batch_size, on_batch=done.append)
    assert without_padding(answers.tokens) == right_answers(PAIRS)
    assert answers.tokens.shape == (len(PAIRS), 6)
    assert answers.is_finished.all()
    assert answers.logits is None
    assert sum(done) == len(PAIRS)
    assert max(done) <= batch_size


@pytest.mark.parametrize("k", [1, 2])
def test_an_answer_that_does_not_end_is_unfinished_and_has_every_token_there_is_room_for(k):
    endless = frozenset([(12, 873), (1, 2)])
    prompts = prompt_tokens(problems_of(PAIRS), VOCABULARY)
    answers = decode_greedily(PerfectAdder(VOCABULARY, tokens_per_step=k, endless=endless), prompts, 7)
    one = VOCABULARY.digit_ids[1]
    expected = [
        [one] * 7 if pair in endless else answer for pair, answer in zip(PAIRS, right_answers(PAIRS), strict=True)
    ]
    assert without_padding(answers.tokens) == expected
    assert answers.is_finished.tolist() == [pair not in endless for pair in PAIRS]


@pytest.mark.parametrize("k", [1, 2])
def test_an_answer_that_needs_more_tokens_than_allowed_is_cut_and_unfinished(k):
    pairs = [(9, 9), (999, 1), (3, 4)]  # 18+ has three tokens, 1000+ five, 7+ two
    prompts = prompt_tokens(problems_of(pairs), VOCABULARY)
    answers = decode_greedily(PerfectAdder(VOCABULARY, tokens_per_step=k), prompts, 3)
    assert without_padding(answers.tokens) == [answer[:3] for answer in right_answers(pairs)]
    assert answers.is_finished.tolist() == [True, False, True]


@pytest.mark.parametrize("k", [1, 2])
def test_nothing_is_left_after_the_end_of_an_answer(k):
    """The oracle goes on saying 1 after an end, and the longest answer of the batch keeps all others going."""
    prompts = prompt_tokens(problems_of([(1, 2), (9999, 1), (5, 6)]), VOCABULARY)
    answers = decode_greedily(PerfectAdder(VOCABULARY, tokens_per_step=k), prompts, 8)
    assert without_padding(answers.tokens) == right_answers([(1, 2), (9999, 1), (5, 6)])


def test_what_a_batch_raises_ends_the_work():
    def stop(num_prompts):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        decode_greedily(PerfectAdder(VOCABULARY), prompt_tokens(problems_of(PAIRS), VOCABULARY), 6, 4, on_batch=stop)


def test_no_prompt_gets_no_answer():
    answers = decode_greedily(PerfectAdder(VOCABULARY), prompt_tokens(problems_of([]), VOCABULARY), 6, keep_logits=True)
    assert answers.tokens.shape == (0, 6)
    assert answers.logits.shape == (0, 6, 13)


# ---- With models ----------------------------------------------------------------------------------


def say_alone(model, prompt: list[int], max_answer_tokens: int) -> list[int]:
    """The definition: one prompt, whole rows, no cache, one pass a step."""
    row, k = list(prompt), model.config.tokens_per_step
    while len(row) < len(prompt) + max_answer_tokens:
        for token in model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -k:].argmax(-1).tolist():
            row.append(token)
            if token == VOCABULARY.delimiter_id or len(row) == len(prompt) + max_answer_tokens:
                return row[len(prompt) :]
    return row[len(prompt) :]


def say_by_generate(model, prompt: list[int], max_answer_tokens: int) -> list[int]:
    out = model.generate(torch.tensor([prompt]), max_new_tokens=max_answer_tokens)
    return out[0, len(prompt) :].tolist()


@torch.inference_mode()
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("position_embedding", ["block", "learned"])
def test_a_batch_says_what_each_prompt_gets_alone_and_from_generate(position_embedding, k):
    model = tiny_model(k, position_embedding)
    prompts = prompt_tokens(problems_of(PAIRS), VOCABULARY)
    alone = [say_alone(model, prompt, 7) for prompt in without_padding(prompts)]
    assert len(set(map(tuple, alone))) > 3
    assert [say_by_generate(model, prompt, 7) for prompt in without_padding(prompts)] == alone
    for batch_size in (1, 4, 1024):
        answers = decode_greedily(model, prompts, 7, batch_size)
        # Padding may be said too: a random model knows no better. It is compared as it stands.
        assert [row[: len(said)].tolist() for row, said in zip(answers.tokens, alone, strict=True)] == alone
        assert answers.is_finished.tolist() == [VOCABULARY.delimiter_id in said for said in alone]


@torch.inference_mode()
@pytest.mark.parametrize("k", [1, 2])
def test_the_kept_logits_are_those_of_one_pass_over_the_whole_row(k):
    model = tiny_model(k)
    prompts = prompt_tokens(problems_of(PAIRS), VOCABULARY)
    answers = decode_greedily(model, prompts, 6, batch_size=4, keep_logits=True)
    for prompt, said, logits in zip(without_padding(prompts), answers.tokens.tolist(), answers.logits, strict=True):
        num_said = said.index(VOCABULARY.delimiter_id) + 1 if VOCABULARY.delimiter_id in said else 6
        row = torch.tensor([prompt + said[:num_said]])
        whole = model(input_ids=row, use_cache=False).logits[0]  # its index t is for token t + k
        for index in range(num_said):
            assert torch.allclose(logits[index], whole[len(prompt) + index - k], atol=1e-4)
            assert logits[index].argmax() == said[index]


def test_a_trained_model_says_the_same_on_every_path(trained):
    problems = all_pairs(99)[slice(0, None, 97)]
    prompts = prompt_tokens(problems, trained.vocabulary)
    together = decode_greedily(trained.model, prompts, 4)
    assert without_padding(together.tokens) == without_padding(answer_tokens(problems, trained.vocabulary))
    for batch_size, model in itertools.product([1, 7], [trained.model, trained.half]):
        some = decode_greedily(model, prompts, 4, batch_size).tokens
        assert torch.equal(some, decode_greedily(model, prompts, 4).tokens)
        with torch.inference_mode():
            said = [say_by_generate(model, prompt, 4) for prompt in without_padding(prompts)[:30]]
        assert [row[: len(one)].tolist() for row, one in zip(some, said, strict=False)] == said
