"""Processes that are really killed: at every call that changes a folder, and at any time."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from simple_llm.config.settings import DataConfig
from simple_llm.data.dataset import read_manifest, read_problems, write_dataset
from simple_llm.data.problems import from_integers
from simple_llm.errors import ArtefactError
from simple_llm.model import network as network_module
from simple_llm.model.folder import load_model
from simple_llm.model.network import load_network, save_model
from simple_llm.proof import all_pairs
from simple_llm.proof import shards as shards_module
from simple_llm.training import checkpoint
from tests.finished_run import make_unfinished
from tests.forked import fork_script, Forked
from tests.test_checkpoint import DISK_CALLS, fail_at
from tests.test_evaluate_script import prove
from tests.test_trainer import checkpoints, metrics, weights

pytestmark = pytest.mark.usefixtures("blank_pictures")


def kill_at(call, count: int) -> Forked:
    """Have a child make a call and be killed at its count-th change of the disk."""

    def killed() -> None:
        fail_at(pytest.MonkeyPatch(), count, lambda: os.kill(os.getpid(), signal.SIGKILL))
        call()

    return Forked(killed)


def number_of_changes(call) -> int:
    with pytest.MonkeyPatch.context() as patch:
        calls = fail_at(patch, 0, lambda: None)
        call()
    assert set(calls) <= set(DISK_CALLS)
    return len(calls)


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".tmp")]


def kill_in(function: str, module, count: int):
    """Have a child be killed at the count-th change of the disk after it called a function of a module."""

    def before() -> None:
        real = getattr(module, function)

        def armed(*arguments, **options):
            fail_at(pytest.MonkeyPatch(), count, lambda: os.kill(os.getpid(), signal.SIGKILL))
            return real(*arguments, **options)

        setattr(module, function, armed)

    return before


# ---- Training -------------------------------------------------------------------------------------


def wait_after_three_checkpoints() -> None:
    """Have a trainer go on until it is killed, however fast it is, without coming to its last step."""
    real, saved = checkpoint.save_checkpoint, []

    def counted(*arguments, **options):
        saved.append(real(*arguments, **options))
        while len(saved) == 3:
            signal.pause()

    checkpoint.save_checkpoint = counted


def start_over(folder: Path) -> None:
    shutil.rmtree(folder / "model" / "checkpoints")
    make_unfinished(folder)


@pytest.mark.parametrize("count", [1, 6, 11])  # in the first files, in the manifest, after the new name
def test_fault_01_a_run_killed_in_a_save_ends_with_the_same_weights(finished_run, run_folder, count):
    start_over(run_folder)
    before = kill_in("save_checkpoint", checkpoint, count)
    assert fork_script("trainer.py", cwd=run_folder, before=before).end().exit_code == -signal.SIGKILL
    assert checkpoints(run_folder) in ([], ["step-4"])
    done = fork_script("trainer.py", cwd=run_folder).end()
    assert done.exit_code == 0, done.stderr
    assert not temporaries(run_folder)
    assert weights(run_folder) == weights(finished_run.folder)
    assert metrics(run_folder) == metrics(finished_run.folder)


def test_fault_01_a_run_killed_three_times_at_any_time_ends_with_the_same_weights(finished_run, run_folder):
    start_over(run_folder)
    rng = random.Random(0)
    for _ in range(3):
        there = checkpoints(run_folder)
        running = fork_script(
            "trainer.py", "training.save_every=1", cwd=run_folder, before=wait_after_three_checkpoints
        )
        running.wait_for(lambda there=there: checkpoints(run_folder) != there)
        time.sleep(rng.uniform(0, 0.1))
        running.send(signal.SIGKILL)
        assert running.end().exit_code == -signal.SIGKILL
    done = fork_script("trainer.py", "training.save_every=1", cwd=run_folder).end()
    assert done.exit_code == 0, done.stderr
    assert not temporaries(run_folder)
    assert weights(run_folder) == weights(finished_run.folder)
    assert metrics(run_folder) == metrics(finished_run.folder)


# ---- The finished model -----------------------------------------------------------------------------


def test_fault_01_wherever_the_writing_of_a_model_is_killed_there_is_the_model_or_a_run_that_goes_on(
    finished_run, run_folder
):
    folder = run_folder / "model"
    loaded = load_network(folder)
    facts = {key: value for key, value in loaded.manifest.items() if key not in ("files", "versions")}

    def save() -> None:
        save_model(folder, loaded.model, loaded.data, loaded.train, facts)

    num_changes = number_of_changes(save)
    outcomes = set()
    for count in range(1, num_changes + 1):
        assert kill_at(save, count).end().exit_code == -signal.SIGKILL
        outcomes.add((folder / "manifest.json").exists())
        if (folder / "manifest.json").exists():
            assert load_model(folder).sha256 == loaded.sha256
        else:
            with pytest.raises(ArtefactError, match="holds no finished model"):
                load_model(folder)
    assert outcomes == {True, False}
    (folder / "manifest.json").unlink(missing_ok=True)

    before = kill_in("write_manifest", network_module, 2)  # through the trainer: at the manifest's new name
    assert fork_script("trainer.py", cwd=run_folder, before=before).end().exit_code == -signal.SIGKILL
    done = fork_script("trainer.py", cwd=run_folder).end()
    assert done.exit_code == 0, done.stderr
    assert "going on from model/checkpoints/step-12" in done.stderr
    assert weights(run_folder) == weights(finished_run.folder)
    assert not temporaries(run_folder)


# ---- The sequences file ---------------------------------------------------------------------------


def test_fault_01_wherever_the_writing_of_rows_is_killed_there_is_a_whole_dataset_or_none(tmp_path):
    config = DataConfig(numbers={"max": 99, "base": 10}, storage={"path": tmp_path / "rows.txt", "num_sequences": 100})
    counts = {"uniform": 100, "lengths": 0, "carries": 0}
    old, new = (
        from_integers([(x, y) for x in range(first, first + 10) for y in range(10)], 10, 2) for first in (0, 50)
    )

    def write(problems=new) -> None:
        write_dataset(config, problems, counts, counts, lambda num_rows: None)

    write(old)
    num_changes = number_of_changes(write)
    outcomes = set()
    for count in range(1, num_changes + 1):
        write(old)
        assert kill_at(write, count).end().exit_code == -signal.SIGKILL
        try:
            read_manifest(config)
            outcomes.add("old" if (read_problems(config).x == old.x).all() else "new")
        except ArtefactError as error:
            outcomes.add("none")
            assert "run `python3 data_generator.py`" in str(error)
        write()
        read_manifest(config)
        assert (read_problems(config).x == new.x).all()
        assert not temporaries(tmp_path)
    assert outcomes == {"old", "none", "new"}


# ---- Every pair -----------------------------------------------------------------------------------


def test_fault_29_an_exhaustive_evaluation_killed_at_60_percent_counts_every_problem_once(
    run_folder, call_script, monkeypatch
):
    monkeypatch.setattr(shards_module, "SHARD_OPERANDS", 2)  # 21 shards
    real, counted = all_pairs.Prover.count, run_folder / "counted"

    def count(self, first, last):
        with counted.open("a") as file:
            file.write(f"{first}\n")
        time.sleep(0.02)
        return real(self, first, last)

    monkeypatch.setattr(all_pairs.Prover, "count", count)
    _, whole = prove(call_script, run_folder)
    for path in (run_folder / "model" / "certificate.json", counted, *(run_folder / "model" / "proof").iterdir()):
        path.unlink()

    def shards() -> list[Path]:
        return list((run_folder / "model" / "proof").glob("shard-*.json"))

    running = fork_script("evaluate.py", "--exhaustive", "--range", "190:230", cwd=run_folder)
    running.wait_for(lambda: len(shards()) >= 13)
    running.send(signal.SIGKILL)
    assert running.end().exit_code == -signal.SIGKILL
    assert not (run_folder / "model" / "certificate.json").exists()
    num_done, num_begun = len(shards()), len(counted.read_text().split())
    assert 13 <= num_done <= num_begun < 21

    called, again = prove(call_script, run_folder)
    assert called.exit_code == 7
    assert len(counted.read_text().split()) - num_begun == 21 - num_done  # and no shard that was whole
    assert again.keys() == whole.keys()
    on_the_clock = {"seconds", "date", "command"}
    assert {key: again[key] for key in again.keys() - on_the_clock} == {
        key: whole[key] for key in whole.keys() - on_the_clock
    }
    assert (again["checked"], again["expected"]) == (41**2, 41**2)
