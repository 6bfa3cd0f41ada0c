"""Count what a trained model gets right on problems it never saw.

    python3 evaluate.py [--model DIR] [--samples N] [--seed S] [--range MIN:MAX] [--runs N] [--min-accuracy A] [--json]

    python3 evaluate.py                                10,000 held-out problems
    python3 evaluate.py --samples 100000 --seed 7
    python3 evaluate.py --range 0:99                   operands from 0 to 99 only
    python3 evaluate.py --runs 3                       three samples and their spread
    python3 evaluate.py --min-accuracy 1.0             exit code 7 unless all are right
    python3 evaluate.py --exhaustive                   every ordered pair of the range; exit code 7 unless all are right
    torchrun --nproc-per-node 2 evaluate.py --exhaustive        shared by two processes; torchrun's exit code is 0 or 1
    python3 evaluate.py --check-certificate            decode a random million of the pairs a certificate counts

Reads   a model folder that trainer.py wrote; nothing else
Writes  evaluation.json and evaluation.png into it; with --exhaustive certificate.json and, while it counts,
        proof/shard-*.json

Problems are drawn from the test side of the split, uniformly over values, each ordered pair once. Uniform problems
are nearly all long and carry little, so a table shows each operand length and each carry chain by itself, with
problems added where the sample has few; the added ones count in the table only.
"""

import json

from simple_llm import command_line

if __name__ == "__main__":
    options = command_line.model_options(
        __doc__,
        lambda parser: (
            parser.add_argument("--samples", type=command_line.positive_integer, default=10_000, metavar="N"),
            parser.add_argument("--seed", type=command_line.whole_number, default=0, metavar="S"),
            parser.add_argument("--range", type=command_line.integer_range, metavar="MIN:MAX"),
            parser.add_argument("--runs", type=command_line.positive_integer, default=1, metavar="N"),
            parser.add_argument("--exhaustive", action="store_true", help="check all pairs, write a certificate"),
            parser.add_argument("--yes", action="store_true", help="start an --exhaustive check that takes hours"),
            parser.add_argument(
                "--check-certificate",
                type=command_line.positive_integer,
                nargs="?",
                const=10**6,
                metavar="N",
                help="decode N random pairs (default: a million) and compare with certificate.json",
            ),
            parser.add_argument("--min-accuracy", type=float, metavar="A", help="exit with 7 below this share"),
        ),
    )

import contextlib
import os
import shlex
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import as_completed, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from simple_llm.batches import Vocabulary
from simple_llm.decoding import Decoder
from simple_llm.device import resolve_device
from simple_llm.errors import GateError, Interrupted, UsageError
from simple_llm.evaluation import decoded_right, evaluate_sample, Evaluation, held_out_sample, held_out_strata, STRATA
from simple_llm.hub import fetch_model
from simple_llm.manifest import versions
from simple_llm.model_folder import load_model, LoadedModel, tokenizer_sha256, vocabulary_of, write_report
from simple_llm.pair_tree import row_margins
from simple_llm.pictures import draw_accuracy
from simple_llm.problems import from_integers, to_integers
from simple_llm.proof import (
    CERTIFICATE,
    PROOF_FORMAT,
    Prover,
    read_certificate,
    read_shard,
    rounding,
    Shard,
    shard_bounds,
    shard_path,
    total,
    write_shard,
)
from simple_llm.sampling import Sampler

MAX_FAILURES_SHOWN = 20
PAIRS_WITHOUT_ASKING = 10**6
HOURS_WITHOUT_ASKING = 1.0
CHECKED_AT_A_TIME = 2**16


