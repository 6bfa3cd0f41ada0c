"""Files of a folder that a stranger may have filled: looked at before they are opened, bounded before they are read.

A name may lead to a pipe that never ends, to a file of a terabyte, or out of the folder. What is not an ordinary file
of the folder itself is refused; the one exception is a repository of the Hub, which its client library keeps as links:

    models--me--adder/snapshots/1a2b3c/config.json -> ../../blobs/4d5e6f
"""

import contextlib
import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from simple_llm.errors import ArtefactError, EnvironmentFault

MOST_BYTES = 2**20  # of everything but weights: the largest of these files has some 20,000
_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
# What Git LFS, under any of its names, and git-annex leave in the place of a file until it is fetched.
_POINTER = re.compile(rb"version https?://(git-lfs|hawser|git-media)\.|/annex/objects/")
_MOST_POINTER_BYTES = 2**10
_NUMBER_OF_ERROR = re.compile(r"\(os error (\d+)\)")


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Have an error of the system in the block name the file: a read, a write or a lock of an open one does not.

    Libraries in Rust have errors of their own, which keep the system's number in their text: they become the system's.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
    except Exception as error:
        if number := _NUMBER_OF_ERROR.search(str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        raise


@contextlib.contextmanager
def in_utf8(path: Path) -> Iterator[Path]:
    """The path of a file or a folder as a library in Rust has to be told it: those write every name in UTF-8.

    Python writes names as the locale says, and keeps bytes that are no text. Where that makes other bytes, what is told
    leads through a link to the folder in which the file is, or will be; its own name has to be in ASCII.
    """
    if os.fsencode(path) == str(path).encode("utf-8", "replace"):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="simple-llm-") as folder:
        link = Path(folder, "link")
        link.symlink_to(path.absolute().parent)
        yield link / path.name


def refuse_pointer(path: Path) -> None:
    """Refuse a file that stands for another one, which was not fetched.

    Raises:
        ArtefactError: it is what `git clone` leaves without Git LFS or git-annex.
    """
    with naming(path), path.open("rb") as file:
        start = file.read(64)
    if _POINTER.match(start):
        way_out = "git annex get" if start.startswith(b"/annex") else "git lfs pull"
        raise ArtefactError(f"{path} is a pointer to the file and not the file itself; `{way_out}` fetches it")


def require_name(folder: Path, name: str) -> None:
    """Raise ArtefactError for what cannot be the name of a file in a folder, such as ../x."""
    if not _NAME.fullmatch(name):
        raise ArtefactError(f"{folder}: {name[:40]!r} is no name of a file in it")


def plain_file(folder: Path, name: str, most_bytes: int = MOST_BYTES) -> Path:
    """Find a file in a folder; only one so small that it may be a pointer of Git LFS is opened.

    Raises:
        ArtefactError: the name leads elsewhere, or to nothing, to no ordinary file, to a pointer, or to one that is too
            large.
    """
    require_name(folder, name)
    path = folder / name
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ArtefactError(f"{path} not found") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}") from None
    if path.is_symlink() and not _stays(path):
        raise ArtefactError(f"{path} is a link that leads out of the folder")
    if not stat.S_ISREG(status.st_mode):
        raise ArtefactError(f"{path} is no ordinary file")
    if status.st_size > most_bytes:
        raise ArtefactError(f"{path} has {status.st_size:,} bytes, more than the {most_bytes:,} such a file may have")
    if status.st_size <= _MOST_POINTER_BYTES:
        with contextlib.suppress(OSError):  # who reads it will say so
            refuse_pointer(path)
    return path


def _stays(link: Path) -> bool:
    """Whether what a link leads to is in its own folder, or among the blobs of its repository of the Hub."""
    return is_blob(link) or link.resolve().is_relative_to(link.parent.resolve())


def is_blob(link: Path) -> bool:
    """Whether a link is one with which a repository of the Hub keeps a file."""
    folder = link.parent.resolve()
    return folder.parent.name == "snapshots" and link.resolve().parent == folder.parent.parent / "blobs"


def open_no_link(path: str, flags: int) -> int:
    """Open a file, but not what a link leads to: what is written into it would be the end of that."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def read_json(folder: Path, name: str, most_bytes: int = MOST_BYTES) -> dict:
    """Read a file that holds one JSON object.

    Raises:
        ArtefactError: it is not there, or holds something else.
    """
    path = plain_file(folder, name, most_bytes)
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ArtefactError(f"{path} is damaged: {str(error)[:80]}") from None
    except RecursionError:
        raise ArtefactError(f"{path} is damaged: nested too deeply") from None
    if not isinstance(document, dict):
        raise ArtefactError(f"{path} is damaged: it holds no JSON object")
    return document


def require_replaceable(path: Path) -> None:
    """Refuse to put a file in the place of what is none: a device, a pipe, a folder, or a link to somebody else's file.

    Raises:
        OSError: it is one of these.
        UnicodeEncodeError: the locale has no way to write its name.
    """
    os.fsencode(path)
    if (os.path.lexists(path) and not path.is_file()) or (path.is_symlink() and not is_blob(path)):
        raise OSError(errno.EINVAL, "no ordinary file", str(path))


def refuse_link(folder: Path) -> None:
    """Refuse to write or delete in a folder that is a link: what lies there may be somebody else's.

    Raises:
        EnvironmentFault: it is one.
    """
    if folder.is_symlink():
        raise EnvironmentFault(f"{folder} is a link to {os.readlink(folder)}; remove the link, or name another folder")
