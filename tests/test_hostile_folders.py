"""Model folders that mean harm, each through the load path that a user's would take."""

import hashlib
import json
import os
import resource
import shutil
import struct
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from simple_llm.errors import ArtefactError, EnvironmentFault
from simple_llm.manifest import MANIFEST, read_manifest, SELF
from simple_llm.model_folder import load_model, load_tokenizer
from simple_llm.proving import count_shards
from simple_llm.reports import read_reports
from simple_llm.resuming import _remove_run
from tests.model_folders import FILES, vouch_again, write_model
from tests.pipeline import run_script
from tests.tiny_models import make_data_config, make_train_config

SMALL_FILES = sorted((FILES | {MANIFEST}) - {"model.safetensors"})
MOST_SECONDS = 5.0  # of processor time; a busy machine is slow, and what hangs would never end
MOST_MEGABYTES = 100


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    write_model(folder, make_data_config(), make_train_config(2))
    load_model(folder)  # what loading takes once, such as imports, is not counted below
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def refusal(folder: Path, load=load_model) -> str:
    """Have a folder refused, and see that it is in one line, in a moment and in little memory."""
    seconds, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtefactError) as caught:
        load(folder)
    assert time.process_time() - seconds < MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MOST_MEGABYTES * 1024
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message.isprintable()
    assert len(message) < 500
    return message


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_yaml(path: Path, section: str, **changes: object) -> None:
    tree = yaml.safe_load(path.read_text())
    tree[section].update(changes)
    path.write_text(yaml.safe_dump(tree))


def forge_manifest(folder: Path, change) -> None:
    """Change what the manifest says, and have it vouch for itself again."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.pop(SELF)
    change(manifest)
    sha256 = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({**manifest, SELF: sha256}))


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


def header_of(path: Path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    [num_bytes] = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + num_bytes]), content[8 + num_bytes :]


def write_weights(path: Path, header: bytes, numbers: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + numbers)


TABLE = "transformer.wte.weight"


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
    assert "has 1,099,511,627,776 bytes, more than" in refusal(folder, read_manifest)  # as a checkpoint's are


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


# ---- Files that lead elsewhere --------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FILES | {MANIFEST}))
def test_fault_31_a_link_out_of_the_folder_is_refused(folder, name):
    elsewhere = folder.parent / "elsewhere"
    shutil.move(folder / name, elsewhere)  # the very content the manifest vouches for
    (folder / name).symlink_to(elsewhere)
    assert f"{name} is a link that leads out of the folder" in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to(Path("..") / "elsewhere")
    assert f"{name} is a link that leads out of the folder" in refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "train_config.yaml", MANIFEST])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_fault_31_a_pipe_a_folder_or_a_device_in_place_of_a_file_is_refused_and_not_waited_for(folder, name, make):
    (folder / name).unlink()
    make(folder / name)
    assert f"{name} is " in refusal(folder)


@pytest.mark.parametrize("target", ["model.safetensors", "nothing"])
def test_fault_31_a_link_to_itself_or_to_nothing_is_refused(folder, target):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(target)
    assert "model.safetensors" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["../elsewhere", "..", ".", "", "/etc/hostname", "a/b", "a\nb", "\x1b[2J", "\0", "x" * 300]
)
def test_fault_31_a_name_in_the_manifest_that_is_none_is_refused(folder, name):
    (folder.parent / "elsewhere").write_text("x")
    claim = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    forge_manifest(folder, lambda manifest: manifest["files"].update({name: claim}))
    assert "is no name of a file in it" in refusal(folder)
    assert "is no name of a file in it" in refusal(folder, read_manifest)  # as a checkpoint's is read


@pytest.mark.parametrize("claim", [None, 3, {}, {"bytes": "1", "sha256": ""}, {"bytes": 1}, {"bytes": 1, "sha256": 2}])
def test_fault_31_a_manifest_that_claims_nonsense_is_refused(folder, claim):
    forge_manifest(folder, lambda manifest: manifest["files"].update({"config.json": claim}))
    assert "does not say bytes and sha256" in refusal(folder)
    forge_manifest(folder, lambda manifest: manifest.update(files=claim))
    assert "manifest.json" in refusal(folder)


def as_on_the_hub(folder: Path) -> Path:
    """Lay a folder out as the Hub's client library keeps what it has downloaded."""
    repository = folder.parent / "models--me--adder"
    snapshot = repository / "snapshots" / "1a2b3c"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for path in folder.iterdir():
        blob = hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.move(path, repository / "blobs" / blob)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", blob))
    return snapshot


def test_a_repository_of_the_hub_is_loaded_though_its_files_are_links(saved, folder):
    snapshot = as_on_the_hub(folder)
    assert load_model(snapshot).sha256 == load_model(saved).sha256
    away = snapshot.parent.parent.parent / "linked"
    away.symlink_to(snapshot)
    assert load_model(away).sha256 == load_model(saved).sha256


