"""Shards of a proof of all pairs: blocks of first operands, each written by itself, and their total.

Each is written whole when it is done, into `proof/` beside the model, and names the model it belongs to; the
certificate is made of the shards alone, and only if they are exactly the range.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from simple_llm.arithmetic.operands import Operands
from simple_llm.errors import ArtefactError
from simple_llm.files.manifest import sealed, unseal
from simple_llm.files.reading import read_json
from simple_llm.files.writing import write_ours

SHARD_OPERANDS = 100  # first operands a shard, fewer where second ones are many
_SHARD_PAIRS = 2 * 10**6
PROOF_FORMAT = 2  # raised when shards are counted in another way
MAX_FAILURES = 1000  # written down; all are counted
NUM_LEAST_SURE = 10  # a shard writes down
_SELF = "shard_sha256"  # of everything else in its file
Pair = tuple[int, int]


@dataclass(frozen=True)
class Shard:
    """What was counted over a block of first operands.

    Attributes:
        first, last: of the first operands.
        checked: ordered pairs; where one prompt answers x + y and y + x, both.
        prompts: that were run.
        decided_again: prompts that the faster arithmetic was not sure of.
        wrong: ordered pairs.
        failures: the first of them.
        least_sure: margin, x and y of the prompts with the smallest margins, smallest first.
        digest: sha256 of which prompts were right, in order.
    """

    first: int
    last: int
    checked: int
    prompts: int
    decided_again: int
    wrong: int
    failures: list[Pair]
    least_sure: list[tuple[float, int, int]]
    digest: str
    seconds: float


def shard_bounds(operands: Operands) -> list[tuple[int, int]]:
    """First and last operand of every shard of a range."""
    size = max(1, min(SHARD_OPERANDS, _SHARD_PAIRS // operands.count))
    return [(first, min(first + size - 1, operands.maximum)) for first in operands.values[::size]]


def shard_path(folder: Path, first: int, last: int, subject: dict[str, object]) -> Path:
    """Where a shard lies: those of another range, operation or method lie beside it."""
    of = [*map(str, subject.get("range", ())), *(subject[key] for key in ("operation", "method") if key in subject)]
    return folder / ("-".join(["shard", str(first), str(last), *(["of", *of] if of else [])]) + ".json")


def write_shard(folder: Path, shard: Shard, subject: dict[str, object]) -> None:
    """Write a shard whole; `subject` says what was proved: model, tokenizer, range, arithmetic."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"subject": subject, "shard": asdict(shard)}
    content = json.dumps(sealed(document, _SELF)).encode()
    write_ours(shard_path(folder, shard.first, shard.last, subject), content)


def read_shard(path: Path, subject: dict[str, object]) -> Shard | None:
    """Read a shard of the same subject; None where there is none, or another's, or a damaged one."""
    try:
        document = read_json(path.parent, path.name)
        if not unseal(document, _SELF) or document["subject"] != subject:
            return None
        shard = Shard(**document["shard"])
    except (ArtefactError, TypeError, KeyError):
        return None
    return shard if path == shard_path(path.parent, shard.first, shard.last, subject) else None


def total(shards: Iterable[Shard], operands: Operands) -> dict[str, object]:
    """Add up shards to what the certificate counts.

    Raises:
        ArtefactError: the shards are not exactly the range.
    """
    shards = sorted(shards, key=lambda shard: shard.first)
    expected_first = operands.minimum
    for shard in shards:
        if shard.first != expected_first:
            what = "missing" if shard.first > expected_first else "counted twice"
            raise ArtefactError(f"first operands from {min(expected_first, shard.first)} are {what}; run it again")
        expected_first = shard.last + 1
    if expected_first != operands.maximum + 1:
        raise ArtefactError(f"first operands from {expected_first} are missing; run it again")
    expected, checked = operands.count**2, sum(shard.checked for shard in shards)
    if checked != expected:
        raise ArtefactError(f"{checked:,} pairs were checked where there are {expected:,}; run it again")
    least_sure = sorted(tuple(one) for shard in shards for one in shard.least_sure)
    if not math.isfinite(least_sure[0][0]):
        raise ArtefactError("the model says what is not a number; nothing can be proved of it")
    failures = [tuple(pair) for shard in shards for pair in shard.failures]
    return {
        "expected": expected,
        "checked": checked,
        "prompts": sum(shard.prompts for shard in shards),
        "wrong": sum(shard.wrong for shard in shards),
        "failures": failures[:MAX_FAILURES],
        "min_logit_margin": least_sure[0][0],
        "min_logit_margin_at": list(least_sure[0][1:]),
        "least_sure": least_sure[:1000],
        "decided_again": sum(shard.decided_again for shard in shards),
        "seconds": round(sum(shard.seconds for shard in shards), 1),
        "shards": [{"first": shard.first, "last": shard.last, "digest": shard.digest} for shard in shards],
    }
