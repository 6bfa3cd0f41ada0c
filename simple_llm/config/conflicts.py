"""Settings that are fine one by one and cannot go together."""

from collections.abc import Iterator
from typing import NamedTuple

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.config.settings import DataConfig, HardRows, Hub, Model, Numbers, Restarts, TrainConfig, Training

MOST_WEIGHTS = 10**9  # of a model: four gigabytes


class Conflict(NamedTuple):
    """What cannot go together, by its keys; the first is the one to mend."""

    keys: tuple[str, ...]
    message: str


def conflicts(data: DataConfig, train: TrainConfig) -> Iterator[Conflict]:
    """Name every combination of settings that cannot work."""
    yield from _data_conflicts(data)
    yield from _columns_conflicts(train.model, data) if train.model.has_columns else _model_conflicts(train.model, data)
    training = train.training
    if training.batch_size % training.accumulation_steps:
        yield Conflict(
            ("training.batch_size", "training.accumulation_steps"),
            f"{training.batch_size} is not a multiple of training.accumulation_steps = {training.accumulation_steps}",
        )
    yield from _schedule_conflicts(training)
    if training.hard_rows is not None:
        yield from _hard_rows_conflicts(training.hard_rows, training, train.model)
    if "\0" in str(train.paths.model):
        yield Conflict(("paths.model",), f"{str(train.paths.model)!r} is no name of a folder")
    if train.tokenizer.pad_token == train.tokenizer.unk_token:
        yield Conflict(("tokenizer.unk_token", "tokenizer.pad_token"), "must differ from tokenizer.pad_token")
    yield from _hub_conflicts(train.hub, training)


def _hard_rows_conflicts(hard_rows: HardRows, training: Training, model: Model) -> Iterator[Conflict]:
    num_rows, num_slices = training.num_hard_rows, training.accumulation_steps
    if hard_rows.keep >= hard_rows.of:
        yield Conflict(("training.hard_rows",), f"keep: {hard_rows.keep:g} leaves nothing out of of: {hard_rows.of}")
    if num_rows and num_rows < num_slices:
        yield Conflict(
            ("training.hard_rows", "training.accumulation_steps"),
            f"keep: {hard_rows.keep:g} of a batch is {num_rows} rows, which cannot be computed in "
            f"training.accumulation_steps = {num_slices} slices; set more, or training.hard_rows=null",
        )
    if training.even_lengths:
        yield Conflict(
            ("training.hard_rows", "training.even_lengths"),
            f"both choose rows; with training.even_lengths = {training.even_lengths} set training.hard_rows=null",
        )
    if model.has_columns:
        yield Conflict(
            ("training.hard_rows", "model.scratchpad"),
            "model.scratchpad = columns learns from contexts, not from rows; set training.hard_rows=null",
        )


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


def _schedule_conflicts(training: Training) -> Iterator[Conflict]:
    if training.restarts is not None:
        yield from _restart_conflicts(training.restarts, training)
    earliest_end = training.expected_end(0)
    if training.averaging and training.averaging.start and training.averaging.start >= earliest_end:
        yield Conflict(
            ("training.averaging", "training.max_steps"),
            f"start: {training.averaging.start} of a run that may end after {earliest_end} steps takes the mean of "
            "nothing; set less",
        )


