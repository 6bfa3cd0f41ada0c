"""One run at a time in a folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from simple_llm.errors import EnvironmentFault


@contextlib.contextmanager
def exclusive(folder: Path, waits: bool = False) -> Iterator[None]:
    """Hold the folder's lock inside the block; the lock of a process that died is free again.

    Args:
        waits: until another process has given it back.

    Raises:
        EnvironmentFault: another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a+", opener=_open_no_link)  # noqa: SIM115 - closed below
    except OSError as error:
        raise EnvironmentFault(f"{folder} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise EnvironmentFault(f"{folder} is in use by process {file.read().strip() or 'unknown'}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _open_no_link(path: str, flags: int) -> int:
    """Open a file, but not what a link leads to: the number written into it would be the end of that."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