def test_fault_31_a_link_from_a_repository_of_the_hub_to_elsewhere_is_refused(folder):
    snapshot = as_on_the_hub(folder)
    config, blobs = snapshot / "config.json", snapshot.parent.parent / "blobs"
    elsewhere = shutil.copy(config, snapshot.parent.parent / "config.json")
    config.unlink()
    config.symlink_to(elsewhere)
    assert "config.json is a link that leads out" in refusal(snapshot)
    config.unlink()
    shutil.move(blobs, blobs.parent.parent / "others")
    blobs.symlink_to(blobs.parent.parent / "others")
    assert "is a link that leads out" in refusal(snapshot)


# ---- Code -----------------------------------------------------------------------------------------


def put_code(folder: Path, mark: Path) -> None:
    """Put code that leaves a mark wherever a library may look for some."""
    code = f"open({str(mark)!r}, 'w')\n"
    for name in ("modeling_simple_llm.py", "tokenization_simple_llm.py"):
        (folder / name).write_text(code + (folder / name).read_text())
    for name in ("modeling_evil.py", "custom_generate/generate.py", "sitecustomize.py", "torch.py", "conftest.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    evil = "modeling_evil.Evil"
    change_json(
        folder / "config.json", auto_map={"AutoConfig": evil, "AutoModelForCausalLM": evil}, trust_remote_code=True
    )
    change_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [evil, evil]}, tokenizer_class="Evil")
    vouch_again(folder)


def test_fault_31_no_code_in_a_model_folder_runs(folder, tmp_path):
    put_code(folder, tmp_path / "ran")
    load_model(folder)
    assert not (tmp_path / "ran").exists()


def test_fault_31_no_code_in_a_model_folder_runs_in_the_real_script_in_that_folder(folder, tmp_path):
    put_code(folder, tmp_path / "ran")
    done = run_script("inference.py", "--model", ".", "1+1", cwd=folder)
    assert (done.returncode, done.stdout[:4]) == (0, "1+1="), done.stderr
    assert not (tmp_path / "ran").exists()


def test_fault_31_weights_as_a_pickle_are_never_read(folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt"):
        torch.save({TABLE: Bomb()}, folder / name)
    load_model(folder)
    shutil.copy(folder / "pytorch_model.bin", folder / "model.safetensors")
    vouch_again(folder)
    assert "model.safetensors is damaged" in refusal(folder)
    (folder / "model.safetensors").unlink()
    assert "model.safetensors not found" in refusal(folder)
    assert not (tmp_path / "exploded").exists()


def test_fault_31_files_that_no_manifest_vouches_for_change_nothing(saved, folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    shutil.copy(folder / "adapter_model.safetensors", folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
    for name, content in {
        "model.safetensors.index.json": index,
        "adapter_config.json": {"peft_type": "LORA", "base_model_name_or_path": "me/other"},
        "added_tokens.json": {"more": 500},
        "special_tokens_map.json": {"pad_token": "+"},
        "tokenizer.5.json": {},
    }.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "chat_template.jinja").write_text("{{ 1/0 }}")
    os.mkfifo(folder / "preprocessor_config.json")
    expected, found = load_model(saved), load_model(folder)
    assert found.tokenizer.get_vocab() == expected.tokenizer.get_vocab()
    assert found.tokenizer.chat_template is None
    weights = expected.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.model.state_dict().items())


# ---- Through the real script ----------------------------------------------------------------------


def test_fault_31_the_real_script_ends_with_3_and_one_line(folder):
    change_json(folder / "config.json", n_embd=10**9, n_layer=10**9)
    vouch_again(folder)
    done = run_script("inference.py", "--model", "model", "1+1", cwd=folder.parent)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "model/config.json has n_embd = 1000000000 where the folder's other files say 16\n"


# ---- What is written and deleted ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["proof", "checkpoints"])
def test_fault_31_starting_over_deletes_nothing_behind_a_link(folder, name):
    elsewhere = folder.parent / "elsewhere"
    (elsewhere / "step-8").mkdir(parents=True)
    (elsewhere / "shard-0-9.json").write_text("{}")
    (folder / name).symlink_to(elsewhere)
    before = sorted(folder.iterdir())
    with pytest.raises(EnvironmentFault, match=f"{name} is a link to"):
        _remove_run(folder)
    assert sorted(folder.iterdir()) == before
    assert len(list(elsewhere.iterdir())) == 2


def test_fault_31_a_link_in_place_of_a_file_is_deleted_and_what_it_leads_to_stays(folder):
    elsewhere = folder.parent / "elsewhere"
    elsewhere.write_text("mine")
    for name in ("model.safetensors", "evaluation.json", "metrics.jsonl"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(elsewhere)
    _remove_run(folder)
    assert elsewhere.read_text() == "mine"
    assert not (folder / "model.safetensors").is_symlink()


def test_fault_31_a_proof_is_not_written_through_a_link(folder):
    (folder.parent / "elsewhere").mkdir()
    (folder / "proof").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(EnvironmentFault, match="proof is a link to"):
        count_shards(None, folder / "proof", {})


def test_fault_31_a_report_that_is_a_bomb_is_left_out(folder):
    (folder / "evaluation.json").write_bytes(DEEP)
    os.mkfifo(folder / "certificate.json")
    (folder / "lengths.json").symlink_to("/dev/zero")
    assert read_reports(folder, load_model(folder).sha256) == {}
