"""The settings of a run: data_config.yaml and train_config.yaml as frozen, typed models.

Numbers that follow from the settings are properties here, so each exists once. Reading the files and
reporting what is wrong with them is config_loading.py's business.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from simple_llm.strict_yaml import format_yaml

MOST_WEIGHTS = 10**9  # of a model: four gigabytes
PositionEmbedding = Literal["block", "block_sinusoidal", "learned", "sinusoidal", "none"]


class Section(BaseModel):
    """A group of settings: no unknown keys, no coercion, no change after it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Numbers(Section):
    """Which operands there are and how they are written."""

    min: int = Field(0, ge=0)
    max: int = Field(9999, ge=0)
    base: int = Field(16, ge=2, le=36)
    reversed: bool = True


class Sampling(Section):
    """Share of the rows drawn from each stratum; the shares add up to 1."""

    uniform: float = Field(0.4, ge=0, le=1)
    lengths: float = Field(0.3, ge=0, le=1)
    carries: float = Field(0.3, ge=0, le=1)


class Split(Section):
    """Share of all unordered pairs on each side; what is left is the test side."""

    train: float = Field(0.8, gt=0, lt=1)
    validation: float = Field(0.1, gt=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**63)


class Storage(Section):
    """Where the rows go and how they are delimited."""

    path: Path = Field(Path("../simple-llm-data/sequences.txt"), strict=False)
    column_delimiter: str = Field("|", min_length=1, max_length=1)
    row_delimiter: str = Field("\n", min_length=1, max_length=1)
    num_sequences: int = Field(100_000, ge=1, le=10**9)

    @property
    def manifest_path(self) -> Path:
        return self.path.with_name(self.path.name + ".manifest.json")


class DataConfig(Section):
    """data_config.yaml."""

    seed: int = Field(0, ge=0, lt=2**63)
    numbers: Numbers = Numbers()
    sampling: Sampling = Sampling()
    split: Split = Split()
    storage: Storage = Storage()

    @property
    def operand_digits(self) -> int:
        """Digits of the largest operand in the configured base."""
        return digit_count(self.numbers.max, self.numbers.base)

    @property
    def answer_digits(self) -> int:
        """Digits of the largest sum."""
        return digit_count(2 * self.numbers.max, self.numbers.base)

    @property
    def row_tokens(self) -> int:
        """Tokens of the longest row, `+x+y+z+`."""
        return 2 * self.operand_digits + self.answer_digits + 4


class Paths(Section):
    """Where the model folder is."""

    model: Path = Field(Path("../simple-llm-data/simple-llm-gpt2"), strict=False)


class Tokenizer(Section):
    """The two tokens that are no part of a row."""

    pad_token: str = Field("<|pad|>", pattern=r"^<\|[a-z_]+\|>$")
    unk_token: str = Field("<|unk|>", pattern=r"^<\|[a-z_]+\|>$")


class AttentionWindow(Section):
    """How many places below and above its own a digit sees."""

    left: int = Field(0, ge=0, le=1000)
    right: int = Field(1, ge=0, le=1000)


class Model(Section):
    """The transformer; the first four names are GPT-2's own."""

    n_layer: int = Field(8, ge=1, le=1000)
    n_head: int = Field(4, ge=1, le=1000)
    n_embd: int = Field(256, ge=1, le=100_000)
    n_positions: int = Field(16, ge=2, le=1_000_000)
    dropout: float = Field(0.0, ge=0, lt=1)
    position_embedding: PositionEmbedding = "block"
    max_position_offset: int = Field(0, ge=0, le=1_000_000)
    tokens_per_step: Literal[1, 2, "all"] = 2
    attention_window: AttentionWindow | None = None
    position_period: int | None = Field(None, ge=1, le=1_000_000)

    @property
    def knows_every_length(self) -> bool:
        """Whether numbers may be longer than those in training: no position is new, and a window is never full."""
        return self.attention_window is not None and self.position_period is not None

    @property
    def most_digits(self) -> int | None:
        """Digits of the longest operands that there are positions for; None if any will do."""
        if self.knows_every_length or self.position_embedding == "none":
            return None
        if self.position_embedding.startswith("block"):
            return self.n_positions - 2  # position 0 is no place, and the sum has a digit more
        return (self.n_positions - 5) // 3  # +x+y+z+

    @field_validator("tokens_per_step", mode="before")
    @classmethod
    def _is_no_other_kind_of_one(cls, value: object) -> object:
        """Refuse true and 1.0, which are equal to 1."""
        if type(value) not in (int, str):
            raise ValueError("must be 1, 2 or all")
        return value