def main(arguments: command_line.argparse.Namespace) -> None:
    folder = fetch_model(arguments.model)
    loaded = load_model(folder)
    loaded.model.to(resolve_device("auto"))
    sampler = chosen_sampler(loaded, arguments.range)
    if arguments.exhaustive and arguments.check_certificate:
        raise UsageError("give --exhaustive or --check-certificate, one at a time")
    if arguments.exhaustive:
        prove(loaded, folder, sampler, arguments)
        return
    if arguments.check_certificate:
        check_certificate(loaded, folder, arguments)
        return
    evaluations = [
        run_evaluation(loaded, sampler, arguments.samples, seed)
        for seed in range(arguments.seed, arguments.seed + arguments.runs)
    ]
    report = make_report(loaded, sampler, evaluations)
    path = write_report(folder, "evaluation.json", (json.dumps(report, indent=2) + "\n").encode())
    picture = folder / "evaluation.png"
    draw_accuracy(report["grids"], picture)
    print_report(report, evaluations)
    say(f"\nwrote {path} and {picture.name}")
    if arguments.json:
        print(json.dumps(report))
    lowest = min(one.score.num_correct / one.score.num_total for one in evaluations)
    if arguments.min_accuracy is not None and lowest < arguments.min_accuracy:
        raise GateError(f"accuracy {lowest:.6f} is below --min-accuracy {arguments.min_accuracy:g}")


def chosen_sampler(loaded: LoadedModel, chosen: tuple[int, int] | None) -> Sampler:
    """The model's range of operands, or the part of it that was asked for."""
    numbers = loaded.data.numbers
    if chosen is None:
        return Sampler.of(numbers)
    minimum, maximum = chosen
    if not numbers.min <= minimum <= maximum <= numbers.max:
        raise UsageError(
            f"--range {minimum}:{maximum}: this model knows {numbers.min}:{numbers.max}, smaller number first"
        )
    return Sampler(minimum, maximum, numbers.base)


def run_evaluation(loaded: LoadedModel, sampler: Sampler, num_samples: int, seed: int) -> Evaluation:
    """Draw, decode and score one sample, with a progress bar."""
    problems = held_out_sample(sampler, loaded.data.split, num_samples, seed)
    if not len(problems):
        raise UsageError("there is no held-out problem in this range; choose a wider one")
    added = held_out_strata(sampler, loaded.data.split, problems, seed)
    with (
        command_line.stop_on_signals() as stop,
        tqdm(total=2 * len(problems) + len(added), unit="problem", unit_scale=True, desc=f"seed {seed}") as bar,
    ):

        def on_batch(num_problems: int) -> None:
            bar.update(num_problems)
            if stop:
                raise Interrupted("interrupted; nothing was written", stop.signal_number)

        return evaluate_sample(loaded, problems, added, num_samples, seed, on_batch)


