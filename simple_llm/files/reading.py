"""Files of a folder that a stranger may have filled: looked at before they are opened, bounded before they are read.

A name may lead to a pipe that never ends, to a file of a terabyte, or out of the folder. What is not an ordinary file
of the folder itself is refused; the one exception is a repository of the Hub, which its client library keeps as links:

    models--me--adder/snapshots/1a2b3c/config.json -> ../../blobs/4d5e6f
"""

import errno
import json
import os
import re
import stat
from pathlib import Path

from simple_llm.errors import ArtefactError, EnvironmentFault

MOST_BYTES = 2**20  # of everything but weights: the largest of these files has some 20,000
_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)


def require_name(folder: Path, name: str) -> None:
    """Raise ArtefactError for what cannot be the name of a file in a folder, such as ../x."""
    if not _NAME.fullmatch(name):
        raise ArtefactError(f"{folder}: {name[:40]!r} is no name of a file in it")


def plain_file(folder: Path, name: str, most_bytes: int = MOST_BYTES) -> Path:
    """Find a file in a folder, without opening it.

    Raises:
        ArtefactError: the name leads elsewhere, or to nothing, to no ordinary file, or to one that is too large.
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
    """
    if (os.path.lexists(path) and not path.is_file()) or (path.is_symlink() and not is_blob(path)):
        raise OSError(errno.EINVAL, "no ordinary file", str(path))


def refuse_link(folder: Path) -> None:
    """Refuse to write or delete in a folder that is a link: what lies there may be somebody else's.

    Raises:
        EnvironmentFault: it is one.
    """
    if folder.is_symlink():
        raise EnvironmentFault(f"{folder} is a link to {os.readlink(folder)}; remove the link, or name another folder")
