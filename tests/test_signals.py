"""Real signals to real processes: what was begun is ended or left out, and nothing is torn."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from tqdm import tqdm

from simple_llm.evaluation import held_out
from simple_llm.proof import all_pairs
from simple_llm.proof import shards as shards_module
from simple_llm.training import checkpoint
from simple_llm.training.checkpoint import newest_checkpoint
from simple_llm.training.metrics import read_metrics
from tests.finished_run import make_unfinished
from tests.forked import fork_script
from tests.test_trainer import checkpoints

KINDS = pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
ENDLESS = ("--fresh", "training.max_steps=1000000", "training.save_every=1000000", "training.eval_every=1000000")


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".tmp")]


def steps_done(folder: Path) -> int:
    return max((line["step"] for line in read_metrics(folder / "model" / "metrics.jsonl")), default=0)


# ---- Training -------------------------------------------------------------------------------------


@KINDS
def test_fault_04_and_fault_05_a_signal_in_training_saves_once_and_leaves_the_rest(run_folder, hub, number, exit_code):
    """Nothing of the end happens: no finished model, and nothing of it at the Hub."""
    (run_folder / "model" / "metrics.jsonl").unlink()
    running = fork_script("trainer.py", *ENDLESS, "hub.push=true", "hub.repo_id=me/adder", cwd=run_folder)
    running.wait_for(lambda: steps_done(run_folder) >= 10)
    running.send(number)
    done = running.end()
    assert done.exit_code == exit_code, done.stderr
    [name] = checkpoints(run_folder)
    assert f"stopped at step {name.removeprefix('step-')}; started again" in done.stderr
    assert "Traceback" not in done.stderr
    path, _, rejected = newest_checkpoint(run_folder / "model" / "checkpoints")
    assert (path.name, rejected) == (name, [])
    assert not (run_folder / "model" / "manifest.json").exists()
    assert not temporaries(run_folder)
    assert [request for request in hub.requests if not request.startswith("GET ")] == []


def test_fault_05_a_second_ctrl_c_in_a_save_leaves_at_once_and_the_older_checkpoint_whole(run_folder):
    make_unfinished(run_folder)
    shutil.rmtree(run_folder / "model" / "checkpoints" / "step-12")
    saving = run_folder / "saving"

    def never_done_with_the_second_file():
        real = checkpoint._write_tensors

        def write(path, tensors):
            real(path, tensors)
            if path.name == "optimizer.safetensors":
                saving.touch()
                time.sleep(60)

        checkpoint._write_tensors = write

    running = fork_script("trainer.py", cwd=run_folder, before=never_done_with_the_second_file)
    running.wait_for(saving.exists)
    running.send(signal.SIGINT)
    time.sleep(0.1)
    assert temporaries(run_folder)  # the first one lets the save go on
    asked = time.monotonic()
    running.send(signal.SIGINT)
    done = running.end()
    assert time.monotonic() - asked < 10
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (130, "interrupted")
    assert checkpoints(run_folder) == ["step-8"]
    assert newest_checkpoint(run_folder / "model" / "checkpoints")[2] == []
    assert not temporaries(run_folder)


# ---- Evaluation -----------------------------------------------------------------------------------


@KINDS
def test_fault_04_and_fault_05_a_signal_in_an_evaluation_ends_it_without_a_report(run_folder, number, exit_code):
    (run_folder / "model" / "evaluation.json").unlink()
    begun = run_folder / "begun"

    def tell_of_the_second_sample():
        real = held_out.held_out
        held_out.held_out = lambda *sample: (begun.touch() if sample[-1] else None, real(*sample))[1]

    running = fork_script("evaluate.py", "--runs", "1000", cwd=run_folder, before=tell_of_the_second_sample)
    running.wait_for(begun.exists)
    running.send(number)
    done = running.end()
    assert done.exit_code == exit_code, done.stderr
    assert "interrupted; nothing was written" in done.stderr
    assert not (run_folder / "model" / "evaluation.json").exists()
    assert not temporaries(run_folder)


@pytest.mark.parametrize("seed", [0, 2], ids=["before the first sample", "between two samples"])
def test_fault_04_and_fault_44_a_signal_that_comes_between_two_samples_is_told_in_the_same_words(run_folder, seed):
    def signal_while_a_sample_is_drawn():
        real = held_out.held_out

        def draw(sampler, split, num_samples, drawn_with):
            if drawn_with == seed:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(sampler, split, num_samples, drawn_with)

        held_out.held_out = draw

    ended = fork_script(
        "evaluate.py", "--runs", "9", "--samples", "10", cwd=run_folder, before=signal_while_a_sample_is_drawn
    ).end()
    assert (ended.exit_code, ended.stderr) == (143, "interrupted; nothing was written\n")


@pytest.mark.parametrize(
    ("numbers", "exit_code"), [([signal.SIGTERM], 143), ([signal.SIGINT], 130), ([signal.SIGINT] * 2, 130)]
)
def test_fault_04_and_fault_05_a_signal_in_an_exhaustive_evaluation_leaves_whole_shards(
    run_folder, monkeypatch, numbers, exit_code
):
    monkeypatch.setattr(shards_module, "SHARD_OPERANDS", 2)
    real, is_impatient = all_pairs.Prover.count, len(numbers) > 1

    def count(self, first, last):
        time.sleep(60 if is_impatient and first > 194 else 0.05)
        return real(self, first, last)

    def shards() -> list[Path]:
        return list((run_folder / "model" / "proof").glob("shard-*.json"))

    monkeypatch.setattr(all_pairs.Prover, "count", count)
    running = fork_script("evaluate.py", "--exhaustive", "--range", "190:230", cwd=run_folder)
    running.wait_for(lambda: len(shards()) >= 3)
    for number in numbers:
        running.send(number)
        time.sleep(0.2)
    asked = time.monotonic()
    done = running.end()
    assert time.monotonic() - asked < 10
    assert done.exit_code == exit_code, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "interrupted" if is_impatient else "stopped; started again, it goes on with the next shard"
    )
    assert 3 <= len(shards()) < 21
    assert not (run_folder / "model" / "certificate.json").exists()
    assert not temporaries(run_folder)


# ---- Writing data ---------------------------------------------------------------------------------


@KINDS
def test_fault_04_and_fault_05_a_signal_while_rows_are_written_leaves_what_was_there(run_folder, number, exit_code):
    before = {path.name: path.read_bytes() for path in run_folder.glob("sequences.txt*")}

    def slowly():
        real = tqdm.update
        tqdm.update = lambda bar, n=1: (time.sleep(0.1), real(bar, n))

    overrides = ("--force", "numbers.max=99999", "storage.num_sequences=1000000")
    running = fork_script("data_generator.py", *overrides, cwd=run_folder, before=slowly)
    running.wait_for(lambda: temporaries(run_folder))
    time.sleep(0.1)
    running.send(number)
    done = running.end()
    assert done.exit_code == exit_code, done.stderr
    assert "interrupted; sequences.txt was not written" in done.stderr
    assert {path.name: path.read_bytes() for path in run_folder.glob("sequences.txt*")} == before
    assert not temporaries(run_folder)


def test_fault_05_a_signal_that_came_before_the_work_ends_it_too(tmp_path):
    """Before its loop a script has nothing to save: the signal's own way to end it is good enough."""
    script = fork_script("data_generator.py", cwd=tmp_path, before=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert script.end().exit_code == -signal.SIGTERM
    assert os.listdir(tmp_path) == []
