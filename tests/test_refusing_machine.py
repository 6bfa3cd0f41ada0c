"""What a machine or a file system cannot do: passed over where it does not matter, else told by its name."""

import errno
import fcntl
import os
import shutil

import pytest

from simple_llm import command_line
from simple_llm.config.settings import DataConfig
from simple_llm.data.dataset import read_manifest
from simple_llm.errors import ArtefactError, EnvironmentFault
from simple_llm.files import writing
from simple_llm.files.names import MANIFEST, TOKENIZER, WEIGHTS
from simple_llm.files.reading import naming
from simple_llm.files.weights import load_tensors, safetensors
from simple_llm.model.folder import load_model
from simple_llm.model.tokenizer_files import save_tokenizer
from tests.tiny_models import make_data_config, make_tokenizer

pytestmark = pytest.mark.library

CANNOT = pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"
ANNEX = b"/annex/objects/SHA256E-s12345--4d7a214614ab2935.safetensors\n"


def answering(number, only=lambda descriptor: True):
    """What a call of the system is replaced by, to fail with a number."""

    def refuse(descriptor, *arguments):
        if only(descriptor):
            raise OSError(number, os.strerror(number))

    return refuse


@CANNOT
def test_fault_40_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch, caplog, number):
    monkeypatch.setattr(fcntl, "flock", answering(number))
    with writing.exclusive(tmp_path):
        writing.write_file(tmp_path / "file", b"new")
    save_tokenizer(make_tokenizer(make_data_config()), tmp_path)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert f"{tmp_path}: its file system has no locks" in caplog.text
    assert not list(tmp_path.glob(".tmp*"))


def test_fault_40_a_lock_that_fails_otherwise_names_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", answering(errno.EIO))
    with pytest.raises(OSError) as caught, writing.exclusive(tmp_path):
        pytest.fail("locked")
    assert caught.value.filename == str(tmp_path / ".lock")


@CANNOT
def test_fault_40_a_folder_that_cannot_be_forced_to_the_disk_is_written_all_the_same(tmp_path, monkeypatch, number):
    def is_folder(descriptor):
        return os.path.isdir(f"/proc/self/fd/{descriptor}")

    monkeypatch.setattr(os, "fsync", answering(number, is_folder))
    writing.write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("told", [(0, 0, 0), (10**9, 0, 0), (10**9, 10**9, 0), OSError(errno.ENOSYS, "no")])
def test_fault_40_room_that_is_not_told_is_no_full_disk(tmp_path, monkeypatch, told):
    def disk_usage(path):
        if isinstance(told, OSError):
            raise told
        return shutil._ntuple_diskusage(*told)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    with writing.room_for(10**6, tmp_path / "new"), writing.exclusive(tmp_path / "new"):
        writing.write_file(tmp_path / "new" / "file", b"new")
    assert (tmp_path / "new" / "file").read_bytes() == b"new"
    with pytest.raises(EnvironmentFault, match=r"^disk full: need 1 MB"), writing.room_for(10**6, tmp_path):
        raise OSError(errno.ENOSPC, "full")


def test_fault_40_a_quota_is_told_as_one(tmp_path):
    told = pytest.raises(EnvironmentFault, match=r"^disk full: need 1 MB at .*, by your quota$")
    with told, writing.room_for(10**6, tmp_path):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), Exception("I/O error: Input/output error (os error 5)")]
)
def test_fault_40_an_error_without_a_name_gets_the_name_of_the_file(tmp_path, error):
    with pytest.raises(OSError, match="Input/output error") as caught, naming(tmp_path / "file"):
        raise error
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(tmp_path / "file"))


def test_fault_40_a_file_that_fails_while_it_is_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", answering(errno.EIO))
    with pytest.raises(OSError) as caught:
        writing.write_file(tmp_path / "file", b"new")
    assert caught.value.filename == str(tmp_path / "file")


