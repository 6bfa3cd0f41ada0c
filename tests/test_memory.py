"""Memory that really runs out: a process that is not given more."""

import contextlib
import os
import resource

import pytest
import torch

from simple_llm.config.settings import Training
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.training import learner
from tests.forked import fork_script
from tests.test_trainer import checkpoints
from trainer import less_memory

pytestmark = pytest.mark.usefixtures("blank_pictures")

_held = []


def give_no_more_than(num_bytes: int) -> None:
    """Let this process have so much more than it has; what it has and does not use is taken first."""
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken, resource.RLIM_INFINITY))
    for size in (2**26, 2**24, 2**22, 2**20):
        with contextlib.suppress(RuntimeError):
            while True:
                _held.append(torch.empty(size, dtype=torch.uint8))
    resource.setrlimit(resource.RLIMIT_AS, (taken + num_bytes, resource.RLIM_INFINITY))


def test_fault_12_out_of_memory_in_training_says_what_to_try_and_the_run_goes_on_from_its_checkpoint(run_folder):
    def no_more_in_step_1():
        real = learner.batch_indices

        def batch_indices(examples, config, step):
            if step == 1:
                give_no_more_than(2**24)
            return real(examples, config, step)

        learner.batch_indices = batch_indices

    settings = ("training.batch_size=10000", "training.accumulation_steps=1", "training.max_steps=3")
    often = ("training.save_every=1", "training.eval_every=3")
    done = fork_script("trainer.py", "--fresh", *settings, *often, cwd=run_folder, before=no_more_in_step_1).end()
    assert done.exit_code == 5, done.stderr
    message = done.stderr.splitlines()[-1]
    assert message == (
        "out of memory with training.batch_size=10000; try training.batch_size=5000 (another run: start it with "
        "--fresh or in another paths.model), or training.accumulation_steps=2, which goes on from the last checkpoint"
    )
    assert "Traceback" not in done.stderr
    assert checkpoints(run_folder) == ["step-1"]
    assert verified_manifest(run_folder / "model" / "checkpoints" / "step-1")["step"] == 1
    assert not [path for path in run_folder.rglob("*") if path.name.startswith(".tmp")]
    done = fork_script("trainer.py", *settings, *often, cwd=run_folder).end()
    assert done.exit_code == 0, done.stderr
    assert "going on from model/checkpoints/step-1" in done.stderr


def test_fault_12_out_of_memory_while_rows_are_drawn_names_how_many(run_folder):
    before = (run_folder / "sequences.txt").read_bytes()
    overrides = ("--force", "numbers.max=99999", "storage.num_sequences=10000000")
    done = fork_script("data_generator.py", *overrides, cwd=run_folder, before=lambda: give_no_more_than(2**24)).end()
    assert done.exit_code == 5, done.stderr
    assert done.stderr.splitlines()[-1] == "out of memory with storage.num_sequences=10000000; try fewer"
    assert (run_folder / "sequences.txt").read_bytes() == before


@pytest.mark.parametrize(
    ("batch_size", "slices", "num_processes", "smaller", "more_slices"),
    [
        *[(128, 1, 1, 64, 2), (128, 2, 1, 64, 4), (112, 4, 1, 56, 7), (3, 1, 1, 1, 3)],
        *[(112, 1, 16, 48, 7), (96, 4, 8, 32, 6), (6, 1, 2, 2, 3)],
    ],
)
def test_what_is_said_to_try_is_a_setting_that_works(batch_size, slices, num_processes, smaller, more_slices):
    line = less_memory(Training(batch_size=batch_size, accumulation_steps=slices), num_processes)
    assert f"try training.batch_size={smaller} " in line
    assert f"training.accumulation_steps={more_slices}," in line
    for size, number in ((smaller, slices), (batch_size, more_slices)):
        assert size % (number * num_processes) == 0


@pytest.mark.parametrize(
    ("batch_size", "slices", "to_try"),
    [
        (
            128,
            1,
            "training.batch_size=64 (another run: start it with --fresh or in another paths.model), or "
            "training.accumulation_steps=2, which goes on from the last checkpoint",
        ),
        (160, 32, "training.accumulation_steps=40, which goes on from the last checkpoint"),
        (96, 32, "a smaller model"),
    ],
)
def test_what_is_said_to_try_leaves_a_hard_row_for_each_slice(batch_size, slices, to_try):
    hard_rows = {"start": 9, "of": 2, "keep": 1 / 3}  # 43 of 128 rows, 53 of 160, 32 of 96
    line = less_memory(Training(batch_size=batch_size, accumulation_steps=slices, hard_rows=hard_rows))
    assert line == f"with training.batch_size={batch_size}; try {to_try}"
