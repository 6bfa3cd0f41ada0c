"""Every way to ask a model that works on paper says the same, and what it was not trained on is refused by name."""

import logging
import random
import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline, TextStreamer

from simple_llm.arithmetic.operation import Operation
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import load_model
from simple_llm.model.prompts import PromptError
from simple_llm.proof.all_contexts import prove_all_contexts
from tests.paper_model import KINDS
from tests.test_every_path import BATCH_SIZE, SETTINGS

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]

NUM_PROBLEMS = 8  # of each operation


@pytest.fixture(scope="module", params=KINDS)
def folder(request, on_paper):
    return on_paper(request.param)


@pytest.fixture(scope="module")
def loaded(folder):
    return load_model(folder)


@pytest.fixture(scope="module")
def problems(loaded) -> list[str]:
    """Problems of all operations mixed, of numbers of every length, sums of up to five."""
    rng, base = random.Random(7), loaded.data.numbers.base
    texts = []
    for operation in loaded.operations:
        for _ in range(NUM_PROBLEMS):
            count = rng.choice((2, 2, 3, 5)) if operation.takes_many else 2
            numbers = [rng.randrange(base ** rng.randint(1, 4)) for _ in range(count)]
            numbers[1] += operation.leaves_rest
            texts.append(f"{operation.symbol.join(map(str, numbers))}=")
    rng.shuffle(texts)
    return texts


@pytest.fixture(scope="module")
def expected(loaded, problems) -> list[str]:
    """What inference.py says, by this package's own decoding."""
    calculator = Calculator(loaded, torch.device("cpu"))
    answers = calculator.answer([calculator.parse(text) for text in problems])
    return [text + answer for text, answer in zip(problems, answers, strict=True)]


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


@pytest.fixture(scope="module")
def calculate(folder):
    return pipeline("text-generation", model=str(folder), trust_remote_code=True)


def longest(problems: list[str], expected: list[str]) -> tuple[str, str]:
    """A problem with more than one token of work, and the same with its answer."""
    return max(zip(problems, expected, strict=True), key=lambda pair: len(pair[0]))


def by_integers(text: str) -> str:
    """A problem with its answer, by Python's integers."""
    operator = next(one for one in "+-*/" if one in text)
    numbers = [int(number) for number in text.strip("=").split(operator)]
    if operator == "/":
        quotient, rest = divmod(*numbers)
        return f"{text}{quotient}" + (f" r {rest}" if rest else "")
    totals = {"+": sum(numbers), "-": numbers[0] - sum(numbers[1:]), "*": numbers[0] * numbers[1]}
    return f"{text}{totals[operator]}"


def test_the_models_here_are_right_and_proved(loaded, problems, expected):
    assert prove_all_contexts(loaded.model, loaded.operations)["wrong"] == 0
    assert expected == [by_integers(text) for text in problems]


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_generate_says_what_inference_says_to_one_problem_after_another(model, tokenizer, problems, expected, number):
    num_problems = 12 if number == 0 else 4  # the others are asked all of them in batches
    for text, right in zip(problems[:num_problems], expected, strict=False):
        row = model.generate(**tokenizer(text, return_tensors="pt"), **SETTINGS[number])[0]
        assert tokenizer.decode(row) == right


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_generate_says_what_inference_says_to_mixed_batches(model, tokenizer, problems, expected, settings):
    said = []
    for first in range(0, len(problems), BATCH_SIZE):
        batch = tokenizer(problems[first : first + BATCH_SIZE], padding=True, return_tensors="pt")
        said += tokenizer.batch_decode(model.generate(**batch, **settings), skip_special_tokens=True)
    assert said == expected


def test_pipeline_says_what_inference_says(calculate, problems, expected):
    assert [one[0]["generated_text"] for one in calculate(problems, batch_size=BATCH_SIZE)] == expected
    assert [calculate(text)[0]["generated_text"] for text in problems[:6]] == expected[:6]
    answers = calculate(problems[:32], batch_size=BATCH_SIZE, return_full_text=False)
    said = [text + one[0]["generated_text"] for text, one in zip(problems, answers, strict=False)]
    assert said == expected[:32]


