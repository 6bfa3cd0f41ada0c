"""Draw problems: uniform over values, uniform over digit lengths, long carry chains.

Shape letters in this file: W places (digits of the widest number), N problems.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic import columns
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import Digits, digits_of
from simple_llm.arithmetic.operands import Operands
from simple_llm.arithmetic.operation import Operation
from simple_llm.config.settings import Numbers, Split
from simple_llm.data.problems import concatenate, Problems
from simple_llm.data.split import ordered_keys, problems_on_sides, side_share

_CHUNK = 2**14  # candidates drawn at a time: small enough to stay in the processor's cache
_RUNS_OUT_BELOW = 1 / 256  # of a round's candidates on the right sides: with fewer new ones a stratum has run out
_MAKING_NO_CARRY, _ONE_LESS, _ONE_MORE = 2, 2, 3  # kinds of planted chains, out of 8: 0 and 1, 2, 3

Stratum = Callable[[np.random.Generator, int], Problems]


class OutOfProblemsError(ValueError):
    """The range holds fewer problems than were asked for."""

    def __init__(self, available: int) -> None:
        super().__init__(f"only {available:,} problems exist")
        self.available = available


@dataclass(frozen=True)
class Sampler:
    """The strata of one operation over one range of operands."""

    operands: Operands
    operation: Operation = ADDITION

    @classmethod
    def of(cls, numbers: Numbers, operation: Operation = ADDITION) -> "Sampler":
        return cls(Operands(numbers.min, numbers.max, numbers.base), operation)

    @property
    def strata(self) -> dict[str, Stratum]:
        return {"uniform": self.uniform, "lengths": self.lengths, "carries": self.carries}

    @property
    def num_pairs(self) -> int:
        return self.operands.count**2

    def uniform(self, rng: np.random.Generator, count: int) -> Problems:
        """Draw both operands uniformly over values."""
        return self._problems(*(self.operands.uniform(rng, count) for _ in "xy"))

    def lengths(self, rng: np.random.Generator, count: int) -> Problems:
        """Draw the number of digits of each operand uniformly, then its value uniformly."""
        return self._problems(*(self.operands.by_length(rng, count) for _ in "xy"))

    def carries(self, rng: np.random.Generator, count: int) -> Problems:
        """Draw problems with a long carry chain, or with what nearly is one.

        The chain goes from the lower to the higher of two uniform places. At its start x and y make a carry (or would
        pass one on, where nothing beside x makes one), and each of the other places of it passes the carry on:

            place      0 1 2 3 4
            x          7 8 2 0 4
            y          1 6 7 9 2      base 10, x + y, chain over places 1 to 3

        That is half of the problems. The others are what a model must tell apart from it: in a quarter the start makes
        no carry, in an eighth each one place of the rest has one less and stops it, or one more and makes its own.

        Returns:
            At most `count` problems: those whose second operand went out of range are left out.
        """
        x, y = (self.operands.by_length(rng, count) for _ in "xy")
        quiet = columns.num_quiet(self.operation, self.operands.base).astype(np.uint8)  # (base,)
        places = rng.integers(0, self._num_carrying_places, (2, count), np.uint16)
        start, last = places.min(axis=0), places.max(axis=0)
        column, kind = np.arange(count), rng.integers(0, 8, count, np.uint8)
        num_quiet, largest = quiet[x[start, column]], self.operands.base - 1
        with_carry, without = largest - _below(largest + 1 - num_quiet, rng), _below(num_quiet, rng)
        y[start, column] = np.where(kind < _MAKING_NO_CARRY, without, with_carry)
        for place in range(1, self._num_carrying_places):
            np.copyto(y[place], quiet[x[place]] - 1, where=(start < place) & (place <= last))
        odd = start + _below(last - start, rng) + (start < last)  # a place of the rest, where there is one
        nudge = (start < last) * ((kind == _ONE_MORE).astype(np.int16) - (kind == _ONE_LESS))
        y[odd, column] = (y[odd, column] + nudge).clip(0, largest)
        return self._problems(x, y)[self.operands.contain(y)]

    def like(self, rng: np.random.Generator, example: Problems, count: int) -> Problems:
        """Draw problems whose operands have the lengths of another's and whose places pass on a carry where its do.

        At about half of the places, drawn for each problem anew, the digit of the answer is what it is there too: what
        makes a problem hard is often a pair of digits, such as the largest one twice, and carries alone do not tell.

        Args:
            example: one problem, of this operation.

        Returns:
            At most `count` problems: those with an operand out of range are left out.
        """
        operands, step = self.operands, self.operation.step
        x, y = (np.zeros((operands.width, count), np.uint8) for _ in "xy")
        digits = np.indices((operands.base, operands.base)).reshape(2, -1)  # every pair of digits: (2, base^2)
        carries = example.carries[:, 0].astype(np.int64)
        for place, pair in enumerate(zip(example.x[:, 0], example.y[:, 0], strict=True)):
            answers, carries_out = step(*digits, carries[place], operands.base)
            fits = carries_out == carries[place + 1]
            for operand, length in zip(digits, (example.x_length[0], example.y_length[0]), strict=True):
                is_top = place == length - 1 and place > 0
                fits &= (operand == 0) if place >= length else (operand >= is_top)
            is_same = fits & (answers == step(*map(np.int64, pair), carries[place], operands.base)[0])
            any_fit, same = (rng.choice(np.flatnonzero(which), count) for which in (fits, is_same))
            x[place], y[place] = digits[:, np.where(rng.random(count) < 0.5, same, any_fit)]
        return self._problems(x, y)[operands.contain(x) & operands.contain(y)]

    def all_pairs(self) -> Iterator[Problems]:
        """Go through every ordered pair of the range, in order, a chunk at a time."""
        operands = self.operands
        values = digits_of(operands.values, operands.base, operands.width)
        for first in range(0, self.num_pairs, _CHUNK):
            index = np.arange(first, min(first + _CHUNK, self.num_pairs))
            yield self._problems(values[:, index // operands.count], values[:, index % operands.count])

    def _problems(self, x: Digits, y: Digits) -> Problems:
        return Problems.of(self.operation, x, y, self.operands.base)

    @property
    def _num_carrying_places(self) -> int:
        """Places that can pass a carry on: not the highest, if its largest digits make none of one that comes in."""
        operands = self.operands
        top_digits = np.indices((operands.maximum // operands.base ** (operands.width - 1) + 1,) * 2)
        can_carry = self.operation.step(*top_digits, 1, operands.base)[1].any()
        return operands.width if can_carry else max(1, operands.width - 1)


def _below(bounds: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.uint32]:
    """Draw a whole number from 0 to below each bound, alike to within 1 in 65,536 / bound; 0 below 0. (N,) -> (N,)."""
    return bounds.astype(np.uint32) * rng.integers(0, 2**16, len(bounds), np.uint16) >> 16


@dataclass
class Draw:
    """Unique problems from some sides of the split.

    Attributes:
        problems: in random order.
        asked, drawn: rows by stratum; a stratum that ran out has fewer drawn, and uniform has more.
    """

    problems: Problems
    asked: dict[str, int]
    drawn: dict[str, int]


def draw_unique(
    sampler: Sampler, split: Split, sides: tuple[int, ...], asked: dict[str, int], rng: np.random.Generator
) -> Draw:
    """Draw ordered pairs of one operation that differ from one another, from the given sides only.

    Args:
        asked: problems by name of the stratum; what a stratum cannot supply goes to uniform.

    Raises:
        OutOfProblemsError: the range has fewer such pairs than were asked for.
    """
    num_wanted = sum(asked.values())
    num_expected = sampler.num_pairs * side_share(split, sides)
    uniform = None
    if num_expected < 4 * num_wanted + 1000:
        # A good part of all pairs is wanted: list them, so that their number is known and the last are found.
        listed = concatenate([problems_on_sides(chunk, split, sides) for chunk in sampler.all_pairs()])
        if len(listed) < num_wanted:
            raise OutOfProblemsError(len(listed))
        uniform = listed[rng.permutation(len(listed))]

    pool = _Pool(sampler, split, sides, num_wanted)
    drawn = {name: pool.draw(sampler.strata[name], count, rng) for name, count in asked.items() if name != "uniform"}
    num_missing = num_wanted - sum(drawn.values())
    drawn["uniform"] = 0 if uniform is None else pool.take([uniform], num_missing)
    while uniform is None and drawn["uniform"] < num_missing:  # a draw may find few by chance, though there are many
        drawn["uniform"] += pool.draw(sampler.uniform, num_missing - drawn["uniform"], rng)
    assert sum(drawn.values()) == num_wanted, f"drew {drawn} where {num_wanted} problems were known to exist"
    return Draw(pool.shuffled(), asked, {name: drawn[name] for name in asked})


def mixed(draws: dict[str, Draw], rng: np.random.Generator) -> Draw:
    """Join what was drawn of several operations, by their names, in random order; one alone stays as it is."""
    if len(draws) == 1:
        return next(iter(draws.values()))
    problems = concatenate([draw.problems for draw in draws.values()])
    asked, drawn = (
        {f"{name} {stratum}": count for name, draw in draws.items() for stratum, count in getattr(draw, which).items()}
        for which in ("asked", "drawn")
    )
    return Draw(problems[rng.permutation(len(problems))], asked, drawn)


class _Pool:
    """Problems drawn so far, each once.

    Equal problems are found by sorting. A key and the index of its problem share one 64-bit word, key above
    index: such words are all different, so the order is the same on every machine, and they sort several
    times as fast as keys alone with a stable sort.
    """

    def __init__(self, sampler: Sampler, split: Split, sides: tuple[int, ...], num_wanted: int) -> None:
        self.split, self.sides = split, sides
        self.operands = sampler.operands.values
        self.parts: list[Problems] = []
        self.index_bits = (10 * num_wanted + 2000).bit_length()
        self.keys = np.zeros(0, np.uint64)  # of the problems in `parts`, in their order

    def draw(self, stratum: Stratum, count: int, rng: np.random.Generator) -> int:
        """Add up to `count` new problems of a stratum; return how many there were before it ran out."""
        share = side_share(self.split, self.sides)
        missing, yielded = count, share  # at first all candidates are taken for new
        while missing and yielded >= _RUNS_OUT_BELOW * share:
            num_candidates = int(min(1.05 * missing / yielded, 8 * count / share)) + 256
            chunks = [
                problems_on_sides(stratum(rng, min(_CHUNK, num_candidates - first)), self.split, self.sides)
                for first in range(0, num_candidates, _CHUNK)
            ]
            num_new = self.take(chunks, missing)
            missing -= num_new
            yielded = num_new / num_candidates
        return count - missing

    def take(self, chunks: list[Problems], most: int) -> int:
        """Keep the first `most` candidates that are new; return how many there were."""
        chunk_keys = [ordered_keys(chunk, 64 - self.index_bits, self.operands) for chunk in chunks]
        keys = np.concatenate([self.keys, *chunk_keys])
        num_before = len(self.keys)
        assert len(keys) <= 2**self.index_bits, f"{len(keys)} indices do not fit in {self.index_bits} bits"
        sorted_keys, index = self._sort(keys)
        is_new = np.ones(len(keys), bool)
        is_new[index[1:]] = sorted_keys[1:] != sorted_keys[:-1]  # of equal ones the first counts
        is_new[:num_before] = False
        new = np.flatnonzero(is_new)[:most]
        self.keys = np.concatenate([self.keys, keys[new]])
        self.parts.append(concatenate(chunks)[new - num_before])
        return len(new)

    def shuffled(self) -> Problems:
        """All problems, in the order of their keys, which says nothing about the order they were drawn in."""
        return concatenate(self.parts)[self._sort(self.keys)[1]]

    def _sort(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Sort keys, equal ones in the order they came: the sorted keys and the index of each."""
        bits = np.uint64(self.index_bits)
        words = np.sort((keys << bits) | np.arange(len(keys), dtype=np.uint64))
        return words >> bits, (words & ((np.uint64(1) << bits) - np.uint64(1))).view(np.int64)
