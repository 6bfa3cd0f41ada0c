"""A folder's manifest: the size and sha256 of its files and of itself, so that nothing corrupt or torn is used."""

import hashlib
import json
import os
import platform
from pathlib import Path

from simple_llm import __version__
from simple_llm.atomic import write_file
from simple_llm.errors import ArtefactError

MANIFEST = "manifest.json"
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
    content = json.dumps({**manifest, SELF: sha256_of_document(manifest)}, indent=2) + "\n"
    write_file(folder / MANIFEST, content.encode())


def sha256_of_document(document: dict) -> str:
    """Hash what a JSON document says, in whatever order."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> dict:
    """Read manifest.json and check every file it names.

    Raises:
        ArtefactError: naming the file and what is wrong with it.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        claimed = manifest.pop(SELF)
        files = {str(name): (facts["bytes"], facts["sha256"]) for name, facts in manifest["files"].items()}
    except FileNotFoundError:
        raise ArtefactError(f"{path} not found") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f"{path} is damaged: {error!r}") from error
    if claimed != sha256_of_document(manifest):
        raise ArtefactError(f"{path} is damaged: its sha256 is not its own {SELF}")
    for name, (size, sha256) in files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise ArtefactError(f"{file} not found")
        if file.stat().st_size != size:
            raise ArtefactError(f"{file} has {file.stat().st_size:,} bytes where the manifest says {size}")
        if (found := sha256_of(file)) != sha256:
            raise ArtefactError(f"{file} is damaged: its sha256 is {found[:12]}, the manifest says {sha256!s:.12}")
    return manifest
