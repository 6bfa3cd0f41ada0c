"""Shards counted side by side: on every core, by several processes, and on from where an earlier start was stopped;
then the certificate of them.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import as_completed, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from simple_llm.arithmetic.integers import digit_count
from simple_llm.batches import Vocabulary
from simple_llm.data.problems import from_integers
from simple_llm.data.sampling import Sampler
from simple_llm.decoding import Decoder, Reader, SURE
from simple_llm.errors import GateError, Interrupted, UsageError
from simple_llm.evaluation.margins import row_margins
from simple_llm.files.manifest import versions
from simple_llm.files.reading import refuse_link
from simple_llm.model_folder import LoadedModel, vocabulary_of
from simple_llm.processes import processes_of_torchrun
from simple_llm.proof.all_pairs import (
    PROOF_FORMAT,
    Prover,
    read_shard,
    rounding,
    Shard,
    shard_bounds,
    shard_path,
    total,
    write_shard,
)
from simple_llm.stopping import stop_on_signals

PAIRS_WITHOUT_ASKING = 10**6
HOURS_WITHOUT_ASKING = 1.0
_NUM_ROUNDED = 1000  # problems on which it is measured how far bfloat16 moves a logit


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


def proof_subject(loaded: LoadedModel, dtype: str, sampler: Sampler, by_table: bool = False) -> dict[str, object]:
    """What is proved, by which arithmetic: shards of another subject do not count."""
    return {
        "format": PROOF_FORMAT,
        "versions": versions(),
        **loaded.hashes,
        "range": [sampler.minimum, sampler.maximum],
        "dtype": dtype,
        "device": loaded.model.device.type,
        **({"method": "table"} if by_table else {}),
    }


def trusted_readers(loaded: LoadedModel, decoder: Decoder, sampler: Sampler) -> tuple[Reader, ...]:
    """The readers that may decide pairs: bfloat16 only where it moves no two logits of a sample by SURE."""
    if len(decoder.readers) == 1:
        return decoder.readers
    sample = sampler.uniform(np.random.default_rng(0), _NUM_ROUNDED)
    moved = 2 * rounding(loaded.model, sample, vocabulary_of(loaded.tokenizer))["bfloat16"]
    return decoder.readers if moved < SURE else decoder.readers[-1:]


def refuse_large_rounding(moved: float, margin: float, bfloat16_decided: bool) -> None:
    """Refuse a proof of which the other arithmetic might say otherwise.

    Args:
        moved: how far bfloat16 moves a logit, of two that are compared in either direction.
        margin: the smallest one.
        bfloat16_decided: where it found a margin of SURE or more; else it is what decides many sums at once later, and
            says a wrong digit only if that comes to lead by SURE.

    Raises:
        GateError: a digit could be another one.
    """
    limit = max(SURE, margin) if bfloat16_decided else SURE + margin
    if not 2 * moved < limit:
        raise GateError(
            f"all is right as counted, but bfloat16 moves two logits against each other by up to {2 * moved:.2g}, and "
            f"from {limit:.2g} on it can say another digit than float32: nothing is proved"
        )


def make_certificate(
    loaded: LoadedModel, sampler: Sampler, shards: list[Shard], subject: dict[str, object]
) -> dict[str, object]:
    """What certificate.json holds of all shards of a subject, and how much rounding moves the least sure of them.

    Raises:
        ArtefactError: the shards are not exactly the range.
    """
    counted = total(shards, sampler.minimum, sampler.maximum)
    pairs = [(x, y) for _, x, y in counted["least_sure"]]
    least_sure = from_integers(pairs, sampler.base, sampler.width)
    return {
        "kind": "all pairs",
        **counted,
        **subject,
        "base": sampler.base,
        "tokens_per_step": loaded.model.config.tokens_per_step,
        "rounding": rounding(loaded.model, least_sure, vocabulary_of(loaded.tokenizer)),
        "threads": torch.get_num_threads(),
    }


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
