"""Model folders that mean harm by links, names, pipes and code, each through the load path of a real one."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from simple_llm.config.settings import Paths
from simple_llm.errors import EnvironmentFault
from simple_llm.evaluation.reports import read_reports
from simple_llm.files.names import MANIFEST
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.model.folder import load_model
from simple_llm.proof.all_pairs import count_shards
from simple_llm.training.run import prepare_run, Run
from tests.forked import fork_script
from tests.model_folders import change_json, FILES, forge_manifest, refusal, TABLE, vouch_again
from tests.pipeline import run_script
from tests.tiny_models import make_data_config, make_train_config


@pytest.fixture
def folder(untrained_folder, tmp_path) -> Path:
    return Path(shutil.copytree(untrained_folder, tmp_path / "model"))


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
    assert "is no name of a file in it" in refusal(folder, verified_manifest)  # as a checkpoint's is read


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


def test_a_repository_of_the_hub_is_loaded_though_its_files_are_links(untrained_folder, folder):
    snapshot = as_on_the_hub(folder)
    assert load_model(snapshot).sha256 == load_model(untrained_folder).sha256
    away = snapshot.parent.parent.parent / "linked"
    away.symlink_to(snapshot)
    assert load_model(away).sha256 == load_model(untrained_folder).sha256


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
    for name in sorted(name for name in FILES if name.endswith(".py")):
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
    assert (done.returncode, done.stdout[:4], done.stderr) == (0, "1+1=", "")
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


def test_fault_31_files_that_no_manifest_vouches_for_change_nothing(untrained_folder, folder):
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
    expected, found = load_model(untrained_folder), load_model(folder)
    assert found.hashes == expected.hashes
    assert vars(found.tokenizer).keys() == vars(expected.tokenizer).keys()
    assert found.tokenizer.get_vocab() == expected.tokenizer.get_vocab()
    weights = expected.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.model.state_dict().items())


# ---- Through the script ---------------------------------------------------------------------------


def test_fault_31_the_script_ends_with_3_and_one_line(folder):
    change_json(folder / "config.json", n_embd=10**9, n_layer=10**9)
    vouch_again(folder)
    done = fork_script("inference.py", "--model", "model", "1+1", cwd=folder.parent).end()
    assert (done.exit_code, done.stdout) == (3, "")
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
        Run(folder, {}, starts_over=True).clear()
    assert sorted(folder.iterdir()) == before
    assert len(list(elsewhere.iterdir())) == 2


@pytest.mark.parametrize("options", [{}, {"fresh": True}, {"resume": Path("step-8")}])
def test_fault_31_a_run_does_not_start_where_its_checkpoints_would_go_through_a_link(folder, options):
    litter = folder.parent / "elsewhere" / ".tmp-step-8-1"
    litter.mkdir(parents=True)
    (folder / "checkpoints").symlink_to(litter.parent)
    train = make_train_config().model_copy(update={"paths": Paths(model=folder)})
    with pytest.raises(EnvironmentFault, match="checkpoints is a link to"):
        prepare_run(make_data_config(), train, None, **{"resume": None, "fresh": False, **options})
    assert litter.exists()


def test_fault_31_a_link_in_place_of_a_file_is_deleted_and_what_it_leads_to_stays(folder):
    elsewhere = folder.parent / "elsewhere"
    elsewhere.write_text("mine")
    for name in ("model.safetensors", "evaluation.json", "metrics.jsonl"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(elsewhere)
    Run(folder, {}, starts_over=True).clear()
    assert elsewhere.read_text() == "mine"
    assert not (folder / "model.safetensors").is_symlink()


def test_starting_over_keeps_the_log_for_as_long_as_a_start_could_go_on(folder, monkeypatch):
    for step in (4, 8):
        (folder / "checkpoints" / f"step-{step}").mkdir(parents=True)
        (folder / "checkpoints" / f"step-{step}" / "manifest.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("")
    left_at = []

    def unlink(path, real=Path.unlink, **options):
        left_at.append((path.name, len(list(folder.glob("checkpoints/step-*/manifest.json")))))
        real(path, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    Run(folder, {}, starts_over=True).clear()
    assert left_at[0] == ("manifest.json", 2)
    assert ("metrics.jsonl", 0) in left_at


def test_fault_31_a_proof_is_not_written_through_a_link(folder):
    (folder.parent / "elsewhere").mkdir()
    (folder / "proof").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(EnvironmentFault, match="proof is a link to"):
        count_shards(None, folder / "proof", {})


def test_fault_31_a_report_that_is_a_bomb_is_left_out(folder):
    (folder / "evaluation.json").write_bytes(b'{"a":' * 100_000)
    os.mkfifo(folder / "certificate.json")
    (folder / "lengths.json").symlink_to("/dev/zero")
    assert read_reports(folder, load_model(folder).sha256) == {}