def test_fault_40_tensors_that_cannot_be_mapped_into_memory_are_read(tmp_path, monkeypatch, untrained_folder):
    def load_file(path):
        raise safetensors.SafetensorError("No such device (os error 19)")

    right = load_tensors(untrained_folder / WEIGHTS)
    monkeypatch.setattr("simple_llm.files.weights.load_file", load_file)
    read = load_tensors(untrained_folder / WEIGHTS)
    assert all(read[name].equal(tensor) for name, tensor in right.items())


class _CompilerIsMissing(RuntimeError):
    __module__ = "torch._inductor.exc"


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (_CompilerIsMissing("No working C++ compiler found\nin x"), ["No working C++", "training.compile=false"]),
        (RuntimeError("Dynamo is not supported on Python 3.99+"), ["training.compile=false"]),
        (RuntimeError("can't start new thread"), ["ulimit -u"]),
        (RuntimeError("CUDA error: no kernel image is available for execution"), ["training.device=cpu"]),
        (OSError(errno.EMFILE, "Too many open files"), ["this machine: Too many open files", "ulimit -n"]),
        (OSError(errno.EFBIG, "File too large", "there.txt"), ["there.txt", "ulimit -f"]),
        (OSError(errno.ESTALE, "Stale file handle", "there.txt"), ["there.txt", "start again"]),
        (OSError(errno.EIO, "Input/output error"), ["output: Input/output error"]),
    ],
)
def test_fault_40_what_the_machine_lacks_is_one_line_with_a_way_out(capsys, error, parts):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        command_line.run(main)
    [line] = capsys.readouterr().err.splitlines()
    assert caught.value.code == 5
    assert [part for part in parts if part not in line] == []


def test_fault_40_a_current_folder_that_is_gone_is_named(capsys):
    with pytest.raises(SystemExit) as caught:
        command_line.run(lambda: (_ for _ in ()).throw(FileNotFoundError(errno.ENOENT, "No such file or directory")))
    assert (caught.value.code, capsys.readouterr().err) == (3, "the current folder not found\n")


@pytest.mark.parametrize("pointer", [POINTER, ANNEX])
@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST, TOKENIZER])
def test_fault_40_a_pointer_in_the_place_of_a_file_of_a_model_is_told_as_one(tmp_path, untrained_folder, name, pointer):
    folder = shutil.copytree(untrained_folder, tmp_path / "model")
    (folder / name).write_bytes(pointer)
    with pytest.raises(ArtefactError, match=f"{name} is a pointer to the file .* `git (lfs pull|annex get)`"):
        load_model(folder)


def test_fault_40_a_pointer_in_the_place_of_data_or_of_problems_is_told_as_one(tmp_path, call_script):
    config = DataConfig(storage={"path": tmp_path / "rows.txt", "num_sequences": 10})
    for path in (config.storage.path, config.storage.manifest_path, tmp_path / "sums.txt"):
        path.write_bytes(POINTER)
    with pytest.raises(ArtefactError, match=r"rows\.txt\.manifest\.json is a pointer"):
        read_manifest(config)
    done = call_script("inference.py", "--model", "none", "--input", "sums.txt", cwd=tmp_path)
    assert (done.exit_code, "sums.txt is a pointer to the file" in done.stderr) == (3, True)


def test_fault_40_a_file_that_fails_while_it_is_read_is_named(tmp_path, monkeypatch, call_script):
    class Failing:
        def __enter__(self):
            raise OSError(errno.EIO, "Input/output error")

        def __exit__(self, *error):
            return False

    (tmp_path / "sums.txt").write_text("1+1\n")
    with monkeypatch.context() as patch:
        patch.setattr("simple_llm.files.reading.Path.open", lambda *arguments: Failing())
        done = call_script("inference.py", "--model", "none", "--input", "sums.txt", cwd=tmp_path)
    assert done.exit_code == 5
    assert done.stderr.startswith("sums.txt: Input/output error; ")