def test_pipeline_writes_anew_what_does_not_end_in_an_equals_sign(calculate, loaded, problems, expected):
    for text, right in list(zip(problems, expected, strict=True))[:3]:
        typed = text.strip("=").replace("-", "\u2212").replace("*", " \u00d7 ").replace("/", "\u00f7")
        for prompt in (typed, f"00{typed}"):
            assert calculate(prompt)[0]["generated_text"] == right
            assert calculate(prompt, return_full_text=False)[0]["generated_text"] == right.partition("=")[2]
        assert calculate(f"{typed} = ")[0]["generated_text"] == f"{typed} = {right.partition('=')[2]}"
        assert calculate(loaded.tokenizer.to_model_text(text))[0]["generated_text"] == right


def test_pipeline_passes_on_what_else_is_asked_of_it(calculate, tokenizer, problems, expected):
    text, right = longest(problems, expected)
    several = calculate(text, num_return_sequences=2, do_sample=True, top_k=1)
    assert [one["generated_text"] for one in several] == [right, right]
    [tokens] = calculate(text, return_tensors=True)
    assert tokenizer.decode(tokens["generated_token_ids"]) == right
    assert calculate(text, max_new_tokens=1)[0]["generated_text"] == text  # work that has not ended has no answer
    assert calculate([text, problems[1]], batch_size=2, skip_special_tokens=True)[0][0]["generated_text"] == right


def test_a_stream_shows_the_work_as_it_is_written_or_the_answer_at_its_end(
    model, tokenizer, problems, expected, capsys
):
    text, right = longest(problems, expected)
    prompt = tokenizer(text, return_tensors="pt")
    row = model.generate(**prompt, streamer=TextStreamer(tokenizer))[0].tolist()
    assert capsys.readouterr().out.strip() == right
    model.generate(**prompt, streamer=TextStreamer(tokenizer, skip_prompt=True))
    work = "".join(tokenizer.convert_ids_to_tokens(row[prompt.input_ids.size(1) :]))
    assert capsys.readouterr().out.strip() == work
    assert work.endswith("|=")


def test_what_was_not_trained_on_is_refused_by_name_on_every_path(calculate, loaded):
    calculator, known = Calculator(loaded, torch.device("cpu")), {one.symbol for one in loaded.operations}
    for symbol in set("+-*/") - known:
        for refuse, error in ((calculate, ValueError), (calculator.parse, PromptError)):
            with pytest.raises(error) as caught:
                refuse(f"5{symbol}3=")
            told = str(caught.value)
            assert "5" + symbol + "3" in told and len(told.splitlines()) == 1
            assert all(_named(one, told) for one in loaded.operations)
    if known == set("+-*/"):
        for zero in ("5/0", "0/00", "5 \u00f7 0 ="):
            for refuse, error in ((calculate, ValueError), (calculator.parse, PromptError)):
                with pytest.raises(error, match="nothing is divided by 0"):
                    refuse(zero)
    for text in ("1+2*3", "5--3", "", "5-3-1", "2*3*4", "8/2/2", "5^3", "\u0663+\u0664", "-5+3", "5+", "+5"):
        for refuse, error in ((calculate, ValueError), (calculator.parse, PromptError)):
            with pytest.raises(error):
                refuse(text)


def _named(operation: Operation, told: str) -> bool:
    """Whether a message has an example of an operation."""
    return {"+": "1342+879", "-": "342-879", "*": "57*46", "/": "1742/56"}[operation.symbol] in told


def test_no_path_makes_the_library_warn(folder, problems, caplog):
    caplog.set_level(logging.WARNING)
    logging.getLogger("transformers").addHandler(caplog.handler)  # whose records go no further
    with warnings.catch_warnings(action="error"):
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        batch = tokenizer(problems[:3], padding=True, return_tensors="pt")
        for settings in SETTINGS:
            tokenizer.batch_decode(model.generate(**batch, **settings))
        pipeline("text-generation", model=str(folder), trust_remote_code=True)(problems[0])
        model.train()(**batch, labels=batch["input_ids"]).loss.backward()
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records] == []
