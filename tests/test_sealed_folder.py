"""The one door to a folder that a manifest vouches for: nothing comes through that was changed since."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from simple_llm.errors import ArtefactError
from simple_llm.files import manifest as manifest_module
from simple_llm.files import sealed_folder as sealed_folder_module
from simple_llm.files.manifest import commit, SELF, sha256_of, write_manifest
from simple_llm.files.names import CONFIG, MANIFEST, STATE, WEIGHTS
from simple_llm.files.sealed_folder import SealedFolder, verified_manifest

DOCUMENT, TENSORS = {"n_embd": 2}, {"table": torch.arange(6.0).reshape(3, 2)}
SHAPES = {"table": (3, 2)}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / CONFIG).write_text(json.dumps(DOCUMENT))
    save_file(TENSORS, tmp_path / WEIGHTS)
    write_manifest(tmp_path, [CONFIG, WEIGHTS], {"step": 7})
    return tmp_path


def test_what_comes_through_is_what_was_sealed(folder):
    sealed = SealedFolder(folder, [WEIGHTS, CONFIG])
    assert (sealed.folder, sealed.manifest["step"]) == (folder, 7)
    assert sealed.json(CONFIG) == DOCUMENT
    assert sealed.path(CONFIG) == folder / CONFIG
    assert sealed.sha256(WEIGHTS) == sha256_of(folder / WEIGHTS)
    assert torch.equal(sealed.weights(SHAPES)["table"], TENSORS["table"])
    assert verified_manifest(folder) == sealed.manifest


@pytest.mark.parametrize("read", [SealedFolder.path, SealedFolder.json, lambda sealed, name: sealed.verify([name])])
def test_a_file_that_changed_after_the_manifest_was_read_does_not_come_through(folder, read):
    sealed = SealedFolder(folder)
    read(sealed, CONFIG)
    (folder / CONFIG).write_text(json.dumps({"n_embd": 3}))
    with pytest.raises(ArtefactError, match=r"config\.json is damaged: its sha256 is"):
        read(sealed, CONFIG)


def test_a_file_of_another_size_is_refused_before_it_is_read(folder, monkeypatch):
    sealed = SealedFolder(folder)
    num_bytes = (folder / CONFIG).stat().st_size
    (folder / CONFIG).write_text(json.dumps(DOCUMENT) + " ")
    monkeypatch.setattr(sealed_folder_module, "sha256_of", None)
    with pytest.raises(ArtefactError, match=rf"has {num_bytes + 1} bytes where the manifest says {num_bytes}$"):
        sealed.path(CONFIG)


@pytest.mark.parametrize("open_folder", [SealedFolder, verified_manifest])
def test_a_manifest_that_was_changed_and_not_sealed_again_is_refused(folder, open_folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=4))  # says the same
    open_folder(folder)
    for changed in ({**manifest, "step": 8}, {key: value for key, value in manifest.items() if key != SELF}):
        (folder / MANIFEST).write_text(json.dumps(changed))
        with pytest.raises(ArtefactError, match=r"manifest\.json is damaged: its sha256 is not its own"):
            open_folder(folder)


def test_weights_that_changed_after_the_manifest_was_read_do_not_come_through(folder):
    sealed = SealedFolder(folder)
    save_file({"table": -TENSORS["table"]}, folder / WEIGHTS)
    with pytest.raises(ArtefactError, match=r"model\.safetensors is damaged: its sha256 is"):
        sealed.weights(SHAPES)


def test_weights_of_other_shapes_are_refused_before_their_numbers_are_read(folder, monkeypatch):
    sealed = SealedFolder(folder)
    monkeypatch.setattr(sealed_folder_module, "sha256_of", None)
    monkeypatch.setattr(sealed_folder_module, "read_weights", None)
    with pytest.raises(ArtefactError, match=r"does not hold this model: 'table' is \(3, 2\) there, \(2, 3\) by its"):
        sealed.weights({"table": (2, 3)})


@pytest.mark.parametrize("open_folder", [SealedFolder, verified_manifest])
def test_all_that_is_required_and_not_vouched_for_is_named(folder, open_folder):
    (folder / STATE).write_text("{}")
    with pytest.raises(ArtefactError, match=r"manifest\.json does not vouch for missing\.txt, state\.json$"):
        open_folder(folder, [STATE, CONFIG, "missing.txt"])


# ---- Whose code wrote it ----------------------------------------------------------------------------


def test_the_commit_is_that_of_the_checkout_and_says_where_files_differ_from_it(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    (tmp_path / "code").mkdir()
    monkeypatch.setattr(manifest_module, "_REPOSITORY", tmp_path)
    assert commit() is None
    (tmp_path / "code" / "a.py").write_text("1")
    git("add", ".")
    git("commit", "--message", "one")
    assert commit() == git("rev-parse", "HEAD")[:12]
    (tmp_path / "code" / "a.py").write_text("2")
    assert commit() == git("rev-parse", "HEAD")[:12] + "-dirty"
    monkeypatch.setattr(manifest_module, "_REPOSITORY", tmp_path / "code")
    assert commit() is None
    monkeypatch.setattr(manifest_module, "_REPOSITORY", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert commit() is None
