"""Files and folders that are there whole or not at all."""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from simple_llm.disk import room_for
from simple_llm.files.reading import require_replaceable


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; when the block ends well it takes the name, else it is removed.

    The content is on the disk before the name is: a crash at any instant leaves the old file or the new one. What a
    killed writer of this file left is removed; a living one holds the lock of its own.

    Raises:
        OSError: what has the name is no ordinary file, such as /dev/null, and stays as it is.
    """
    require_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leavings(path)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        DiskFullError: there is no room for it.
    """
    with room_for(len(content), path.parent), replace_file(path) as file:
        file.write(content)


def remove(path: Path) -> None:
    """Delete a folder and what is in it, a file, or a link, but nothing that a link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync_folder(path: Path) -> None:
    """Put a folder's list of names on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leavings(path: Path) -> None:
    temporary_name = re.compile(rf"\.tmp-{re.escape(path.name)}-\d+")
    for leaving in path.parent.iterdir():
        if not temporary_name.fullmatch(leaving.name):
            continue
        with contextlib.suppress(OSError), leaving.open("rb") as file:  # it may be a living writer's, or gone by now
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leaving.unlink()
