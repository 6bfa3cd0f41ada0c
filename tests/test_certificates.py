"""Certificates are written byte for byte as they always were, and all that read them take the same ones for whole."""

import json
import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from simple_llm.arithmetic.operands import Operands
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.data.sampling import Sampler
from simple_llm.errors import ArtefactError
from simple_llm.evaluation.certificates import AllLengths, AllPairs, read_as_certificate
from simple_llm.evaluation.reports import read_certificate_of_pairs, read_reports
from simple_llm.files.manifest import sha256_of
from simple_llm.model.folder import LoadedModel
from simple_llm.proof import certifying, certifying_lengths
from simple_llm.proof.shards import Shard, total
from simple_llm.sharing.model_card import CardFacts, headline
from tests.tiny_models import make_data_config, make_tokenizer, tiny_model
from web.description import evidence

EXAMPLES = Path(__file__).parent / "certificates"  # written before certificates had a shape
MADE = {"command": "python3 evaluate.py --exhaustive", "date": "2026-11-28T00:00:00Z"}
SHARDS = [
    Shard(0, 1, 8, 8, 2, 1, [(1, 3)], [(-0.25, 1, 3), (1.5, 0, 2)], "d1", 0.5),
    Shard(2, 3, 8, 8, 0, 0, [], [(0.1 + 0.2, 2, 2)], "d2", 0.25),
]
PLACE = {"x": "19", "y": "1", "digit": 2, "right": "2", "said": "+"}
CONTEXTS = {"expected": 700, "checked": 700, "wrong": 1, "failures": [PLACE]} | {
    "min_logit_margin": -0.1,
    "min_logit_margin_at": PLACE,
    "seconds": 0.125,
}
# What the first certificates had: no kind, and no hash of the config.
FIRST = {"expected": 4, "checked": 4, "wrong": 0, "failures": [], "min_logit_margin": 1.0, "range": [0, 1]} | {
    "model_sha256": "abc",
    "dtype": "float32",
    "base": 10,
}


# ---- Written --------------------------------------------------------------------------------------


@pytest.fixture
def loaded(monkeypatch) -> LoadedModel:
    """A model about which all that depends on the machine is said beforehand."""
    in_two = {"float32": {10: 1e-06, 100: 2e-06}, "bfloat16": {10: 0.03125, 100: 0.0625}}
    for module in (certifying, certifying_lengths):
        monkeypatch.setattr(module, "versions", lambda: {"python": "3.12.1", "torch": "2.13.0"})
    monkeypatch.setattr(certifying, "rounding", lambda *arguments: {"float32": 1.5e-06, "bfloat16": 0.0625})
    monkeypatch.setattr(certifying_lengths, "rounding_at_lengths", lambda *arguments: in_two)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    data, manifest = make_data_config(), {"files": {"config.json": {"sha256": "c" * 64}}}
    model = tiny_model(n_layer=1, attention_window={"left": 0, "right": 1}, position_period=2)
    return LoadedModel(model, make_tokenizer(data), data, TrainConfig(), "a" * 64, manifest)


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.json").read_text()


def text_of(certificate: AllPairs | AllLengths) -> str:
    return json.dumps(certificate.as_dict(), indent=1) + "\n"


@pytest.mark.parametrize(("name", "facts"), [("all_pairs", {}), ("all_pairs_by_table", {"rows_in_table": 7})])
def test_a_certificate_of_all_pairs_has_the_bytes_it_always_had(loaded, name, facts):
    sampler = Sampler(Operands(0, 3, 10))
    subject = certifying.proof_subject(loaded, "float32", sampler, by_table=bool(facts))
    made = certifying.make_certificate(loaded, sampler, total(SHARDS, Operands(0, 3, 10)), subject, **facts, **MADE)
    assert text_of(made) == example(name)


def test_a_certificate_of_all_lengths_has_the_bytes_it_always_had(loaded):
    made = certifying_lengths.make_length_certificate(loaded, CONTEXTS, **MADE)
    assert text_of(made) == example("all_lengths")
    assert made.moved == {"float32": 2e-06, "bfloat16": 0.0625}


# ---- Read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all_pairs", "all_pairs_by_table", "all_lengths"])
def test_what_was_written_is_read_and_written_again_the_same(name):
    assert text_of(read_as_certificate(json.loads(example(name)))) == example(name)


def test_operations_may_be_counted_by_themselves():
    add = {"expected": 700, "checked": 700, "wrong": 1, "min_logit_margin": -0.1}
    document = {**json.loads(example("all_lengths")), "operations": {"add": add}}
    assert read_as_certificate(document).operations["add"].wrong == 1
    assert read_as_certificate(document).as_dict() == document
    with pytest.raises(ValidationError):
        read_as_certificate({**document, "operations": {"add": {**add, "wrong": None}}})
    for operations in ({"add": {**add, "wrong": 0}}, {"add": add, "subtract": add}, {"root": add}):
        with pytest.raises(ValidationError, match=r"of the operations together|is no operation"):
            read_as_certificate({**document, "operations": operations})


def readers(folder: Path) -> dict[str, bool]:
    """Which of those that read the certificate of a folder take it for one of all pairs, whole and of this model."""
    (folder / "evaluation.json").unlink(missing_ok=True)
    try:
        is_checked = read_certificate_of_pairs(folder, "abc").is_whole
    except ArtefactError:
        is_checked = False
    facts = CardFacts(DataConfig(), TrainConfig(), {"step": 1, "num_correct": 1, "num_total": 1})
    facts.reports.update(read_reports(folder, "abc"))
    found = evidence(folder, "abc")
    return {
        "check": is_checked,
        "card": "ordered pairs" in headline(facts),
        "page": found is not None and found["kind"] == "all pairs",
    }


