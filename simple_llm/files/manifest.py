"""A folder's manifest: the size and sha256 of its files and of itself, so that nothing corrupt or torn is used."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from simple_llm import __version__
from simple_llm.errors import ArtefactError
from simple_llm.files.names import MANIFEST
from simple_llm.files.reading import MOST_BYTES, plain_file, read_json, require_name
from simple_llm.files.writing import write_file

MOST_WEIGHT_BYTES = 2**34  # of a file of tensors: what an optimizer keeps of the largest model there can be
SELF = "manifest_sha256"  # of everything else in it


def sha256_of(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of everything that can change a weight's last bit."""
    import torch
    import transformers

    return {
        "simple_llm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def write_manifest(folder: Path, file_names: list[str], facts: dict[str, object]) -> None:
    """Write manifest.json over files that are on the disk already; written last, it makes the folder valid."""
    files = {name: {"bytes": os.path.getsize(folder / name), "sha256": sha256_of(folder / name)} for name in file_names}
    manifest = {**facts, "versions": versions(), "files": files}
    content = json.dumps(sealed(manifest), indent=2) + "\n"
    write_file(folder / MANIFEST, content.encode())


def sha256_of_document(document: object) -> str:
    """Hash what a JSON document says, in whatever order."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def sealed(document: dict, key: str = SELF) -> dict:
    """Add the sha256 of everything in a document to it."""
    return {**document, key: sha256_of_document(document)}


def unseal(document: dict, key: str = SELF) -> bool:
    """Take that sha256 out of a document; return whether it was the right one."""
    claimed = document.pop(key, None)
    return claimed == sha256_of_document(document)


def verified_manifest(folder: Path) -> dict:
    """Read manifest.json and check every file it names.

    Raises:
        ArtefactError: naming the file and what is wrong with it.
    """
    manifest = parse_manifest(folder)
    verify_files(folder, manifest, manifest["files"])
    return manifest


def parse_manifest(folder: Path) -> dict:
    """Read manifest.json alone.

    Raises:
        ArtefactError: it is missing or damaged.
    """
    path = folder / MANIFEST
    manifest = read_json(folder, MANIFEST)
    if not unseal(manifest):
        raise ArtefactError(f"{path} is damaged: its sha256 is not its own {SELF}")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(map(_is_claim, files.values())):
        raise ArtefactError(f"{path} is damaged: it does not say bytes and sha256 of each file")
    for name in files:
        require_name(folder, name)
    return manifest


def _is_claim(facts: object) -> bool:
    return isinstance(facts, dict) and type(facts.get("bytes")) is int and isinstance(facts.get("sha256"), str)


def verify_files(folder: Path, manifest: dict, names: Iterable[str]) -> None:
    """Compare files with what the manifest says of them.

    Raises:
        ArtefactError: naming the first that differs.
    """
    for name in names:
        claim = manifest["files"][name]
        file = plain_file(folder, name, MOST_WEIGHT_BYTES if name.endswith(".safetensors") else MOST_BYTES)
        try:
            size = file.stat().st_size
            if size != claim["bytes"]:
                raise ArtefactError(f"{file} has {size:,} bytes where the manifest says {claim['bytes']}")
            found = sha256_of(file)
        except OSError as error:  # a bad sector, for one
            raise ArtefactError(f"{file} cannot be read: {error.strerror}") from None
        if found != claim["sha256"]:
            claimed = claim["sha256"][:12]
            raise ArtefactError(f"{file} is damaged: its sha256 is {found[:12]}, the manifest says {claimed}")
