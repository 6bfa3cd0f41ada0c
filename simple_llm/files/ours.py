"""Which files of a folder are ours, so that nobody else's file is replaced or deleted.

Manifests, reports, pictures and shards say so themselves. Of others a list beside them does:

    .written-here
    5e0c1f7a...  README.md         as it was written; another README.md is somebody else's
    anything  run.log              whatever it holds: what is appended to, or found damaged by its own reader

A line is on the disk before its file is, and lines are only added, each in one write: killed at any instant, or written
by several processes at once, the list knows every file of ours. One name may have many lines.
"""

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from simple_llm.errors import ArtefactError
from simple_llm.files.names import (
    CHECKPOINTS,
    FOLDER_FILES,
    MANIFEST,
    REPORTS,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    WRITTEN_HERE,
)
from simple_llm.files.reading import is_blob, open_no_link, read_json

SELF = "manifest_sha256"  # in every manifest of ours: the sha256 of everything else in it
ANYTHING = "anything"  # in place of a sha256
SHARDS = "shard-*.json"  # of a proof, in a folder of their own
SOFTWARE = "simple-llm"  # in every picture of ours
_SIGNS = {
    "*.png": SOFTWARE.encode(),
    "*.svg": SOFTWARE.encode(),
    SHARDS: b'{"subject"',
    "shard-[0-9]*-of-*.json": b"{",  # a name that nobody else has
    MANIFEST: f'"{SELF}"'.encode(),
}
_SIGNS |= {name: b'"model_sha256"' for name in REPORTS if name.endswith(".json")}
_ALL_SIGNS = b"".join(_SIGNS.values())
_LINE = re.compile(rf"([0-9a-f]{{64}}|{ANYTHING})  (.+)")


def require_ours(folder: Path, patterns: Iterable[str]) -> None:
    """Check that what is to be written or deleted in a folder is not there yet, or was written by us.

    Raises:
        ArtefactError: naming all that is somebody else's.
    """
    known = _read(folder)
    there = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    foreign = [path.name for path in there if not _is_known(path, known)]
    if foreign:
        raise ArtefactError(
            f"{folder} holds {', '.join(foreign)}, not written by this program or changed since, which stays as it is; "
            "name another folder, or move it away"
        )


def claim(folder: Path, files: dict[str, str]) -> None:
    """Say of files, before they are written, that they are ours.

    Args:
        files: sha256 or ANYTHING, by name.

    Raises:
        ArtefactError: one is there and is somebody else's.
    """
    require_ours(folder, files)
    known = _read(folder)
    added = {(name, digest) for name, digest in files.items() if not {digest, ANYTHING} & _of(name, known)}
    if not (folder / WRITTEN_HERE).exists():
        added |= known  # of a folder from before there were lists, whose manifest may go next
    if not added:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / WRITTEN_HERE, "ab", buffering=0, opener=open_no_link) as file:
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(added))
        file.write(("\n" * _is_torn(folder) + lines).encode())
        os.fsync(file.fileno())


def sha256_of_content(content: bytes) -> str:
    """Hash what is to be written."""
    return hashlib.sha256(content).hexdigest()


def says_whose(name: str, content: bytes) -> bool:
    """Whether a file of this name, damaged or not, shows by itself that it is ours."""
    return any(fnmatch.fnmatchcase(name, pattern) and sign in content for pattern, sign in _SIGNS.items())


Known = set[tuple[str, str]]  # names and what they may hold


def _read(folder: Path) -> Known:
    """What the list says; where there is none, what a folder from before there were lists shows to be ours."""
    try:
        text = (folder / WRITTEN_HERE).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return _without_list(folder)
    return {(match[2], match[1]) for line in text.splitlines() if (match := _LINE.fullmatch(line))}


def _without_list(folder: Path) -> Known:
    """All files with our names beside a manifest of ours, and a tokenizer of ours wherever it is."""
    names = FOLDER_FILES if _is_run(folder) else TOKENIZER_FILES if _is_tokenizer(folder) else ()
    return {(path.name, ANYTHING) for pattern in names for path in folder.glob(pattern)}


def _is_run(folder: Path) -> bool:
    """Whether the folder, or one of its checkpoints, has a manifest of ours."""
    manifests = (folder, *folder.glob(f"{CHECKPOINTS}/step-*"))
    return any(SELF in _document(one, MANIFEST) for one in manifests)


def _is_tokenizer(folder: Path) -> bool:
    return _document(folder, TOKENIZER_CONFIG).get("tokenizer_class") == "SimpleLLMTokenizer"


def _document(folder: Path, name: str) -> dict:
    try:
        return read_json(folder, name)
    except ArtefactError:
        return {}


def _is_known(path: Path, known: Known) -> bool:
    if path.is_symlink() and not is_blob(path):
        return False
    if not stat.S_ISREG(path.stat().st_mode):
        return False
    digests = _of(path.name, known)
    if ANYTHING in digests:
        return True
    content = path.read_bytes() if digests or says_whose(path.name, _ALL_SIGNS) else b""
    return says_whose(path.name, content) or sha256_of_content(content) in digests


def _of(name: str, known: Known) -> set[str]:
    return {digest for one, digest in known if one == name}


def _is_torn(folder: Path) -> bool:
    """Whether the list ends in the middle of a line."""
    content = (folder / WRITTEN_HERE).read_bytes()
    return bool(content) and not content.endswith(b"\n")
