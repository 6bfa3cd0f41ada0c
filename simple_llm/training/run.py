"""What to do with the run that a model folder holds: go on with it, leave it, refuse it, or start over."""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch

from simple_llm.config.keys import differences
from simple_llm.config.settings import DataConfig, TrainConfig, Training, weight_settings
from simple_llm.data.dataset import DatasetManifest
from simple_llm.errors import ArtefactError, UsageError
from simple_llm.files.manifest import sha256_of_document
from simple_llm.files.names import (
    CARD,
    CHECKPOINTS,
    CURVE,
    EXTRA_CODE,
    FOLDER_FILES,
    LOG,
    MANIFEST,
    METRICS,
    MODEL_FILES,
    REPAIRS,
    REPORTS,
)
from simple_llm.files.ours import require_ours, SHARDS
from simple_llm.files.reading import refuse_link
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.files.weights import tensor_bytes
from simple_llm.files.writing import require_room
from simple_llm.model.network import BESIDE_WEIGHTS
from simple_llm.model.tokenizer_files import differences_from, load_tokenizer, tokenizer_sha256
from simple_llm.training.checkpoint import (
    checkpoint_bytes,
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    read_checkpoint,
    remove_checkpoints,
    require_own_checkpoints,
    TrainingState,
)

RESULT = ("step", "num_correct", "num_total", "num_parameters", "seconds")
TOKENIZER = "tokenizer sha256"  # among the settings


