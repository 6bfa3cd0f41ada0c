"""Python's side of the encodings that it shares with the page; test_page.py has the other."""

import pytest
import torch

from simple_llm.config.settings import DataConfig, Numbers
from simple_llm.data.problems import from_integers
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.model.tokens import prompt_tokens, read_answers
from tests.golden import GOLDEN
from tests.tiny_models import make_tokenizer, tiny_model

pytestmark = pytest.mark.library

WIDEST = 110  # digits of the largest operand, in base 2


@pytest.mark.parametrize("golden", GOLDEN, ids=range(len(GOLDEN)))
def test_the_tokenizer_the_batches_and_the_model_keep_to_the_golden_encodings(golden):
    told = golden["model"]
    numbers = Numbers(base=told["base"], reversed=told["reversed"])
    tokenizer = make_tokenizer(DataConfig(numbers=numbers), says_all=told["longer_second"])
    vocabulary = vocabulary_of(tokenizer, "all" if told["longer_second"] else 1)
    assert list(vocabulary.digit_ids) == told["digit_ids"]
    assert (vocabulary.delimiter_id, vocabulary.pad_id) == (told["delimiter_id"], told["pad_id"])
    names = ("tokens_per_step", "position_embedding", "base", "attention_window", "position_period")
    model = tiny_model(**{name: told[name] for name in names})
    for one in golden["sums"]:
        assert tokenizer(f"{one['x']}+{one['y']}=")["input_ids"] == one["tokens"]
        problem = from_integers([(int(one["x"]), int(one["y"]))], told["base"], WIDEST)
        assert prompt_tokens(problem, vocabulary).tolist() == [one["tokens"]]
        assert model.position_ids(torch.tensor([one["tokens"]])).tolist() == [one["positions"]]
    for one in golden["answers"]:
        [answer] = read_answers(torch.tensor([one["said"]]), vocabulary)
        assert one["answer"] == (None if answer is None else str(answer))


def test_one_encoding_by_hand():
    """1342 + 879 in base 16 is 53E + 36F; token IDs of digits start at 3, the delimiter's is 2."""
    assert GOLDEN[0]["model"]["base"] == 16 and GOLDEN[0]["model"]["reversed"]
    tokens, positions = [2, 14 + 3, 3 + 3, 5 + 3, 2, 15 + 3, 6 + 3, 3 + 3, 2], [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert GOLDEN[0]["sums"][0] == {"x": "1342", "y": "879", "tokens": tokens, "positions": positions}
