"""Training checkpoints: whole and verified under their final name, or not there.

    checkpoints/step-200/model.safetensors
                         optimizer.safetensors   and the mean of the weights, where the run takes one
                         state.json           step and counters; all randomness is a function of seed and step
                         manifest.json        written last: sizes, sha256, settings, hashes of data and tokenizer

A checkpoint is written into a temporary folder, each file forced to the disk, and renamed. Older ones are
deleted only after that, and two verified ones always stay.
"""

import contextlib
import json
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from simple_llm.errors import ArtefactError
from simple_llm.evaluation.scoring import Score
from simple_llm.files.manifest import sha256_of_document, write_manifest
from simple_llm.files.names import MANIFEST, OPTIMIZER, STATE, WEIGHTS
from simple_llm.files.reading import in_utf8, naming
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.files.weights import load_tensors, tensor_bytes
from simple_llm.files.writing import human_size, remove, room_for, settle, sync, write_file
from simple_llm.processes import processes_of_torchrun
from simple_llm.run_log import events
from simple_llm.training.optimizer import state_bytes

_NAME = re.compile(r"step-(\d+)")
_TEMPORARY_NAME = re.compile(r"\.tmp-(old-)?step-\d+-\d+")
_FILES = [WEIGHTS, OPTIMIZER, STATE]
_MEAN = "mean"  # of a weight, beside what the optimizers know of it
_BESIDE_TENSORS = 2**15  # bytes, more than state and manifest take
_BESIDE_A_TENSOR = 2**10  # and its name, shape and place, with those of its optimizer state


@dataclass(frozen=True)
class TrainingState:
    """Where a run is, beside its tensors.

    Attributes:
        step: optimizer steps done.
        num_correct, num_total: the last evaluation.
        num_exact_evaluations: in a row, for early stopping.
        seconds: of training so far, over all starts.
    """

    step: int = 0
    num_correct: int = 0
    num_total: int = 0
    num_exact_evaluations: int = 0
    seconds: float = 0.0

    @property
    def score(self) -> Score:
        return Score(self.num_correct, self.num_total)

    def with_score(self, score: Score) -> "TrainingState":
        """The state after an evaluation."""
        num_exact = self.num_exact_evaluations + 1 if score.is_perfect else 0
        return replace(self, num_correct=score.num_correct, num_total=score.num_total, num_exact_evaluations=num_exact)


def save_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimizers: tuple[torch.optim.Optimizer, ...],
    state: TrainingState,
    settings: dict[str, object],
    keep: int,
    mean: dict[str, Tensor] | None = None,
) -> Path:
    """Write `step-N` into `folder`, then delete the oldest beyond `keep`, and those of later steps.

    There are later ones where a run goes on from an older checkpoint than its newest: what they hold, it makes again.

    Args:
        settings: everything that decides the weights, compared when the run goes on.
        mean: of the weights, by their names.

    Raises:
        DiskFullError: with the room that is needed and the room there is; older checkpoints are as they were.
    """
    started = time.monotonic()
    target = folder / f"step-{state.step}"
    temporary = folder / f".tmp-step-{state.step}-{os.getpid()}"
    with room_for(checkpoint_bytes(model, optimizers, has_mean=bool(mean)), folder):
        folder.mkdir(parents=True, exist_ok=True)
        sync(folder.parent)
        temporary.mkdir()
        try:
            _write_tensors(temporary / WEIGHTS, _named_tensors(model))
            _write_tensors(temporary / OPTIMIZER, _optimizer_tensors(model, optimizers) | _mean_tensors(mean or {}))
            write_file(temporary / STATE, json.dumps(asdict(state)).encode())
            write_manifest(temporary, _FILES, _facts(state, settings))
            if os.path.lexists(target) and not _shows_ours(target):
                target.rename(folder / f"not-ours-{target.name}-{os.getpid()}")
            elif os.path.lexists(target):
                _remove(target)  # one that was rejected, or that a run with --resume of an older one makes again
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync(folder)
    num_bytes = sum(path.stat().st_size for path in target.iterdir())
    for path in _superseded(folder, target, keep):
        _remove(path)
    events.info("saved %s: %s in %.2f s", target, human_size(num_bytes), time.monotonic() - started)
    return target


def checkpoint_bytes(
    model: torch.nn.Module, optimizers: tuple[torch.optim.Optimizer, ...], has_mean: bool = False
) -> int:
    """The room a checkpoint takes, the same before the first step as after it; a little more than is needed."""
    tensors = _named_tensors(model).values()
    of_mean = tensor_bytes(model.parameters()) if has_mean else 0
    return tensor_bytes(tensors) + state_bytes(optimizers) + of_mean + _BESIDE_TENSORS + _BESIDE_A_TENSOR * len(tensors)


