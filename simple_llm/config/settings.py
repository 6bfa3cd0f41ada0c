"""The settings of a run: data_config.yaml and train_config.yaml as frozen, typed models.

Numbers that follow from the settings are properties here, so each exists once. Reading the files and
reporting what is wrong with them is loading.py's business, and conflicts.py names what cannot go together.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, create_model, Field, field_validator, PlainSerializer

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.integers import digit_count
from simple_llm.arithmetic.operation import Bounds, Operation
from simple_llm.config.strict_yaml import format_yaml

PositionEmbedding = Literal["block", "block_sinusoidal", "learned", "sinusoidal", "none"]


def typed_path(text: str) -> Path:
    """Read a path as a shell would: ~ is the user's own folder, ~name somebody else's.

        typed_path("~/a b#c.txt")    /home/me/a b#c.txt
        typed_path("./~")            ~, in the current folder

    Raises:
        ValueError: nobody has that name.
    """
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def _typed(value: object) -> object:
    return typed_path(value) if isinstance(value, str) else value


def _written(path: Path) -> str:
    return f"./{path}" if str(path).startswith("~") else str(path)


TypedPath = Annotated[Path, BeforeValidator(_typed), PlainSerializer(_written, when_used="json")]


class Section(BaseModel):
    """A group of settings: no unknown keys, no coercion, no change after it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Shares(Section):
    """Share of the rows of each operation; the shares add up to 1."""

    @property
    def known(self) -> list[Operation]:
        """The operations of which there are rows."""
        return [one for one in OPERATIONS if getattr(self, one.name)]


Operations = create_model(
    "Operations",
    __base__=_Shares,
    **{one.name: (float, Field(float(one is ADDITION), ge=0, le=1)) for one in OPERATIONS},
)


_Size = Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=2, max_length=2)]

_SIZE_IN_WORDS = "two numbers of digits from 1 to 1,000 such as [4, 3], or null"

Sizes = create_model(
    "Sizes",
    __base__=Section,
    **{
        one.name: (
            _Size | None,
            Field(None, description="two numbers of digits from 1 to 1,000 such as [4, 3], or null"),
        )
        for one in OPERATIONS
    },
)
Sizes.__doc__ = "Most digits of the first and of the other numbers of each operation, in place of `numbers.max`."


class Numbers(Section):
    """Which operands there are and how they are written."""

    min: int = Field(0, ge=0)
    max: int = Field(9999, ge=0)
    base: int = Field(16, ge=2, le=36)
    reversed: bool = True
    operands: int = Field(2, ge=2, le=9)
    sizes: Sizes | None = None

    def bounds(self, operation: Operation) -> tuple[Bounds, Bounds]:
        """The smallest and the largest first number of an operation, and the same of its other numbers."""
        size = getattr(self.sizes, operation.name, None)
        first, second = [(self.min, self.base**digits - 1) for digits in size] if size else [(self.min, self.max)] * 2
        least = int(operation.leaves_rest)  # nothing is divided by 0
        return first, (max(least, second[0]), max(least, second[1]))

    def most_operands(self, operation: Operation) -> int:
        """Of one problem."""
        return self.operands if operation.takes_many else 2


class Sampling(Section):
    """Share of the rows drawn from each stratum; the shares add up to 1."""

    uniform: float = Field(0.4, ge=0, le=1)
    lengths: float = Field(0.3, ge=0, le=1)
    carries: float = Field(0.3, ge=0, le=1)
    large_digits: float = Field(0.0, ge=0, le=1)


class Split(Section):
    """Share of all unordered pairs on each side; what is left is the test side."""

    train: float = Field(0.8, gt=0, lt=1)
    validation: float = Field(0.1, gt=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**63)


class Storage(Section):
    """Where the rows go and how they are delimited."""

    path: TypedPath = Path("../simple-llm-data/sequences.txt")
    column_delimiter: str = Field("|", min_length=1, max_length=1)
    row_delimiter: str = Field("\n", min_length=1, max_length=1)
    num_sequences: int = Field(100_000, ge=1, le=10**9)

    @property
    def manifest_path(self) -> Path:
        return self.path.with_name(self.path.name + ".manifest.json")


