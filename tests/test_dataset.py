import hashlib
import itertools
import json
import os
import re

import numpy as np
import pytest

from simple_llm.arithmetic.digits import to_integers
from simple_llm.config.settings import DataConfig
from simple_llm.data import dataset
from simple_llm.data.dataset import read_manifest, read_problems, write_dataset
from simple_llm.data.problems import from_integers
from simple_llm.errors import ArtefactError, EnvironmentFault
from simple_llm.files.manifest import SELF, sha256_of_document

PAIRS = [(12, 7), (0, 0), (99, 99), (45, 54), (3, 98), (10, 20), (77, 8), (1, 0)]
# What these rows must be, written by hand: least significant digit first.
CONTENT = b"21|7|91\n0|0|0\n99|99|891\n54|45|99\n3|89|101\n01|02|03\n77|8|58\n1|0|1\n"
COUNTS = {"uniform": 8, "lengths": 0, "carries": 0}


@pytest.fixture
def config(tmp_path):
    return DataConfig(
        numbers={"max": 99, "base": 10},
        sampling={"uniform": 0.6, "lengths": 0.2, "carries": 0.2},
        split={"train": 0.8, "validation": 0.1},
        storage={"path": tmp_path / "data" / "rows.txt", "num_sequences": len(PAIRS)},
    )


@pytest.fixture
def path(config):
    """Of a dataset that is there and in order."""
    write(config)
    return config.storage.path


def write(config, pairs=PAIRS, on_rows=lambda num_rows: None):
    problems = from_integers(pairs, config.numbers.base, config.operand_digits)
    return write_dataset(config, problems, COUNTS, COUNTS, on_rows)


def refusal(config):
    with pytest.raises(ArtefactError) as caught:
        read_manifest(config)
    assert "data_generator.py" in str(caught.value)  # the way out
    return str(caught.value)


def pairs_of(problems):
    return list(zip(to_integers(problems.x, problems.base), to_integers(problems.y, problems.base), strict=True))


def test_a_dataset_is_the_rows_and_a_manifest_that_describes_them(config):
    manifest = write(config)
    path = config.storage.path
    assert path.read_bytes() == CONTENT
    assert sorted(os.listdir(path.parent)) == ["rows.txt", "rows.txt.manifest.json"]
    told = json.loads((path.parent / "rows.txt.manifest.json").read_bytes())
    assert (told["rows"], told["bytes"], told["seed"]) == (8, len(CONTENT), 0)
    assert told["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert told["asked"] == told["drawn"] == COUNTS
    numbers = {"min": 0, "max": 99, "base": 10, "reversed": True, "operands": 2, "sizes": None}
    assert told["config"]["numbers"] == numbers
    assert manifest == read_manifest(config)
    assert pairs_of(read_problems(config)) == PAIRS


def test_a_dataset_may_be_moved(config, path, tmp_path):
    os.rename(path.parent, tmp_path / "elsewhere")
    moved = config.model_copy(
        update={"storage": config.storage.model_copy(update={"path": tmp_path / "elsewhere" / "rows.txt"})}
    )
    assert read_manifest(moved).rows == 8


def test_many_rows_are_written_and_read_in_blocks(config):
    pairs = list(itertools.islice(itertools.cycle(itertools.product(range(100), repeat=2)), 150_000))
    config = config.model_copy(update={"storage": config.storage.model_copy(update={"num_sequences": len(pairs)})})
    seen = []
    write(config, pairs, seen.append)
    assert sum(seen) == len(pairs)
    assert len(seen) > 1
    assert config.storage.path.stat().st_size > 2**20
    read_manifest(config)
    problems = read_problems(config)
    numbers = np.array([problems.x[0] + 10 * problems.x[1], problems.y[0] + 10 * problems.y[1]]).T
    assert (numbers == pairs).all()
    with config.storage.path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"0")
    assert "row 150000: " in refusal(config)


# ---- Damage ---------------------------------------------------------------------------------------


def test_fault_08_every_changed_byte_is_found_in_its_row(config, path):
    for position, old in enumerate(CONTENT):
        for new in b"0189A|\n\0\xff":
            if new != old:
                path.write_bytes(CONTENT[:position] + bytes([new]) + CONTENT[position + 1 :])
                message = refusal(config)
                assert str(path) in message
                assert re.search(rf"row {CONTENT[:position].count(10) + 1}: expected .*, found '", message), message


def test_fault_08_every_truncation_is_found_with_its_row_and_what_was_expected_there(config, path):
    for length in range(len(CONTENT)):
        path.write_bytes(CONTENT[:length])
        message = refusal(config)
        num_whole = CONTENT[:length].count(b"\n")
        if CONTENT[:length].endswith(b"\n") or not length:
            assert f"row {num_whole + 1}: expected 8 rows, found the end of the file" in message
        else:
            found = CONTENT[:length].splitlines()[-1].decode()
            assert re.search(rf"row {num_whole + 1}: expected .*, found '{re.escape(found)}'", message), message


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (CONTENT + b"1|1|2\n", "row 9: expected the end of the file, found 1 more rows"),
        (CONTENT + b"\n", "row 9: "),
        (CONTENT + b"x", "row 9: "),
        (CONTENT + b"\0", "row 9: "),
        (b"\xef\xbb\xbf" + CONTENT, "row 1: "),
        (CONTENT.replace(b"\n", b"\r\n"), "row 1: "),
        (CONTENT.replace(b"21|7|91", b"31|6|91"), "sha256"),  # still 13 + 6 = 19
        (b"".join(reversed(CONTENT.splitlines(keepends=True))), "sha256"),
        (CONTENT[8:], "row 8: expected 8 rows, found the end of the file"),
    ],
)
def test_fault_08_other_damage_is_named(config, path, content, part):
    path.write_bytes(content)
    assert part in refusal(config)


