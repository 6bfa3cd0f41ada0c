"""Counts of what became of faults, and the table of them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

MAX_REASONS = 5  # shown of what was lost


@dataclass
class Tally:
    """What became of the faults of one kind.

    Attributes:
        survived: the result is what it would have been without the fault.
        detected: it was refused, and the message names what is wrong.
        lost: neither.
        reasons: the first of what was lost.
        seconds: of a whole part, in its first tally.
        where: what the faults hit, as far as it can be seen afterwards.
        is_ours: not of another library, tried for comparison.
    """

    fault: str
    survived: int = 0
    detected: int = 0
    lost: int = 0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)
    where: Counter[str] = field(default_factory=Counter)
    is_ours: bool = True

    @property
    def tried(self) -> int:
        return self.survived + self.detected + self.lost

    def as_dict(self) -> dict[str, object]:
        return {"fault": self.fault, "tried": self.tried, **vars(self)}

    def survive(self) -> None:
        self.survived += 1

    def detect(self) -> None:
        self.detected += 1

    def lose(self, reason: str) -> None:
        self.lost += 1
        if len(self.reasons) < MAX_REASONS:
            self.reasons.append(" ".join(reason.split()))

    def judge(self, wrong: str) -> None:
        """Count one that survived unless something is wrong."""
        if wrong:
            self.lose(wrong)
        else:
            self.survive()


@dataclass(frozen=True)
class Plan:
    """What a part of the benchmark is given.

    Attributes:
        folder: empty, its own.
        count: faults to try.
        advance: called with the number of faults just tried.
    """

    folder: Path
    count: int
    rng: Random
    advance: Callable[[int], object]


def table(tallies: list[Tally]) -> str:
    """Write the counts, a line a kind of fault, and below them where the faults hit and what was lost."""
    lines = [f"{'fault':58} {'tried':>8} {'survived':>8} {'detected':>8} {'lost':>5} {'seconds':>8}"]
    for one in tallies:
        counts = f"{one.tried:>8,} {one.survived:>8,} {one.detected:>8,} {one.lost:>5,}"
        lines.append(f"{one.fault:58} {counts}" + (f" {one.seconds:>8,.1f}" if one.seconds else ""))
        lines += [f"    {number:>6,} {place}" for place, number in one.where.most_common()]
        lines += [f"    lost: {reason}" for reason in one.reasons]
    return "\n".join(lines)