class DataConfig(Section):
    """data_config.yaml."""

    seed: int = Field(0, ge=0, lt=2**63)
    operations: Operations = Operations()
    numbers: Numbers = Numbers()
    sampling: Sampling = Sampling()
    split: Split = Split()
    storage: Storage = Storage()

    @property
    def operand_digits(self) -> int:
        """Digits of the largest operand in the configured base."""
        largest = [bounds[1] for one in self._known for bounds in self.numbers.bounds(one)]
        return digit_count(max(largest), self.numbers.base)

    @property
    def answer_digits(self) -> int:
        """Digits of the longest answer."""
        return max(one.longest_answer(*self._range(one)) for one in self._known)

    @property
    def answer_tokens(self) -> int:
        """Tokens of the longest answer: its digits, its sign, and what ends it."""
        return max(one.answer_tokens(*self._range(one)) for one in self._known)

    @property
    def row_tokens(self) -> int:
        """Tokens of the longest row, `+x+y+z+`."""
        return 2 * self.operand_digits + self.answer_tokens + 3

    @property
    def _known(self) -> list[Operation]:
        return self.operations.known or [ADDITION]

    def _range(self, operation: Operation) -> tuple[int, int, int, Bounds, int]:
        """What an operation is asked for its longest answer with."""
        first, second = self.numbers.bounds(operation)
        return *first, self.numbers.base, second, self.numbers.most_operands(operation)


class Paths(Section):
    """Where the model folder is."""

    model: TypedPath = Path("../simple-llm-data/simple-llm-gpt2")


class Tokenizer(Section):
    """The two tokens that are no part of a row."""

    pad_token: str = Field("<|pad|>", pattern=r"^<\|[a-z_]+\|>$")
    unk_token: str = Field("<|unk|>", pattern=r"^<\|[a-z_]+\|>$")


class AttentionWindow(Section):
    """How many places below and above its own a digit sees."""

    left: int = Field(0, ge=0, le=1000)
    right: int = Field(1, ge=0, le=1000)


class Model(Section):
    """The transformer; the first five names are GPT-2's own."""

    n_layer: int = Field(8, ge=1, le=1000)
    n_head: int = Field(4, ge=1, le=1000)
    n_embd: int = Field(256, ge=1, le=100_000)
    n_inner: int | None = Field(None, ge=1, le=1_000_000)
    n_positions: int = Field(16, ge=2, le=1_000_000)
    dropout: float = Field(0.0, ge=0, lt=1)
    position_embedding: PositionEmbedding = "block"
    max_position_offset: int = Field(0, ge=0, le=1_000_000)
    tokens_per_step: Literal[1, 2, "all"] = 2
    attention_window: AttentionWindow | None = None
    position_period: int | None = Field(None, ge=1, le=1_000_000)
    scratchpad: Literal["none", "columns"] = "none"

    @property
    def has_columns(self) -> bool:
        """Whether work is written as on paper, before the answer is read off it."""
        return self.scratchpad == "columns"

    @property
    def knows_every_length(self) -> bool:
        """Whether numbers may be longer than those in training: no position is new, and a window is never full."""
        return self.has_columns or (self.attention_window is not None and self.position_period is not None)

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


class Restarts(Section):
    """Descents of the learning rate to 0 (Loshchilov and Hutter, arXiv 1608.03983); validation looks after each.

    Attributes:
        first: steps of the first one, from the peak.
        every: steps of each of the others.
        height: where the others begin, as a share of the peak.
        until_exact: problems that validation looks at after each of them; where all are right, the run ends. None: as
            many as at other times, and it goes on.
    """

    first: int = Field(ge=1, le=10**9)
    every: int = Field(ge=2, le=10**9)
    height: float = Field(0.3, gt=0, le=1)
    until_exact: int | None = Field(None, ge=1, le=10**7)


class Averaging(Section):
    """The mean of the last weights in place of the last ones.

    Attributes:
        start: after so many steps the mean is the weights; each later step moves it towards those of that step. None:
            half of the steps in which the learning rate falls to 0 for the first time.
        decay: how much of it a step leaves, once so many steps are in it that it would not be less in their mean.
    """

    start: int | None = Field(None, ge=1, le=10**9)
    decay: float = Field(0.995, gt=0, lt=1)


