"""Prompts of more digits than the training had."""

import io
import json

import pytest
import torch

from simple_llm.config.settings import Model, TrainConfig
from simple_llm.model import calculator
from simple_llm.model.calculator import Calculator, NO_ANSWER
from simple_llm.model.engine import Engine
from simple_llm.model.folder import LoadedModel
from simple_llm.model.prompts import Prompt, PromptError
from simple_llm.model.tokenizer_files import vocabulary_of
from tests.greedy import say_alone
from tests.oracle import PerfectAdder
from tests.tiny_models import make_data_config, make_tokenizer, make_train_config, tiny_model
from tests.trained_model import any_length_config, ANY_LENGTH_DATA

pytestmark = pytest.mark.library

CPU = torch.device("cpu")
TABLES = [("block", 9), ("block_sinusoidal", 12), ("learned", 26), ("sinusoidal", 31)]
KINDS = [1, 2, "all"]


def random_model(position_embedding: str, n_positions: int, k: int | str, base: int = 10) -> LoadedModel:
    """A model of two-digit numbers that says something to everything, as if it had been read from a folder."""
    data = make_data_config(99, base)
    settings = {"position_embedding": position_embedding, "n_positions": n_positions, "tokens_per_step": k}
    model = tiny_model(k, position_embedding, base, n_positions=n_positions)
    train = TrainConfig(model=Model(n_layer=2, n_head=2, n_embd=16, **settings))
    return LoadedModel(model, make_tokenizer(data, says_all=k == "all"), data, train, "", {})


def fits(loaded: LoadedModel, num_digits: int) -> bool:
    """Whether the model itself, which looks at its positions, takes a whole row of operands of so many digits."""
    digit, delimiter = [loaded.vocabulary.digit_ids[1]], [loaded.model.config.eos_token_id]
    operand = delimiter + num_digits * digit
    try:
        loaded.model(input_ids=torch.tensor([operand + operand + delimiter + (num_digits + 1) * digit + delimiter]))
    except ValueError as error:
        assert "past the position table" in str(error)
        return False
    return True


@pytest.fixture
def positions_read(monkeypatch) -> list[int]:
    """The largest position of everything that an engine reads."""
    largest = []
    real = Engine.embed

    def embed(self, tokens, positions):
        largest.append(int(positions.max()))
        return real(self, tokens, positions)

    monkeypatch.setattr(Engine, "embed", embed)
    return largest


@torch.inference_mode()
@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize(("position_embedding", "n_positions"), TABLES)
def test_fault_24_longer_sums_are_answered_as_far_as_the_position_table_has_room(
    position_embedding, n_positions, k, positions_read
):
    loaded = random_model(position_embedding, n_positions, k)
    adder = Calculator(loaded, CPU, allow_longer=True)
    most = max(num_digits for num_digits in range(1, 40) if fits(loaded, num_digits))
    prompts = [adder.parse(f"{x}+{y}") for x in ("7", "1" * most, "9" * most) for y in ("12", "100", "9" * most)]
    answers = adder.answer(prompts)
    alone = [adder.answer([prompt])[0] for prompt in prompts if prompt.is_longer]
    assert alone == [answer for prompt, answer in zip(prompts, answers, strict=True) if prompt.is_longer]
    for prompt in prompts:
        num_tokens = max(len(prompt.x), len(prompt.y)) + 2 if prompt.is_longer else len("198") + 1
        said = say_alone(loaded.model, loaded.tokenizer(f"{prompt}=")["input_ids"], num_tokens)
        assert adder.transcript(prompt).said[: len(said)] == said
    assert max(positions_read) < n_positions
    for text in (f"{10**most}+1", f"1+{10**most}", f"{'9' * 5000}+1"):
        with pytest.raises(PromptError, match=f"has more than {most} digits in base 10, the most this model has room"):
            adder.parse(text)


@pytest.mark.parametrize("base", [2, 10, 16, 36])
def test_fault_24_the_limit_is_one_of_digits_in_the_models_base(base):
    adder = Calculator(random_model("block", 12, 1, base), CPU, allow_longer=True)
    largest = base**10 - 1
    assert adder.parse(f"00{largest}+1") == Prompt(str(largest), "1", is_longer=True)
    assert adder.parse("99+99") == Prompt("99", "99")
    assert adder.parse("100+1").is_longer
    with pytest.raises(PromptError, match=f"has more than 10 digits in base {base}"):
        adder.parse(f"{largest + 1}+1")


def test_fault_24_without_a_table_there_is_a_limit_all_the_same(monkeypatch):
    monkeypatch.setattr(calculator, "_MOST_DIGITS", 30)
    adder = Calculator(random_model("none", 16, 1), CPU, allow_longer=True)
    assert adder.answer([adder.parse("9" * 30 + "+1")])
    with pytest.raises(PromptError, match="has more than 30 digits in base 10"):
        adder.parse("1" + "0" * 30 + "+1")


