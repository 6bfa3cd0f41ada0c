"""A folder that a manifest vouches for, and one door to it: what comes through is what the manifest was written over.

A stranger may have filled the folder, and have sealed it again. So a name in it is looked at before anything is opened
by it, and of weights the header before the numbers; see `files/reading.py` and `files/weights.py`.
"""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from simple_llm.errors import ArtefactError
from simple_llm.files.manifest import SELF, sha256_of, unseal
from simple_llm.files.names import MANIFEST, WEIGHTS
from simple_llm.files.reading import MOST_BYTES, plain_file, read_json, require_name
from simple_llm.files.weights import check_weights, MOST_FILE_BYTES, read_weights, Shapes


class SealedFolder:
    """The files of a folder that its manifest vouches for.

        sealed = SealedFolder(folder, MANIFEST_FILES)
        sealed.json(CONFIG)                                             {"n_embd": 256, ...}
        sealed.weights({"transformer.wte.weight": (19, 256), ...})      {"transformer.wte.weight": tensor, ...}

    Each of these raises an ArtefactError that names the file and what is wrong with it.

    Attributes:
        folder: where it is.
        manifest: what manifest.json says.
    """

    def __init__(self, folder: Path, required: Iterable[str] = ()) -> None:
        """Read the manifest alone.

        Args:
            required: names of files that it has to vouch for.
        """
        self.folder = folder
        self.manifest = _parse_manifest(folder)
        missing = sorted(set(required) - self.manifest["files"].keys())
        if missing:
            raise ArtefactError(f"{folder / MANIFEST} does not vouch for {', '.join(missing)}")

    def sha256(self, name: str) -> str:
        """What the manifest says of a file."""
        return self.manifest["files"][name]["sha256"]

    def path(self, name: str) -> Path:
        """Find a file, and compare it with what the manifest says of it."""
        claim = self.manifest["files"][name]
        path = self._plain(name)
        try:
            size = path.stat().st_size
            if size != claim["bytes"]:
                raise ArtefactError(f"{path} has {size:,} bytes where the manifest says {claim['bytes']}")
            found = sha256_of(path)
        except OSError as error:  # a bad sector, for one
            raise ArtefactError(f"{path} cannot be read: {error.strerror}") from None
        if found != claim["sha256"]:
            claimed = claim["sha256"][:12]
            raise ArtefactError(f"{path} is damaged: its sha256 is {found[:12]}, the manifest says {claimed}")
        return path

    def verify(self, names: Iterable[str]) -> None:
        """Compare files with what the manifest says of them, up to the first that differs."""
        for name in names:
            self.path(name)

    def json(self, name: str) -> dict:
        """Read a file that holds one JSON object."""
        self.path(name)
        return read_json(self.folder, name)

    def weights(self, shapes: Shapes) -> dict[str, Tensor]:
        """Read the weights, which have to be of these shapes; others are refused before their numbers are read."""
        check_weights(self._plain(WEIGHTS), shapes)
        return read_weights(self.path(WEIGHTS))

    def _plain(self, name: str) -> Path:
        return plain_file(self.folder, name, MOST_FILE_BYTES if name.endswith(".safetensors") else MOST_BYTES)


def verified_manifest(folder: Path, required: Iterable[str] = ()) -> dict:
    """Read a folder's manifest, and check every file that it names; see `SealedFolder`."""
    sealed = SealedFolder(folder, required)
    sealed.verify(sealed.manifest["files"])
    return sealed.manifest


def _parse_manifest(folder: Path) -> dict:
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
