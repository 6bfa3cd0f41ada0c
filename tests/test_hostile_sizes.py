"""Model folders that claim sizes nobody could hold, or hold no documents, each through the load path of a real one."""

import json
import os
import shutil
import struct
from pathlib import Path

import pytest

from simple_llm.files.names import MANIFEST
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.model.tokenizer_files import load_tokenizer
from tests.model_folders import change_json, change_yaml, FILES, forge_manifest, refusal, TABLE, vouch_again

SMALL_FILES = sorted((FILES | {MANIFEST}) - {"model.safetensors"})


@pytest.fixture
def folder(untrained_folder, tmp_path) -> Path:
    return Path(shutil.copytree(untrained_folder, tmp_path / "model"))


# ---- Sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("n_embd", 10**9), ("n_positions", 10**12), ("vocab_size", 10**12), ("n_layer", 10**9), ("n_head", 10**9)],
        *[("n_inner", 10**9), ("n_embd", -1), ("n_layer", 1e400), ("n_positions", "8"), ("digit_token_ids", [10**9])],
        *[("pad_token_id", 10**9), ("attention_window", {"left": 10**9, "right": 0}), ("position_period", 0)],
    ],
)
def test_fault_31_a_config_json_of_another_size_is_refused_before_anything_is_allocated(folder, key, value):
    change_json(folder / "config.json", **{key: value})
    vouch_again(folder)
    assert f"config.json has {key} = " in refusal(folder)


@pytest.mark.parametrize(
    "sizes",
    [
        *[{"n_embd": 10**9}, {"n_layer": 10**9}, {"n_positions": 10**12}, {"n_head": 0}],
        *[{"n_embd": 100_000}, {"n_layer": 1000, "n_embd": 1024}, {"n_positions": 10**6, "n_embd": 2048}],
    ],
)
def test_fault_31_a_size_that_both_configs_agree_on_has_to_be_plausible(folder, sizes):
    change_json(folder / "config.json", **sizes)
    change_yaml(folder / "train_config.yaml", "model", **sizes)
    vouch_again(folder)
    assert "train_config.yaml: 1 bad setting" in refusal(folder)


@pytest.mark.parametrize("sizes", [{"n_embd": 8192, "n_layer": 1}, {"n_layer": 1000}, {"n_positions": 10**6}])
def test_fault_31_weights_that_are_not_those_of_the_configs_are_refused_before_they_are_allocated(folder, sizes):
    change_json(folder / "config.json", **sizes)
    change_yaml(folder / "train_config.yaml", "model", **sizes)
    vouch_again(folder)
    assert "model.safetensors does not hold this model" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("activation_function", ["gelu"], " has an activation_function that is none of ('gelu', 'gelu_new')"),
        ("layer_norm_epsilon", "small", ": layer_norm_epsilon: Input should be a valid number"),
        ("self_test", {"\x1b[2J": [1]}, ": self_test: Input should be a valid string"),
        ("self_test", {"prompts": []}, ": self_test is not as many prompts as answers and logits"),
    ],
)
def test_fault_31_a_setting_that_config_json_alone_says_is_refused_in_a_few_words(folder, key, value, words):
    change_json(folder / "config.json", **{key: value})
    vouch_again(folder)
    assert refusal(folder) == f"{folder / 'config.json'}{words}"


def header_of(path: Path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    [num_bytes] = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + num_bytes]), content[8 + num_bytes :]


