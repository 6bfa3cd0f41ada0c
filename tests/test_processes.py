"""Several real processes on the run that one process does alone: forked, and once under torchrun's own agent."""

import json
import os
import runpy
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from torch.distributed import run
from torch.distributed.launcher.api import LaunchConfig

from simple_llm.config.settings import Training
from simple_llm.errors import UsageError
from simple_llm.files.manifest import sha256_of
from simple_llm.processes import ALONE, Processes
from simple_llm.training.checkpoint import list_checkpoints, newest_checkpoint
from simple_llm.training.learner import make_learner
from simple_llm.training.run import Run
from tests.finished_run import DATA, TRAIN
from tests.forked import fork_script, Forked
from tests.pipeline import REPOSITORY, write_configs
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.usefixtures("blank_pictures")

# Four blocks, and the middle is asked too; no dropout, whose masks depend on who draws them.
FOUR_BLOCKS = {
    **TRAIN,
    "model": {**TRAIN["model"], "n_layer": 4, "dropout": 0.0},
    "training": {
        **TRAIN["training"],
        "accumulation_steps": 1,
        "max_steps": 60,
        "save_every": 5,
        "eval_every": 20,
    },
}
IN_TWO_SLICES = "training.accumulation_steps=2"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with configs, data and a tokenizer."""
    folder = tmp_path_factory.mktemp("processes")
    write_configs(folder, DATA, FOUR_BLOCKS)
    for name in ("data_generator.py", "tokenizer.py"):
        assert fork_script(name, cwd=folder).end().exit_code == 0
    return folder


@pytest.fixture(scope="module")
def alone(prepared) -> Path:
    """The model folder of one process that takes each batch in two slices."""
    folder = shutil.copytree(prepared, prepared.with_name("alone"))
    done = fork_script("trainer.py", IN_TWO_SLICES, cwd=folder).end()
    assert done.exit_code == 0, done.stderr
    return folder / "model"


def fork_two(name: str, *arguments: str, cwd: Path) -> list[Forked]:
    """Start a script in two processes that know of each other as torchrun would tell them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        fork_script(
            name, *arguments, cwd=cwd, before=lambda rank=rank: os.environ.update(meeting, RANK=rank, LOCAL_RANK=rank)
        )
        for rank in ("0", "1")
    ]


def torchrun(name: str, cwd: Path) -> None:
    """Do what `torchrun --nproc-per-node 2 NAME` does, but fork the two from this process, which has the imports."""
    os.chdir(cwd)
    launch = run.elastic_launch

    def script(*command: str) -> None:
        sys.argv = [name]
        runpy.run_path(str(REPOSITORY / name), run_name="__main__")

    def fork(config: LaunchConfig, entrypoint: str) -> launch:
        config.start_method = "fork"
        return launch(config, script)

    run.elastic_launch = fork
    run.main(["--nproc-per-node", "2", name])


def newest_step(folder: Path) -> int:
    """Of the checkpoints that verify; 0 where there is none."""
    path, _, _ = newest_checkpoint(folder / "model" / "checkpoints")
    return int(path.name.removeprefix("step-")) if path else 0


def has_saved_after(folder: Path, step: int) -> bool:
    found = list_checkpoints(folder / "model" / "checkpoints")
    return any(int(path.name.removeprefix("step-")) > step for path in found)


