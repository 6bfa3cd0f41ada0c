import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from simple_llm.errors import ArtefactError, EnvironmentFault
from simple_llm.files.manifest import write_manifest
from simple_llm.files.names import TOKENIZER_FILES
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.model import network as network_module
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import load_model
from simple_llm.model.network import load_network, save_model
from simple_llm.model.tokenization_simple_llm import SimpleLLMTokenizer
from simple_llm.model.tokenizer_files import copy_tokenizer, load_tokenizer, save_tokenizer, tokenizer_sha256
from tests.finished_run import damage
from tests.model_folders import change_json, FILES, vouch_again, write_model
from tests.moved_names import another_release, NEXT_RELEASE
from tests.tiny_models import make_data_config, make_tokenizer, make_train_config

pytestmark = pytest.mark.library

DATA, TRAIN = make_data_config(), make_train_config(2)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model folder, only to be read, and the model in it."""
    folder = tmp_path_factory.mktemp("saved")
    return folder, write_model(folder, DATA, TRAIN)


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved[0], tmp_path / "model"))


def test_what_is_loaded_is_what_was_saved(saved):
    folder, model = saved
    loaded, network = load_model(folder), load_network(folder).model
    tensors = model.state_dict()
    assert tensors.keys() == network.state_dict().keys() == loaded.model.state_dict().keys() | {"lm_head.weight"}
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in loaded.model.state_dict().items())
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in network.state_dict().items())
    assert not network.training
    assert (loaded.data, loaded.train) == (DATA, TRAIN)
    assert loaded.manifest["step"] == 7
    assert loaded.tokenizer.get_vocab() == make_tokenizer(DATA).get_vocab()
    assert not [path for path in folder.iterdir() if path.name.startswith(".tmp")]


def test_the_manifest_vouches_for_weights_configs_tokenizer_and_code(saved):
    assert set(verified_manifest(saved[0])["files"]) == FILES


@pytest.mark.parametrize("name", sorted(FILES | {"manifest.json"}))
def test_a_change_to_any_file_is_found(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ArtefactError, match=re.escape(name)):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(ArtefactError, match=re.escape(name) + r"|no finished model"):
        load_model(folder)


def test_a_folder_that_is_not_there_or_holds_no_model_names_the_script_to_run(tmp_path):
    with pytest.raises(ArtefactError, match=r"nothing not found; run `python3 trainer.py` first"):
        load_model(tmp_path / "nothing")
    with pytest.raises(ArtefactError, match=r"holds no finished model; run `python3 trainer.py` first"):
        load_model(tmp_path)


def test_a_manifest_that_leaves_out_the_weights_is_refused(folder):
    write_manifest(folder, sorted(FILES - {"model.safetensors"}), {})
    with pytest.raises(ArtefactError, match=r"does not vouch for model\.safetensors"):
        load_model(folder)


def test_a_folder_from_before_the_pipeline_loads_and_one_that_lost_it_does_not(folder):
    (folder / "pipeline_simple_llm.py").unlink()
    write_manifest(folder, sorted(FILES - {"pipeline_simple_llm.py"}), {})
    with pytest.raises(ArtefactError, match=r"names pipeline_simple_llm\.py, and the manifest has no such"):
        load_model(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["custom_pipelines"]
    (folder / "config.json").write_text(json.dumps(config))
    write_manifest(folder, sorted(FILES - {"pipeline_simple_llm.py"}), {})
    load_model(folder)


def test_code_in_a_model_folder_is_never_run(folder, tmp_path):
    ran = tmp_path / "ran"
    for name in sorted(name for name in FILES if name.endswith(".py")):
        (folder / name).write_text(f"open({str(ran)!r}, 'w')\n" + (folder / name).read_text())
    vouch_again(folder)
    load_model(folder)
    assert not ran.exists()


def test_weights_as_a_pickle_are_never_read(folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    torch.save({"transformer.wte.weight": Bomb()}, folder / "pytorch_model.bin")
    load_model(folder)
    (folder / "model.safetensors").write_bytes(b"")
    vouch_again(folder)
    with pytest.raises(Exception, match=r"(?i)header|safetensors|metadata"):
        load_model(folder)
    assert not (tmp_path / "exploded").exists()


def test_configs_that_are_refused_today_are_named(folder):
    (folder / "train_config.yaml").write_text("model: {n_layr: 1}\n")
    vouch_again(folder)
    with pytest.raises(ArtefactError, match="did you mean n_layer"):
        load_model(folder)


def test_a_tokenizer_that_does_not_know_its_base_is_refused(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["base"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ArtefactError, match="is damaged"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtefactError, match="is damaged"):
        load_tokenizer(folder)


@pytest.mark.parametrize("base", [2, 10, 16, 36])
def test_a_tokenizer_is_the_one_that_transformers_loads_and_is_copied_to_the_same_bytes(tmp_path, base):
    for says_all in (False, True):
        save_tokenizer(make_tokenizer(make_data_config(99, base), says_all), tmp_path / "one")
        by_library = SimpleLLMTokenizer.from_pretrained(tmp_path / "one")
        assert tokenizer_sha256(load_tokenizer(tmp_path / "one")) == tokenizer_sha256(by_library)
        (tmp_path / "two").mkdir(exist_ok=True)
        copy_tokenizer(tmp_path / "one", tmp_path / "two")
        assert {path.name for path in (tmp_path / "two").iterdir()} == set(TOKENIZER_FILES)
        for name in TOKENIZER_FILES:
            assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_fault_03_a_save_that_finds_the_disk_full_leaves_no_model_that_claims_to_be_whole(folder, monkeypatch):
    def disk_full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", disk_full)
    with pytest.raises(EnvironmentFault, match="disk full: need"):
        save_model(folder, load_network(folder).model, DATA, TRAIN, {})
    with pytest.raises(ArtefactError, match="holds no finished model"):
        load_model(folder)
    assert not [path for path in folder.iterdir() if path.name.startswith(".tmp")]


def test_what_carries_the_name_of_a_killed_save_is_cleared_away_whatever_it_is(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (folder / ".tmp-model-1").symlink_to(tmp_path / "elsewhere")
    (folder / ".tmp-model-2").write_text("a file")
    (folder / ".tmp-model-3").symlink_to("nothing")
    save_tokenizer(make_tokenizer(DATA), folder)
    assert not list(folder.glob(".tmp-model-*"))
    assert (tmp_path / "elsewhere" / "file").exists()


def test_a_file_that_is_not_as_it_was_written_is_found_before_the_model_is_said_to_be_finished(folder, monkeypatch):
    real = network_module.write_manifest

    def damaged_meanwhile(*arguments):
        real(*arguments)
        damage(folder / "model.safetensors")

    monkeypatch.setattr(network_module, "write_manifest", damaged_meanwhile)
    with pytest.raises(ArtefactError, match=r"model\.safetensors is damaged: its sha256 is \w{12}, the manifest says"):
        save_model(folder, load_network(folder).model, DATA, TRAIN, {})


# ---- Another library ------------------------------------------------------------------------------


def test_a_folder_carries_questions_and_what_the_model_says_to_them(tmp_path):
    data = make_data_config(9999, 16)
    write_model(tmp_path, data, make_train_config(2))
    loaded = load_model(tmp_path)
    asked = json.loads((tmp_path / "config.json").read_text())["self_test"]
    adder = Calculator(loaded, torch.device("cpu"))
    decode = SimpleLLMTokenizer.from_pretrained(tmp_path).decode
    texts = [decode([*map(int, prompt.split())]) for prompt in asked["prompts"]]
    assert texts[:4] == ["7110+6666=", "111+1444=", "9999+9999=", "0+0="]
    for text, answer in zip(texts, asked["answers"], strict=True):
        assert adder.transcript(adder.parse(text)).said == [*map(int, answer.split())]


@pytest.mark.usefixtures("tested_libraries")
@pytest.mark.parametrize("k", [1, 2, "all"])
def test_fault_33_under_another_library_scripts_stop_where_a_model_says_something_else(k, tmp_path, call_script):
    write_model(tmp_path / "model", make_data_config(), make_train_config(k))
    with another_release():
        assert call_script("inference.py", "--model", "model", "12+34", cwd=tmp_path).exit_code == 0
    said = json.loads((tmp_path / "model/config.json").read_text())["self_test"]
    said["logits"][1] = said["logits"][1].replace(said["logits"][1].split()[0], "7.125")
    change_json(tmp_path / "model/config.json", self_test=said)
    vouch_again(tmp_path / "model")
    with another_release():
        wrong = call_script("inference.py", "--model", "model", "12+34", cwd=tmp_path)
    assert (wrong.exit_code, wrong.stdout, len(wrong.stderr.splitlines())) == (5, "", 1)
    assert "tested with transformers 5.23.0" in wrong.stderr and f"with transformers {NEXT_RELEASE} it" in wrong.stderr
    assert call_script("inference.py", "--model", "model", "12+34", cwd=tmp_path).exit_code == 0