def load_checkpoint(
    path: Path,
    model: torch.nn.Module,
    optimizers: tuple[torch.optim.Optimizer, ...],
    mean: dict[str, Tensor] | None = None,
) -> TrainingState:
    """Put a verified checkpoint's tensors into a model and its optimizers.

    Args:
        mean: gets the mean of the weights, by their names, where the checkpoint holds one.

    Raises:
        ArtefactError: they are another model's.
    """
    tensors, named = load_tensors(path / WEIGHTS), _named_tensors(model)
    if {name: tensor.shape for name, tensor in tensors.items()} != {name: one.shape for name, one in named.items()}:
        raise ArtefactError(f"{path} holds other tensors than this model has")
    for name, tensor in named.items():
        tensor.data.copy_(tensors[name])
    parameters = dict(model.named_parameters())
    owners = {
        id(parameter): optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for key, tensor in load_tensors(path / OPTIMIZER).items():
        name, _, entry = key.rpartition("/")
        parameter = parameters[name]
        if entry == _MEAN:
            if mean is not None:
                mean[name] = tensor.to(parameter.device)
            continue
        owners[id(parameter)].state[parameter][entry] = tensor.to(parameter.device)  # fused AdamW counts steps there
    return TrainingState(**json.loads((path / STATE).read_bytes()))


def read_checkpoint(path: Path) -> dict:
    """Verify a checkpoint; return its manifest.

    Raises:
        ArtefactError: naming the file and what is wrong with it.
    """
    return verified_manifest(path, _FILES)


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints by their names, newest first, verified or not."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def require_own_checkpoints(folder: Path) -> None:
    """Check that what has a checkpoint's name holds nothing but what a checkpoint does, whole or damaged.

    Raises:
        ArtefactError: one is none of ours, so that it cannot be deleted.
    """
    for path in list_checkpoints(folder):
        if not path.is_dir() or {inner.name for inner in path.iterdir()} - {*_FILES, MANIFEST}:
            raise ArtefactError(
                f"{path} is no checkpoint of ours, and stays as it is; name another folder with paths.model=..., or "
                "move it away"
            )


def newest_checkpoint(folder: Path) -> tuple[Path | None, dict, list[str]]:
    """Find the newest checkpoint whose manifest verifies.

    Returns:
        its path, its manifest, and a line for each newer one that was rejected; None and {} where there is none.

    Raises:
        ArtefactError: there are checkpoints and every one of them is bad.
    """
    rejected = []
    for path in list_checkpoints(folder):
        try:
            return path, read_checkpoint(path), rejected
        except ArtefactError as error:
            rejected.append(f"rejected {path.name}: {error}")
    if rejected:
        raise ArtefactError(
            f"no checkpoint in {folder} can be used; `python3 trainer.py --fresh` starts over\n  "
            + "\n  ".join(rejected)
        )
    return None, {}, []


def _superseded(folder: Path, saved: Path, keep: int) -> list[Path]:
    """The checkpoints that go when one is saved: those of later steps, which the next start would take in its place,
    and those behind the newest `keep` that verify; one that does not verify is no reason to let another go.
    """
    found = list_checkpoints(folder)
    later, others = found[: found.index(saved)], found[found.index(saved) :]
    num_verified = 0
    for index, path in enumerate(others):
        if num_verified == keep:
            later += others[index:]
            break
        with contextlib.suppress(ArtefactError):
            read_checkpoint(path)
            num_verified += 1
    return [path for path in later if _shows_ours(path)]


def _shows_ours(path: Path) -> bool:
    """Whether what has a checkpoint's name has a manifest too, damaged or not; without one nobody goes on with it."""
    return os.path.lexists(path / MANIFEST)


def remove_checkpoints(folder: Path, only_temporary: bool = False) -> None:
    """Delete what carries a checkpoint's name, or only the leavings of interrupted saves."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _TEMPORARY_NAME.fullmatch(path.name) or (not only_temporary and _NAME.fullmatch(path.name)):
            _remove(path)


def _facts(state: TrainingState, settings: dict[str, object]) -> dict[str, object]:
    """What a manifest says beside files and versions; a reader finds by name what he looks for most."""
    return {
        "step": state.step,
        "batch_size": settings.get("training.batch_size"),
        "world_size": processes_of_torchrun().count,
        "seed": settings.get("training.seed"),
        "config_sha256": sha256_of_document(settings),
        "data_sha256": settings.get("data sha256"),
        "tokenizer_sha256": settings.get("tokenizer sha256"),
        "settings": settings,
    }


def _remove(path: Path) -> None:
    """Delete a checkpoint in two steps, so that a half-deleted one never has a checkpoint's name."""
    doomed = path.with_name(f".tmp-old-{path.name}-{os.getpid()}") if _NAME.fullmatch(path.name) else path
    if doomed != path:
        path.rename(doomed)
    remove(doomed)


def _named_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, tied weights once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _optimizer_tensors(model: torch.nn.Module, optimizers: tuple[torch.optim.Optimizer, ...]) -> dict[str, Tensor]:
    """Optimizer state as {"parameter name/entry": tensor}."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{entry}": tensor
        for optimizer in optimizers
        for parameter, entries in optimizer.state.items()
        for entry, tensor in entries.items()
    }


def _mean_tensors(mean: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean of the weights as optimizer state is named, {"parameter name/mean": tensor}."""
    return {f"{name}/{_MEAN}": tensor for name, tensor in mean.items()}


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    with naming(path), in_utf8(path) as told:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, told)
    settle(path)
