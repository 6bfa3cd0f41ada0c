"""The tracks of docs/SPEEDRUN.md: what has to be reached, with which settings, and what makes a run no record."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simple_llm.arithmetic import OPERATIONS
from simple_llm.config.loading import load_configs
from simple_llm.config.settings import DataConfig, Model, Split, TrainConfig
from simple_llm.data.problems import from_integers, Problems
from simple_llm.errors import UsageError

NUM_VALIDATION = NUM_TEST = 10_000
NUM_SEEDS = 5
BASE_OF_EVERY_LENGTH = 10
RECIPES = Path(__file__).parent / "speedrun"

Pair = tuple[int, int]

_NINES = 9_999_999_999
EDGE_CASES: tuple[Pair, ...] = (
    (0, 0),
    (0, 1),
    (_NINES, 0),
    (_NINES, 1),
    (1, _NINES),
    (_NINES, _NINES),
    (5_000_000_000, 5_000_000_000),
    (1_111_111_111, 8_888_888_889),
    (4_999_999_999, 5_000_000_001),
    (9_090_909_090, 909_090_909),
)


@dataclass(frozen=True)
class Track:
    """One way to be fast.

    Attributes:
        maximum: of both operands; the smallest is 0. None: the proof is of every length, whatever is learned from.
        is_proved: every pair or context is checked, and that is in the time; else a test sample is, and is not.
        edge_cases: that have to be right too; training and validation never see them.
        model: the one it has to be; None where any will do.
    """

    name: str
    goal: str
    maximum: int | None
    is_proved: bool = False
    edge_cases: tuple[Pair, ...] = ()
    model: Model | None = None

    @property
    def knows_every_length(self) -> bool:
        return self.maximum is None


TRACKS = {
    track.name: track
    for track in (
        Track("A", "4 digits, held-out sample", 9999),
        Track("B", "4 digits, every pair proved", 9999, is_proved=True),
        Track("C", "10 digits, held-out sample and edge cases", _NINES, edge_cases=EDGE_CASES),
        Track("D", "4 digits, held-out sample, the default model", 9999, model=Model()),
        Track("E", "all four operations, every length proved", None, is_proved=True),
    )
}


def recipe(name: str, folder: Path, seed: int, overrides: list[str]) -> tuple[DataConfig, TrainConfig]:
    """Read a track's two YAML files for one seed, which draws the rows, the weights and the batches.

    Raises:
        ConfigError: naming every bad setting.
        UsageError: a seed is among the overrides.
    """
    for override in overrides:
        if override.partition("=")[0] in ("seed", "training.seed"):
            raise UsageError(f"{override}: the seeds of a track are counted up from --first-seed")
    seeds = [f"seed={seed}", f"training.seed={seed}"]
    return load_configs(folder / f"{name}_data.yaml", folder / f"{name}.yaml", [*overrides, *seeds])


def breaches(track: Track, data: DataConfig, train: TrainConfig, num_seeds: int) -> Iterator[str]:
    """Say what is not as the rules want it; a run is allowed all the same, and is no record."""
    numbers = data.numbers
    if track.knows_every_length:
        yield from _breaches_of_every_length(data, train)
    elif (numbers.min, numbers.max) != (0, track.maximum):
        yield f"numbers from {numbers.min} to {numbers.max}, not from 0 to {track.maximum}"
    if data.split != Split():
        yield "another split, so another held-out side"
    num_validated = train.training.num_deciding
    if train.training.stop_after_exact:
        num_validated = min(num_validated, train.training.eval_problems)
    if num_validated < NUM_VALIDATION and not track.knows_every_length:
        yield f"a validation of {num_validated:,} problems, not of {NUM_VALIDATION:,}"
    if track.model not in (None, train.model):
        yield "not the default model"
    if num_seeds < NUM_SEEDS:
        yield f"{num_seeds} of at least {NUM_SEEDS} seeds"


def _breaches_of_every_length(data: DataConfig, train: TrainConfig) -> Iterator[str]:
    """What the list of contexts is of."""
    if data.numbers.base != BASE_OF_EVERY_LENGTH:
        yield f"base {data.numbers.base}, not {BASE_OF_EVERY_LENGTH}"
    if missing := [one.name for one in OPERATIONS if one not in data.operations.known]:
        yield f"operations without {' and '.join(missing)}"
    if not train.model.has_columns:
        yield "no scratchpad of columns, of which all contexts can be listed"


def without(problems: Problems, pairs: tuple[Pair, ...]) -> Problems:
    """Drop some pairs of numbers below 2^64 from among problems, in both orders."""
    if not pairs:
        return problems
    is_kept = np.ones(len(problems), bool)
    for x, y in {*pairs, *((y, x) for x, y in pairs)}:
        is_kept &= (problems.x_modulo_2_64 != x) | (problems.y_modulo_2_64 != y)
    return problems[is_kept]


def edge_problems(track: Track, data: DataConfig) -> Problems:
    """The edge cases as digit arrays of the recipe's base."""
    return from_integers(track.edge_cases, data.numbers.base, data.operand_digits)
