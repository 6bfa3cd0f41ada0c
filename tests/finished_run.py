"""The whole pipeline on a config that trains in a second, with everything that makes resuming hard turned on."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from simple_llm.training import learner
from tests.conftest import Called
from tests.forked import fork_script
from tests.hub_server import HubServer
from tests.pipeline import run_script, write_configs

DATA = {
    "numbers": {"max": 255, "base": 16},
    "storage": {"path": "sequences.txt", "num_sequences": 1000},
}
# Dropout and offsets draw random numbers, two slices a batch, 800 training rows in batches of 112, from step 3 on the
# hardest 56 of 224: the seam of the first epoch lies in step 5. A mean of the weights goes along from step 2.
TRAIN = {
    "paths": {"model": "model"},
    "model": {
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 16,
        "n_positions": 8,
        "dropout": 0.1,
        "max_position_offset": 2,
    },
    "training": {
        "batch_size": 112,
        "accumulation_steps": 2,
        "max_steps": 12,
        "warmup_steps": 2,
        "averaging": {"start": 2, "decay": 0.9},
        "hard_rows": {"start": 3, "of": 2, "keep": 0.5},
        "eval_every": 4,
        "save_every": 4,
        "eval_problems": 50,
        "precision": "fp32",
        "device": "cpu",
    },
}
SCRIPTS = (
    ("data_generator.py",),
    ("tokenizer.py",),
    ("trainer.py", "--json"),
    ("evaluate.py", "--samples", "100", "--json"),
    ("inference.py", "12+34", "0 + 255"),
)


@dataclass(frozen=True)
class FinishedRun:
    """What the pipeline left.

    Attributes:
        folder: it ran in; the model is in folder / "model".
        done: by script.
        requests: that anything made to the Hub or to anywhere else.
    """

    folder: Path
    done: dict[str, Called]
    requests: list[str]


def run_pipeline(folder: Path) -> FinishedRun:
    """Run all scripts, a token in their environment and a listening Hub at hand.

    The trainer is started as a user does and tells what it imports; the others are forked from this process.
    """
    write_configs(folder, DATA, TRAIN)
    home, done = folder.parent / "home-of-finished-run", {}
    with HubServer() as hub:
        for name, *options in SCRIPTS:
            if name == "trainer.py":
                environment = {**hub.environment(home), "PYTHONPROFILEIMPORTTIME": "1"}
                ended = run_script(name, *options, cwd=folder, **environment)
                done[name] = Called(ended.returncode, ended.stdout, ended.stderr)
            else:
                done[name] = fork_script(name, *options, cwd=folder, before=lambda: hub.take_over(home)).end()
    return FinishedRun(folder, done, hub.requests)


def make_unfinished(folder: Path) -> None:
    """Turn a finished run into one that died before its model was written."""
    (folder / "model" / "manifest.json").unlink()
    (folder / "model" / "model.safetensors").unlink()


def damage(path: Path) -> None:
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)


def interrupt_in_step(monkeypatch: pytest.MonkeyPatch, interrupted_step: int, number: signal.Signals) -> None:
    """Have a signal arrive while a step picks its batch."""
    real = learner.batch_indices

    def batch_indices(examples, config, step):
        if step == interrupted_step:
            os.kill(os.getpid(), number)
        return real(examples, config, step)

    monkeypatch.setattr(learner, "batch_indices", batch_indices)
