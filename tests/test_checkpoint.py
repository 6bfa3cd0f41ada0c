import errno
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from simple_llm.config.settings import Training
from simple_llm.errors import ArtefactError, EnvironmentFault
from simple_llm.files import sealed_folder as sealed_folder_module
from simple_llm.files.manifest import commit_of_process, sha256_of_document
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    remove_checkpoints,
    save_checkpoint,
    TrainingState,
)
from simple_llm.training.optimizer import build_optimizers
from tests.tiny_models import tiny_model

FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


class Trained:
    """A tiny model and its optimizers after a few steps on random gradients."""

    def __init__(self, num_steps: int, seed: int = 2) -> None:
        self.model = tiny_model(n_layer=1, seed=seed)
        self.optimizers = build_optimizers(self.model, Training(), torch.float32)
        for step in range(num_steps):
            self.take_step(step)

    def take_step(self, step: int) -> None:
        generator = torch.Generator().manual_seed(step)
        for parameter in self.model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for optimizer in self.optimizers:
            optimizer.step()

    def save(self, folder: Path, step: int, keep: int = 2) -> Path:
        state = TrainingState(step, num_correct=3, num_total=4, num_exact_evaluations=1, seconds=0.1 + 0.2)
        return save_checkpoint(folder, self.model, self.optimizers, state, {"training.seed": 0}, keep)

    def load(self, path: Path) -> TrainingState:
        return load_checkpoint(path, self.model, self.optimizers)

    def tensors(self) -> list[torch.Tensor]:
        """Everything the next step depends on, in a fixed order."""
        of_optimizers = [
            optimizer.state[parameter][entry]
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
            for entry in sorted(optimizer.state.get(parameter, {}))
        ]
        return [*self.model.state_dict().values(), *of_optimizers]

    def equals(self, other: "Trained") -> bool:
        pairs = list(zip(self.tensors(), other.tensors(), strict=True))
        return all(one.dtype == another.dtype and torch.equal(one, another) for one, another in pairs)


@pytest.fixture(scope="module")
def trained_twice() -> Trained:
    return Trained(num_steps=2)


@pytest.fixture
def folder(tmp_path, trained_twice) -> Path:
    """Two checkpoints, step-4 and step-8."""
    for step in (4, 8):
        trained_twice.save(tmp_path / "checkpoints", step)
    return tmp_path / "checkpoints"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- Save and load --------------------------------------------------------------------------------


def test_what_is_loaded_is_what_was_saved_to_the_last_bit(tmp_path, trained_twice):
    path = trained_twice.save(tmp_path, 2)
    assert names(path) == sorted(FILES)
    other = Trained(num_steps=0, seed=5)
    assert other.load(path) == TrainingState(2, 3, 4, 1, 0.1 + 0.2)
    assert other.equals(trained_twice)


def test_steps_after_loading_are_the_steps_that_would_have_followed(tmp_path):
    going_on, other = Trained(num_steps=3), Trained(num_steps=1, seed=5)
    other.load(Trained(num_steps=2).save(tmp_path, 2))
    assert not other.equals(going_on)
    other.take_step(2)
    assert other.equals(going_on)


def test_the_optimizer_goes_on_where_the_weights_are_also_on_a_gpu(tmp_path):
    """AdamW, fused, refuses a step count on another device than its weight; "meta" stands for such a device."""
    path = Trained(2).save(tmp_path, 2)
    there = Trained(0)
    there.model.to("meta").tie_weights()
    there.optimizers = build_optimizers(there.model, Training(), torch.float32)
    there.load(path)
    counts = [state["step"] for state in there.optimizers[1].state.values()]
    assert len(counts) > 0
    assert {tensor.device.type for tensor in there.tensors()} == {"meta"}