@pytest.mark.parametrize("text", ["100+1", "1+100", "0100+1", f"{'9' * 400}+1"])
def test_fault_24_unless_it_is_asked_for_a_longer_number_is_refused_and_the_limit_named(text):
    with pytest.raises(PromptError, match="is above 99, the largest this model knows"):
        Calculator(random_model("block", 40, 2), CPU).parse(text)


def test_what_is_in_the_range_is_answered_alike_with_and_without_longer_ones_allowed():
    for k in KINDS:
        loaded = random_model("block", 12, k)
        prompts = [Prompt(str(x), str(y)) for x in (0, 7, 45, 99) for y in (3, 50, 99)]
        assert Calculator(loaded, CPU, allow_longer=True).answer(prompts) == Calculator(loaded, CPU).answer(prompts)


def test_a_model_that_knows_every_length_marks_nothing(any_length):
    loaded = LoadedModel(any_length.model, any_length.tokenizer, ANY_LENGTH_DATA, any_length_config(1), "", {})
    adder = Calculator(loaded, CPU, allow_longer=True)
    prompt = adder.parse(f"{10**40}+{10**39}")
    assert not prompt.is_longer
    assert adder.answer([prompt]) == [str(10**40 + 10**39)]


def test_long_answers_are_read_as_short_ones_are():
    loaded = random_model("block", 12, 1)
    adder = Calculator(loaded, CPU)
    one, end, pad = adder.vocabulary.digit_ids[1], adder.vocabulary.delimiter_id, adder.vocabulary.pad_id
    for said in (
        [one, one, end],
        [end, one],
        [one, pad, end],
        [pad, one],
        [one, pad],
        [one, end, one],
        [one, one],
        [1],
    ):
        short, long = (torch.tensor([said + [pad] * more]) for more in (0, 30))
        prompt = torch.tensor([[end, one, end, one, end]])
        short_value, long_value = ((adder._results(prompt, row)[0] or (None,))[0] for row in (short, long))
        assert short_value == (long_value if long_value is None else int(long_value)), said


# ---- The script -----------------------------------------------------------------------------------


@pytest.fixture
def infer(call_script, monkeypatch, tmp_path, oracle_engine):
    """Run inference.py on a model that adds numbers of up to 38 digits, and was trained for four."""
    data = make_data_config(9999)
    train = make_train_config(2)
    train = train.model_copy(update={"model": train.model.model_copy(update={"n_positions": 40})})
    tokenizer = make_tokenizer(data)

    class Model(PerfectAdder):
        def to(self, device):
            return self

    def run(*arguments, stdin=b"", **settings):
        loaded = LoadedModel(Model(vocabulary_of(tokenizer, 2), **settings), tokenizer, data, train, "f" * 64, {})
        monkeypatch.setattr("simple_llm.model.folder.load_model", lambda folder: loaded)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return call_script("inference.py", "--model", "somewhere", *arguments, cwd=tmp_path)

    return run


def test_fault_24_each_longer_answer_is_marked_in_a_column_of_its_own(infer):
    sums = ["9999+9999", "10000+1", "1+1", "007+00000000009", f"{10**37}+{10**20}"]
    done = infer("--allow-longer", *sums)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [first for first, *_ in lines] == [
        *["9999+9999=19998", "10000+1=10001", "1+1=2", "7+9=16", f"{10**37}+{10**20}={10**37 + 10**20}"],
    ]
    assert [rest for _, *rest in lines] == [[], ["beyond training"], [], [], ["beyond training"]]


def test_fault_24_a_program_reads_the_mark_in_the_json(infer):
    done = infer("--allow-longer", "--json", "9999+1", "10000+1")
    assert json.loads(done.stdout.splitlines()[-1])["replies"] == [
        {"prompt": "9999+1", "answer": "10000", "beyond_training": False},
        {"prompt": "10000+1", "answer": "10001", "beyond_training": True},
    ]


def test_fault_24_the_script_refuses_what_it_is_not_asked_for_and_what_there_is_no_room_for(infer):
    done = infer("10000+1", "1+1")
    assert (done.exit_code, done.stdout) == (2, "1+1=2\n")
    assert done.stderr == "10000+1: 10000 is above 9999, the largest this model knows\n"
    done = infer("--allow-longer", stdin=f"{10**38}+1\n{10**38 - 1}+0\n".encode())
    assert (done.exit_code, done.stdout) == (2, f"{10**38 - 1}+0={10**38 - 1}\tbeyond training\n")
    assert done.stderr.startswith("line 1: ") and "has more than 38 digits in base 10" in done.stderr


def test_a_longer_sum_that_is_not_ended_is_no_answer_and_marked(infer):
    done = infer("--allow-longer", "10000+1", endless=frozenset({(10000, 1)}))
    assert done.stdout == f"10000+1={NO_ANSWER}\tbeyond training\n"