LEFT_OUT = {name: {key: value for key, value in FIRST.items() if key != name} for name in FIRST}


@pytest.mark.parametrize("document", [FIRST, {**FIRST, "kind": "all pairs"}, {**FIRST, "config_sha256": None}])
def test_all_readers_take_an_old_certificate(tmp_path, document):
    (tmp_path / "certificate.json").write_text(json.dumps(document))
    assert readers(tmp_path) == {"check": True, "card": True, "page": True}


@pytest.mark.parametrize(
    "document",
    [
        *LEFT_OUT.values(),
        *({**FIRST, "kind": kind} for kind in ("all lengths", "all", None, [])),
        *({**FIRST, **change} for change in ({"checked": 3}, {"wrong": 5}, {"range": [1, 0]}, {"model_sha256": "b"})),
        {**FIRST, "expected": 0, "checked": 0},
    ],
)
def test_no_reader_takes_what_another_refuses(tmp_path, document):
    (tmp_path / "certificate.json").write_text(json.dumps(document))
    assert readers(tmp_path) == {"check": False, "card": False, "page": False}


# ---- A stranger's certificate ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        *({"expected": math.inf}, {"expected": math.nan}, {"expected": 4.0}, {"checked": "4"}, {"checked": True}),
        *({"range": [1, 0]}, {"range": [-1, 1]}, {"range": [0, math.inf]}, {"range": [0]}, {"range": None}),
        *({"wrong": 5}, {"wrong": -1}, {"wrong": None}, {"failures": [3]}, {"failures": [[[0], 1]]}),
        *({"failures": [[0, None]]}, {"failures": None}, {"failures": [[0, 1, 2]]}),
    ],
)
def test_a_certificate_that_counts_nonsense_is_damaged(tmp_path, change):
    whole = FIRST | {"wrong": 1, "failures": [[0, 1]]}
    (tmp_path / "certificate.json").write_text(json.dumps(whole))
    read = read_certificate_of_pairs(tmp_path, "abc")
    told = (read.minimum, read.maximum, read.expected, read.checked, read.wrong, read.failures)
    assert told == (0, 1, 4, 4, 1, [(0, 1)])
    (tmp_path / "certificate.json").write_text(json.dumps({**whole, **change}))
    with pytest.raises(ArtefactError, match=r"certificate\.json is damaged"):
        read_certificate_of_pairs(tmp_path, "abc")


def counted(wrong: int, failures: list) -> dict[str, object]:
    """What was counted of one operation on 0 and 1."""
    return {"expected": 4, "checked": 4, "wrong": wrong, "failures": failures} | {
        "min_logit_margin": 1.0,
        "min_logit_margin_at": [0, 1],
    }


OF_BOTH = {**FIRST, "expected": 8, "checked": 8, "wrong": 1, "failures": ["0-1"]} | {
    "operations": {"add": counted(0, []), "subtract": counted(1, [[0, 1]])}
}


@pytest.mark.parametrize(
    "change",
    [
        *({"operations": None}, {"operations": {}}, {"operations": {"add": counted(1, [[0, 1]])}}),
        *({"expected": 9}, {"checked": 7}, {"wrong": 0}),
        {"operations": {"add": counted(0, []), "root": counted(1, [[0, 1]])}},
        {"operations": {"add": counted(0, []), "subtract": counted(1, [[0, 2]])}},
    ],
)
def test_a_certificate_whose_operations_do_not_make_its_totals_is_damaged(tmp_path, change):
    (tmp_path / "certificate.json").write_text(json.dumps(OF_BOTH))
    assert read_certificate_of_pairs(tmp_path, "abc").of_each["subtract"].failures == [(0, 1)]
    (tmp_path / "certificate.json").write_text(json.dumps({**OF_BOTH, **change}))
    with pytest.raises(ArtefactError, match=r"certificate\.json is damaged"):
        read_certificate_of_pairs(tmp_path, "abc")


ADDED = {"correct": 1, "total": 1, "error_rate_upper_95": 0.95}


@pytest.mark.parametrize("operations", [{"root": ADDED}, {"add": {"correct": 1}}, [1], {"add": 1}])
def test_an_evaluation_of_operations_that_are_none_is_left_out(tmp_path, operations):
    whole = {"model_sha256": "abc", "correct": 1, "total": 1, "error_rate_upper_95": 0.95, "min_logit_margin": 1.0} | {
        "range": [0, 1],
        "base": 10,
        "commutes": {"agree": 1, "total": 1},
        "runs": [{"total": 1}],
    }
    for of_each, is_read in (({"add": ADDED}, True), (operations, False)):
        (tmp_path / "evaluation.json").write_text(json.dumps({**whole, "operations": of_each}))
        assert ("evaluation.json" in read_reports(tmp_path, "abc")) is is_read


def test_a_certificate_of_the_same_weights_under_another_config_is_of_another_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    whole = FIRST
    for claimed in (None, sha256_of(tmp_path / "config.json")):
        (tmp_path / "certificate.json").write_text(json.dumps({**whole, "config_sha256": claimed}))
        assert read_certificate_of_pairs(tmp_path, "abc").wrong == 0
    (tmp_path / "config.json").write_text('{"n_head": 2}')
    with pytest.raises(ArtefactError, match="of another model"):
        read_certificate_of_pairs(tmp_path, "abc")
