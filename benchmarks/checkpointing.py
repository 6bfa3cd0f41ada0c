"""What safety costs: seconds of a save, their share of a default run, seconds to verify a data set.

    python3 -m benchmarks.checkpointing [--saves N] [--gigabytes G]

A save writes the 6.3-million-parameter model and its optimizers, forces every file to the disk, hashes them and renames
the folder. Verifying is what trainer.py does at its start: the sequences file is read and hashed.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.report import machine
from simple_llm import command_line
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.data.dataset import read_manifest, write_dataset
from simple_llm.data.problems import from_integers
from simple_llm.files.manifest import sealed, SELF, sha256_of
from simple_llm.training.checkpoint import save_checkpoint, TrainingState
from simple_llm.training.learner import build_model
from simple_llm.training.optimizer import build_optimizers
from tokenizer import train_tokenizer

DEFAULT_RUN_SECONDS = 520  # docs/RESULTS.md, of a run of 1,000 steps
NUM_ROWS = 2**16


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--saves", type=int, default=5)
    made.add_argument("--gigabytes", type=float, default=1.5)
    made.add_argument("--folder", type=command_line.path, help="on the disk to measure (default: of temporary files)")
    arguments = made.parse_args()
    train = TrainConfig()
    num_saves = train.training.max_steps // train.training.save_every
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        saves = save_seconds(Path(folder), train, arguments.saves)
        num_bytes, verification = verification_seconds(Path(folder), arguments.gigabytes)
    median = statistics.median(saves)
    print(f"a save {median:.3f} s ({min(saves):.3f} to {max(saves):.3f}, n = {len(saves)})")
    share = num_saves * median / DEFAULT_RUN_SECONDS
    print(f"{num_saves} saves are {share:.2%} of a default run of {DEFAULT_RUN_SECONDS} s")
    print(f"verifying {num_bytes / 1e9:.2f} GB of rows {verification:.2f} s (n = 1)")
    figures = {"saves": saves, "share": share, "bytes": num_bytes, "verification_seconds": verification}
    print(json.dumps({**figures, "machine": machine()}))


def save_seconds(folder: Path, train: TrainConfig, num_saves: int) -> list[float]:
    """Save a model that has been stepped once, again and again."""
    data = DataConfig()
    model = build_model(data, train, train_tokenizer(iter([]), data, train))
    optimizers = build_optimizers(model, train.training, torch.float32)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    return [
        _seconds(lambda step=step: save_checkpoint(folder, model, optimizers, TrainingState(step), {}, keep=2))
        for step in range(num_saves)
    ]


def verification_seconds(folder: Path, gigabytes: float) -> tuple[int, float]:
    """Repeat a block of rows until it is so large, and verify it; bytes and seconds."""
    data = DataConfig(storage={"path": folder / "sequences.txt", "num_sequences": NUM_ROWS})
    problems = from_integers([(x % 10_000, x % 9_973) for x in range(NUM_ROWS)], data.numbers.base, 4)
    counts = {"uniform": NUM_ROWS, "lengths": 0, "carries": 0}
    block = write_dataset(data, problems, counts, counts, lambda num_rows: None)
    num_blocks = max(1, round(gigabytes * 1e9 / block.bytes))
    content, path = data.storage.path.read_bytes(), data.storage.path
    with path.open("wb") as file:
        for _ in range(num_blocks):
            file.write(content)
    large = data.model_copy(
        update={"storage": data.storage.model_copy(update={"num_sequences": num_blocks * NUM_ROWS})}
    )
    told = json.loads(data.storage.manifest_path.read_bytes())
    del told[SELF]
    told["config"]["storage"]["num_sequences"] = num_blocks * NUM_ROWS
    told |= {"rows": num_blocks * NUM_ROWS, "bytes": num_blocks * block.bytes, "sha256": sha256_of(path)}
    data.storage.manifest_path.write_text(json.dumps(sealed(told)), "utf-8")
    return told["bytes"], _seconds(lambda: read_manifest(large))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