def test_fault_09_what_is_missing_is_named(config, path):
    manifest_path = config.storage.manifest_path
    manifest_path.unlink()
    assert f"{manifest_path} not found" in refusal(config)
    path.unlink()
    assert f"{path} not found" in refusal(config)
    write(config)
    path.unlink()
    assert f"{path} not found" in refusal(config)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"rows": 8}'],
    ids=lambda content: repr(content[:20]),
)
def test_a_manifest_that_is_none_is_refused(config, path, content):
    config.storage.manifest_path.write_bytes(content)
    assert f"{config.storage.manifest_path} is damaged" in refusal(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("rows", value) for value in (7, "8", None)],
        *[("bytes", value) for value in (1, "x")],
        *[("sha256", value) for value in ("0" * 64, 5)],
        *[("config", value) for value in ({}, [], None, {"numbers": 3}, {"numbers": {}})],
        ("generator_version", 0),
        ("unknown", 1),
    ],
    ids=repr,
)
def test_an_edited_manifest_is_refused(config, path, key, value):
    told = json.loads(config.storage.manifest_path.read_bytes())
    config.storage.manifest_path.write_text(json.dumps({**told, key: value}))
    assert "its own" in refusal(config)
    seal(config, {**told, key: value})  # by somebody who knows how
    refusal(config)


def seal(config, told: dict) -> None:
    """Write a manifest that vouches for itself, whatever it says."""
    told = {key: value for key, value in told.items() if key != SELF}
    config.storage.manifest_path.write_text(json.dumps({**told, SELF: sha256_of_document(told)}))


def test_fault_06_no_bit_of_a_datasets_manifest_can_change_unseen(config, path):
    content = config.storage.manifest_path.read_bytes()
    told = json.loads(content)
    for index, bit in itertools.product(range(len(content)), (1, 2, 4, 8, 16, 32, 64, 128)):
        changed = bytearray(content)
        changed[index] ^= bit
        config.storage.manifest_path.write_bytes(changed)
        try:
            read_manifest(config)
        except ArtefactError:
            continue
        assert json.loads(changed) == told  # one kind of white space is as good as another


@pytest.mark.parametrize("key", ["rows", "bytes", "sha256", "seed", "generator_version", "asked", "drawn", "config"])
def test_a_manifest_without_one_of_its_keys_is_refused(config, path, key):
    told = json.loads(config.storage.manifest_path.read_bytes())
    del told[key]
    seal(config, told)
    assert key in refusal(config)


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"seed": 5}, ["seed: 0 there, 5 here"]),
        ({"numbers": {"max": 98, "base": 10}}, ["numbers.max: 99 there, 98 here"]),
        ({"numbers": {"max": 99, "base": 16}}, ["numbers.base: 10 there, 16 here"]),
        (
            {"split": {"seed": 1, "train": 0.7, "validation": 0.1}},
            ["split.seed: 0 there, 1 here", "split.train: 0.8 there, 0.7 here"],
        ),
        (
            {"sampling": {"uniform": 0.5, "lengths": 0.3, "carries": 0.2}},
            ["sampling.lengths: 0.2 there, 0.3 here", "sampling.uniform: 0.6 there, 0.5 here"],
        ),
    ],
)
def test_fault_09_another_configs_dataset_is_refused_and_every_difference_named(config, path, change, lines):
    same = {name: getattr(config, name) for name in DataConfig.model_fields}
    message = refusal(DataConfig(**{**same, **change}))
    assert "another config" in message
    assert message.splitlines()[1:] == [f"  {line}" for line in lines]


def test_another_generators_dataset_is_refused(config, path, monkeypatch):
    monkeypatch.setattr(dataset, "GENERATOR_VERSION", dataset.GENERATOR_VERSION + 1)
    assert "generator version: " in refusal(config)


# ---- A write that fails ---------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.mark.parametrize("was_there", [False, True])
def test_an_interrupted_write_leaves_what_was_there(config, was_there):
    if was_there:
        write(config, PAIRS[::-1])

    def interrupt(num_rows):
        raise Stop

    with pytest.raises(Stop):
        write(config, on_rows=interrupt)
    if was_there:
        assert pairs_of(read_problems(config)) == PAIRS[::-1]
        read_manifest(config)
    else:
        assert os.listdir(config.storage.path.parent) == []


@pytest.mark.parametrize("refused", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("call", range(4))
def test_fault_03_wherever_a_write_fails_there_is_a_whole_dataset_or_none(config, monkeypatch, refused, call):
    # Four things are forced to the disk (file, folder, manifest, folder) and two renamed; each fails in turn.
    write(config, PAIRS[::-1])
    real = os.fsync if refused == "os.fsync" else type(config.storage.path).replace
    calls = itertools.count()

    def fail_once(*arguments):
        if next(calls) == call:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(refused, fail_once)
    if refused != "os.fsync" and call >= 2:
        write(config)  # there is no third renaming
    else:
        with pytest.raises(EnvironmentFault, match="disk full: need"):
            write(config)
    monkeypatch.undo()
    assert not [entry for entry in os.listdir(config.storage.path.parent) if entry.startswith(".tmp")]
    if config.storage.manifest_path.exists():
        assert pairs_of(read_problems(config)) in (PAIRS, PAIRS[::-1])
        read_manifest(config)
    else:
        refusal(config)
