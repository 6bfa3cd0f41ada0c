"""The sequences file and its manifest: written whole or not at all, used only when every byte is as written.

sequences.txt                   one problem a row
sequences.txt.manifest.json     rows, bytes, sha256, seed, version, the config it was made with, and its own sha256
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.digits import DIGIT_ALPHABET
from simple_llm.config.keys import differences
from simple_llm.config.settings import DataConfig
from simple_llm.data.problems import concatenate, Problems
from simple_llm.data.rows import RowFormat
from simple_llm.errors import ArtefactError
from simple_llm.files.manifest import sealed, SELF, sha256_of, unseal
from simple_llm.files.reading import naming, refuse_pointer
from simple_llm.files.writing import replace_file, room_for, write_file

# Raised when the same config and seed give other rows.
GENERATOR_VERSION = 3

_BLOCK = 2**16  # rows written or parsed at a time


@dataclass(frozen=True)
class DatasetManifest:
    """What a sequences file holds.

    Attributes:
        asked, drawn: rows by stratum, as configured and as they came out.
        config: data_config.yaml, resolved.
    """

    rows: int
    bytes: int
    sha256: str
    seed: int
    generator_version: int
    asked: dict[str, int]
    drawn: dict[str, int]
    config: dict[str, object]


def row_format(config: DataConfig) -> RowFormat:
    """How this config writes its rows."""
    numbers, storage = config.numbers, config.storage
    delimiters = (storage.column_delimiter, storage.row_delimiter)
    return RowFormat(numbers.base, numbers.reversed, *delimiters, numbers.operands)


def expected_config(config: DataConfig) -> dict[str, object]:
    """The part of a config that decides the file's bytes: everything but its path."""
    tree = config.model_dump(mode="json")
    del tree["storage"]["path"]
    return tree


def write_dataset(
    config: DataConfig,
    problems: Problems,
    asked: dict[str, int],
    drawn: dict[str, int],
    on_rows: Callable[[int], object],
) -> DatasetManifest:
    """Write the rows, with the manifest that makes them a dataset.

    The manifest has its name before the rows have theirs: until then they are not those that it is of, and killed on
    the way there are no rows that nothing says to be ours.

    Args:
        on_rows: called with the number of rows just written; what it raises leaves no file behind.

    Raises:
        DiskFullError: there is no room for the rows.
    """
    path, layout = config.storage.path, row_format(config)
    digest = hashlib.sha256()
    num_bytes = 0
    with _other_manifest_kept(config), room_for(layout.most_bytes(problems), path.parent), replace_file(path) as file:
        for first in range(0, len(problems), _BLOCK):
            content = layout.write(problems[first : first + _BLOCK])
            file.write(content)
            digest.update(content)
            num_bytes += len(content)
            on_rows(min(_BLOCK, len(problems) - first))
        manifest = DatasetManifest(
            rows=len(problems),
            bytes=num_bytes,
            sha256=digest.hexdigest(),
            seed=config.seed,
            generator_version=GENERATOR_VERSION,
            asked=asked,
            drawn=drawn,
            config=expected_config(config),
        )
        write_file(config.storage.manifest_path, (json.dumps(sealed(manifest.__dict__), indent=2) + "\n").encode())
    return manifest


@contextlib.contextmanager
def _other_manifest_kept(config: DataConfig) -> Iterator[None]:
    """Put the manifest that was there back where the block fails before the rows have their name."""
    path, manifest_path = config.storage.path, config.storage.manifest_path
    before = manifest_path.read_bytes() if manifest_path.exists() else None
    inode = path.stat().st_ino if path.exists() else None
    try:
        yield
    except BaseException:
        if (path.stat().st_ino if path.exists() else None) == inode:
            if before is None:
                manifest_path.unlink(missing_ok=True)
            elif manifest_path.read_bytes() != before:
                write_file(manifest_path, before)
        raise


def require_own_dataset(config: DataConfig, even_damaged: bool = False) -> None:
    """Check that what is to be replaced are rows, by their manifest.

    Args:
        even_damaged: take for rows whatever a manifest of ours stands beside, as somebody asked who saw it.

    Raises:
        ArtefactError: the file or the manifest is somebody else's.
    """
    path, manifest_path = config.storage.path, config.storage.manifest_path
    if not path.exists() and not manifest_path.exists():
        return
    is_ours = (
        manifest_path.exists() and _mentions(manifest_path, SELF) and _mentions(manifest_path, "generator_version")
    )
    if is_ours and (even_damaged or not path.exists() or _looks_like_rows(path, config)):
        return
    remedy = "move it away" + ", or give --force" * is_ours
    raise ArtefactError(
        f"{path if path.exists() else manifest_path} is not ours by its manifest, and stays as it is; name another "
        f"file with storage.path=..., or {remedy}"
    )


