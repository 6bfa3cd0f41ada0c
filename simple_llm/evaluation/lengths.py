"""How a model does on numbers of given lengths, however long: exact match by length and by longest carry chain.

A divisor has half as many digits as what is divided, so that the quotient is as long as it is.

Shape letters in this file: W digits of both operands, N problems.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.columns import num_quiet
from simple_llm.arithmetic.operation import Operation
from simple_llm.data.problems import Problems
from simple_llm.data.split import problems_on_sides, TEST
from simple_llm.errors import UsageError
from simple_llm.evaluation.held_out import said_right
from simple_llm.evaluation.margins import row_margins
from simple_llm.evaluation.scoring import clopper_pearson_upper
from simple_llm.model.decoding import Decoder, Reader
from simple_llm.model.folder import LoadedModel
from simple_llm.model.tokens import answer_tokens, prompt_tokens, Vocabulary

CHAIN_SHARE = 0.9  # of the places of a problem of the second kind add up to base - 1, where a carry runs on
_SEEN_AT_A_TIME = 2**24  # pairs of tokens
_CANDIDATES = 30  # drawn for each problem of the test side
KINDS = ("uniform", "carries")
CHAINS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # the lower ends of the bins of a table


@dataclass(frozen=True)
class LengthScore:
    """Exact matches among problems of one length and one kind.

    Attributes:
        num_digits: of both operands; of a division, of the first.
        kind: "uniform" digits, or "carries": long chains of them.
        by_longest_carry_chain: (shortest chain of the bin, correct, total) for each bin that holds some.
        seconds: of decoding.
    """

    num_digits: int
    kind: str
    correct: int
    total: int
    by_longest_carry_chain: list[tuple[int, int, int]]
    seconds: float
    operation: str = ADDITION.name

    @property
    def error_rate_upper_95(self) -> float:
        return clopper_pearson_upper(self.total - self.correct, self.total)

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "error_rate_upper_95": self.error_rate_upper_95}


def kinds_of(operation: Operation) -> tuple[str, ...]:
    """How problems of an operation are drawn: where it goes from column to column, with long chains of carries too."""
    return KINDS if operation.step else KINDS[:1]


def problems_of_length(
    rng: np.random.Generator,
    base: int,
    num_digits: int,
    num_problems: int,
    kind: str,
    operation: Operation = ADDITION,
) -> Problems:
    """Draw operands of W digits each, (W, N): "uniform" ones, or "carries", in which most places pass a carry on."""
    x, y = rng.integers(base, size=(2, num_digits, num_problems), dtype=np.uint8)
    if kind == "carries":
        passes_on = num_quiet(operation, base)[x] - 1
        y = np.where(rng.random(x.shape) < CHAIN_SHARE, passes_on, y).astype(np.uint8)
    if num_digits > 1:  # the highest digit is not 0
        tops = rng.integers(1, base, size=(2, num_problems), dtype=np.uint8)
        x[-1], y[-1] = np.where(x[-1], x[-1], tops[0]), np.where(y[-1], y[-1], tops[1])
    if operation.leaves_rest:
        middle = (num_digits - 1) // 2
        y[middle + 1 :] = 0
        y[middle] = np.maximum(y[middle], 1)
    return Problems.of(operation, x, y, base)


def refuse_long_lengths(loaded: LoadedModel, lengths: Iterable[int]) -> None:
    """Refuse numbers past the position table, and a model that knows no sums, of which the problems are.

    Raises:
        UsageError: naming the first that is too long.
    """
    if ADDITION not in loaded.operations and loaded.vocabulary.work_ids is None:
        raise UsageError("--lengths draws sums, and this model was trained on none; see evaluate.py --exhaustive")
    longest = loaded.train.model.most_digits
    too_long = [num_digits for num_digits in lengths if longest is not None and num_digits > longest]
    if too_long:
        raise UsageError(f"--lengths: this model has positions for {longest:,} digits, not for {too_long[0]:,}")


def evaluate_length(
    loaded: LoadedModel,
    decoder: Decoder,
    num_digits: int,
    kind: str,
    num_problems: int,
    seed: int,
    on_batch: Callable[[int], object],
    operation: Operation = ADDITION,
) -> LengthScore:
    """Draw problems of one length and decode them: longer ones than in training, or from the test side.

    Short problems may come more than once.
    """
    rng = np.random.default_rng((seed, num_digits, kind == "carries"))
    data = loaded.data
    is_new = num_digits > data.operand_digits
    num_candidates = num_problems if is_new else _CANDIDATES * num_problems
    problems = problems_of_length(rng, data.numbers.base, num_digits, num_candidates, kind, operation)
    if not is_new:
        problems = problems_on_sides(problems, data.split, (TEST,))[:num_problems]
    vocabulary = loaded.vocabulary
    started = time.monotonic()
    if vocabulary.work_ids:
        is_right = said_right(
            decoder.decode(prompt_tokens(problems, vocabulary), on_batch=on_batch), problems, vocabulary
        )
    elif decoder.config.attention_window:
        answers = decoder.decode(prompt_tokens(problems, vocabulary), num_digits + 2, on_batch=on_batch)
        right = answer_tokens(problems, vocabulary)  # (N, A)
        is_right = (answers.tokens[:, : right.shape[1]] == right).all(1).numpy()
    else:  # to decode is as good, and takes many times as long where every token sees all
        is_right = (_margins(decoder.readers[-1], problems, vocabulary, on_batch) > 0).numpy()
    seconds = time.monotonic() - started
    bins = np.searchsorted(CHAINS, problems.longest_chain, side="right") - 1
    by_chain = [(CHAINS[one], int(is_right[bins == one].sum()), int((bins == one).sum())) for one in np.unique(bins)]
    counts = int(is_right.sum()), len(problems)
    return LengthScore(num_digits, kind, *counts, by_chain, round(seconds, 3), operation.name)


def make_length_report(
    loaded: LoadedModel, decoder: Decoder, scores: list[LengthScore], seed: int
) -> dict[str, object]:
    """What lengths.json holds."""
    return {
        "lengths": [score.as_dict() for score in scores],
        "model_sha256": loaded.sha256,
        "base": loaded.data.numbers.base,
        "trained_digits": loaded.data.operand_digits,
        "seed": seed,
        "dtype": decoder.dtype_names,
        "device": loaded.model.device.type,
    }


def _margins(
    reader: Reader, problems: Problems, vocabulary: Vocabulary, on_batch: Callable[[int], object]
) -> torch.Tensor:
    """Check problems one row each, as many at a time as their attention to each other leaves memory for: (N,)."""
    batch_size = max(1, _SEEN_AT_A_TIME // (3 * problems.x.shape[0]) ** 2)
    margins = []
    for first in range(0, len(problems), batch_size):
        some = problems[first : first + batch_size]
        margins.append(row_margins(reader, some, vocabulary))
        on_batch(len(some))
    return torch.cat(margins) if margins else torch.empty(0)
