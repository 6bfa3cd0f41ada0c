"""Every context that an answer token can depend on, listed and run: a proof for numbers of every length.

Shape letters in this file: N contexts, T tokens of a context, V tokens in the vocabulary.

In a model of one block a token's keys and values follow from the token and its row of the position table, so what a
token says follows from the tokens that it sees and their rows. With an attention window these are the three delimiters
and the digits next to its place; with a period, places that are a period apart have the same rows. So there are only so
many different sights, whatever the length of the numbers. Before the third digit of a sum is said, left 0, right 1:

    x  . . [5 1] . . .      both go on, x ends here or above, y has ended, ...
    y  . . [9 2] . .        ten times ten digits at each of two places, or fewer
    z  . . [4]              two, for a carry from below or none; the 4 and what comes next follow by arithmetic
            2               the right token: 1 + 2 and the carry of 5 + 9

A problem is answered rightly if at each step the right token has the largest logit, given the right tokens before it.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import DIGIT_ALPHABET
from simple_llm.errors import UsageError
from simple_llm.evaluation.margins import lead
from simple_llm.model.architecture import Architecture
from simple_llm.model.decoding import Reader
from simple_llm.model.notation_simple_llm import DELIMITER
from simple_llm.model.tokens import Vocabulary
from simple_llm.proof.shards import MAX_FAILURES

_CONTEXTS_AT_A_TIME = 2**15

Strings = NDArray[np.int64]  # (N, digits), lowest place first


@dataclass(frozen=True)
class Sight:
    """Which places are in view of a token of the sum, and where the operands are seen to end.

    Attributes:
        place: of the token, which says the next digit; 0 is the last delimiter, which says the first.
        lowest, highest: places in view.
        x_digits, y_digits: of the operands, in view; fewer than there are places where the operand ends in view.
    """

    place: int
    lowest: int
    highest: int
    x_digits: int
    y_digits: int

    @property
    def num_places(self) -> int:
        return self.highest - self.lowest + 1

    @property
    def carries(self) -> tuple[int, ...]:
        """What may come from the places below those in view."""
        return (0,) if self.lowest == 1 else (0, 1)

    @property
    def top(self) -> int:
        """The highest place in view at which an operand has a digit, or the place below the view."""
        return self.lowest - 1 + max(self.x_digits, self.y_digits)

    def choices(self, num_digits: int, base: int) -> list[range]:
        """The digits an operand may have at each place in view; its highest is not 0, but in the number 0 itself."""
        choices = [range(base)] * num_digits + [range(1)] * (self.num_places - num_digits)
        if 0 < num_digits < self.num_places and self.lowest + num_digits - 1 > 1:
            choices[num_digits - 1] = range(1, base)
        return choices

    def is_possible(self, carry_into_place: int) -> bool:
        """Whether the sum has a digit at `place`: the operands reach it, or a carry does."""
        return self.place == 0 or self.top >= self.place or (self.top + 1 == self.place and carry_into_place == 1)


def refuse_what_cannot_be_listed(config: Architecture) -> None:
    """Say why a model's contexts cannot be listed.

    Raises:
        UsageError: the model has no window, no period, more than one block, or cannot see what it adds.
    """
    window, period = config.attention_window, config.position_period
    if window is None:
        raise UsageError(
            "--all-lengths needs model.attention_window, or model.scratchpad = columns: with full attention a token "
            "sees every digit"
        )
    if period is None:
        raise UsageError("--all-lengths needs model.position_period: there is a last row of the position table")
    if config.n_layer > 1:
        raise UsageError(
            f"--all-lengths needs model.n_layer = 1, not {config.n_layer}: in a second block the delimiters, which "
            "all see, pass on what they have gathered of the digits"
        )
    if window["right"] < 1:
        raise UsageError("--all-lengths needs model.attention_window.right >= 1: the digits to add are not in view")


def sights(left: int, right: int, period: int) -> Iterator[Sight]:
    """List every pattern of digits in view.

    Up to place left + 1 the view begins with the lowest digits; above that, places a period apart look the same.
    """
    for place in range(left + 2 + period):
        lowest, highest = max(1, place - left), place + right
        at_least = 1 if lowest == 1 else 0  # every number has a digit
        for x_digits in range(at_least, highest - lowest + 2):
            for y_digits in range(at_least, highest - lowest + 2):
                yield Sight(place, lowest, highest, x_digits, y_digits)


def num_contexts(config: Architecture) -> int:
    """Count the contexts of a model.

    Raises:
        UsageError: they cannot be listed.
    """
    refuse_what_cannot_be_listed(config)
    return count_contexts(*_shape(config))


def _shape(config: Architecture) -> tuple[int, int, int, int]:
    window = config.attention_window
    return len(config.digit_token_ids), window["left"], window["right"], config.position_period


def count_contexts(base: int, left: int, right: int, period: int) -> int:
    """Count the contexts without listing them: for each sight, how many choices of digits lead to which carry."""
    return sum(_count(sight, base) for sight in sights(left, right, period))


def _count(sight: Sight, base: int) -> int:
    ways = dict.fromkeys(sight.carries, 1)
    at_each_place = zip(sight.choices(sight.x_digits, base), sight.choices(sight.y_digits, base), strict=True)
    for place, (x_choices, y_choices) in enumerate(at_each_place, sight.lowest):
        if place == max(sight.place, sight.lowest):
            ways = {carry: count for carry, count in ways.items() if sight.is_possible(carry)}
        after = {0: 0, 1: 0}
        for carry, count in ways.items():
            num_carrying = int(ADDITION.step(np.array(x_choices)[:, None], np.array(y_choices), carry, base)[1].sum())
            after[1] += count * num_carrying
            after[0] += count * (len(x_choices) * len(y_choices) - num_carrying)
        ways = after
    return sum(ways.values())


@dataclass(frozen=True)
class Contexts:
    """N contexts of one sight.

    Attributes:
        x, y: (N, places in view) digits, 0 above the highest.
        carry: (N,) into the lowest place in view.
        z: (N, places of the sum in view) the right digits.
        right: (N,) what is to be said: a digit, or -1 for the delimiter.
    """

    sight: Sight
    base: int
    x: Strings
    y: Strings
    carry: NDArray[np.int64]
    z: Strings
    right: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.carry)

    def problem(self, index: int) -> tuple[int, int]:
        """The smallest problem, or nearly, in which a context occurs."""
        sight, base = self.sight, self.base
        operands = []
        for digits, num_digits in ((self.x[index], sight.x_digits), (self.y[index], sight.y_digits)):
            value = sum(int(digit) * base**place for place, digit in enumerate(digits, sight.lowest - 1))
            if self.carry[index]:
                value += (base - 1) * base ** (sight.lowest - 2)
            if num_digits == sight.num_places and digits[-1] == 0 and sight.highest > 1:
                value += base**sight.highest  # it goes on out of view
            operands.append(value)
        return operands[0], operands[1]

    def tokens(self, vocabulary: Vocabulary) -> tuple[Tensor, Tensor, Tensor]:
        """Write the contexts as rows: tokens and places, (N, T) each, and the right tokens, (N,)."""
        digit_ids = np.array(vocabulary.digit_ids)
        delimiter = np.full((len(self), 1), vocabulary.delimiter_id)
        columns, places = [], []
        for digits, num_digits in ((self.x, self.sight.x_digits), (self.y, self.sight.y_digits)):
            columns += [delimiter, digit_ids[digits[:, :num_digits]]]
            places += [0, *range(self.sight.lowest, self.sight.lowest + num_digits)]
        columns += [delimiter, digit_ids[self.z]]
        places += [0, *range(self.sight.lowest, self.sight.lowest + self.z.shape[1])]
        tokens = torch.from_numpy(np.concatenate(columns, axis=1))
        right = np.where(self.right < 0, vocabulary.delimiter_id, digit_ids[self.right])
        return tokens, torch.tensor(places).expand_as(tokens), torch.from_numpy(right)


def contexts(base: int, left: int, right: int, period: int) -> Iterator[Contexts]:
    """List every context, some of one sight at a time."""
    for sight in sights(left, right, period):
        x, y = (_strings(sight.choices(count, base)) for count in (sight.x_digits, sight.y_digits))
        for some in np.array_split(x, -(-len(x) * len(y) // _CONTEXTS_AT_A_TIME)):
            for carry in sight.carries:
                made = _contexts(sight, base, some.repeat(len(y), axis=0), np.tile(y, (len(some), 1)), carry)
                if len(made):
                    yield made


def _strings(choices: list[range]) -> Strings:
    """Every string of digits that the choices allow: (N, places)."""
    return np.stack([grid.ravel() for grid in np.meshgrid(*choices, indexing="ij")], axis=1)


def _contexts(sight: Sight, base: int, x: Strings, y: Strings, carry_in: int) -> Contexts:
    """Add what is in view, place by place, and keep what can occur."""
    sums, carries = [], [np.full(len(x), carry_in)]  # the carry into each place in view
    for place in range(sight.num_places):
        digit, carry = ADDITION.step(x[:, place], y[:, place], carries[-1], base)
        sums.append(digit)
        carries.append(carry)
    here = sight.place - sight.lowest  # index of the token's own place; -1 for the last delimiter
    into_next = carries[here + 1]
    right = np.where((sight.top > sight.place) | (into_next == 1), sums[here + 1], -1)
    is_possible = np.array([sight.is_possible(carry) for carry in (0, 1)])[carries[max(here, 0)]]
    z = np.stack(sums[: here + 1], axis=1) if here >= 0 else np.zeros((len(x), 0), np.int64)
    kept = np.flatnonzero(is_possible)
    return Contexts(sight, base, x[kept], y[kept], np.full(len(kept), carry_in), z[kept], right[kept])


@torch.inference_mode()
def context_logits(reader: Reader, some: Contexts, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Run contexts: what their last tokens say, (N, V), and the right tokens, (N,)."""
    tokens, places, right = (one.to(reader.device) for one in some.tokens(vocabulary))
    cache = reader.new_cache(*tokens.shape)
    logits = reader.read(tokens, places, torch.ones_like(tokens, dtype=torch.bool), cache, 1)[:, 0]
    return logits, right