def _mentions(path: Path, key: str) -> bool:
    return f'"{key}"'.encode() in path.read_bytes()


def _looks_like_rows(path: Path, config: DataConfig) -> bool:
    """Whether most of the first lines of a file are digits, operators and the delimiters that its manifest names, or,
    where that is damaged, the config.
    """
    try:
        storage = json.loads(config.storage.manifest_path.read_bytes())["config"]["storage"]
        column, row = str(storage["column_delimiter"]), str(storage["row_delimiter"])
    except (ValueError, TypeError, KeyError, RecursionError):
        column, row = config.storage.column_delimiter, config.storage.row_delimiter
    with path.open("rb") as file:
        *lines, rest = file.read(2**14).split(row.encode())
    allowed = set(f"{DIGIT_ALPHABET}{''.join(one.symbol for one in OPERATIONS)}{column}".encode())
    are_rows = [column.encode() in line and set(line) <= allowed for line in lines or [rest]]
    return 2 * sum(are_rows) >= len(are_rows)


def read_manifest(config: DataConfig) -> DatasetManifest:
    """Read the manifest and check the file against it, byte for byte.

    Raises:
        ArtefactError: no dataset there, or not the one this config makes, or damaged; names the remedy.
    """
    path, manifest_path = config.storage.path, config.storage.manifest_path
    if not path.is_file() or not manifest_path.is_file():
        missing = manifest_path if path.is_file() else path
        raise ArtefactError(f"{missing} not found; run `python3 data_generator.py` first")
    for one in (manifest_path, path):
        refuse_pointer(one)
    try:
        document = json.loads(manifest_path.read_bytes())
        if not unseal(document):
            raise ValueError(f"its sha256 is not its own {SELF}")
        manifest = DatasetManifest(**document)
        others = list(differences(manifest.config, expected_config(config)))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"{manifest_path} is damaged ({error}); run `python3 data_generator.py --force`") from error
    if manifest.generator_version != GENERATOR_VERSION:
        others.append(f"generator version: {manifest.generator_version} there, {GENERATOR_VERSION} here")
    if others:
        raise ArtefactError(
            f"{path} was made with another config; run `python3 data_generator.py` to make it anew\n  "
            + "\n  ".join(others)
        )
    size, sha256 = path.stat().st_size, sha256_of(path)
    if (manifest.rows, manifest.bytes, manifest.sha256) != (config.storage.num_sequences, size, sha256):
        damage = _first_damage(config, manifest, sha256)
        raise ArtefactError(f"{path} is damaged, {damage}; run `python3 data_generator.py`")
    return manifest


def read_problems(config: DataConfig) -> Problems:
    """Read all rows of a file that `read_manifest` has found to be this config's.

    Raises:
        ValueError: naming the first row that is not a sum.
    """
    return concatenate(list(_parse_blocks(config)))


def _parse_blocks(config: DataConfig) -> Iterator[Problems]:
    """Parse the file a block of rows at a time."""
    layout, delimiter = row_format(config), config.storage.row_delimiter.encode()
    first_row, rest = 1, b""
    with naming(config.storage.path), config.storage.path.open("rb") as file:
        while content := file.read(2**20):
            content = rest + content
            cut = content.rfind(delimiter) + 1
            content, rest = content[:cut], content[cut:]
            if content:
                block = layout.parse(content, config.operand_digits, first_row)
                first_row += len(block)
                yield block
    if rest:
        layout.parse(rest, config.operand_digits, first_row)


def _first_damage(config: DataConfig, manifest: DatasetManifest, sha256: str) -> str:
    """Name the first row that is not as it was written, what was expected there and what was found."""
    try:
        num_rows = sum(len(block) for block in _parse_blocks(config))
    except ValueError as error:
        return str(error)
    expected_rows = config.storage.num_sequences
    if num_rows < expected_rows:
        return f"row {num_rows + 1}: expected {expected_rows:,} rows, found the end of the file"
    if num_rows > expected_rows:
        return f"row {expected_rows + 1}: expected the end of the file, found {num_rows - expected_rows:,} more rows"
    return (
        f"rows 1 to {num_rows}: each is a sum, but not the one that was written; expected sha256 {manifest.sha256}, "
        f"found {sha256}"
    )