def test_the_mean_of_the_weights_is_loaded_as_it_was_saved_and_is_no_state_of_an_optimizer(tmp_path):
    trained, other = Trained(num_steps=2), Trained(num_steps=0, seed=5)
    mean = {name: torch.randn(weight.shape) for name, weight in trained.model.named_parameters()}
    path = save_checkpoint(tmp_path, trained.model, trained.optimizers, TrainingState(2), {}, 2, mean)
    loaded: dict[str, torch.Tensor] = {}
    load_checkpoint(path, other.model, other.optimizers, loaded)
    assert other.equals(trained)
    assert loaded.keys() == mean.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in mean.items())


def test_a_run_without_a_mean_saves_what_was_saved_before_there_was_one(tmp_path, trained_twice):
    path, other, loaded = trained_twice.save(tmp_path, 2), Trained(num_steps=0), {}
    load_checkpoint(path, other.model, other.optimizers, loaded)
    assert loaded == {}
    entries = {key.rpartition("/")[2] for key in load_file(path / "optimizer.safetensors")}
    assert entries == {"momentum", "step", "exp_avg", "exp_avg_sq"}


def test_a_checkpoint_before_the_first_step_has_no_optimizer_state_and_loads(tmp_path):
    other = Trained(num_steps=0, seed=5)
    other.load(Trained(num_steps=0).save(tmp_path, 1))
    assert other.equals(Trained(num_steps=0))


def test_buffers_travel_too(tmp_path):
    model = tiny_model(position_embedding="sinusoidal")
    optimizers = build_optimizers(model, Training(), torch.float32)
    path = save_checkpoint(tmp_path, model, optimizers, TrainingState(1), {}, keep=2)
    table = model.transformer.wpe.weight.clone()
    model.transformer.wpe.weight.zero_()
    load_checkpoint(path, model, optimizers)
    assert torch.equal(model.transformer.wpe.weight, table)


def test_a_manifest_says_by_name_what_a_reader_looks_for(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    trained = Trained(num_steps=1)
    settings = {
        "training.batch_size": 128,
        "training.seed": 7,
        "data sha256": "d" * 64,
        "tokenizer sha256": "e" * 64,
    }
    manifests = [
        verified_manifest(save_checkpoint(tmp_path, trained.model, trained.optimizers, TrainingState(step), changed, 2))
        for step, changed in ((1, settings), (2, {**settings, "training.seed": 8}))
    ]
    told = {key: manifests[0][key] for key in ("step", "batch_size", "world_size", "seed", "settings")}
    assert told == {"step": 1, "batch_size": 128, "world_size": 2, "seed": 7, "settings": settings}
    assert (manifests[0]["data_sha256"], manifests[0]["tokenizer_sha256"]) == ("d" * 64, "e" * 64)
    assert manifests[0]["config_sha256"] == sha256_of_document(settings) != manifests[1]["config_sha256"]
    assert {"torch", "python", "transformers", "simple_llm"} <= manifests[0]["versions"].keys()
    assert all(manifest["commit"] == commit_of_process() for manifest in manifests)


def test_the_newest_so_many_are_kept_by_number_and_not_by_name(tmp_path, trained_twice):
    (tmp_path / "mine").mkdir()
    for step in (2, 9, 10, 11):
        trained_twice.save(tmp_path, step, keep=3)
    assert names(tmp_path) == ["mine", "step-10", "step-11", "step-9"]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-11", "step-10", "step-9"]
    assert newest_checkpoint(tmp_path)[0] == tmp_path / "step-11"


def test_a_run_that_goes_on_from_an_older_checkpoint_keeps_what_it_saves_and_leaves_nothing_later(
    tmp_path, trained_twice
):
    for step in (2, 8, 10, 12):
        trained_twice.save(tmp_path, step, keep=4)
    assert trained_twice.save(tmp_path, 3) == tmp_path / "step-3"  # as after --resume step-2
    assert names(tmp_path) == ["step-2", "step-3"]
    assert newest_checkpoint(tmp_path)[0] == tmp_path / "step-3"


def test_no_folder_and_an_empty_one_hold_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path / "none") == (None, {}, [])
    assert newest_checkpoint(tmp_path) == (None, {}, [])


