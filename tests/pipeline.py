"""Run the scripts the way a user does: each in its own process, on settings that take seconds."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent

# Two-digit numbers and a model of a few thousand weights, all of it in the folder the scripts run in.
TINY_DATA = {
    "numbers": {"max": 99, "base": 10},
    "storage": {"path": "sequences.txt", "num_sequences": 2000},
}
TINY_TRAIN = {
    "paths": {"model": "model"},
    "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 8},
    "training": {"batch_size": 16, "max_steps": 2, "warmup_steps": 1, "precision": "fp32", "device": "cpu"},
}


def write_configs(folder: Path, data: dict = TINY_DATA, train: dict = TINY_TRAIN) -> None:
    """Write both config files, where the scripts look for them when they run in `folder`."""
    (folder / "data_config.yaml").write_text(yaml.safe_dump(data))
    (folder / "train_config.yaml").write_text(yaml.safe_dump(train))


def run_script(
    name: str, *arguments: str, cwd: Path, stdin: str = "", timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess:
    """Run `name` of the repository in the folder `cwd`; stdout and stderr come back as text.

    Args:
        stdin: what the script reads; a lone surrogate such as "\\udcff" is sent as the byte 0xFF, which is not UTF-8.
        environment: variables to set for the script.
    """
    return run_python(str(REPOSITORY / name), *arguments, cwd=cwd, stdin=stdin, timeout=timeout, **environment)


def run_python(
    *arguments: str, cwd: Path, stdin: str = "", timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess:
    """Run this Python with any arguments; see `run_script`."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", **environment},
        check=False,
    )


def train_tiny_model(folder: Path, *overrides: str) -> Path:
    """Write the configs into `folder` and run generator, tokenizer and trainer there; return the model's folder."""
    write_configs(folder)
    for name in ("data_generator.py", "tokenizer.py", "trainer.py"):
        done = run_script(name, *overrides, cwd=folder)
        assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stderr}"
    return folder / "model"
