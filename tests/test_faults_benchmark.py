import importlib.util
import os
import random
import types
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.faults import __main__ as benchmark
from benchmarks.faults import data
from benchmarks.faults.flips import flip_bits, Subject, subjects_of
from benchmarks.faults.processes import look_for_leavings
from benchmarks.faults.tally import Plan, table, Tally
from simple_llm.errors import ArtefactError, GateError, UsageError
from simple_llm.files.writing import replace_file
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


def test_a_dataset_is_seen_while_it_is_written(tmp_path):
    path, this_process = tmp_path / "rows.txt", types.SimpleNamespace(pid=os.getpid())
    assert not data.is_writing(tmp_path, this_process)
    with replace_file(path):
        assert data.is_writing(tmp_path, this_process)
        assert not data.is_writing(tmp_path, types.SimpleNamespace(pid=os.getpid() + 1))
    assert not data.is_writing(tmp_path, this_process)


def test_the_table_shows_counts_where_faults_hit_and_what_was_lost():
    tally = Tally("a fault", survived=1200, detected=30, seconds=1.25)
    tally.where["in a save"] += 7
    tally.lose("step-3 is gone")
    _, counts, where, lost = table([tally]).splitlines()
    assert counts.split() == ["a", "fault", "1,231", "1,200", "30", "1", "1.2"]
    assert where.split() == ["7", "in", "a", "save"]
    assert lost.strip() == "lost: step-3 is gone"


def test_leavings_are_looked_for_once_however_many_kills_there_were(tmp_path):
    assert (look_for_leavings(tmp_path).tried, look_for_leavings(tmp_path).survived) == (1, 1)
    for name in (".tmp-one", ".tmp-other"):
        (tmp_path / "model" / name).mkdir(parents=True)
    tally = look_for_leavings(tmp_path)
    assert (tally.tried, tally.lost, tally.reasons) == (1, 1, ["model/.tmp-one, model/.tmp-other stays"])


def test_every_part_is_a_module():
    assert all((REPOSITORY / "benchmarks" / "faults" / f"{name}.py").exists() for name in benchmark.PARTS)


@pytest.mark.parametrize("is_ours", [True, False])
def test_what_is_lost_fails_the_gate_unless_it_is_another_librarys(is_ours, monkeypatch, capsys):
    tally = Tally("a fault", survived=2, lost=1, is_ours=is_ours)
    monkeypatch.setattr(benchmark, "run_part", lambda name, count, seed: [tally, Tally("ours", survived=4)])
    arguments = Namespace(only="flips", flips=3, seed=0, json=False)
    if is_ours:
        with pytest.raises(GateError, match="1 of 7 faults"):
            benchmark.main(arguments)
    else:
        benchmark.main(arguments)
    assert capsys.readouterr().out.splitlines()[1].split() == ["a", "fault", "3", "2", "0", "1"]


def test_the_comparison_without_its_package_ends_with_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--only trainer: transformers\.Trainer needs accelerate"):
        benchmark.main(Namespace(only="trainer"))