@dataclass(frozen=True)
class Run:
    """A training run in a model folder.

    Attributes:
        settings: everything that decides the weights, as it was written down when the run began: what goes on with keys
            that were added or retired since is the same run, by the same hash.
        checkpoint: to go on from, or None.
        start_step: the checkpoint's, or -1.
        result: of a finished run, else empty.
        messages: for the user.
        starts_over: what a former run left is deleted by `clear`, once nothing keeps this one from starting.
    """

    folder: Path
    settings: dict[str, object]
    checkpoint: Path | None = None
    start_step: int = -1
    result: dict[str, object] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    starts_over: bool = False

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    @property
    def is_finished(self) -> bool:
        return bool(self.result)

    def restore(
        self, model: torch.nn.Module, optimizers: tuple[torch.optim.Optimizer, ...], mean: dict[str, torch.Tensor]
    ) -> TrainingState:
        """Put the checkpoint, if there is one, into model, optimizers and the mean of the weights."""
        return load_checkpoint(self.checkpoint, model, optimizers, mean) if self.checkpoint else TrainingState()

    def require_room(
        self, model: torch.nn.Module, optimizers: tuple[torch.optim.Optimizer, ...], config: Training
    ) -> None:
        """Check, before any training, that the checkpoints to come and the finished model have room.

        A new checkpoint is written before the oldest is deleted, so there is one more than is kept.

        Raises:
            DiskFullError: they have not.
        """
        num_saves = -(-(config.max_steps - max(0, self.start_step)) // config.save_every)
        num_there = 0 if self.starts_over else len(list_checkpoints(self.checkpoints))
        num_more = max(0, min(num_there + num_saves, config.keep_checkpoints + 1) - num_there)
        one = checkpoint_bytes(model, optimizers, has_mean=config.averaging is not None)
        left = [*_left_by_a_run(self.folder), *self.checkpoints.glob("step-*/*")] if self.starts_over else []
        freed = sum(path.lstat().st_size for path in left)
        require_room(num_more * one + tensor_bytes(model.parameters()) + BESIDE_WEIGHTS - freed, self.checkpoints)

    def clear(self) -> None:
        """Delete what a former run left, if this one starts over; the tokenizer and anything else in the folder stays.

        Killed on the way, what is left is still a run with its log, or none.
        """
        if not self.starts_over:
            return
        for name in (CHECKPOINTS, "proof"):
            refuse_link(self.folder / name)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        remove_checkpoints(self.checkpoints)  # before the log, without which a start would go on from one of them
        for path in _left_by_a_run(self.folder):
            path.unlink(missing_ok=True)

    def fingerprint(self) -> int:
        """A number that is another one for a run with other settings, or at another step."""
        return int(sha256_of_document([self.settings, self.start_step, self.is_finished])[:15], 16)

    def identity(self) -> dict[str, object]:
        """What the log tells this run from others by."""
        keys = ("training.seed", "training.batch_size", "data sha256", TOKENIZER)
        return {"config sha256": sha256_of_document(self.settings), **{key: self.settings.get(key) for key in keys}}

    def newest_checkpoint_name(self) -> str:
        found = list_checkpoints(self.checkpoints)
        return str(found[0]) if found else "none yet"


def require_own_folder(folder: Path, fresh: bool) -> None:
    """Check, before anything is done in a model folder, that no file of somebody else has the name of one of ours.

    A finished run writes nothing: then only its manifest counts. A log is looked at where it is opened.

    Raises:
        ArtefactError: naming what is somebody else's.
    """
    is_finished = (folder / MANIFEST).exists() and not fresh
    require_ours(folder, [MANIFEST] if is_finished else [name for name in FOLDER_FILES if name != LOG])
    if not is_finished:
        require_ours(folder / "proof", [SHARDS])
        require_own_checkpoints(folder / CHECKPOINTS)


def prepare_run(
    data: DataConfig, train: TrainConfig, dataset: DatasetManifest, resume: Path | None, fresh: bool
) -> Run:
    """Look at the model folder and decide how training starts.

    Args:
        dataset: of the sequences file, verified.
        resume: go on with this very checkpoint; later ones stay until the run saves one of its own.
        fresh: start over, whatever a former run left.

    Raises:
        UsageError: the folder holds a run with other settings; names them.
        ArtefactError: the tokenizer is missing, wrong or not the run's, or no checkpoint can be used.
        EnvironmentFault: the checkpoints' folder is a link.
    """
    folder = train.paths.model
    for name in (CHECKPOINTS, "proof") if fresh else (CHECKPOINTS,):
        refuse_link(folder / name)
    settings = {**weight_settings(data, train), **_inputs(data, train, dataset, folder)}
    run = Run(folder, settings, starts_over=fresh)
    if fresh:
        return run
    remove_checkpoints(run.checkpoints, only_temporary=True)
    if resume:
        manifest = read_checkpoint(resume)
        begun_with = _same_settings(manifest, settings, resume)
        return Run(folder, begun_with, resume, manifest["step"], messages=(f"going on from {resume}",))
    if (folder / MANIFEST).exists():
        manifest = _read_finished(folder, settings)
        return Run(
            folder,
            _same_settings(manifest, settings, folder),
            result=finished_result(manifest),
            messages=(f"{folder} holds the finished model of this config",),
        )
    checkpoint, manifest, rejected = newest_checkpoint(run.checkpoints)
    if checkpoint is None:
        return run
    begun_with = _same_settings(manifest, settings, checkpoint)
    return Run(folder, begun_with, checkpoint, manifest["step"], messages=(*rejected, f"going on from {checkpoint}"))


def finished_result(manifest: dict) -> dict[str, object]:
    """What a finished model's manifest says of its training.

    Raises:
        ArtefactError: it says nothing of it.
    """
    missing = [key for key in RESULT if key not in manifest]
    if missing:
        raise ArtefactError(f"the model's {MANIFEST} does not say {', '.join(missing)} of its training")
    return {key: manifest[key] for key in RESULT}


def _inputs(data: DataConfig, train: TrainConfig, dataset: DatasetManifest, folder: Path) -> dict[str, object]:
    """Hashes of dataset and tokenizer, after checking that the tokenizer writes problems as the configs say."""
    tokenizer = load_tokenizer(folder)
    for name, there, here in differences_from(tokenizer, data, train):
        raise ArtefactError(
            f"the tokenizer in {folder} has {name} = {there!r} where the configs say {here!r}; run "
            "`python3 tokenizer.py --fresh`"
        )
    return {"data sha256": dataset.sha256, TOKENIZER: tokenizer_sha256(tokenizer)}


def _read_finished(folder: Path, settings: dict[str, object]) -> dict:
    """Read a finished model's manifest; where it no longer fits its files, say what to do."""
    try:
        return verified_manifest(folder)
    except ArtefactError as error:
        if "tokenizer" in str(error):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                _refuse_other_tokenizer(json.loads((folder / MANIFEST).read_bytes())["settings"], settings, folder)
        raise ArtefactError(
            f"{error}; delete {folder / MANIFEST} to finish the run again from its last checkpoint, or start over "
            "with `python3 trainer.py --fresh`"
        ) from error


def _same_settings(manifest: dict, settings: dict[str, object], path: Path) -> dict[str, object]:
    """The settings that a run was begun with, which mean what those of today do.

    Raises:
        UsageError: they do not; names those that differ.
        ArtefactError: only the tokenizer differs.
    """
    there = manifest.get("settings", {})
    lines = list(differences(there, settings))
    if len(lines) == 1:
        _refuse_other_tokenizer(there, settings, path)
    if lines:
        raise UsageError(
            f"{path} belongs to a run with other settings; name another folder with paths.model=..., "
            "or start over with --fresh\n  " + "\n  ".join(lines)
        )
    return there


def _refuse_other_tokenizer(there: dict[str, object], here: dict[str, object], path: Path) -> None:
    if there.get(TOKENIZER) != here[TOKENIZER]:
        raise ArtefactError(
            f"{path} was trained with another tokenizer than the model folder holds: {TOKENIZER} "
            f"{there.get(TOKENIZER)} there, {here[TOKENIZER]} here; run `python3 tokenizer.py --fresh` to make that of "
            "the config again, or start over with `python3 trainer.py --fresh`"
        )


def _left_by_a_run(folder: Path) -> list[Path]:
    """The files that a run leaves beside its checkpoints, but for its log and its manifest."""
    patterns = (*MODEL_FILES, *EXTRA_CODE, CARD, METRICS, CURVE, *REPORTS, REPAIRS, f"proof/{SHARDS}")
    return [path for pattern in patterns for path in folder.glob(pattern)]
