"""A folder of a model that works on paper in which one file says something else: refused in one line, and quickly."""

import json
import shutil
from pathlib import Path

import pytest

from simple_llm.files.manifest import write_manifest
from simple_llm.model.folder import load_model
from tests.model_folders import change_json, change_yaml, FILES, refusal
from tests.paper_model import paper_data, write_on_paper

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]


@pytest.fixture(scope="module")
def right(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("right")
    write_on_paper(folder, paper_data(3), 0)
    load_model(folder)
    return folder


@pytest.fixture
def folder(right, tmp_path) -> Path:
    return Path(shutil.copytree(right, tmp_path / "model"))


def vouch(folder: Path) -> None:
    """Write the manifest anew over changed files."""
    write_manifest(folder, sorted(FILES | {"pipeline_simple_llm.py", "verify.py"}), {"step": 7})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        *(({"operators": one}, "is damaged") for one in ("xyz", "-+", "++-*/", "+ -*/", None, 5, ["+"], {})),
        ({"operators": ""}, "has operators = '' where the folder's configs say '+-*/'"),
        ({"operators": "+-*"}, "has operators = '+-*' where the folder's configs say '+-*/'"),
        *(({"scratchpad": one}, "is damaged") for one in ("foo", "none", None, 5, ["columns"], {})),
        ({"base": 2}, "is damaged"),
        ({"reversed": False}, "has reversed = False where the folder's configs say True"),
        ({"says_all": True}, "has says_all = True where the folder's configs say False"),
    ],
    ids=str,
)
def test_fault_31_a_tokenizer_that_says_something_else_is_refused(folder, changes, told):
    change_json(folder / "tokenizer_config.json", **changes)
    vouch(folder)
    assert told in refusal(folder)


def exchange(one: str, other: str):
    return lambda vocabulary: vocabulary | {one: vocabulary[other], other: vocabulary[one]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda vocabulary: {token: number for token, number in vocabulary.items() if token != "\u00b2"}, "is damaged"),
        (lambda vocabulary: vocabulary | {"\u00b3": len(vocabulary)}, "is damaged"),
        (exchange("\u00b9", "\u00b2"), "config.json has carry_token_ids = "),
        (exchange("|", "="), "config.json has "),
        (exchange("1", "\u00b9"), "config.json has digit_token_ids = "),
        (exchange("*", "/"), "config.json has sign_token_ids = "),
    ],
    ids=range(6),
)
def test_fault_31_carries_and_signs_that_are_missing_or_exchanged_are_found(folder, change, told):
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["vocab"] = change(document["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(document))
    vouch(folder)
    assert told in refusal(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("scratchpad", one) for one in ("foo", "none", None, 5)),
        ("carry_token_ids", None),
        ("carry_token_ids", [5, 6, 7]),
        ("sign_token_ids", None),
        ("custom_pipelines", {"text-generation": {"impl": "another.Pipeline", "pt": []}}),
        ("custom_pipelines", None),
        ("n_inner", 64),
        ("n_positions", 7),
        ("n_layer", 2),
        ("tokens_per_step", 2),
        ("eos_token_id", 0),
    ],
    ids=str,
)
def test_fault_31_a_config_that_disagrees_is_refused_by_its_key(folder, name, value):
    change_json(folder / "config.json", **{name: value})
    vouch(folder)
    assert f"config.json has {name} = " in refusal(folder)


@pytest.mark.parametrize(
    ("file", "section", "changes", "told"),
    [
        ("train", "model", {"scratchpad": "none"}, "numbers.operands: 3 with model.scratchpad = none"),
        ("train", "model", {"scratchpad": "foo"}, "model.scratchpad: expected one of none, columns"),
        ("train", "model", {"n_layer": 2}, "model.n_layer: 2 with model.scratchpad = columns"),
        ("train", "model", {"n_inner": 7}, "config.json has n_inner = None"),
        ("data", "numbers", {"operands": 20}, "numbers.operands: expected a whole number"),
        ("data", "numbers", {"base": 10}, "has base = 3 where the folder's configs say 10"),
        ("data", "numbers", {"sizes": {"add": [0, 1]}}, "numbers.sizes.add: expected two numbers of digits"),
        ("data", "operations", {"divide": 0.0, "add": 0.5}, "operators = '+-*/' where the folder's configs say '+-*'"),
        ("data", "sampling", {"large_digits": 2.0}, "sampling.large_digits: expected a number"),
    ],
    ids=str,
)
def test_fault_31_settings_that_are_none_or_others_are_refused(folder, file, section, changes, told):
    change_yaml(folder / f"{file}_config.yaml", section, **changes)
    vouch(folder)
    assert told in refusal(folder)


def test_fault_31_the_script_ends_with_3_and_one_line_and_runs_no_code_of_the_folder(folder, call_script, tmp_path):
    (folder / "pipeline_simple_llm.py").write_text("raise SystemExit('ran')")
    change_json(folder / "tokenizer_config.json", operators="xyz")
    vouch(folder)
    for script, *problem in (("inference.py", "1+1"), ("visualize.py", "1+1"), ("evaluate.py",)):
        called = call_script(script, "--model", str(folder), *problem, cwd=tmp_path)
        assert (called.exit_code, called.stdout, len(called.stderr.splitlines())) == (3, "", 1), called.stderr
        assert "is damaged" in called.stderr
