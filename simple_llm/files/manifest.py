"""A folder's manifest: the size and sha256 of its files and of itself, so that nothing corrupt or torn is used.

It is written here; `sealed_folder.py` reads it.
"""

import functools
import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path

from simple_llm import __version__
from simple_llm.files.names import MANIFEST
from simple_llm.files.ours import SELF
from simple_llm.files.reading import naming
from simple_llm.files.writing import write_file

_REPOSITORY = Path(__file__).resolve().parents[2]


def sha256_of(path: Path) -> str:
    """Hash a file's content."""
    with naming(path), path.open("rb") as file:
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


def commit() -> str | None:
    """The commit of this project that is checked out, `-dirty` where files differ from it; None outside a checkout."""
    if not (_REPOSITORY / ".git").exists():
        return None  # installed, perhaps inside the checkout of something else
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, encoding="utf-8", check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


commit_of_process = functools.cache(commit)  # whatever is checked out later: what is imported stays


def write_manifest(folder: Path, file_names: list[str], facts: dict[str, object]) -> None:
    """Write manifest.json over files that are on the disk already; written last, it makes the folder valid."""
    files = {name: {"bytes": os.path.getsize(folder / name), "sha256": sha256_of(folder / name)} for name in file_names}
    manifest = {**facts, "commit": commit_of_process(), "versions": versions(), "files": files}
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
