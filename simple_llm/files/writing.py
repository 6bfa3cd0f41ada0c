"""Files and folders that are there whole or not at all, room for them on the disk, and one run at a time in a folder.

Room is asked for before a file is begun, and told in the same words where it runs out halfway.
"""

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, IO, TextIO

from simple_llm.errors import ArtefactError, EnvironmentFault
from simple_llm.files.ours import ANYTHING, claim, require_ours, says_whose, sha256_of_content
from simple_llm.files.reading import in_utf8, naming, open_no_link, require_replaceable

_FULL = (errno.ENOSPC, errno.EDQUOT)
# What a file system answers that cannot do what it is asked: Lustre and NFS know no locks, others force no folder.
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EBADF)
_LOCK_BYTES = 2**12  # a block of a disk
_MOMENT = 1.0  # seconds
_MOST_TRIES = 1000  # to create a file in a folder that others may remove in between
_STAGE, _STAGE_LOCK = ".tmp-model-", ".lock"


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
    _remove_leavings(path.parent, f".tmp-{path.name}-")
    temporary = path.with_name(f".tmp-{path.name}-{_own_number()}")
    try:
        with naming(path), _create_locked(temporary) as file:
            yield file
            file.flush()
            _force(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        DiskFullError: there is no room for it.
    """
    with room_for(len(content), path.parent), replace_file(path) as file:
        file.write(content)


def write_ours(path: Path, content: bytes) -> None:
    """Write a file into a folder where others may have files too, whole or not at all.

    Raises:
        ArtefactError: what has the name is not what was written by us; it stays.
        DiskFullError: there is no room for it.
    """
    with room_for(len(content), path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if says_whose(path.name, content):
            require_ours(path.parent, [path.name])
        else:
            claim(path.parent, {path.name: sha256_of_content(content)})
        write_file(path, content)


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the files it will replace, gone at the end; so is one that a killed writer left.

    A living writer holds the lock of a file in its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leavings(folder, _STAGE)
    stage = folder / f"{_STAGE}{_own_number()}"
    try:
        with naming(stage), _create_locked(stage / _STAGE_LOCK), in_utf8(stage) as told:
            yield told
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def move_in(stage: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Force each file to the disk and give it its name.

    Raises:
        ArtefactError: one of the names is somebody else's file.
    """
    claim(folder, dict.fromkeys(names, ANYTHING))
    for name in names:
        settle(stage / name)
        (stage / name).replace(folder / name)
    sync(folder)


def settle(path: Path) -> None:
    """Force a file that a library wrote to the disk, readable to whom the user lets read files.

    Libraries differ in that: safetensors has a file be its owner's alone, whatever the umask says.
    """
    umask = os.umask(0)  # it can only be read by setting it
    os.umask(umask)
    path.chmod(0o666 & ~umask)
    sync(path)


def remove(path: Path) -> None:
    """Delete a folder and what is in it, a file, or a link, but nothing that a link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync(path: Path) -> None:
    """Force a file to the disk, or a folder's list of names."""
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _force(descriptor)
        finally:
            os.close(descriptor)


def _force(descriptor: int) -> None:
    """Force what is open to the disk, where its file system can do that: some cannot with a folder."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise


def _own_number() -> int:
    """What a temporary file of this process is told from others by; alone, its number is that of others elsewhere."""
    return int(f"{os.getpid()}{secrets.randbelow(10**9):09}")


def _create_locked(path: Path) -> BinaryIO:
    """Create a file in a folder, which is made if need be, and hold its lock, once nobody else does.

    Before it is held, somebody may take it for what a killed writer left, and remove it: then once more.
    """
    tries_left = _MOST_TRIES
    while True:
        path.parent.mkdir(exist_ok=True)
        try:
            file = open(path, "wb", opener=open_no_link)  # noqa: SIM115 - the caller closes it
        except FileNotFoundError:
            tries_left -= 1
            if not tries_left:  # no other writer, but a file system such as /proc
                raise EnvironmentFault(f"{path.parent} takes no files") from None
            continue
        _lock(file, waits=True)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _remove_leavings(folder: Path, prefix: str) -> None:
    """Delete the temporary files and stages of writers that were killed, and nothing that a living one holds."""
    for leaving in folder.iterdir():
        if leaving.name.startswith(prefix) and leaving.name.removeprefix(prefix).isdecimal():
            with contextlib.suppress(OSError):  # it is gone by now, for one
                _remove_if_left(leaving)


def _remove_if_left(leaving: Path) -> None:
    if leaving.is_symlink():
        leaving.unlink()
        return
    is_folder = leaving.is_dir()
    try:
        with open(leaving / _STAGE_LOCK if is_folder else leaving, "r+b") as file:
            if _lock(file) and os.fstat(file.fileno()).st_nlink:
                remove(leaving)
    except FileNotFoundError:  # a stage whose lock is not there yet, or no more
        if not is_folder:
            return
        try:
            leaving.rmdir()  # who is about to make the lock will make the stage again
        except OSError as error:
            if error.errno == errno.ENOTEMPTY and not (leaving / _STAGE_LOCK).exists():
                remove(leaving)


# ---- Room -----------------------------------------------------------------------------------------


class DiskFullError(EnvironmentFault):
    """There is no room for what is to be written."""

    def __init__(self, num_bytes: int, folder: Path, is_quota: bool = False) -> None:
        free = None if is_quota else free_bytes(folder)
        have = "" if free is None else f", have {human_size(free)}"
        super().__init__(f"disk full: need {human_size(num_bytes)}{have} at {folder}{', by your quota' * is_quota}")


def require_room(num_bytes: int, folder: Path) -> None:
    """Check that so much can be written below a folder, which need not be there yet.

    Raises:
        DiskFullError: it cannot.
    """
    free = free_bytes(folder)
    if free is not None and free < num_bytes:
        raise DiskFullError(num_bytes, folder)


def free_bytes(folder: Path) -> int | None:
    """The room there is below a folder, which need not be there yet; None where its file system does not tell.

    Some mounts of what is far away tell that there is none, always.
    """
    nearest = _nearest(folder)
    try:
        usage = shutil.disk_usage(nearest)
    except OSError:
        return None
    return usage.free if usage.free or (usage.total and not _takes_a_block(nearest)) else None


def _takes_a_block(folder: Path) -> bool:
    """Whether a disk has room for a little, whatever it tells; what else refuses a file is not its room."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_LOCK_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno not in _FULL
    return True


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
        raise DiskFullError(num_bytes, folder, getattr(error, "errno", None) == errno.EDQUOT) from error


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


# ---- Locks ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def exclusive(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the folder's lock inside the block; the lock of a process that died is free again.

    Args:
        patience: seconds to wait until another process has given it back.

    Raises:
        EnvironmentFault: another process holds it, or the folder cannot be written, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_room(_LOCK_BYTES, folder)
        file = open(  # noqa: SIM115 - closed below
            folder / ".lock", "a+", encoding="utf-8", errors="replace", opener=open_no_link
        )
    except OSError as error:
        raise EnvironmentFault(f"{folder} cannot be written: {error.strerror}") from error
    if not os.access(folder, os.W_OK):  # the lock may be there from better days
        file.close()
        raise EnvironmentFault(f"{folder} cannot be written: Permission denied")
    with file:
        with naming(folder / ".lock"):
            knows_locks = _lock_in_time(file, folder, patience)
            file.seek(0)
            if file.read(20).strip("0123456789\n"):
                raise ArtefactError(
                    f"{folder / '.lock'} is not ours, and stays as it is; name another folder, or move it away"
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        if not (knows_locks or patience):
            logging.getLogger("simple_llm").warning(
                "%s: its file system has no locks, so nothing keeps a second run out of it; start no other", folder
            )
        yield


def _lock_in_time(file: TextIO, folder: Path, patience: float) -> bool:
    """Hold a folder's lock, or name who does; return whether its file system knows locks."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return _lock(file)
        except BlockingIOError:
            file.seek(0)
            holder, seconds_left = file.read().strip(), deadline - time.monotonic()
            if seconds_left <= 0 and (holder or seconds_left < -_MOMENT):  # who has just got it writes its number next
                raise EnvironmentFault(f"{folder} is in use by process {holder or 'unknown'}") from None
        time.sleep(_MOMENT / 50)


@contextlib.contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Be the only process in such a block for a file; others wait. The lock is a file beside it, gone at the end."""
    lock = path.with_name(f".{path.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(lock):
        file = _create_locked(lock)
    with file:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _lock(file: IO, waits: bool = False) -> bool:
    """Hold a file's lock until it is closed; return whether its file system knows locks.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True
