"""Every ordered pair of a range counted, in shards that are resumed and split at will, and the certificate of it.

Shape letters in this file: X first operands of a shard, Y second operands.

A shard is a block of first operands. Each is written whole when it is done, into `proof/` beside the model, and names
the model it belongs to; the certificate is made of the shards alone, and only if they are exactly the range.
"""

import copy
import hashlib
import itertools
import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simple_llm.arithmetic.integers import digit_count
from simple_llm.batches import Vocabulary
from simple_llm.data.problems import from_integers, Problems
from simple_llm.decoding import Reader, SURE
from simple_llm.engine import Engine
from simple_llm.errors import ArtefactError
from simple_llm.evaluation.margins import row_logits, row_margins
from simple_llm.evaluation.reports import CERTIFICATE, is_of_config, MOST_BYTES
from simple_llm.files.manifest import sealed, unseal
from simple_llm.files.reading import read_json
from simple_llm.files.writing import write_file
from simple_llm.modeling_simple_llm import IGNORE_INDEX, SimpleLLMForCausalLM
from simple_llm.proof.pair_table import PairTable
from simple_llm.proof.pair_tree import PairTree

MEMORY_BUDGET = 64 * 2**20  # bytes of the tokens read together: about what stays near the processor
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


class Prover:
    """Counts shards.

    Args:
        readers: a fast one, and where there is another, that one decides what the first is not sure of.
        memory_budget: bytes that the tokens read together may take.
        by_table: of the pairs that look alike to a token, read one, by the last reader; see `pair_table`.
    """

    def __init__(
        self,
        readers: tuple[Reader, ...],
        vocabulary: Vocabulary,
        minimum: int,
        maximum: int,
        memory_budget: int = MEMORY_BUDGET,
        by_table: bool = False,
    ) -> None:
        self.readers, self.vocabulary = readers[-1:] if by_table else readers, vocabulary
        self.base, self.minimum, self.maximum = len(vocabulary.digit_ids), minimum, maximum
        if by_table:
            self.pairs = PairTable(self.readers[0], vocabulary, minimum, maximum)
        else:
            max_tokens = max(self.base, memory_budget // readers[0].bytes_per_token())
            self.pairs = PairTree(readers[0], vocabulary, minimum, maximum, max_tokens)
        values = torch.arange(minimum, maximum + 1)
        powers = [self.base**place for place in range(1, digit_count(maximum, self.base))]
        self.lengths = torch.ones_like(values) + sum(
            (values >= power).long() for power in powers
        )  # (Y,) digits of each operand

    @torch.inference_mode()
    def count(self, first: int, last: int) -> Shard:
        """Check every pair whose first operand, as the model reads it, is in a block."""
        started = time.monotonic()
        margins = self.pairs.margins(first, last)  # (X, Y)
        num_decided_again = self._decide_again(margins, first) if len(self.readers) > 1 else 0
        is_asked = margins != math.inf
        # With the longer operand second, one prompt is asked for x + y and for y + x.
        is_shared = (self.lengths != self.lengths[first - self.minimum : last - self.minimum + 1, None]) & (
            self.vocabulary.says_all
        )
        num_pairs = is_asked.long() * (1 + is_shared.long())
        is_wrong = is_asked & ~(margins > 0)  # what is not a number is wrong
        failures = []
        for row, column in is_wrong.nonzero()[:MAX_FAILURES].tolist():
            x, y = first + row, self.minimum + column
            failures += [(x, y), (y, x)] if is_shared[row, column] else [(x, y)]
        smallest = margins.flatten().topk(min(NUM_LEAST_SURE, margins.numel()), largest=False)
        least_sure = [
            (margin, first + index // margins.size(1), self.minimum + index % margins.size(1))
            for margin, index in zip(smallest.values.tolist(), smallest.indices.tolist(), strict=True)
            if margin != math.inf
        ]
        return Shard(
            first=first,
            last=last,
            checked=int(num_pairs.sum()),
            prompts=int(is_asked.sum()),
            decided_again=num_decided_again,
            wrong=int((num_pairs * is_wrong).sum()),
            failures=failures[:MAX_FAILURES],
            least_sure=least_sure,
            digest=hashlib.sha256(np.packbits((is_asked & ~is_wrong).numpy()).tobytes()).hexdigest(),
            seconds=round(time.monotonic() - started, 3),
        )

    def _decide_again(self, margins: Tensor, first: int) -> int:
        """Replace the margins that are small by those of the second reader, row by row; return how many."""
        unsure = (~(margins >= SURE)).nonzero()
        pairs = [(first + row, self.minimum + column) for row, column in unsure.tolist()]
        problems = from_integers(pairs, self.base, digit_count(self.maximum, self.base))
        if pairs:
            margins[unsure[:, 0], unsure[:, 1]] = row_margins(self.readers[1], problems, self.vocabulary)
        return len(pairs)


def shard_bounds(minimum: int, maximum: int) -> list[tuple[int, int]]:
    """First and last operand of every shard of a range."""
    size = max(1, min(SHARD_OPERANDS, _SHARD_PAIRS // (maximum - minimum + 1)))
    return [(first, min(first + size - 1, maximum)) for first in range(minimum, maximum + 1, size)]


def shard_path(folder: Path, first: int, last: int, subject: dict[str, object]) -> Path:
    """Where a shard lies: those of another range, or counted by another method, lie beside it."""
    of = [*map(str, subject.get("range", ())), *([subject["method"]] if "method" in subject else [])]
    return folder / ("-".join(["shard", str(first), str(last), *(["of", *of] if of else [])]) + ".json")


def write_shard(folder: Path, shard: Shard, subject: dict[str, object]) -> None:
    """Write a shard whole; `subject` says what was proved: model, tokenizer, range, arithmetic."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"subject": subject, "shard": asdict(shard)}
    content = json.dumps(sealed(document, _SELF)).encode()
    write_file(shard_path(folder, shard.first, shard.last, subject), content)


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


def total(shards: Iterable[Shard], minimum: int, maximum: int) -> dict[str, object]:
    """Add up shards to what the certificate counts.

    Raises:
        ArtefactError: the shards are not exactly the range.
    """
    shards = sorted(shards, key=lambda shard: shard.first)
    expected_first = minimum
    for shard in shards:
        if shard.first != expected_first:
            what = "missing" if shard.first > expected_first else "counted twice"
            raise ArtefactError(f"first operands from {min(expected_first, shard.first)} are {what}; run it again")
        expected_first = shard.last + 1
    if expected_first != maximum + 1:
        raise ArtefactError(f"first operands from {expected_first} are missing; run it again")
    expected, checked = (maximum - minimum + 1) ** 2, sum(shard.checked for shard in shards)
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


@dataclass(frozen=True)
class Certificate:
    """What a certificate counts.

    Attributes:
        minimum, maximum: of both operands.
        failures: the first MAX_FAILURES wrong pairs.
    """

    minimum: int
    maximum: int
    expected: int
    checked: int
    wrong: int
    failures: list[Pair]


def read_certificate(folder: Path, model_sha256: str) -> Certificate:
    """Read the certificate of a model from its folder.

    Raises:
        ArtefactError: there is none, or it is damaged, or of another model.
    """
    if not (folder / CERTIFICATE).exists():
        raise ArtefactError(f"{folder} has no certificate; run `python3 evaluate.py --exhaustive` first")
    document = read_json(folder, CERTIFICATE, MOST_BYTES)
    try:
        if document.get("kind", "all pairs") != "all pairs":
            raise ArtefactError(f"{folder / CERTIFICATE} is of {document['kind']}, not of pairs")
        (minimum, maximum), failures = document["range"], [(x, y) for x, y in document["failures"]]
        expected, checked, wrong = (document[key] for key in ("expected", "checked", "wrong"))
        numbers = (minimum, maximum, expected, checked, wrong, *itertools.chain(*failures))
        if not all(type(number) is int for number in numbers):
            raise ValueError("what it counts is not in whole numbers")
        if not (0 <= minimum <= maximum and 0 <= wrong <= expected):
            raise ValueError(f"{wrong} wrong of {expected}, of operands from {minimum} to {maximum}")
        certificate = Certificate(minimum, maximum, expected, checked, wrong, failures)
        is_this_model = document["model_sha256"] == model_sha256 and is_of_config(folder, document)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"{folder / CERTIFICATE} is damaged ({error}); run `python3 evaluate.py --exhaustive`"
        ) from error
    if not is_this_model:
        raise ArtefactError(f"{folder / CERTIFICATE} is of another model; run `python3 evaluate.py --exhaustive`")
    return certificate


def rounding(model: SimpleLLMForCausalLM, problems: Problems, vocabulary: Vocabulary) -> dict[str, float]:
    """Largest difference of a logit of an answer from what float64 gives, for float32 and for bfloat16.

    Against the margins it says whether another machine, adding up in another order, could say another digit. The two
    are measured where the model is, float64 on the CPU.
    """
    wide = Engine(copy.deepcopy(model).to("cpu"), torch.float64)
    exact = [logits for logits, _ in row_logits(wide, problems, vocabulary)]
    largest = {}
    for dtype in (torch.float32, torch.bfloat16):
        differences = [
            (logits.cpu().double() - right).abs()[targets.cpu() != IGNORE_INDEX].max().item()
            for (logits, targets), right in zip(
                row_logits(Engine(model, dtype), problems, vocabulary), exact, strict=True
            )
        ]
        largest[str(dtype).removeprefix("torch.")] = max(differences)
    return largest