def write_weights(path: Path, header: bytes, numbers: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + numbers)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({TABLE: {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4 * 10**18]}}, f"'{TABLE}' is"),
        ({TABLE: {"dtype": "F64", "shape": [13, 16], "data_offsets": [0, 1664]}}, "not in float32"),
        ({TABLE: None}, "its header is none"),
        ({TABLE: {"dtype": "F32", "shape": 3, "data_offsets": [0, 4]}}, "its header is none"),
        ({"more": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, "'more' is"),
        ({"x" * 10**5: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "'xxxx"),
        ({TABLE: {"dtype": "F32", "shape": [13, 16], "data_offsets": [0, 10**15]}}, "is damaged"),
        ({TABLE: {"dtype": "F32", "shape": [13, 16], "data_offsets": [0, 832]}}, "is damaged"),  # over another
    ],
    ids=lambda value: str(value)[:60],
)
def test_fault_31_a_header_that_claims_other_tensors_is_refused(folder, change, words):
    path = folder / "model.safetensors"
    header, numbers = header_of(path)
    write_weights(path, json.dumps({**header, **change}).encode(), numbers)
    vouch_again(folder)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    "content",
    [
        *[b"", b"\0" * 7, struct.pack("<Q", 2**63), struct.pack("<Q", 2**22) + b" " * 2**22],
        *[struct.pack("<Q", 10**6) + b"[" * 10**6, struct.pack("<Q", 2) + b"[]", b"\x80\x04}q\0." * 100],
    ],
    ids=lambda content: repr(content[:12]),
)
def test_fault_31_what_has_no_header_of_weights_is_refused(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    vouch_again(folder)
    assert "model.safetensors" in refusal(folder)


def test_fault_31_numbers_missing_or_behind_the_weights_are_refused(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    for changed in (content[:-4], content + b"\0" * 4):
        path.write_bytes(changed)
        vouch_again(folder)
        assert f"has {len(changed):,} bytes where its tensors take {len(content):,}" in refusal(folder)


def test_fault_31_a_terabyte_of_weights_is_refused_without_reading_it(folder):
    os.truncate(folder / "model.safetensors", 2**40)  # sparse: takes no disk
    forge_manifest(folder, lambda manifest: manifest["files"]["model.safetensors"].update(bytes=2**40))
    assert "has 1,099,511,627,776 bytes, more than" in refusal(folder)
    assert "has 1,099,511,627,776 bytes, more than" in refusal(folder, verified_manifest)  # as a checkpoint's are


@pytest.mark.parametrize("name", SMALL_FILES)
def test_fault_31_a_small_file_of_a_gigabyte_is_refused_without_reading_it(folder, name):
    os.truncate(folder / name, 2**30)
    if name != MANIFEST:
        forge_manifest(folder, lambda manifest: manifest["files"][name].update(bytes=2**30))
    assert f"{name} has 1,073,741,824 bytes, more than the 1,048,576" in refusal(folder)


# ---- Text that is no document ---------------------------------------------------------------------

DEEP = b'{"a":' * 100_000
BOMBS = {"deep objects": DEEP, "deep lists": b"[" * 500_000, "a long number": b'{"base": ' + b"9" * 10**5 + b"}"}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", MANIFEST])
def test_fault_31_json_that_is_a_bomb_is_refused(folder, name, bomb):
    (folder / name).write_bytes(BOMBS[bomb])
    if name != MANIFEST:
        vouch_again(folder)
    assert f"{name} is damaged" in refusal(folder)


@pytest.mark.parametrize("name", ["data_config.yaml", "train_config.yaml"])
@pytest.mark.parametrize("bomb", [b"[" * 90_000, b"a: &a [x]\nb: *a\n", b"!!python/name:os.system x", b"\xff\0"])
def test_fault_31_yaml_that_is_a_bomb_is_refused(folder, name, bomb):
    (folder / name).write_bytes(bomb)
    vouch_again(folder)
    assert f"{name}: 1 bad setting" in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        *[{"base": 10**9}, {"base": True}, {"base": "10"}, {"base": 16}, {"reversed": 1}, {"says_all": None}],
        *[{"pad_token": "+"}, {"unk_token": "7"}, {"pad_token": {"a": 1}}, {"pad_token": "new"}],
    ],
    ids=str,
)
def test_fault_31_a_tokenizer_with_other_tokens_than_its_base_has_is_refused(folder, change):
    change_json(folder / "tokenizer_config.json", **change)
    assert "the tokenizer in" in refusal(folder, load_tokenizer)


def test_fault_31_tokens_without_number_are_refused(folder):
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["vocab"].update({f"token {number}": 100 + number for number in range(20_000)})
    (folder / "tokenizer.json").write_text(json.dumps(document))
    assert "other tokens" in refusal(folder, load_tokenizer)
