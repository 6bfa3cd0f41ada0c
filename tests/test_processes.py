"""Several real processes, started by torchrun, on the run that one process does alone."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from simple_llm.checkpoint import list_checkpoints, newest_checkpoint
from simple_llm.manifest import sha256_of
from simple_llm.processes import ALONE, Processes
from simple_llm.resuming import Run
from tests.finished_run import DATA, make_unfinished, TRAIN
from tests.pipeline import REPOSITORY, run_script, write_configs

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
# Two blocks, so that the middle of the model is asked too; no dropout, whose masks depend on who draws them.
TWO_BLOCKS = {
    **TRAIN,
    "model": {**TRAIN["model"], "n_layer": 2, "dropout": 0.0},
    "training": {**TRAIN["training"], "accumulation_steps": 1, "max_steps": 60, "save_every": 5, "eval_every": 20},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with configs, data and a tokenizer."""
    folder = tmp_path_factory.mktemp("processes")
    write_configs(folder, DATA, TWO_BLOCKS)
    for name in ("data_generator.py", "tokenizer.py"):
        assert run_script(name, cwd=folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def alone(prepared) -> Path:
    """The model folder of one process that takes each batch in two slices."""
    folder = shutil.copytree(prepared, prepared.with_name("alone"))
    done = run_script("trainer.py", "training.accumulation_steps=2", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "model"


@dataclass
class Two:
    """Two processes of trainer.py under torchrun."""

    torchrun: subprocess.Popen
    checkpoints: Path

    def wait_for_save(self, after_step: int) -> None:
        while not any(int(path.name[5:]) > after_step for path in list_checkpoints(self.checkpoints)):
            assert self.torchrun.poll() is None, self.torchrun.communicate()
            time.sleep(0.01)

    def ranks(self) -> list[int]:
        """Their process IDs, in the order of their ranks."""
        of_parent = subprocess.run(["pgrep", "-P", str(self.torchrun.pid)], capture_output=True, text=True, check=True)
        rank_of = {int(line): _environment(int(line)).get("RANK") for line in of_parent.stdout.split()}
        return [pid for pid, rank in sorted(rank_of.items(), key=lambda item: str(item[1])) if rank is not None]

    def end(self) -> str:
        """What they said, after all of them have ended by themselves within a minute."""
        _, stderr = self.torchrun.communicate(timeout=60)
        return stderr


def _environment(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


@contextlib.contextmanager
def two_processes(folder: Path):
    """Start trainer.py in two processes; nothing of them is left when the block ends."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*TORCHRUN, str(REPOSITORY / "trainer.py")],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as torchrun:
        try:
            yield Two(torchrun, folder / "model" / "checkpoints")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(torchrun.pid, signal.SIGKILL)


def losses_of(model: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
def test_fault_02_killed_stopped_and_resumed_by_two_and_by_one_the_run_ends_with_the_same_weights(
    prepared, alone, tmp_path
):
    """Two processes, of which one is killed; two again, stopped by a signal; one, to the end."""
    folder = shutil.copytree(prepared, tmp_path / "two")
    with two_processes(folder) as two:
        two.wait_for_save(0)
        os.kill(two.ranks()[1], signal.SIGKILL)
        said = two.end()
        assert two.torchrun.returncode != 0
        assert "another process of this run is gone" in said
    killed_at = int(newest_checkpoint(two.checkpoints)[0].name[5:])
    assert 5 <= killed_at < 60

    with two_processes(folder) as two:
        two.wait_for_save(killed_at)
        two.torchrun.send_signal(signal.SIGTERM)
        said = two.end()
        assert two.torchrun.returncode != 0
        assert f"going on from model/checkpoints/step-{killed_at}" in said
        assert "stopped at step" in said
    stopped_at = int(newest_checkpoint(two.checkpoints)[0].name[5:])
    assert killed_at < stopped_at < 60
    assert not (folder / "model" / "manifest.json").exists()
    assert not list(two.checkpoints.glob(".tmp-*"))

    done = run_script("trainer.py", "training.accumulation_steps=2", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"going on from model/checkpoints/step-{stopped_at}" in done.stderr
    assert losses_of(folder / "model") == losses_of(alone)
    assert sha256_of(folder / "model" / "model.safetensors") == sha256_of(alone / "model.safetensors")


def test_fault_16_two_processes_go_on_from_one_and_their_evaluation_counts_the_same(alone, tmp_path):
    folder = shutil.copytree(alone.parent, tmp_path / "two")
    make_unfinished(folder)
    shutil.rmtree(folder / "model" / "checkpoints" / "step-60")
    with two_processes(folder) as two:
        said = two.end()
        assert two.torchrun.returncode == 0, said
        assert "going on from model/checkpoints/step-55" in said
    assert losses_of(folder / "model") == losses_of(alone)
    assert sha256_of(folder / "model" / "model.safetensors") == sha256_of(alone / "model.safetensors")

    evaluations = []
    for command in ([sys.executable], TORCHRUN):
        arguments = [str(REPOSITORY / "evaluate.py"), "--samples", "301", "--json"]
        done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=True)
        evaluations.append(json.loads(done.stdout.splitlines()[-1]))
    for key in ("correct", "total", "commutes", "by_operand_length", "failures"):
        assert evaluations[0][key] == evaluations[1][key]
    assert evaluations[0]["min_logit_margin"] == pytest.approx(evaluations[1]["min_logit_margin"], abs=1e-4)


def test_a_batch_that_cannot_be_shared_evenly_is_refused_with_both_numbers(monkeypatch):
    from simple_llm.config import Training
    from simple_llm.errors import UsageError
    from simple_llm.learning import make_learner
    from tests.tiny_models import tiny_model

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