def test_removing_takes_what_carries_a_checkpoints_name_and_nothing_else(folder):
    mine = ["step-x", "step-4.bak", ".tmp-mine", "notes.txt"]
    for name in mine:
        (folder / name).mkdir()
    (folder / ".tmp-step-9-123").mkdir()
    (folder / ".tmp-step-9-123" / "model.safetensors").write_bytes(b"half")
    remove_checkpoints(folder, only_temporary=True)
    assert names(folder) == sorted([*mine, "step-4", "step-8"])
    remove_checkpoints(folder)
    assert names(folder) == sorted(mine)


def test_a_link_with_a_checkpoints_name_is_removed_and_what_it_points_to_is_not(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (folder / "step-9").symlink_to(tmp_path / "elsewhere")
    remove_checkpoints(folder)
    assert names(folder) == []
    assert names(tmp_path / "elsewhere") == ["file"]


# ---- Damage ---------------------------------------------------------------------------------------


def flip_byte(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 0b0000_0100
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


DAMAGES = {
    "first byte flipped": lambda path: flip_byte(path, 0.0),
    "a byte flipped in the middle": lambda path: flip_byte(path, 0.5),
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "missing": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_fault_06_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(folder, name, damage):
    DAMAGES[damage](folder / "step-8" / name)
    path, manifest, rejected = newest_checkpoint(folder)
    assert path == folder / "step-4"
    assert manifest["step"] == 4
    [line] = rejected
    assert line.startswith("rejected step-8: ")
    assert name in line


def test_fault_06_a_checkpoint_that_cannot_be_read_is_named_and_the_one_before_it_is_used(folder, monkeypatch):
    def bad_sector(path, real=sealed_folder_module.sha256_of):
        if path == folder / "step-8" / "model.safetensors":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path)

    monkeypatch.setattr(sealed_folder_module, "sha256_of", bad_sector)
    path, _, [line] = newest_checkpoint(folder)
    assert path == folder / "step-4"
    assert line == f"rejected step-8: {folder / 'step-8' / 'model.safetensors'} cannot be read: Input/output error"


def test_a_file_with_a_checkpoints_name_is_none_and_is_put_aside_for_one(folder, trained_twice):
    for make in (lambda path: path.write_text("not a folder"), lambda path: path.symlink_to("nothing")):
        make(folder / "step-12")
        path, _, [line] = newest_checkpoint(folder)
        assert path == folder / "step-8"
        assert line.startswith("rejected step-12: ")
        trained_twice.save(folder, 12, keep=3)
        assert newest_checkpoint(folder)[0] == folder / "step-12"
        make(folder / ".tmp-step-16-1")
        remove_checkpoints(folder, only_temporary=True)
        aside, *others = names(folder)
        assert aside.startswith("not-ours-step-12-")
        assert others == ["step-12", "step-4", "step-8"]
        shutil.rmtree(folder / "step-12")
        (folder / aside).unlink()


def test_no_byte_of_a_manifest_can_change_unseen(folder):
    content = (folder / "step-8" / "manifest.json").read_bytes()
    unseen = set()
    for index in range(len(content)):
        changed = bytearray(content)
        changed[index] ^= 0b0000_0001
        (folder / "step-8" / "manifest.json").write_bytes(changed)
        if newest_checkpoint(folder)[0] != folder / "step-4":
            unseen.add(chr(content[index]))
    assert unseen <= set(" \n")  # white space for other white space


def test_fault_07_when_every_checkpoint_is_bad_all_are_listed_and_nothing_starts_over(folder):
    truncate(folder / "step-8" / "model.safetensors")
    (folder / "step-4" / "manifest.json").unlink()
    with pytest.raises(ArtefactError) as caught:
        newest_checkpoint(folder)
    message = str(caught.value)
    assert "step-8" in message
    assert "model.safetensors has" in message
    assert "step-4" in message
    assert "manifest.json not found" in message
    assert "--fresh" in message
    assert caught.value.exit_code == 3


def test_a_manifest_that_names_a_file_elsewhere_is_refused(folder):
    from simple_llm.files.manifest import write_manifest

    (folder / "secret").write_text("x")
    write_manifest(folder / "step-8", ["../secret"], {"step": 8})
    path, _, [line] = newest_checkpoint(folder)
    assert path == folder / "step-4"
    assert "'../secret' is no name of a file in it" in line


# ---- Saves that fail or are killed ----------------------------------------------------------------


DISK_CALLS = ("fsync", "rename", "replace", "unlink", "rmdir")


def fail_at(patch: pytest.MonkeyPatch, count: int, fail) -> list[str]:
    """Make the count-th call that changes a folder or forces the disk call `fail` first; returns the calls so far."""
    calls: list[str] = []

    def failing(real, name):
        def call(*arguments, **options):
            calls.append(name)
            if len(calls) == count:
                fail()
            return real(*arguments, **options)

        return call

    for name in DISK_CALLS:
        patch.setattr(os, name, failing(getattr(os, name), name))
    return calls


def disk_full() -> None:
    raise OSError(28, "No space left on device")


def number_of_calls(folder: Path, trained: Trained) -> int:
    """Of a save that deletes the oldest of two."""
    for step in (4, 8):
        trained.save(folder, step)
    with pytest.MonkeyPatch.context() as patch:
        calls = fail_at(patch, 0, disk_full)
        trained.save(folder, 12)
    assert set(calls) == set(DISK_CALLS)
    return len(calls)


def test_fault_03_a_save_that_fails_at_any_point_leaves_what_was_there_and_no_litter(tmp_path, folder, trained_twice):
    num_calls = number_of_calls(tmp_path / "elsewhere", trained_twice)
    saved = []
    for count in range(1, num_calls + 2):
        for step in (4, 8):
            trained_twice.save(folder, step)
        with pytest.MonkeyPatch.context() as patch:
            calls = fail_at(patch, count, disk_full)
            try:
                trained_twice.save(folder, 12)
                saved.append(count)
            except EnvironmentFault as error:
                assert re.match(r"disk full: need .* kB, have .* at ", str(error))
            except OSError as error:  # the new one has its name, and an old one could not be deleted
                assert error.errno == 28
                assert names(folder)[-1] == "step-8"
                assert "step-12" in names(folder)
        path, manifest, rejected = newest_checkpoint(folder)
        assert rejected == []
        assert path.name == f"step-{manifest['step']}"
        litter = [name for name in names(folder) if name.startswith(".tmp")]
        assert litter == [] or calls[count - 1] in ("unlink", "rmdir")
        remove_checkpoints(folder, only_temporary=True)
        kept = set(names(folder))
        assert {"step-8"} <= kept <= {"step-4", "step-8", "step-12"}
        assert "step-4" in kept or "step-12" in kept  # two verified ones, always
        remove_checkpoints(folder)
    assert saved == [num_calls + 1]  # every call of a save was made to fail once


def test_fault_01_a_save_that_is_killed_at_any_point_leaves_a_verified_checkpoint_and_only_litter_that_is_cleaned(
    tmp_path, folder, trained_twice
):
    num_calls = number_of_calls(tmp_path / "elsewhere", trained_twice)
    for count in range(1, num_calls + 1):
        for step in (4, 8):
            trained_twice.save(folder, step)
        child = os.fork()
        if child == 0:
            fail_at(pytest.MonkeyPatch(), count, lambda: os.kill(os.getpid(), 9))
            trained_twice.save(folder, 12)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"call {count} of {num_calls} was not killed"
        path, manifest, rejected = newest_checkpoint(folder)
        assert rejected == []
        assert path.name == f"step-{manifest['step']}" in ("step-8", "step-12")
        remove_checkpoints(folder, only_temporary=True)
        assert "step-8" in names(folder)
        assert all(name.startswith("step-") for name in names(folder))
        remove_checkpoints(folder)
