"""Every ordered pair of a range counted, in shards that are resumed and split at will.

Shape letters in this file: X first operands of a shard, Y second operands.

A shard is a block of first operands. Shards are counted side by side: on every core, by several processes, and on from
where an earlier start was stopped.
"""

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operands import Operands
from simple_llm.arithmetic.operation import Operation
from simple_llm.data.problems import from_integers
from simple_llm.data.sampling import Sampler
from simple_llm.errors import UsageError
from simple_llm.evaluation.margins import row_margins
from simple_llm.files.reading import refuse_link
from simple_llm.model.decoding import Decoder, Reader, SURE
from simple_llm.model.tokens import Vocabulary
from simple_llm.processes import processes_of_torchrun
from simple_llm.proof.pair_table import PairTable
from simple_llm.proof.pair_tree import PairTree
from simple_llm.proof.shards import (
    MAX_FAILURES,
    NUM_LEAST_SURE,
    read_shard,
    Shard,
    shard_bounds,
    shard_path,
    total,
    write_shard,
)

MEMORY_BUDGET = 64 * 2**20  # bytes of the tokens read together: about what stays near the processor
PAIRS_WITHOUT_ASKING = 10**6
HOURS_WITHOUT_ASKING = 1.0

Watch = Callable[[int, int], contextlib.AbstractContextManager[Callable[[int], object]]]


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
        operands: Operands,
        operation: Operation = ADDITION,
        memory_budget: int = MEMORY_BUDGET,
        by_table: bool = False,
    ) -> None:
        self.readers, self.vocabulary = readers[-1:] if by_table else readers, vocabulary
        self.operands, self.operation = operands, operation
        if by_table:
            assert operation is ADDITION, f"a table of {operation.name}"
            self.pairs = PairTable(self.readers[0], vocabulary, operands)
        else:
            max_tokens = max(operands.base, memory_budget // readers[0].bytes_per_token())
            self.pairs = PairTree(readers[0], vocabulary, operands, operation, max_tokens)
        values = torch.arange(operands.minimum, operands.maximum + 1)
        powers = [operands.base**place for place in range(1, operands.width)]
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
        minimum = self.operands.minimum
        is_shared = (self.lengths != self.lengths[first - minimum : last - minimum + 1, None]) & (
            self.vocabulary.says_all and self.operation.commutes
        )
        num_pairs = is_asked.long() * (1 + is_shared.long())
        is_wrong = is_asked & ~(margins > 0)  # what is not a number is wrong
        failures = []
        for row, column in is_wrong.nonzero()[:MAX_FAILURES].tolist():
            x, y = first + row, minimum + column
            failures += [(x, y), (y, x)] if is_shared[row, column] else [(x, y)]
        smallest = margins.flatten().topk(min(NUM_LEAST_SURE, margins.numel()), largest=False)
        least_sure = [
            (margin, first + index // margins.size(1), minimum + index % margins.size(1))
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

    def num_pairs(self, first: int, last: int) -> int:
        """Ordered pairs whose first operand is in a block."""
        return (last - first + 1) * self.operands.count

    def _decide_again(self, margins: Tensor, first: int) -> int:
        """Replace the margins that are small by those of the second reader, row by row; return how many."""
        unsure = (~(margins >= SURE)).nonzero()
        operands = self.operands
        pairs = [(first + row, operands.minimum + column) for row, column in unsure.tolist()]
        problems = from_integers(pairs, operands.base, operands.width, self.operation)
        if pairs:
            margins[unsure[:, 0], unsure[:, 1]] = row_margins(self.readers[1], problems, self.vocabulary)
        return len(pairs)


@contextlib.contextmanager
def unwatched(num_pairs: int, num_done: int) -> Iterator[Callable[[int], object]]:
    """Look on at a proof, and do nothing; see `prove_all_pairs`."""
    yield lambda num_counted: None


def prove_all_pairs(
    prover: Prover, folder: Path, subject: dict[str, object], watch: Watch = unwatched
) -> dict[str, object] | None:
    """Count every pair of a range, but for the shards that are there already.

    Args:
        folder: of the shards.
        subject: what is proved, by which arithmetic: shards of another subject do not count.
        watch: is told how many pairs this process has to count and how many of them were counted before, and gives
            what is called with the number just counted, which is 0 while other processes are at theirs. What that
            raises ends the proof, with the shards that were begun.

    Returns:
        what the certificate counts, see `shards.total`; None in all processes but the first.
    """
    shards = count_shards(prover, folder, subject, watch)
    return None if shards is None else total(shards, prover.operands)


def count_shards(
    prover: Prover, folder: Path, subject: dict[str, object], watch: Watch = unwatched
) -> list[Shard] | None:
    """Count the shards that are not there yet, one on each core; under torchrun each process its share.

    Returns:
        all shards in the first process, None in the others.
    """
    refuse_link(folder)
    processes = processes_of_torchrun()
    bounds = shard_bounds(prover.operands)

    def missing(bounds: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [one for one in bounds if read_shard(shard_path(folder, *one, subject), subject) is None]

    mine = bounds[processes.share]
    to_count = missing(mine)
    num_pairs, num_missing = (sum(prover.num_pairs(*one) for one in some) for some in (mine, to_count))
    with watch(num_pairs, num_pairs - num_missing) as on_pairs:
        count_blocks(prover, to_count, lambda shard: write_shard(folder, shard, subject), on_pairs)
        if not processes.is_first:
            return None
        while processes.count > 1 and missing(bounds):  # the other processes are at them
            on_pairs(0)
            time.sleep(0.5)
    shards = [read_shard(shard_path(folder, *one, subject), subject) for one in bounds]
    return [shard for shard in shards if shard is not None]


def count_blocks(
    prover: Prover,
    blocks: list[tuple[int, int]],
    keep: Callable[[Shard], object] = lambda shard: None,
    on_pairs: Callable[[int], object] = lambda num_pairs: None,
) -> list[Shard]:
    """Count blocks of first operands, one on each core.

    Args:
        blocks: first and last of each.
        keep: called with each shard where it was counted.
        on_pairs: called here with the number of pairs of each; where it raises, what was begun is ended and kept.
    """

    def count(first: int, last: int) -> Shard:
        shard = prover.count(first, last)
        keep(shard)
        return shard

    with one_worker_a_core(prover.readers[0].device) as pool:
        counted = [pool.submit(count, *one) for one in blocks]
        for done in as_completed(counted):
            on_pairs(prover.num_pairs(done.result().first, done.result().last))
    return [one.result() for one in counted]


@contextlib.contextmanager
def one_worker_a_core(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Work on whole shards side by side: the matrices are too small for several threads to share one. A GPU has one."""
    num_threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(num_threads if device.type == "cpu" else 1)
    torch.set_num_threads(1)
    is_patient = True
    try:
        yield pool
    except KeyboardInterrupt:  # does not wait for the shards begun: each is written whole or not at all
        is_patient = False
        raise
    finally:
        pool.shutdown(wait=is_patient, cancel_futures=True)
        torch.set_num_threads(num_threads)


def refuse_what_cannot_be_counted(vocabulary: Vocabulary, sampler: Sampler) -> None:
    """Refuse numbers written from the top, and answers that 64 bits do not hold.

    Raises:
        UsageError: naming what to change.
    """
    if vocabulary.work_ids:
        raise UsageError("--exhaustive is for answers without work on paper; every length is proved by --all-lengths")
    if sampler.operation.step is None:
        raise UsageError(f"--exhaustive goes from column to column, as no {sampler.operation.noun} does; see --samples")
    if not vocabulary.reversed:
        raise UsageError("--exhaustive needs a model of numbers.reversed = true")
    operands = sampler.operands
    num_digits = sampler.operation.longest_answer(operands.minimum, operands.maximum, operands.base)
    if operands.base ** max(num_digits, operands.width) >= 2**63:
        raise UsageError(f"--exhaustive counts in 64 bits; choose a smaller --range than up to {operands.maximum}")


def refuse_hours(decoder: Decoder, vocabulary: Vocabulary, samplers: list[Sampler]) -> None:
    """Estimate from some pairs how long all of them take, and refuse without --yes what takes hours.

    Raises:
        UsageError: with the estimate.
    """
    num_pairs = sum(sampler.num_pairs for sampler in samplers)
    if num_pairs <= PAIRS_WITHOUT_ASKING:
        return
    seconds = []
    for seed in range(2):  # the first time is slower
        sample = samplers[0].uniform(np.random.default_rng(seed), 4096)
        started = time.monotonic()
        row_margins(decoder.readers[0], sample, vocabulary)
        seconds.append(time.monotonic() - started)
    hours = num_pairs * min(seconds) / len(sample) / 3600
    if hours > HOURS_WITHOUT_ASKING:
        raise UsageError(
            f"{num_pairs:,} pairs take up to about {hours:,.0f} hours on this machine; "
            "choose a smaller --range, or give --yes"
        )
