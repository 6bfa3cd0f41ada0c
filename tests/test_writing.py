import fcntl
import os
import socket
from pathlib import Path

import pytest

from simple_llm.files.writing import replace_file, write_file


def test_a_file_gets_its_name_with_all_its_content(tmp_path):
    path = tmp_path / "new folder" / "file.bin"
    with replace_file(path) as file:
        file.write(b"first ")
        assert not path.exists()
        file.write(b"second")
    assert path.read_bytes() == b"first second"
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), replace_file(path) as file:
        file.write(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("refused", ["os.fsync", "pathlib.Path.replace"])
def test_fault_03_a_disk_that_refuses_leaves_what_was_there(tmp_path, monkeypatch, refused):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(refused, refuse)
    with pytest.raises(OSError, match="No space left"), replace_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_the_content_is_on_the_disk_before_it_has_the_name(tmp_path, monkeypatch):
    path, events = tmp_path / "file.bin", []
    real_fsync = os.fsync
    monkeypatch.setattr("os.fsync", lambda file: (events.append(path.exists()), real_fsync(file)))
    with replace_file(path) as file:
        file.write(b"new")
    assert events == [False, True]  # the file, then the folder that names it


def bind_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.fspath(path))


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, bind_socket, lambda path: path.symlink_to("other.bin"), lambda path: path.symlink_to("no")],
    ids=["pipe", "folder", "socket", "link", "link to nothing"],
)
def test_what_is_no_ordinary_file_is_not_replaced(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    path = Path("file.bin")
    Path("other.bin").write_bytes(b"old")
    make(path)
    before = os.lstat(path)
    with pytest.raises(OSError, match=r"no ordinary file: 'file\.bin'"):
        write_file(path, b"new")
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode, after.st_ctime_ns) == (before.st_ino, before.st_mode, before.st_ctime_ns)
    assert Path("other.bin").read_bytes() == b"old"
    assert sorted(os.listdir()) == ["file.bin", "other.bin"]


def test_a_file_of_a_repository_of_the_hub_is_replaced_though_it_is_a_link_and_its_blob_stays(tmp_path):
    path, blob = tmp_path / "snapshots" / "1a2b3c" / "file.bin", tmp_path / "blobs" / "4d5e6f"
    for file in (path, blob):
        file.parent.mkdir(parents=True)
    blob.write_bytes(b"old")
    path.symlink_to(Path("..", "..", "blobs", "4d5e6f"))
    write_file(path, b"new")
    assert (path.read_bytes(), path.is_symlink(), blob.read_bytes()) == (b"new", False, b"old")


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "file.bin"
    dead, mine = tmp_path / ".tmp-file.bin-1", tmp_path / ".tmp-file.bin-x"
    for leaving in (dead, mine):
        leaving.write_bytes(b"half")
    living = tmp_path / ".tmp-file.bin-2"
    with living.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_file(path, b"new")
        assert sorted(os.listdir(tmp_path)) == [".tmp-file.bin-2", ".tmp-file.bin-x", "file.bin"]
    write_file(path, b"newer")
    assert sorted(os.listdir(tmp_path)) == [".tmp-file.bin-x", "file.bin"]
    assert path.read_bytes() == b"newer"