def losses_of(model: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def assert_same_result(folder: Path, alone: Path) -> None:
    """Losses and weights are those of one process with two slices, to the last bit."""
    assert len(losses_of(alone)) == 6
    assert losses_of(folder / "model") == losses_of(alone)
    assert sha256_of(folder / "model" / "model.safetensors") == sha256_of(alone / "model.safetensors")


def test_fault_02_one_of_two_is_killed_the_other_ends_and_one_goes_on_to_the_same_weights(prepared, alone, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "two")
    first, second = fork_two("trainer.py", cwd=folder)
    second.wait_for(lambda: has_saved_after(folder, 0))
    second.send(signal.SIGKILL)
    killed_at = time.monotonic()
    assert second.end().exit_code == -signal.SIGKILL
    called = first.end()
    assert time.monotonic() - killed_at < 60
    assert called.exit_code == 5
    assert called.stderr.splitlines()[-1].startswith("another process of this run is gone; started again, it goes on")
    step = newest_step(folder)
    assert 5 <= step < 60

    called = fork_script("trainer.py", IN_TWO_SLICES, cwd=folder).end()
    assert called.exit_code == 0, called.stderr
    assert f"going on from model/checkpoints/step-{step}" in called.stderr
    assert_same_result(folder, alone)


def test_fault_04_and_fault_16_torchrun_goes_on_from_one_is_stopped_and_two_end_with_the_same_weights(
    prepared, alone, tmp_path
):
    folder = shutil.copytree(prepared, tmp_path / "two")
    first = fork_script("trainer.py", IN_TWO_SLICES, cwd=folder)
    first.wait_for(lambda: has_saved_after(folder, 4))
    first.send(signal.SIGTERM)
    assert first.end().exit_code == 143
    begun_at = newest_step(folder)

    launched = Forked(lambda: torchrun("trainer.py", cwd=folder))
    launched.wait_for(lambda: has_saved_after(folder, begun_at))
    launched.send(signal.SIGTERM)
    done = launched.end()
    assert done.exit_code != 0
    assert f"going on from model/checkpoints/step-{begun_at}" in done.stderr
    assert "stopped at step" in done.stderr
    stopped_at = newest_step(folder)
    assert begun_at < stopped_at < 60
    assert not (folder / "model" / "manifest.json").exists()

    for called in [process.end() for process in fork_two("trainer.py", cwd=folder)]:
        assert called.exit_code == 0, called.stderr
    assert_same_result(folder, alone)


def test_two_processes_count_what_one_counts(alone):
    evaluations = []
    arguments = ("evaluate.py", "--samples", "301", "--json")
    for processes in ([fork_script(*arguments, cwd=alone.parent)], fork_two(*arguments, cwd=alone.parent)):
        called, *others = [process.end() for process in processes]
        assert called.exit_code == 0, called.stderr
        assert all((other.exit_code, other.stdout) == (0, "") for other in others)
        evaluations.append(json.loads(called.stdout.splitlines()[-1]))
    for key in ("correct", "total", "commutes", "by_operand_length", "failures"):
        assert evaluations[0][key] == evaluations[1][key]
    assert evaluations[0]["min_logit_margin"] == pytest.approx(evaluations[1]["min_logit_margin"], abs=1e-4)


def test_a_batch_that_cannot_be_shared_evenly_is_refused_with_both_numbers():
    with pytest.raises(UsageError, match=r"batch_size: 128 .* 3 processes times training.accumulation_steps = 1"):
        make_learner(tiny_model(1), Training(), Processes(rank=0, count=3))


def test_the_shares_of_all_processes_are_everything_once():
    items = list(range(7))
    shares = [items[Processes(rank, 3).share] for rank in range(3)]
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]
    assert items[ALONE.share] == items


@pytest.mark.parametrize("number", [4, 5, 6])
def test_processes_agree_when_no_number_differs(monkeypatch, number):
    monkeypatch.setattr(Processes, "largest", lambda self, other: max(other, number if other > 0 else -number))
    assert Processes(0, 2).agree(5) == (number == 5)


def test_runs_with_other_settings_or_at_another_step_have_other_fingerprints(tmp_path):
    runs = [Run(tmp_path, {"a": 1}), Run(tmp_path, {"a": 2}), Run(tmp_path, {"a": 1}, tmp_path, 5)]
    runs.append(Run(tmp_path, {"a": 1}, result={"step": 5}))
    assert len({run.fingerprint() for run in runs}) == 4
    assert Run(tmp_path / "elsewhere", {"a": 1}).fingerprint() == runs[0].fingerprint()
