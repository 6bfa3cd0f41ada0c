"""A proof for every length of work on paper: the list is what a model sees, and what is wrong is found and told."""

import json
import types

import numpy as np
import pytest
import torch

import evaluate
from simple_llm.arithmetic import BY_NAME
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.contexts import Contexts, contexts
from simple_llm.arithmetic.paper import texts
from simple_llm.arithmetic.subtraction import SUBTRACTION
from simple_llm.arithmetic.symbols import NOTHING, shown, SIGNS
from simple_llm.errors import GateError, UsageError
from simple_llm.evaluation.certificates import AllLengths, in_words, read_as_certificate, written_place
from simple_llm.model.context_engine import ContextEngine
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.places_simple_llm import Grid
from simple_llm.proof import all_contexts, certifying_lengths
from simple_llm.proof.all_contexts import context_logits, count_contexts, prove_all_contexts, token_ids
from simple_llm.proof.certifying_lengths import certify_lengths, num_contexts
from simple_llm.proof.occurrence import codes_of_contexts, codes_of_texts, problems_showing
from simple_llm.proof.rounding import refuse_rounding_of_float32
from tests.greedy import say_alone
from tests.paper import read_off, written
from tests.test_grid import grid_model, text_of, tokens_of
from tests.test_paper import columns_of, random_texts
from tests.tiny_models import make_data_config, tiny_model

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]

BOTH = [ADDITION, SUBTRACTION]


def grid_of(model: SimpleLLMForCausalLM):
    tokens = token_ids(model.config)
    return lambda text: model.grid(torch.from_numpy(tokens[text]))


# ---- The list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [2, 3, 4, 5, 7, 10, 16, 20])
@pytest.mark.parametrize("operator", "+-*/")
def test_contexts_are_counted_as_they_are_listed(operator, base):
    assert count_contexts(operator, base) == len(contexts(operator, base))


def test_symbols_are_the_tokens_of_a_model():
    config = grid_model(10).config
    tokens = token_ids(config)
    text = written("*", [57, 46], 10)
    assert text_of(tokens[texts("*", columns_of([(57, 46)], 10), 10)[0]].tolist()) == text
    assert tokens[NOTHING] == config.pad_token_id
    assert len(set(tokens.tolist())) == len(tokens) == 2 * 10 + len(SIGNS) + 1


@pytest.mark.parametrize("base", [10, 16])
@pytest.mark.parametrize("operator", "+-*/")
def test_a_model_says_the_same_in_a_text_and_in_the_context_that_is_listed(operator, base):
    """The whole model with its mask over sampled texts, and its tables asked for contexts of the list."""
    model, listed = grid_model(base), contexts(operator, base)
    place = {code: index for index, code in enumerate(codes_of_contexts(listed).tolist())}
    assert len(place) == len(listed)
    text = random_texts(operator, base, 150)
    tokens = torch.from_numpy(token_ids(model.config)[text])
    codes = codes_of_texts(text, model.grid(tokens), base)[:, :-1]
    is_asked = (codes >= 0) & (text[:, 1:] != NOTHING)
    which = np.array([place[code] for code in codes[is_asked].tolist()])
    assert len(set(which.tolist())) > 400
    assert (listed.says[which] == text[:, 1:][is_asked]).all()
    with torch.inference_mode():
        said = model(input_ids=tokens).logits[:, :-1][torch.from_numpy(is_asked)]
    by_tables, right = context_logits(ContextEngine(model, torch.float32), listed)
    torch.testing.assert_close(by_tables[which], said, rtol=1e-4, atol=1e-5)
    assert torch.equal(right[which], tokens[:, 1:][torch.from_numpy(is_asked)])


@pytest.mark.parametrize("operator", "+-*/")
def test_a_context_is_told_as_a_problem_in_which_it_occurs(operator):
    """In the text of the slow writer, asked what the model's grid says of it; of base 3 nearly all are found."""
    model, listed = grid_model(3), contexts(operator, 3)
    found = problems_showing(listed, range(len(listed)), grid_of(model))
    assert len(found) >= len(listed) - (4 if operator == "*" else 0)  # these begin with zeros
    codes = codes_of_contexts(listed)
    for index, (x, y) in list(found.items())[::5]:
        tokens = tokens_of(written(operator, [x, y], 3), 3)
        symbols = np.array([[token_ids(model.config).tolist().index(token) for token in tokens]])
        assert codes[index] in codes_of_texts(symbols, model.grid(torch.tensor([tokens])), 3)
    assert found[0][0] < 3**4 and problems_showing(listed, [], grid_of(model)) == {}