def make_report(loaded: LoadedModel, sampler: Sampler, evaluations: list[Evaluation]) -> dict[str, object]:
    """What evaluation.json holds; totals are sums over the runs."""
    correct = sum(one.score.num_correct for one in evaluations)
    return {
        "correct": correct,
        "total": sum(one.score.num_total for one in evaluations),
        # Runs may repeat a problem, so the bound is that of the worst run, not of the sum.
        "error_rate_upper_95": max(one.score.error_rate_upper_95 for one in evaluations),
        "min_logit_margin": min(one.min_logit_margin for one in evaluations),
        "model_sha256": loaded.sha256,
        "side": "test",
        "range": [sampler.minimum, sampler.maximum],
        "base": sampler.base,
        "tokens_per_step": loaded.model.config.tokens_per_step,
        "device": loaded.model.device.type,
        "dtype": evaluations[0].dtype,
        "commutes": {
            "agree": sum(one.num_commuting for one in evaluations),
            "total": sum(one.score.num_total for one in evaluations),
        },
        "runs": [one.summary() for one in evaluations],
        **evaluations[0].tables,
        "grids": evaluations[0].grids,
        "failures": [failure for one in evaluations for failure in one.failures],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def print_report(report: dict, evaluations: list[Evaluation]) -> None:
    """Print the report for a person."""
    for one in evaluations:
        print(
            f"seed {one.seed}: {one.score} held-out problems exact; error rate at most "
            f"{one.score.error_rate_upper_95:.2e} (95%), smallest margin {one.min_logit_margin:.2f} logits"
        )
        if one.score.num_total < one.num_asked:
            print(f"  all there are in this range; {one.num_asked:,} were asked for")
    if len(evaluations) > 1:
        counts = [one.score.num_correct for one in evaluations]
        print(f"{len(counts)} runs: {min(counts):,} to {max(counts):,}, median {statistics.median(counts):,.0f}")
    print(f"a+b and b+a agree on {report['commutes']['agree']:,} / {report['commutes']['total']:,}")
    for key in STRATA:
        print(f"\n{key.replace('_', ' '):>24}  {'exact':>17}  of these in the sample")
        for row in report[key]:
            print(f"{row['stratum']:>24}  {row['correct']:>7,} / {row['total']:>7,}  {row['sampled']:>7,}")
    failures = report["failures"]
    if failures:
        print(
            f"\n{len(failures):,} failures"
            + (f", the first {MAX_FAILURES_SHOWN}" if len(failures) > MAX_FAILURES_SHOWN else "")
        )
        for failure in failures[:MAX_FAILURES_SHOWN]:
            print(f"  {failure['x']}+{failure['y']}={failure['sum']}, said {failure['said']}")


# ---- Every pair -----------------------------------------------------------------------------------


def prove(loaded: LoadedModel, folder: Path, sampler: Sampler, arguments: command_line.argparse.Namespace) -> None:
    """Count every ordered pair of the range, a shard at a time, and write the certificate."""
    decoder, vocabulary = Decoder.of(loaded.model), vocabulary_of(loaded.tokenizer)
    if not vocabulary.reversed:
        raise UsageError("--exhaustive needs a model of numbers.reversed = true")
    if 2 * sampler.maximum >= 2**63:
        raise UsageError(f"--exhaustive counts operands below 2^62; choose a smaller --range than {sampler.maximum}")
    subject = {
        "format": PROOF_FORMAT,
        "versions": versions(),
        "model_sha256": loaded.sha256,
        "tokenizer_sha256": tokenizer_sha256(loaded.tokenizer),
        "range": [sampler.minimum, sampler.maximum],
        "dtype": decoder.dtype_names,
        "device": loaded.model.device.type,
    }
    if not arguments.yes:
        refuse_hours(decoder, vocabulary, sampler)
    prover = Prover(decoder.readers, vocabulary, sampler.minimum, sampler.maximum)
    shards = count_shards(prover, folder / "proof", subject)
    if shards is None:
        return  # the first process writes the certificate
    counted = total(shards, sampler.minimum, sampler.maximum)
    pairs = [(x, y) for _, x, y in counted["least_sure"]]
    least_sure = from_integers(pairs, sampler.base, sampler.width)
    certificate = {
        **counted,
        **subject,
        "base": sampler.base,
        "tokens_per_step": loaded.model.config.tokens_per_step,
        "rounding": rounding(loaded.model, least_sure, vocabulary),
        "threads": torch.get_num_threads(),
        "command": shlex.join(["python3", *sys.argv]),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    path = write_report(folder, CERTIFICATE, (json.dumps(certificate, indent=1) + "\n").encode())
    right = certificate["checked"] - certificate["wrong"]
    print(f"{right:,} of {certificate['expected']:,} ordered pairs right, {certificate['prompts']:,} prompts run")
    x, y = certificate["min_logit_margin_at"]
    print(f"smallest margin {certificate['min_logit_margin']:.3f} logits, at {x}+{y}")
    differences = ", ".join(f"{name} {value:.2g}" for name, value in certificate["rounding"].items())
    print(f"rounding, largest difference from float64: {differences} logits")
    for x, y in certificate["failures"][:MAX_FAILURES_SHOWN]:
        print(f"  wrong: {x}+{y}")
    say(f"wrote {path}")
    if arguments.json:
        print(json.dumps(certificate))
    if certificate["wrong"]:
        raise GateError(f"{certificate['wrong']:,} of {certificate['expected']:,} pairs are wrong")


def count_shards(prover: Prover, folder: Path, subject: dict[str, object]) -> list[Shard] | None:
    """Count the shards that are not there yet, one on each core; under torchrun each process its share.

    Returns:
        all shards in the first process, None in the others.
    """
    rank, num_processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    bounds = shard_bounds(prover.minimum, prover.maximum)

    def missing(bounds: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [one for one in bounds if read_shard(shard_path(folder, *one), subject) is None]

    def count(first: int, last: int) -> int:
        write_shard(folder, prover.count(first, last), subject)
        return num_pairs([(first, last)])

    def num_pairs(bounds: list[tuple[int, int]]) -> int:
        return sum(last - first + 1 for first, last in bounds) * (prover.maximum - prover.minimum + 1)

    mine = bounds[rank::num_processes]
    to_count = missing(mine)
    done = num_pairs(mine) - num_pairs(to_count)
    with (
        command_line.stop_on_signals() as stop,
        one_worker_a_core() as pool,
        tqdm(
            total=num_pairs(mine), initial=done, unit="pair", unit_scale=True, desc="proving", disable=rank > 0
        ) as bar,
    ):
        for counted in as_completed([pool.submit(count, *one) for one in to_count]):
            bar.update(counted.result())
            if stop:
                raise Interrupted("stopped; started again, it goes on with the next shard", stop.signal_number)
        if rank:
            return None
        while num_processes > 1 and missing(bounds):  # the other processes are at them
            if stop:
                raise Interrupted("stopped; started again, it goes on", stop.signal_number)
            time.sleep(0.5)
    shards = [read_shard(shard_path(folder, *one), subject) for one in bounds]
    return [shard for shard in shards if shard is not None]


@contextlib.contextmanager
def one_worker_a_core() -> Iterator[ThreadPoolExecutor]:
    """Work on whole shards side by side: the matrices are too small for several threads to share one."""
    num_threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(1 if torch.cuda.is_available() else num_threads)
    torch.set_num_threads(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)


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


def check_certificate(loaded: LoadedModel, folder: Path, arguments: command_line.argparse.Namespace) -> None:
    """Decode random pairs of a certificate's range and compare what is wrong with what it says is wrong."""
    certificate = read_certificate(folder, loaded.sha256)
    minimum, maximum, num_wrong = certificate.minimum, certificate.maximum, certificate.wrong
    if not certificate.checked == certificate.expected == (maximum - minimum + 1) ** 2:
        raise GateError(f"{folder / CERTIFICATE} has not checked every pair of {minimum} to {maximum}")
    known = set(certificate.failures)
    sampler = Sampler(minimum, maximum, loaded.data.numbers.base)
    num_pairs = arguments.check_certificate
    rng, decoder = np.random.default_rng(arguments.seed), Decoder.of(loaded.model)
    num_wrong_here, contradictions = 0, []
    with (
        command_line.stop_on_signals() as stop,
        tqdm(total=num_pairs, unit="pair", unit_scale=True, desc="decoding") as bar,
    ):
        for first in range(0, num_pairs, CHECKED_AT_A_TIME):
            problems = sampler.uniform(rng, min(CHECKED_AT_A_TIME, num_pairs - first))
            is_right = decoded_right(decoder, problems, loaded)
            num_wrong_here += int((~is_right).sum())
            if num_wrong <= len(known):  # all are written down
                pairs = zip(*(to_integers(digits, sampler.base) for digits in (problems.x, problems.y)), strict=True)
                contradictions += [
                    pair for pair, right in zip(pairs, is_right, strict=True) if right == (pair in known)
                ]
            bar.update(len(problems))
            if stop:
                raise Interrupted("interrupted", stop.signal_number)
    share, expected_share = num_wrong_here / num_pairs, num_wrong / certificate.expected
    print(f"{num_pairs - num_wrong_here:,} of {num_pairs:,} random pairs decoded right, {num_wrong_here:,} wrong")
    print(f"the certificate has {num_wrong:,} wrong of {certificate.expected:,}")
    if arguments.json:
        told = {"checked": num_pairs, "wrong": num_wrong_here, "contradictions": contradictions[:MAX_FAILURES_SHOWN]}
        print(json.dumps({**told, "model_sha256": loaded.sha256}))
    if contradictions:
        x, y = contradictions[0]
        raise GateError(f"the certificate says otherwise of {len(contradictions):,} pairs, first of {x}+{y}")
    spread = (expected_share * (1 - expected_share) / num_pairs) ** 0.5
    if abs(share - expected_share) > 6 * spread:
        raise GateError(f"{share:.2e} of the pairs are wrong here, {expected_share:.2e} in the certificate")


def say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main, options, debug=options.debug)