def _restart_conflicts(restarts: Restarts, training: Training) -> Iterator[Conflict]:
    """A run ends where the learning rate is 0."""
    after_first = training.max_steps - restarts.first
    if after_first > 0 and after_first % restarts.every:
        whole = restarts.first + restarts.every * (after_first // restarts.every + 1)
        yield Conflict(
            ("training.restarts", "training.max_steps"),
            f"first: {restarts.first} and every: {restarts.every} with training.max_steps = {training.max_steps} end "
            f"while the learning rate is high; set training.max_steps={whole}, or training.restarts=null for one "
            "descent",
        )
    if training.warmup_steps >= restarts.first:
        yield Conflict(
            ("training.restarts", "training.warmup_steps"),
            f"first: {restarts.first} with training.warmup_steps = {training.warmup_steps} restarts before the rate "
            "has come down; set more",
        )


def _data_conflicts(data: DataConfig) -> Iterator[Conflict]:
    numbers, sampling, split, storage = data.numbers, data.sampling, data.split, data.storage
    if numbers.min > numbers.max:
        yield Conflict(("numbers.min", "numbers.max"), f"{numbers.min} is above numbers.max = {numbers.max}")
    total = sampling.uniform + sampling.lengths + sampling.carries
    if abs(total - 1) > 1e-9:
        yield Conflict(
            ("sampling.uniform", "sampling.lengths", "sampling.carries"),
            f"the shares uniform, lengths and carries must add up to 1, they make {total:.10g}",
        )
    yield from _size_of_numbers_conflicts(numbers)
    shares = dict(data.operations)
    if abs(sum(shares.values()) - 1) > 1e-9:
        keys, names = tuple(f"operations.{name}" for name in shares), " and ".join(shares)
        yield Conflict(keys, f"the shares {names} must add up to 1, they make {sum(shares.values()):.10g}")
    for name in ("column_delimiter", "row_delimiter"):
        if getattr(storage, name) in {one.symbol for one in data.operations.known if one is not ADDITION}:
            keys = (f"storage.{name}", "operations")
            yield Conflict(keys, f"{getattr(storage, name)!r} stands in the rows of an operation; use '|'")
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


def _size_of_numbers_conflicts(numbers: Numbers) -> Iterator[Conflict]:
    for name, size in dict(numbers.sizes or {}).items():
        if size and numbers.min > numbers.base ** min(size) - 1:
            yield Conflict(
                ("numbers.sizes", "numbers.min", "numbers.base"),
                f"{name}: no number of {min(size)} digits in base {numbers.base} is as large as numbers.min = "
                f"{_short(numbers.min)}; set numbers.min=0",
            )


_ALONE_WITH_COLUMNS = {
    "tokens_per_step": (1, "each token of the work follows from the one before"),
    "attention_window": (None, "what a token sees follows from where it stands on the paper"),
    "position_period": (None, "no position on the paper is counted"),
    "position_embedding": ("block", "the position of a token is what it is: a digit, a carry, ..."),
    "max_position_offset": (0, "no position on the paper is counted"),
    "dropout": (0.0, "there is one right thing to say in each context, whatever else is known"),
    "n_layer": (1, "the five tokens in view say all there is to know, and one block is what a list of them proves"),
}


def _columns_conflicts(model: Model, data: DataConfig) -> Iterator[Conflict]:
    """Work on paper goes with little else."""
    yield from _width_conflicts(model)
    yield from _size_conflicts(model)
    for name, (needed, why) in _ALONE_WITH_COLUMNS.items():
        value = getattr(model, name)
        if value != needed:
            asked = "null" if needed is None else needed
            yield Conflict(
                (f"model.{name}", "model.scratchpad"),
                f"{value} with model.scratchpad = columns: {why}; set model.{name}={asked}",
            )
    if model.n_positions < _KINDS_ON_PAPER:
        yield Conflict(
            ("model.n_positions", "model.scratchpad"),
            f"{model.n_positions} with model.scratchpad = columns: there are {_KINDS_ON_PAPER} kinds of token; set at "
            f"least {_KINDS_ON_PAPER}",
        )
    if not data.numbers.reversed:
        yield Conflict(
            ("numbers.reversed", "model.scratchpad"),
            "false with model.scratchpad = columns: work begins at the lowest digits; set numbers.reversed=true",
        )


_KINDS_ON_PAPER = 6  # rows of the position table that a scratchpad needs


def _width_conflicts(model: Model) -> Iterator[Conflict]:
    if model.n_embd % model.n_head:
        yield Conflict(
            ("model.n_embd", "model.n_head"), f"{model.n_embd} is not a multiple of model.n_head = {model.n_head}"
        )


def _without_columns_conflicts(model: Model, data: DataConfig) -> Iterator[Conflict]:
    """What only a scratchpad makes possible."""
    if data.numbers.operands > 2 and any(one.takes_many for one in data.operations.known):
        yield Conflict(
            ("numbers.operands", "model.scratchpad"),
            f"{data.numbers.operands} with model.scratchpad = none: without one there are two numbers; set "
            "numbers.operands=2, or model.scratchpad=columns",
        )
    for operation in data.operations.known:
        if operation.step is not None:
            continue
        for name, value in (("tokens_per_step", "all"), ("attention_window", model.attention_window)):
            if value is not None and getattr(model, name) == value:
                yield Conflict(
                    (f"model.{name}", f"operations.{operation.name}"),
                    f"a digit of a {operation.noun} depends on more digits than that lets it see; set model.{name}="
                    f"{1 if value == 'all' else 'null'}, or train on operations.{operation.name}=0",
                )


def _model_conflicts(model: Model, data: DataConfig) -> Iterator[Conflict]:
    yield from _width_conflicts(model)
    yield from _without_columns_conflicts(model, data)
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
            f"{model.n_positions} is too short a position table for answers to numbers up to "
            f"{_short(data.numbers.max)} in base {data.numbers.base}; set at least {needed}",
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
    of_a_block = 4 * model.n_embd + 2 * (model.n_inner or 4 * model.n_embd)
    num_weights = model.n_embd * (model.n_positions + model.n_layer * of_a_block)
    if num_weights > MOST_WEIGHTS:
        others = [name for name in ("n_layer", "n_positions", "n_inner") if getattr(model, name) is not None]
        told = [f"model.{name} = {getattr(model, name)}" for name in others]
        yield Conflict(
            ("model.n_embd", *(f"model.{name}" for name in others)),
            f"{model.n_embd} with {', '.join(told[:-1])} and {told[-1]} makes some {num_weights:,} weights; a model "
            f"has at most {MOST_WEIGHTS:,}",
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
    signed = [one.name for one in data.operations.known if one.is_signed]
    if window is not None and signed:
        yield Conflict(
            ("model.attention_window", *(f"operations.{name}" for name in signed)),
            "the sign of an answer depends on digits out of view: set model.attention_window=null, or train on "
            f"operations.{signed[0]}=0",
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


def _short(value: int) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:6]}... ({len(text)} digits)"