# ---- Models that were shown the list --------------------------------------------------------------


def train_on(listed: list[Contexts], base: int, steps: int = 150) -> SimpleLLMForCausalLM:
    """Train a model of one block on contexts themselves, each as a row of the symbols in its cells."""
    torch.manual_seed(0)
    model = grid_model(base, n_embd=32, n_head=4, initializer_range=0.2)
    tokens = token_ids(model.config)
    symbols, kinds, is_seen, says = (
        torch.from_numpy(np.concatenate([getattr(one, name) for one in listed]).astype(np.int64))
        for name in ("symbols", "kinds", "is_seen", "says")
    )
    cells = torch.arange(symbols.size(1)).expand_as(symbols)
    looks = torch.where(is_seen.bool(), cells, -2)[:, None].expand(-1, symbols.size(1), -1)
    grid = Grid(kinds, looks, cells >= 0, cells, None)
    ids, right = torch.from_numpy(tokens)[symbols], torch.from_numpy(tokens)[says]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        logits = model(input_ids=ids, grid=grid).logits[:, -1]
        loss = torch.nn.functional.cross_entropy(logits, right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@pytest.fixture(scope="module")
def right() -> SimpleLLMForCausalLM:
    """Of base 2, right in every context of sums and differences."""
    return train_on([contexts(one.symbol, 2) for one in BOTH], 2)


def decoded(model: SimpleLLMForCausalLM, operator: str, numbers: list[int], base: int = 2) -> str:
    text = written(operator, numbers, base)
    question = tokens_of(text[: text.index("|") + 1], base)
    return text_of(question + say_alone(model, question, 2 * len(text)), base)


def test_a_model_that_is_right_in_every_context_is_proved_and_right_in_long_sums(right):
    seen = []
    proof = prove_all_contexts(right, BOTH, seen.append)
    assert (proof["checked"], proof["wrong"], proof["failures"]) == (proof["expected"], 0, [])
    assert proof["expected"] == sum(seen) == 45 + 57
    assert {name: one["checked"] for name, one in proof["operations"].items()} == {"add": 45, "subtract": 57}
    least = {name: one["min_logit_margin"] for name, one in proof["operations"].items()}
    assert 1 < proof["min_logit_margin"] == min(least.values())
    assert least[proof["min_logit_margin_at"]["operation"]] == proof["min_logit_margin"]
    assert 0 < proof["rounding"]["float32"] < 1e-3
    for operator, numbers in (("+", [2**40 - 1, 1]), ("+", [3, 900, 0, 7**9, 5]), ("-", [0, 2**30]), ("-", [6**9, 77])):
        assert decoded(right, operator, numbers) == written(operator, numbers, 2)


@pytest.mark.parametrize("which", [3, 40])
def test_fault_30_errors_that_were_planted_in_one_context_each_are_found_and_told_as_problems(which):
    """A model that was shown a wrong symbol in a context of each; it goes wrong in the problems named, and there."""
    listed = {one: contexts(one.symbol, 2) for one in BOTH}
    shown_wrongly = {}
    for operation, planted in listed.items():
        shown_wrongly[operation] = planted.says[which] = (planted.says[which] + 1) % 4  # a digit or a carry
    model = train_on(list(listed.values()), 2)
    proof = prove_all_contexts(model, BOTH)
    assert proof["wrong"] == len(proof["failures"]) == 2 and proof["min_logit_margin"] < 0
    assert proof["min_logit_margin_at"] in proof["failures"]
    for failure, (operation, said_wrongly) in zip(proof["failures"], shown_wrongly.items(), strict=True):
        of_list = contexts(operation.symbol, 2)
        assert failure["context"] == of_list.spelled(which)
        assert (failure["operation"], failure["said"]) == (operation.name, shown(np.array([said_wrongly]), 2))
        numbers = [int(number) for number in failure["problem"].split(operation.symbol)]
        expected, said = written(operation.symbol, numbers, 2), decoded(model, operation.symbol, numbers)
        first = next(index for index, (one, other) in enumerate(zip(expected, said, strict=False)) if one != other)
        assert (expected[first], said[first]) == (failure["context"][-1], failure["said"])
        assert operation.of_integers(*numbers) == read_off(expected, 2)


class FromTheList:
    """Stands in for a trained model's tables: in every context but some the right token leads by 1."""

    def __init__(self, model: SimpleLLMForCausalLM, listed: Contexts, wrong: dict[int, float]) -> None:
        """`wrong` is the logit, of those contexts, of the token that comes after the right one."""
        self.config, self.device = model.config, model.device
        tokens = token_ids(model.config)
        says = tokens[listed.says].tolist()
        keys = map(tuple, np.column_stack([tokens[listed.symbols], listed.kinds[:, -1]]).tolist())
        self.says = dict(zip(keys, enumerate(says), strict=True))
        self.wrong = wrong

    def logits(self, tokens: torch.Tensor, kinds: torch.Tensor, is_seen: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(tokens), self.config.vocab_size, dtype=torch.float64)
        for row, key in enumerate(torch.cat([tokens, kinds[:, -1:]], 1).tolist()):
            index, token = self.says[tuple(key)]
            logits[row, token] = 1.0
            if index in self.wrong:
                logits[row, token + 1] = self.wrong[index]
        return logits


@pytest.mark.parametrize("which", [50, 9_000])
@pytest.mark.parametrize("operator", "*/")
def test_an_error_in_one_context_of_a_product_or_quotient_is_told_as_a_problem(operator, which):
    operation = types.SimpleNamespace(name="another", symbol=operator, write=lambda x, y: f"{x}{operator}{y}")
    model, listed = grid_model(10), contexts(operator, 10)
    engine = FromTheList(model, listed, {which: 3.0})
    answers = all_contexts.ask(operation, engine, engine, grid_of(model))
    assert answers.is_wrong.nonzero()[:, 0].tolist() == [which] == [answers.least_sure]
    counts = {"expected": len(listed), "checked": len(listed), "wrong": 1, "min_logit_margin": -2.0}
    assert answers.counts() == counts and answers.moved == 0
    told, tokens = answers.described(which, model.config), token_ids(model.config)
    assert told["context"] == listed.spelled(which)
    numbers = [int(number) for number in told["problem"].split(operator)]
    text = tokens_of(written(operator, numbers, 10))
    symbols = np.array([[tokens.tolist().index(token) for token in text]])
    codes = codes_of_texts(symbols, model.grid(torch.tensor([text])), 10)[0]
    places = np.flatnonzero(codes == codes_of_contexts(listed)[which])
    assert len(places) and {text[place + 1] for place in places} == {int(tokens[listed.says[which]])}
    assert told["said"] == text_of([int(tokens[listed.says[which]]) + 1])


def test_what_is_no_number_is_wrong_and_the_least_sure():
    model, listed = grid_model(3), contexts("+", 3)
    engine = FromTheList(model, listed, {7: float("nan"), 11: 5.0})
    answers = all_contexts.ask(ADDITION, engine, FromTheList(model, listed, {}), grid_of(model))
    assert answers.counts()["wrong"] == 2 and answers.least_sure == 7
    assert np.isnan(answers.counts()["min_logit_margin"]) and np.isnan(answers.moved)


def test_no_more_failures_are_told_than_there_is_room_for_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(all_contexts, "MAX_FAILURES", 5)
    proof = prove_all_contexts(grid_model(2), BOTH)
    assert proof["wrong"] > 80 and len(proof["failures"]) == 5


# ---- Certificates ---------------------------------------------------------------------------------


def loaded_with(model: SimpleLLMForCausalLM) -> types.SimpleNamespace:
    """What a proof asks of a loaded model."""
    hashes = {"model_sha256": "a" * 64, "config_sha256": "c" * 64, "tokenizer_sha256": "d" * 64}
    return types.SimpleNamespace(model=model, operations=BOTH, data=make_data_config(base=2), hashes=hashes)


def test_a_certificate_says_what_was_counted_and_why_that_is_enough(right):
    loaded, seen = loaded_with(right), []
    certificate = certify_lengths(loaded, seen.append, command="python3 evaluate.py --all-lengths")
    assert sum(seen) == num_contexts(loaded) == certificate.expected == certificate.checked == 102
    document = certificate.as_dict()
    assert read_as_certificate(json.loads(json.dumps(document))) == certificate
    assert document["kind"] == "all lengths" and document["scratchpad"] == "columns" and document["base"] == 2
    assert document["operations"]["add"].keys() == {"expected", "checked", "wrong", "min_logit_margin"}
    assert not {"attention_window", "position_period", "range"} & document.keys()
    argument = " ".join(" ".join(certificate.argument).split())
    assert "102 contexts: 45 of sums, 57 of differences." in argument
    assert "In 102 of them the token that has to follow has the largest logit of all 12 tokens" in argument
    assert max(map(len, certificate.argument)) <= 120


def test_a_proof_that_rounding_of_float32_could_upset_is_none(right, monkeypatch):
    refuse_rounding_of_float32(0.4, 1.0)
    for moved in (0.5, 0.6, float("nan")):
        with pytest.raises(GateError, match="float32 moves two logits"):
            refuse_rounding_of_float32(moved, 1.0)
    moves = lambda *arguments: {**prove_all_contexts(*arguments), "rounding": {"float32": 100.0}}  # noqa: E731
    monkeypatch.setattr(certifying_lengths, "prove_all_contexts", moves)
    with pytest.raises(GateError, match="nothing is proved"):
        certify_lengths(loaded_with(right), lambda num_contexts: None)


def test_contexts_that_are_not_listed_once_each_prove_nothing(right, monkeypatch):
    monkeypatch.setattr(all_contexts, "count_contexts", lambda operator, base: 99)
    with pytest.raises(GateError, match="102 contexts were listed, and there are 198"):
        certify_lengths(loaded_with(right), lambda num_contexts: None)


def test_what_cannot_be_listed_is_refused_with_the_reason():
    for model, reason in (
        (grid_model(n_layer=2), "in a second block a token sees more than is in its view"),
        (tiny_model(n_layer=1), "model.attention_window, or model.scratchpad = columns"),
    ):
        for refused in (num_contexts, lambda loaded: certify_lengths(loaded, lambda num_contexts: None)):
            with pytest.raises(UsageError, match=reason):
                refused(types.SimpleNamespace(model=model, operations=BOTH, vocabulary=None))


@pytest.mark.parametrize("is_right", [True, False])
def test_evaluate_prints_what_was_counted_of_each_operation_and_fails_unless_all_is_right(
    right, is_right, monkeypatch, tmp_path, capsys
):
    written_to = {}
    monkeypatch.setattr(evaluate, "record", lambda folder, name, report, _: written_to.update(report) or folder / name)
    loaded = loaded_with(right if is_right else grid_model(2))
    arguments = types.SimpleNamespace(json=True)
    if is_right:
        evaluate.prove_every_length(loaded, tmp_path, arguments)
    else:
        with pytest.raises(GateError, match="of 102 contexts are wrong") as failed:
            evaluate.prove_every_length(loaded, tmp_path, arguments)
        assert failed.value.exit_code == 7
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == json.loads(json.dumps(written_to))
    of_each = written_to["operations"]
    for line, (name, one) in zip(lines, of_each.items(), strict=False):
        counts = f"{one['checked'] - one['wrong']} of {one['expected']} contexts of {BY_NAME[name].noun}s right"
        assert line == f"{counts}, smallest margin {one['min_logit_margin']:.2f}"
    assert lines[2].endswith("contexts right, which is every sum and difference" if is_right else "contexts right")
    assert written_place(written_to["min_logit_margin_at"]) in lines[3]
    assert sum(line.startswith("  wrong: ") for line in lines) == min(written_to["wrong"], 20)
    first = written_to["failures"][:1]
    assert all(f"  wrong: {one['problem']}, {one['context']}, said {one['said']}" in lines for one in first)


def test_words_are_put_together_as_people_do():
    said = [in_words(list(letters)) for letters in ("", "a", "ab", "abcd")]
    assert said == ["", "a", "a and b", "a, b, c and d"]
    whole = {"kind": "all lengths", "expected": 1, "checked": 1, "wrong": 0, "failures": [], "min_logit_margin": 1.0}
    certificate = AllLengths(**whole, model_sha256="", base=10, dtype="float32", rounding={"a, 1": 1.0, "a, 2": np.nan})
    assert certificate.every == "sum" and np.isnan(certificate.moved["a"])
