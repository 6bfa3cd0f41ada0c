"""Room on the disk: asked for before a file is begun, and told in the same words where it runs out halfway."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from simple_llm.errors import EnvironmentFault

_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(EnvironmentFault):
    """There is no room for what is to be written."""

    def __init__(self, num_bytes: int, folder: Path) -> None:
        free = shutil.disk_usage(_nearest(folder)).free
        super().__init__(f"disk full: need {human_size(num_bytes)}, have {human_size(free)} at {folder}")


def require_room(num_bytes: int, folder: Path) -> None:
    """Check that so much can be written below a folder, which need not be there yet.

    Raises:
        DiskFullError: it cannot.
    """
    if shutil.disk_usage(_nearest(folder)).free < num_bytes:
        raise DiskFullError(num_bytes, folder)


@contextlib.contextmanager
def room_for(num_bytes: int, folder: Path) -> Iterator[None]:
    """Begin the block only if there is room for what it writes; another process may take the room all the same.

    Raises:
        DiskFullError: before the block or in its middle; of nested blocks the outermost says what it needed.
    """
    require_room(num_bytes, folder)
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(num_bytes, folder) from error


def is_disk_full(error: Exception) -> bool:
    """Whether an error is the disk's; safetensors has a class of its own that keeps the number in its text alone."""
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in _FULL):
        return True
    return any(f"(os error {number})" in str(error) for number in _FULL)


def human_size(num_bytes: int) -> str:
    """Write a number of bytes for people: 999 B, 25.3 MB."""
    size, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
