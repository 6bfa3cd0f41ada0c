"""Every ordered pair of a range counted, in shards that are resumed and split at will.

Shape letters in this file: X first operands of a shard, Y second operands.

A shard is a block of first operands. Shards are counted side by side: on every core, by several processes, and on from
where an earlier start was stopped.
"""

import contextlib
import hashlib
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import as_completed, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from simple_llm.arithmetic.integers import digit_count
from simple_llm.data.problems import from_integers
from simple_llm.data.sampling import Sampler
from simple_llm.errors import Interrupted, UsageError
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
    write_shard,
)
from simple_llm.stopping import stop_on_signals

MEMORY_BUDGET = 64 * 2**20  # bytes of the tokens read together: about what stays near the processor
PAIRS_WITHOUT_ASKING = 10**6
HOURS_WITHOUT_ASKING = 1.0


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


def count_shards(prover: Prover, folder: Path, subject: dict[str, object]) -> list[Shard] | None:
    """Count the shards that are not there yet, one on each core; under torchrun each process its share.

    Returns:
        all shards in the first process, None in the others.
    """
    refuse_link(folder)
    processes = processes_of_torchrun()
    bounds = shard_bounds(prover.minimum, prover.maximum)

    def missing(bounds: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [one for one in bounds if read_shard(shard_path(folder, *one, subject), subject) is None]

    def count(first: int, last: int) -> int:
        write_shard(folder, prover.count(first, last), subject)
        return num_pairs([(first, last)])

    def num_pairs(bounds: list[tuple[int, int]]) -> int:
        return sum(last - first + 1 for first, last in bounds) * (prover.maximum - prover.minimum + 1)

    mine = bounds[processes.share]
    to_count = missing(mine)
    done = num_pairs(mine) - num_pairs(to_count)
    with (
        stop_on_signals() as stop,
        one_worker_a_core(prover.readers[0].device) as pool,
        tqdm(
            total=num_pairs(mine),
            initial=done,
            unit="pair",
            unit_scale=True,
            desc="proving",
            disable=not processes.is_first,
        ) as bar,
    ):
        for counted in as_completed([pool.submit(count, *one) for one in to_count]):
            bar.update(counted.result())
            if stop:
                raise Interrupted("stopped; started again, it goes on with the next shard", stop.signal_number)
        if not processes.is_first:
            return None
        while processes.count > 1 and missing(bounds):  # the other processes are at them
            if stop:
                raise Interrupted("stopped; started again, it goes on", stop.signal_number)
            time.sleep(0.5)
    shards = [read_shard(shard_path(folder, *one, subject), subject) for one in bounds]
    return [shard for shard in shards if shard is not None]


@contextlib.contextmanager
def one_worker_a_core(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Work on whole shards side by side: the matrices are too small for several threads to share one. A GPU has one."""
    num_threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(num_threads if device.type == "cpu" else 1)
    torch.set_num_threads(1)
    try:
        yield pool
    except KeyboardInterrupt:  # a second Ctrl-C does not wait for the shards begun: each is written whole or not at all
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)


def refuse_what_cannot_be_counted(vocabulary: Vocabulary, sampler: Sampler) -> None:
    """Refuse numbers written from the top, and sums that 64 bits do not hold.

    Raises:
        UsageError: naming what to change.
    """
    if not vocabulary.reversed:
        raise UsageError("--exhaustive needs a model of numbers.reversed = true")
    if sampler.base ** digit_count(2 * sampler.maximum, sampler.base) >= 2**63:
        raise UsageError(f"--exhaustive counts in 64 bits; choose a smaller --range than up to {sampler.maximum}")


def refuse_hours(decoder: Decoder, vocabulary: Vocabulary, sampler: Sampler) -> None:
    """Estimate from some pairs how long all of them take, and refuse without --yes what takes hours.

    Raises:
        UsageError: with the estimate.
    """
    num_pairs = (sampler.maximum - sampler.minimum + 1) ** 2
    if num_pairs <= PAIRS_WITHOUT_ASKING:
        return
    seconds = []
    for seed in range(2):  # the first time is slower
        sample = sampler.uniform(np.random.default_rng(seed), 4096)
        started = time.monotonic()
        row_margins(decoder.readers[0], sample, vocabulary)
        seconds.append(time.monotonic() - started)
    hours = num_pairs * min(seconds) / len(sample) / 3600
    if hours > HOURS_WITHOUT_ASKING:
        raise UsageError(
            f"{num_pairs:,} pairs take up to about {hours:,.0f} hours on this machine; "
            "choose a smaller --range, or give --yes"
        )