class HardRows(Section):
    """Steps that look at many rows and learn from those that the model is worst at.

    Attributes:
        start: after so many steps; before, most rows are hard.
        of: batches that a step looks at.
        keep: how much of a batch it learns from: the rows of its gradient.
    """

    start: int = Field(ge=1, le=10**9)
    of: int = Field(ge=1, le=100)
    keep: float = Field(gt=0, lt=100)


class Training(Section):
    """How the weights are found. A batch is what one optimizer step sees, over all accumulation steps."""

    batch_size: int = Field(128, ge=1, le=10**7)
    accumulation_steps: int = Field(1, ge=1, le=10_000)
    even_lengths: float = Field(0.0, ge=0, lt=1)
    max_steps: int = Field(1100, ge=1, le=10**9)
    warmup_steps: int = Field(20, ge=0, le=10**9)
    learning_rate: float = Field(3e-3, gt=0, le=10)
    muon_learning_rate: float = Field(0.02, gt=0, le=10)
    muon_momentum: float = Field(0.95, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, le=10)
    max_grad_norm: float = Field(1.0, gt=0)
    deep_supervision: float = Field(1.0, ge=0, le=1000)
    restarts: Restarts | None = None
    averaging: Averaging | None = None
    hard_rows: HardRows | None = None
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

    @property
    def first_descent(self) -> int:
        """Steps in which the learning rate falls to 0 for the first time; a run of fewer has no other descent."""
        return min(self.restarts.first, self.max_steps) if self.restarts else self.max_steps

    @property
    def averaging_start(self) -> int | None:
        """After how many steps the mean of the weights begins; None without one."""
        if self.averaging is None:
            return None
        return self.averaging.start or -(-self.first_descent // 2)

    @property
    def num_hard_rows(self) -> int | None:
        """Rows that a step learns from where it chooses them; None where none does."""
        if self.hard_rows is None or self.hard_rows.start >= self.max_steps:
            return None
        return max(1, round(self.hard_rows.keep * self.batch_size))

    def can_be_computed_in(self, num_slices: int) -> bool:
        """Whether each batch can be divided into so many slices, also where a step learns from less than one."""
        return self.batch_size % num_slices == 0 and num_slices <= (self.num_hard_rows or self.batch_size)

    def rows_before(self, step: int) -> int:
        """How many rows the steps before this one looked at."""
        if self.hard_rows is None:
            return step * self.batch_size
        num_choosing = max(0, step - self.hard_rows.start)
        return (step + num_choosing * (self.hard_rows.of - 1)) * self.batch_size

    def end_of_descent(self, step: int) -> int:
        """The step, this one or the next such, after which the learning rate has fallen to 0."""
        if step <= self.first_descent:
            return self.first_descent
        num_more = -(-(step - self.first_descent) // self.restarts.every)
        return self.first_descent + num_more * self.restarts.every

    def expected_end(self, step: int) -> int:
        """The step that a run which goes on after `step` is over at, if it is exact where it may end."""
        if self.restarts is None or self.restarts.until_exact is None or step >= self.max_steps:
            return self.max_steps
        return self.end_of_descent(step + 1)

    def is_evaluated(self, step: int) -> bool:
        """Whether validation looks after so many steps; not before the first, when nothing has been learned."""
        return step == self.end_of_descent(step) or (step > 0 and step % self.eval_every == 0)

    def num_evaluated(self, step: int) -> int:
        """Problems that validation looks at after so many steps."""
        return self.num_deciding if step == self.end_of_descent(step) else self.eval_problems

    @property
    def num_deciding(self) -> int:
        """Problems that validation looks at where the learning rate is 0: those decide whether a run is over."""
        return (self.restarts and self.restarts.until_exact) or self.eval_problems

    def is_enough(self, step: int, num_exact_evaluations: int) -> bool:
        """Whether a run may end before max_steps, by its exact evaluations in a row, of which one is after `step`."""
        if self.restarts and self.restarts.until_exact and step == self.end_of_descent(step):
            return num_exact_evaluations > 0
        return self.stop_after_exact is not None and num_exact_evaluations >= self.stop_after_exact


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


def to_yaml(config: Section) -> str:
    """Write every setting, defaults included, as YAML that loading.py reads back to an equal model."""
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
