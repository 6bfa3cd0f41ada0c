"""Draw problems: uniform over values, uniform over digit lengths, long carry chains.

Shape letters in this file: W places (digits of the widest number), N problems.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic import columns
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import Digits, digits_of, num_digits
from simple_llm.arithmetic.operands import Operands
from simple_llm.arithmetic.operation import Operation
from simple_llm.config.settings import Numbers, Split
from simple_llm.data.problems import concatenate, Problems
from simple_llm.data.split import ordered_keys, problems_on_sides, side_share

_CHUNK = 2**14  # candidates drawn at a time: small enough to stay in the processor's cache
_MOSTLY = 0.6  # of the digits
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
    """The strata of one operation over one range of operands.

    Attributes:
        operands: the first ones, and the others where there is no other range for them.
        second: the others.
        most: operands of a problem; as many as that, or any number from two on.
        large_digits: share of the operands that have mostly the two largest digits. In a division only divisors have:
            beside them its guesses go wrong.
    """

    operands: Operands
    operation: Operation = ADDITION
    second: Operands | None = None
    most: int = 2
    large_digits: float = 0.0

    @classmethod
    def of(cls, numbers: Numbers, operation: Operation = ADDITION, large_digits: float = 0.0) -> "Sampler":
        first, second = (Operands(*bounds, numbers.base) for bounds in numbers.bounds(operation))
        most = numbers.most_operands(operation)
        return cls(first, operation, None if first == second else second, most, large_digits)

    @property
    def others(self) -> Operands:
        """Operands after the first."""
        return self.second or self.operands

    @property
    def width(self) -> int:
        """W: digits of the largest operand."""
        return max(self.operands.width, self.others.width)

    @property
    def largest(self) -> int:
        """Of all operands."""
        return max(self.operands.maximum, self.others.maximum)

    @property
    def strata(self) -> dict[str, Stratum]:
        of_carries = {"carries": self.carries} if self.operation.step else {}
        return {"uniform": self.uniform, "lengths": self.lengths, **of_carries}

    @property
    def num_pairs(self) -> int:
        """Count the problems of two operands."""
        return self.operands.count * self.others.count

    @property
    def num_problems(self) -> int:
        """Count the problems, of however many operands."""
        return sum(self.operands.count * self.others.count ** (number - 1) for number in range(2, self.most + 1))

    def uniform(self, rng: np.random.Generator, count: int) -> Problems:
        """Draw operands uniformly over values."""
        return self._drawn(lambda operands: operands.uniform(rng, count), rng, count)

    def lengths(self, rng: np.random.Generator, count: int) -> Problems:
        """Draw the number of digits of each operand uniformly, then its value uniformly."""
        return self._drawn(lambda operands: operands.by_length(rng, count), rng, count)

    def _drawn(self, draw: Callable[[Operands], Digits], rng: np.random.Generator, count: int) -> Problems:
        """Draw operands one after the other; at most `count` problems, as some go out of range with large digits."""
        ranges = [self.operands, *(self.others,) * (self.most - 1)]
        numbers, is_inside = [], np.ones(count, bool)
        for index, operands in enumerate(ranges):
            number = draw(operands)
            if self.large_digits and not (self.operation.leaves_rest and index == 0):
                number = _with_large_digits(number, self.large_digits, operands.base, rng)
                is_inside &= operands.contain(number)
            numbers.append(self._wide(number))
        problems = self._problems(*numbers[:2])
        if self.most > 2:
            num_more = rng.integers(0, self.most - 1, count, np.uint8).astype(np.int64)
            more = tuple(number * (index < num_more) for index, number in enumerate(numbers[2:]))
            problems = replace(problems, more=more, num_more=num_more)
        return problems if is_inside.all() else problems[is_inside]

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
        x, y = (self._wide(operands.by_length(rng, count)) for operands in (self.operands, self.others))
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
        problems = self._problems(x, y)
        if self.most > 2:  # as other strata draw those of two operands, so that one that comes twice is found
            problems = replace(problems, more=(np.zeros_like(x),) * (self.most - 2), num_more=np.zeros(count, np.int64))
        return problems[self.others.contain(y)]

    def like(self, rng: np.random.Generator, example: Problems, count: int) -> Problems:
        """Draw problems whose operands have the lengths of another's and whose places pass on a carry where its do.

        At about half of the places, drawn for each problem anew, the digit of the answer is what it is there too: what
        makes a problem hard is often a pair of digits, such as the largest one twice, and carries alone do not tell.

        Args:
            example: one problem, of this operation.

        Returns:
            At most `count` problems: those with an operand out of range are left out.
        """
        operands, others, step = self.operands, self.others, self.operation.step
        x, y = (np.zeros((self.width, count), np.uint8) for _ in "xy")
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
        return self._problems(x, y)[operands.contain(x) & others.contain(y)]

    def all_pairs(self) -> Iterator[Problems]:
        """Go through every ordered pair of the range, in order, a chunk at a time."""
        first, second = (digits_of(one.values, one.base, self.width) for one in (self.operands, self.others))
        for start in range(0, self.num_pairs, _CHUNK):
            index = np.arange(start, min(start + _CHUNK, self.num_pairs))
            yield self._problems(first[:, index // self.others.count], second[:, index % self.others.count])

    def all_problems(self) -> Iterator[Problems]:
        """The same, and then every three operands in order, and so on."""
        yield from self.all_pairs()
        values = digits_of(self.others.values, self.others.base, self.width)
        for num_more in range(1, self.most - 1):
            for pairs in self.all_pairs():
                for chosen in itertools.product(range(self.others.count), repeat=num_more):
                    of_each = (np.repeat(values[:, index : index + 1], len(pairs), axis=1) for index in chosen)
                    yield replace(pairs, more=tuple(of_each), num_more=np.full(len(pairs), num_more))

    def _wide(self, digits: Digits) -> Digits:
        return np.pad(digits, [(0, self.width - len(digits)), (0, 0)])

    def _problems(self, x: Digits, y: Digits) -> Problems:
        return Problems.of(self.operation, x, y, self.operands.base)

    @property
    def _num_carrying_places(self) -> int:
        """Places that can pass a carry on: not the highest, if its largest digits make none of one that comes in."""
        base, width = self.operands.base, self.width
        top_digits = np.indices([one.maximum // base ** (width - 1) + 1 for one in (self.operands, self.others)])
        can_carry = self.operation.step(*top_digits, 1, base)[1].any()
        return width if can_carry else max(1, width - 1)


def _with_large_digits(digits: Digits, share: float, base: int, rng: np.random.Generator) -> Digits:
    """Have most digits of a share of the numbers be one of the two largest: (W, N) -> (W, N).

    A number keeps its length. What is rare otherwise is frequent then: the largest carries, and guesses that are five
    too large.
    """
    is_within = np.arange(len(digits))[:, None] < num_digits(digits)
    is_large = (rng.random(digits.shape[1]) < share) & (rng.random(digits.shape) < _MOSTLY) & is_within
    large = base - 1 - rng.integers(0, min(2, base - 1), digits.shape, np.uint8)
    return np.where(is_large, large, digits).astype(np.uint8)


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
    num_expected = sampler.num_problems * side_share(split, sides)
    uniform = None
    if num_expected < 4 * num_wanted + 1000:
        # A good part of all pairs is wanted: list them, so that their number is known and the last are found.
        listed = concatenate([problems_on_sides(chunk, split, sides) for chunk in sampler.all_problems()])
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
        ranges = (sampler.operands, sampler.others)
        self.operands = range(min(one.minimum for one in ranges), max(one.maximum for one in ranges) + 1)
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