class Training(Section):
    """How the weights are found. A batch is what one optimizer step sees, over all accumulation steps."""

    batch_size: int = Field(128, ge=1, le=10**7)
    accumulation_steps: int = Field(1, ge=1, le=10_000)
    max_steps: int = Field(1000, ge=1, le=10**9)
    warmup_steps: int = Field(20, ge=0, le=10**9)
    learning_rate: float = Field(3e-3, gt=0, le=10)
    muon_learning_rate: float = Field(0.02, gt=0, le=10)
    muon_momentum: float = Field(0.95, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, le=10)
    max_grad_norm: float = Field(1.0, gt=0)
    deep_supervision: float = Field(1.0, ge=0, le=1000)
    half_depth_steps: int | None = Field(None, ge=1, le=10**9)
    eval_every: int = Field(100, ge=1, le=10**9)
    eval_problems: int = Field(1000, ge=1, le=10**7)
    stop_after_exact: int | None = Field(None, ge=1)
    save_every: int = Field(200, ge=1, le=10**9)
    keep_checkpoints: int = Field(2, ge=2, le=1000)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    report_to: Literal["none", "trackio", "tensorboard", "wandb"] = "none"
    seed: int = Field(0, ge=0, lt=2**63)


_REPOSITORY = r"^[\w.-]+(/[\w.-]+)?$"  # a name, with or without whose it is


class Hub(Section):
    """Whether and where the model is uploaded; the token comes from the environment alone."""

    push: bool = False
    every: int | None = Field(None, ge=1, le=10**9)
    repo_id: str | None = Field(None, pattern=_REPOSITORY)
    private: bool = True
    push_space: str | None = Field(None, pattern=_REPOSITORY)


class TrainConfig(Section):
    """train_config.yaml."""

    paths: Paths = Paths()
    tokenizer: Tokenizer = Tokenizer()
    model: Model = Model()
    training: Training = Training()
    hub: Hub = Hub()


class Conflict(NamedTuple):
    """Settings that are fine one by one and cannot go together; the first key is the one to mend."""

    keys: tuple[str, ...]
    message: str


def conflicts(data: DataConfig, train: TrainConfig) -> Iterator[Conflict]:
    """Name every combination of settings that cannot work."""
    yield from _data_conflicts(data)
    yield from _model_conflicts(train.model, data)
    training = train.training
    if training.batch_size % training.accumulation_steps:
        yield Conflict(
            ("training.batch_size", "training.accumulation_steps"),
            f"{training.batch_size} is not a multiple of training.accumulation_steps = {training.accumulation_steps}",
        )
    yield from _half_depth_conflicts(training, train.model)
    if "\0" in str(train.paths.model):
        yield Conflict(("paths.model",), f"{str(train.paths.model)!r} is no name of a folder")
    if train.tokenizer.pad_token == train.tokenizer.unk_token:
        yield Conflict(("tokenizer.unk_token", "tokenizer.pad_token"), "must differ from tokenizer.pad_token")
    yield from _hub_conflicts(train.hub, training)


