"""Weights: the bytes they take, and a file of them, its header compared with the config before anything is allocated.

    8 bytes     length of the header
    header      {"transformer.wte.weight": {"dtype": "F32", "shape": [19, 256], "data_offsets": [0, 19456]}, ...}
    the rest    float32 numbers

Only safetensors is read: a pickle would run what is written in it.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path

import safetensors
from safetensors.torch import load, load_file
from torch import Tensor

from simple_llm.errors import ArtefactError
from simple_llm.files.reading import in_utf8, naming

MOST_FILE_BYTES = 2**34  # what an optimizer keeps of the largest model there can be
MOST_HEADER_BYTES = 2**22  # a thousand blocks have some 1.3 million
_BYTES_PER_NUMBER = 4

Shapes = dict[str, tuple[int, ...]]


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def check_weights(path: Path, expected: Shapes) -> None:
    """Compare a file's header and size with the shapes it should have; of its numbers nothing is read.

    Raises:
        ArtefactError: naming the first tensor that differs.
    """
    there, num_header = _read_header(path)
    for name in sorted(expected.keys() | there.keys()):
        if there.get(name) != expected.get(name):
            told = "{!s:.60} there, {!s:.60} by its config".format(there.get(name, "none"), expected.get(name, "none"))
            raise ArtefactError(f"{path} does not hold this model: {name[:60]!r} is {told}")
    num_bytes = num_header + _BYTES_PER_NUMBER * sum(map(math.prod, expected.values()))
    if path.stat().st_size != num_bytes:
        raise ArtefactError(f"{path} has {path.stat().st_size:,} bytes where its tensors take {num_bytes:,}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file that `check_weights` has passed.

    Raises:
        ArtefactError: they overlap, or leave gaps.
    """
    try:
        return load_tensors(path)
    except safetensors.SafetensorError as error:
        raise ArtefactError(f"{path} is damaged: {str(error)[:80]}") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file; where its file system cannot map it into memory, all of it at once.

    Raises:
        SafetensorError: they are none.
        OSError: the file cannot be read.
    """
    try:
        with naming(path), in_utf8(path) as told:
            return load_file(told)
    except OSError:
        with naming(path):
            return load(path.read_bytes())


def _read_header(path: Path) -> tuple[Shapes, int]:
    """Shapes by name, and the bytes before the numbers."""
    with naming(path), path.open("rb") as file:
        num_bytes = int.from_bytes(file.read(8), "little")
        if num_bytes > MOST_HEADER_BYTES:
            raise ArtefactError(f"{path} is damaged: its header claims {num_bytes:,} bytes")
        header = file.read(num_bytes)
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        strange = [name for name, entry in entries.items() if entry["dtype"] != "F32"]
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"{path} is damaged: its header is none ({type(error).__name__})") from None
    if strange:
        raise ArtefactError(f"{path} does not hold this model: {strange[0][:60]!r} is not in float32")
    return shapes, 8 + num_bytes
