"""One bit of one byte turned over: the file is named and not used.

Each flip hits one file of the newest checkpoint, of the finished model or of the dataset, and the project's own reader
reads what is left. The sha256 in a manifest is of its meaning, so a flip that leaves the meaning (a space, a letter's
case in an escape) does no harm: where what is read is the same as before, the flip counts as survived.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.processes import run_script
from benchmarks.faults.tally import Plan, Tally
from benchmarks.faults.tiny_run import data_config_of, prepare_run
from simple_llm.data import dataset
from simple_llm.errors import ArtefactError
from simple_llm.files.names import CHECKPOINTS, MANIFEST
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.model.folder import load_model
from simple_llm.training.checkpoint import list_checkpoints, newest_checkpoint


@dataclass(frozen=True)
class Subject:
    """Files that vouch for each other, and what reads them.

    Attributes:
        read: gives what compares equal when nothing has changed; raises ArtefactError.
        also_named: what a message may name where another file was hit.
    """

    name: str
    files: list[Path]
    read: Callable[[], object]
    also_named: tuple[Path, ...] = ()


def run(plan: Plan) -> list[Tally]:
    """Train a tiny model and flip bits of all it left."""
    folder = plan.folder / "run"
    prepare_run(folder)
    run_script("trainer.py", cwd=folder)
    return flip_bits(subjects_of(folder), plan)


def flip_bits(subjects: list[Subject], plan: Plan) -> list[Tally]:
    """Flip random bits, as many in every file; each is mended before the next."""
    targets = [(subject, path) for subject in subjects for path in subject.files]
    tallies = {subject.name: Tally(f"a bit flipped in {subject.name}") for subject in subjects}
    unchanged = {subject.name: subject.read() for subject in subjects}
    for number in range(plan.count):
        subject, path = targets[number % len(targets)]
        content = path.read_bytes()
        place, bit = plan.rng.randrange(len(content)), plan.rng.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
        try:
            judge(tallies[subject.name], subject, path, unchanged[subject.name], f"bit {bit} of byte {place}")
        finally:
            path.write_bytes(content)
        plan.advance(1)
    return list(tallies.values())


def judge(tally: Tally, subject: Subject, path: Path, unchanged: object, place: str) -> None:
    """Read what was damaged, and count what came of it."""
    where = f"{path.name}, {place}"
    try:
        is_unchanged = subject.read() == unchanged
    except ArtefactError as error:
        if any(str(named) in str(error) for named in (path, *subject.also_named)):
            tally.detect()
        else:
            tally.lose(f"{where}: refused, but the file is not named: {error}")
    except Exception as error:  # whatever else a reader says to damage is what is looked for here
        tally.lose(f"{where}: {error!r}")
    else:
        tally.judge("" if is_unchanged else f"{where}: taken, and not what was written")


def subjects_of(folder: Path) -> list[Subject]:
    """The newest checkpoint, the model and the dataset of a finished run."""
    model, checkpoints = folder / "model", folder / "model" / CHECKPOINTS
    data = data_config_of(folder)
    storage, rows = data.storage, data.storage.path
    newest = list_checkpoints(checkpoints)[0]
    return [
        Subject("a checkpoint", vouched_for(newest), lambda: read_newest(checkpoints)),
        Subject("a finished model", vouched_for(model), lambda: read_model(model)),
        Subject("a dataset", [rows, storage.manifest_path], lambda: dataset.read_manifest(data), (rows,)),
    ]


def vouched_for(folder: Path) -> list[Path]:
    """The files that a manifest names, and it."""
    return [*(folder / name for name in verified_manifest(folder)["files"]), folder / MANIFEST]


def read_newest(checkpoints: Path) -> tuple[Path, dict]:
    """Find the newest checkpoint as trainer.py does; raise what it says when that is not the newest there is."""
    path, manifest, rejected = newest_checkpoint(checkpoints)
    if rejected:
        raise ArtefactError("\n".join(rejected))
    return path, manifest


def read_model(folder: Path) -> tuple[object, ...]:
    """Load the model as evaluate.py does; what compares equal of it."""
    loaded = load_model(folder)
    return loaded.sha256, loaded.manifest, loaded.data, loaded.train