def _hub_conflicts(hub: Hub, training: Training) -> Iterator[Conflict]:
    if hub.push and hub.repo_id is None:
        yield Conflict(("hub.repo_id", "hub.push"), "hub.push is true: name the repository, for example me/adder")
    if hub.every is None:
        return
    if not hub.push:
        yield Conflict(("hub.every", "hub.push"), "hub.push is false: set hub.push=true, or hub.every=null")
    if hub.every % training.eval_every:
        yield Conflict(
            ("hub.every", "training.eval_every"),
            f"{hub.every} is not a multiple of training.eval_every = {training.eval_every}; a checkpoint is uploaded "
            "with its score",
        )


def _half_depth_conflicts(training: Training, model: Model) -> Iterator[Conflict]:
    if training.half_depth_steps is None:
        return
    if model.n_layer < 3:
        yield Conflict(
            ("training.half_depth_steps", "model.n_layer"),
            f"a model of model.n_layer = {model.n_layer} has no half that is worth training; set it to null",
        )
    if training.half_depth_steps >= training.max_steps:
        yield Conflict(
            ("training.half_depth_steps", "training.max_steps"),
            f"{training.half_depth_steps} with training.max_steps = {training.max_steps} never trains every second "
            "block; set less",
        )


def _data_conflicts(data: DataConfig) -> Iterator[Conflict]:
    numbers, sampling, split, storage = data.numbers, data.sampling, data.split, data.storage
    if numbers.min > numbers.max:
        yield Conflict(("numbers.min", "numbers.max"), f"{numbers.min} is above numbers.max = {numbers.max}")
    total = sampling.uniform + sampling.lengths + sampling.carries
    if abs(total - 1) > 1e-9:
        yield Conflict(
            ("sampling.uniform", "sampling.lengths", "sampling.carries"),
            f"the shares uniform, lengths and carries must add up to 1, they make {total:g}",
        )
    if split.train + split.validation >= 1:
        yield Conflict(
            ("split.validation", "split.train"),
            f"{split.validation:g} with split.train = {split.train:g} leaves nothing for the test side",
        )
    if not storage.path.name or "\0" in str(storage.path):
        yield Conflict(("storage.path",), f"{str(storage.path)!r} is no name of a file")
    delimiters = ("column_delimiter", "row_delimiter")
    for name in delimiters:
        character = getattr(storage, name)
        if character.isalnum() or not character.isascii() or character == "\0":
            yield Conflict(
                (f"storage.{name}",), f"{character!r} cannot separate numbers; use an ASCII character like '|'"
            )
    if storage.column_delimiter == storage.row_delimiter:
        yield Conflict(tuple(f"storage.{name}" for name in delimiters), "must differ from storage.row_delimiter")


def _model_conflicts(model: Model, data: DataConfig) -> Iterator[Conflict]:
    if model.n_embd % model.n_head:
        yield Conflict(
            ("model.n_embd", "model.n_head"), f"{model.n_embd} is not a multiple of model.n_head = {model.n_head}"
        )
    is_block = model.position_embedding.startswith("block")
    if model.max_position_offset and not is_block:
        yield Conflict(
            ("model.max_position_offset", "model.position_embedding"),
            f"an offset shifts block positions; model.position_embedding is {model.position_embedding}, set 0",
        )
    # Block IDs go from 0 to the longest number's digits, absolute ones from 0 to the row's last token.
    if model.position_period is not None:
        needed = model.position_period + 1
    else:
        needed = data.answer_digits + 1 + model.max_position_offset if is_block else data.row_tokens
    if model.position_embedding != "none" and model.n_positions < needed:
        yield Conflict(
            (
                "model.n_positions",
                "model.position_embedding",
                "model.max_position_offset",
                "numbers.max",
                "numbers.base",
            ),
            f"{model.n_positions} is too short a position table for sums up to 2 * {_short(data.numbers.max)} "
            f"in base {data.numbers.base}; set at least {needed}",
        )
    yield from _size_conflicts(model)
    yield from _window_conflicts(model, data)
    if not data.numbers.reversed and model.tokens_per_step != 1:
        yield Conflict(
            ("model.tokens_per_step", "numbers.reversed"),
            "numbers.reversed is false: the first digits wait for every carry, set model.tokens_per_step=1",
        )


