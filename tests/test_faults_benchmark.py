import random
from pathlib import Path

import pytest

from benchmarks.faults.__main__ import PARTS
from benchmarks.faults.flips import flip_bits, Subject, subjects_of
from benchmarks.faults.tally import Plan, table, Tally
from simple_llm.errors import ArtefactError
from tests.pipeline import REPOSITORY


def plan_for(count: int, folder: Path) -> Plan:
    return Plan(folder, count, random.Random(0), lambda num_faults: None)


def flip_a_file(folder, read) -> Tally:
    """Flip 20 bits of a file of spaces that is read by `read`."""
    path = folder / "file"
    path.write_bytes(b" " * 100)
    [tally] = flip_bits([Subject("a file", [path], lambda: read(path))], plan_for(20, folder))
    assert path.read_bytes() == b" " * 100  # mended
    return tally


def refuse(message):
    def read(path, reads=[]):  # noqa: B006 - the first one is of the file as it was written
        reads.append(path)
        if len(reads) > 1:
            raise ArtefactError(message.format(path=path))

    return read


def test_a_flip_that_is_read_as_if_nothing_had_happened_is_survived(tmp_path):
    tally = flip_a_file(tmp_path, lambda path: len(path.read_bytes()))
    assert (tally.tried, tally.survived, tally.lost) == (20, 20, 0)


def test_a_flip_that_changes_what_is_read_is_lost(tmp_path):
    tally = flip_a_file(tmp_path, Path.read_bytes)
    assert (tally.tried, tally.lost) == (20, 20)
    assert "not what was written" in tally.reasons[0]


@pytest.mark.parametrize("message, detected", [("{path} is damaged", 20), ("something is damaged", 0)])
def test_a_flip_is_detected_when_the_file_is_named(tmp_path, message, detected):
    tally = flip_a_file(tmp_path, refuse(message))
    assert (tally.detected, tally.lost) == (detected, 20 - detected)


def test_a_reader_that_stumbles_over_a_flip_loses_it(tmp_path):
    tally = flip_a_file(tmp_path, lambda path: path.read_bytes().rstrip(b" ") and 1 / 0)
    assert tally.lost == 20
    assert "ZeroDivisionError" in tally.reasons[0]


def test_flips_of_checkpoint_and_model_are_detected_in_every_file(run_folder):
    checkpoint, model, _ = subjects_of(run_folder)
    tallies = flip_bits([checkpoint, model], plan_for(len(checkpoint.files + model.files), run_folder))
    assert [tally.detected for tally in tallies] == [len(checkpoint.files), len(model.files)]
    assert not any(tally.reasons for tally in tallies)


def test_the_table_shows_counts_where_faults_hit_and_what_was_lost():
    tally = Tally("a fault", survived=1200, detected=30, seconds=1.25)
    tally.where["in a save"] += 7
    tally.lose("step-3 is gone")
    _, counts, where, lost = table([tally]).splitlines()
    assert counts.split() == ["a", "fault", "1,231", "1,200", "30", "1", "1.2"]
    assert where.split() == ["7", "in", "a", "save"]
    assert lost.strip() == "lost: step-3 is gone"


def test_every_part_is_a_module():
    assert all((REPOSITORY / "benchmarks" / "faults" / f"{name}.py").exists() for name in PARTS)