def prove_all_lengths(
    reader: Reader, vocabulary: Vocabulary, on_contexts: Callable[[int], object] = lambda num_contexts: None
) -> dict[str, object]:
    """Run every context of a model and count.

    Args:
        reader: in float32; what rounding does to it is another question, see `rounding.rounding_at_lengths`.
        on_contexts: called with the number of contexts just run.

    Returns:
        expected and checked, counted in two ways; wrong, failures (the first MAX_FAILURES, each as a problem and the
        digit of its sum, from 1, that is said wrongly), min_logit_margin and where it is, seconds.

    Raises:
        UsageError: the contexts of this model cannot be listed.
    """
    expected = num_contexts(reader.config)
    started = time.monotonic()
    checked, wrong, failures, smallest = 0, 0, [], (math.inf, {})
    for some in contexts(*_shape(reader.config)):
        logits, right = context_logits(reader, some, vocabulary)
        margins = lead(logits, right).float().cpu()
        is_wrong = ~(margins > 0)  # what is not a number is wrong
        checked, wrong = checked + len(some), wrong + int(is_wrong.sum())
        for index in is_wrong.nonzero()[: MAX_FAILURES - len(failures), 0].tolist():
            failures.append(_described(some, index, int(logits[index].argmax()), vocabulary))
        least = int(margins.argmin())
        if not smallest[0] <= float(margins[least]):
            smallest = float(margins[least]), _described(some, least, int(logits[least].argmax()), vocabulary)
        on_contexts(len(some))
    return {
        "expected": expected,
        "checked": checked,
        "wrong": wrong,
        "failures": failures,
        "min_logit_margin": smallest[0],
        "min_logit_margin_at": smallest[1],
        "seconds": round(time.monotonic() - started, 3),
    }


def _described(some: Contexts, index: int, said: int, vocabulary: Vocabulary) -> dict[str, str | int]:
    """A context as a problem, and what is right and what is said at which digit of its sum; "+" ends the sum."""
    names = {vocabulary.delimiter_id: DELIMITER, **dict(zip(vocabulary.digit_ids, DIGIT_ALPHABET, strict=False))}
    right = int(some.right[index])
    x, y = some.problem(index)
    return {
        "x": str(x),
        "y": str(y),
        "digit": some.sight.place + 1,
        "right": DELIMITER if right < 0 else DIGIT_ALPHABET[right],
        "said": names.get(said, "no digit"),
    }