def _size_conflicts(model: Model) -> Iterator[Conflict]:
    """Sizes that are each plausible, and together make what no machine here could hold."""
    num_weights = model.n_embd * (model.n_positions + 12 * model.n_layer * model.n_embd)
    if num_weights > MOST_WEIGHTS:
        yield Conflict(
            ("model.n_embd", "model.n_layer", "model.n_positions"),
            f"{model.n_embd} with model.n_layer = {model.n_layer} and model.n_positions = {model.n_positions} makes "
            f"some {num_weights:,} weights; a model has at most {MOST_WEIGHTS:,}",
        )


def _window_conflicts(model: Model, data: DataConfig) -> Iterator[Conflict]:
    """An attention window goes by places, and a period is told apart by nothing else."""
    window, period = model.attention_window, model.position_period
    for name, value in (("attention_window", window), ("position_period", period)):
        if value is not None and not model.position_embedding.startswith("block"):
            yield Conflict(
                (f"model.{name}", "model.position_embedding"),
                f"goes by places: set model.position_embedding=block, it is {model.position_embedding}",
            )
    if window is not None and model.tokens_per_step != 1:
        yield Conflict(
            ("model.attention_window", "model.tokens_per_step"),
            f"with model.tokens_per_step = {model.tokens_per_step} a token says digits whose neighbours it does not "
            "see; set model.tokens_per_step=1",
        )
    if window is not None and not data.numbers.reversed:
        yield Conflict(
            ("model.attention_window", "numbers.reversed"),
            "numbers.reversed is false: places are then counted from the top, and no carry is in view",
        )
    if period is None:
        return
    if window is None:
        yield Conflict(
            ("model.position_period", "model.attention_window"),
            f"digits {period} places apart would look the same; set model.attention_window, or no period",
        )
    elif window.left + window.right >= period:
        yield Conflict(
            ("model.position_period", "model.attention_window"),
            f"{window.left + window.right + 1} places in view and a period of {period}: two of them would look the "
            f"same; set at least {window.left + window.right + 1}",
        )
    if data.operand_digits <= period:
        yield Conflict(
            ("model.position_period", "numbers.max", "numbers.base"),
            f"numbers of at most {data.operand_digits} digits never go past {period} places, so the model would not "
            f"see a position come again; set a smaller period or a larger numbers.max",
        )


def digit_count(value: int, base: int) -> int:
    """Count the digits of a whole number: 0 has one, 9999 has four in base 16."""
    count = 1
    while value >= base:
        value //= base
        count += 1
    return count


def _short(value: int) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:6]}... ({len(text)} digits)"


def to_yaml(config: Section) -> str:
    """Write every setting, defaults included, as YAML that config_loading.py reads back to an equal model."""
    return format_yaml(config.model_dump(mode="json"))


# What a run may change and still be the same run. In how many slices a batch is computed, like by how many processes,
# decides the order in which the same numbers are added, and may change the last bit of a weight.
_NO_EFFECT_ON_WEIGHTS = (
    *("paths", "hub", "storage", "training.accumulation_steps"),
    *("training.save_every", "training.keep_checkpoints", "training.report_to"),
)


def weight_settings(data: DataConfig, train: TrainConfig) -> dict[str, object]:
    """Flatten the settings that change the weights: {"numbers.base": 16, "training.seed": 0, ...}.

    Where the sequences are stored does not count: their sha256 does, and is compared by itself.
    """
    flat: dict[str, object] = {}
    for name, value in {**data.model_dump(mode="json"), **train.model_dump(mode="json")}.items():
        flat.update(
            {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
        )
    return {key: value for key, value in flat.items() if not key.startswith(_NO_EFFECT_ON_WEIGHTS)}
