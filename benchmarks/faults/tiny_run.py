"""A run of seconds that is hard to go on with: dropout, offsets, two slices a batch, a save after every step."""

from pathlib import Path

from benchmarks.faults.processes import run_script
from simple_llm.config.loading import load_configs
from simple_llm.config.settings import DataConfig
from simple_llm.files.names import DATA_CONFIG, TRAIN_CONFIG
from tests.pipeline import write_configs

MAX_STEPS = 40
DATA = {"numbers": {"max": 255}, "storage": {"path": "sequences.txt", "num_sequences": 1000}}
# 800 training rows in batches of 48: an epoch ends within a batch, twice.
TRAIN = {
    "paths": {"model": "model"},
    "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 8, "dropout": 0.1, "max_position_offset": 2},
    "training": {
        "batch_size": 48,
        "accumulation_steps": 2,
        "max_steps": MAX_STEPS,
        "warmup_steps": 4,
        "eval_every": 3,
        "eval_problems": 50,
        "save_every": 1,
        "precision": "fp32",
        "device": "cpu",
    },
}


def prepare_run(folder: Path, data: dict = DATA, train: dict = TRAIN) -> Path:
    """Make everything that trainer.py reads; return the model folder."""
    folder.mkdir(parents=True)
    write_configs(folder, data, train)
    for name in ("data_generator.py", "tokenizer.py"):
        run_script(name, cwd=folder)
    return folder / "model"


def data_config_of(folder: Path) -> DataConfig:
    """The data config of the run in a folder, with the path of its rows as seen from here."""
    paths = folder / DATA_CONFIG, folder / TRAIN_CONFIG
    return load_configs(*paths, [f"storage.path={folder / 'sequences.txt'}"])[0]
