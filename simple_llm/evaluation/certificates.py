"""What certificate.json holds, by its kind: of all pairs of a range, or of all lengths.

One shape writes certificates and reads them. A proof makes them, and the card, the page, a repair and a check read
them; the card may not import the proof, so the shape is here, below both.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simple_llm.arithmetic import BY_NAME
from simple_llm.arithmetic.addition import ADDITION

Count = Annotated[int, Field(ge=0, le=2**128)]
CountOfSome = Annotated[int, Field(gt=0, le=2**128)]  # that a share is taken of
_Pair = Annotated[tuple[Count, Count], Field(strict=False)]  # a list, in JSON
_Unsure = Annotated[tuple[float, Count, Count], Field(strict=False)]  # margin, x and y
_Place = dict[str, str | int]  # x, y, digit of their sum, right, said; or operation, problem, context, said


class Counted(BaseModel):
    """How many cases there are, how many were run, how many are wrong."""

    model_config = ConfigDict(strict=True, frozen=True)

    expected: Count
    checked: CountOfSome
    wrong: Count
    min_logit_margin: float


class CountedPairs(Counted):
    """The pairs of one operation; see AllPairs."""

    prompts: Count | None = None
    failures: list[_Pair]
    min_logit_margin_at: _Pair
    least_sure: list[_Unsure] | None = None
    decided_again: Count | None = None
    seconds: float | None = None
    shards: list[dict[str, int | str]] | None = None
    rounding: dict[str, float] | None = None


class _Certificate(BaseModel):
    """What the two kinds have in common; each lists its fields in the order in which they are written.

    Fields without a default are in every certificate there ever was. Those that are None by default came later, or
    are there for the record alone; one that was not set is not written.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    @model_validator(mode="after")
    def _counts_no_more_than_there_is(self) -> "_Certificate":
        if self.wrong > self.expected:
            raise ValueError(f"{self.wrong} wrong of {self.expected}")
        return self

    @model_validator(mode="after")
    def _operations_make_the_totals(self) -> "_Certificate":
        if unknown := [name for name in self.of_each if name not in BY_NAME]:
            raise ValueError(f"{unknown[0]!r} is no operation, known are {', '.join(BY_NAME)}")
        for key in ("expected", "checked", "wrong"):
            total = sum(getattr(one, key) for one in self.of_each.values())
            if total != getattr(self, key):
                raise ValueError(f"{getattr(self, key)} {key}, and {total} of the operations together")
        return self

    @property
    def right(self) -> int:
        return self.checked - self.wrong

    @property
    def of_each(self) -> "dict[str, Certificate | Counted]":
        """What was counted, by name of the operation."""
        return self.operations or {ADDITION.name: self}

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out."""
        return self.checked == self.expected

    def as_dict(self) -> dict[str, object]:
        """What is written, in the order in which it is."""
        return self.model_dump(exclude_unset=True)


class AllPairs(_Certificate):
    """Every ordered pair of a range of operands.

    Attributes:
        failures: the first wrong pairs; all, where they are as many as `wrong`. Of a model that does more than add,
            as problems: "342-879".
        operations: of such a model, what was counted of each.
        least_sure: margin, x and y of the prompts with the smallest margins.
        shards: which operands each counted, and the digest of which prompts were right.
        rounding: by dtype, how far it moves a logit from float64.
        method: "table", where of pairs that look alike one was read.
    """

    kind: Literal["all pairs"] = "all pairs"
    expected: Count
    checked: CountOfSome
    prompts: Count | None = None
    wrong: Count
    failures: list[_Pair | str]
    min_logit_margin: float
    min_logit_margin_at: _Pair | str | None = None
    operations: dict[str, CountedPairs] | None = None
    least_sure: list[_Unsure] | None = None
    decided_again: Count | None = None
    seconds: float | None = None
    shards: list[dict[str, int | str]] | None = None
    format: int | None = None
    versions: dict[str, str] | None = None
    model_sha256: str
    config_sha256: str | None = None
    tokenizer_sha256: str | None = None
    range: _Pair
    dtype: str
    device: str | None = None
    method: Literal["table"] | None = None
    base: int
    tokens_per_step: int | Literal["all"] | None = None
    rounding: dict[str, float] | None = None
    threads: int | None = None
    rows_in_table: Count | None = None
    command: str | None = None
    date: str | None = None

    @model_validator(mode="after")
    def _range_has_a_pair(self) -> "AllPairs":
        if self.minimum > self.maximum:
            raise ValueError(f"operands from {self.minimum} to {self.maximum}")
        return self

    @model_validator(mode="after")
    def _failures_are_of_the_range(self) -> "AllPairs":
        for pair in (pair for one in self.of_each.values() for pair in one.failures):
            if isinstance(pair, str) or not all(self.minimum <= operand <= self.maximum for operand in pair):
                raise ValueError(f"{pair!r} is no pair of {self.minimum} to {self.maximum}")
        return self

    @property
    def of_each(self) -> dict[str, "AllPairs | CountedPairs"]:
        """What was counted, by name of the operation."""
        return self.operations or {ADDITION.name: self}

    @property
    def minimum(self) -> int:
        return self.range[0]

    @property
    def maximum(self) -> int:
        return self.range[1]


class AllLengths(_Certificate):
    """Every context that a token of an answer can depend on, so numbers of every length.

    Attributes:
        failures: the first wrong contexts, each as a problem and a digit of its result; or, of work on paper, in words,
            with the problem if one is known.
        operations: of a model of several, and wherever there is a scratchpad, what was counted of each.
        scratchpad: of a model that writes its work; it has no window and no period.
        rounding: by dtype, and with a window by digits, how far it moves a logit from float64.
        argument: lines that say why these contexts are enough.
    """

    kind: Literal["all lengths"]
    expected: Count
    checked: CountOfSome
    wrong: Count
    failures: list[_Place]
    min_logit_margin: float
    min_logit_margin_at: _Place | None = None
    operations: dict[str, Counted] | None = None
    seconds: float | None = None
    model_sha256: str
    config_sha256: str | None = None
    tokenizer_sha256: str | None = None
    base: int
    attention_window: dict[str, int] | None = None
    position_period: int | None = None
    scratchpad: Literal["columns"] | None = None
    rounding: dict[str, float] | None = None
    argument: list[str] | None = None
    dtype: str
    device: str | None = None
    versions: dict[str, str] | None = None
    threads: int | None = None
    command: str | None = None
    date: str | None = None

    @property
    def every(self) -> str:
        """What is right if all contexts are: "sum", or "sum, difference and product"."""
        return in_words([BY_NAME[name].noun for name in self.of_each])

    @property
    def moved(self) -> dict[str, float]:
        """By dtype, how far it moves a logit from float64; what is no number is further than all."""
        found: dict[str, list[float]] = {}
        for key, value in (self.rounding or {}).items():
            found.setdefault(key.partition(",")[0], []).append(value)
        return {dtype: max(values, key=lambda one: (math.isnan(one), one)) for dtype, values in found.items()}


def in_words(words: list[str]) -> str:
    """Put together as people do: "", "a", "a and b", "a, b and c"."""
    return " and ".join([one for one in (", ".join(words[:-1]), *words[-1:]) if one])


def written_place(place: _Place) -> str:
    """Where a context occurs, for people: "digit 2 of 19+1", or the context in words and the problem."""
    if "context" not in place:
        return f"digit {place['digit']} of {ADDITION.write(place['x'], place['y'])}"
    return f"{place['problem']}, {place['context']}" if "problem" in place else str(place["context"])


Certificate = AllPairs | AllLengths


def read_as_certificate(document: dict) -> Certificate:
    """Take a JSON document for a certificate; the first ones were of all pairs and did not say so.

    Raises:
        ValidationError: it is none.
    """
    kind = AllLengths if document.get("kind") == "all lengths" else AllPairs
    return kind.model_validate(document)
