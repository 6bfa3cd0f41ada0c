"""Count what a trained model gets right on problems it never saw.

    python3 evaluate.py [--model DIR] [--samples N] [--seed S] [--range MIN:MAX] [--runs N] [--min-accuracy A] [--json]

    python3 evaluate.py                                10,000 held-out problems
    python3 evaluate.py --samples 100000 --seed 7
    python3 evaluate.py --range 0:99                   operands from 0 to 99 only
    python3 evaluate.py --runs 3                       three samples and their spread
    python3 evaluate.py --min-accuracy 1.0             exit code 7 unless all are right
    python3 evaluate.py --exhaustive                   every ordered pair; exit code 7 unless all are right; of a
                                                       model of one block with a window in seconds: of pairs that
                                                       look alike to a token one is read
    python3 evaluate.py --exhaustive --walk            every one of them read, as a second opinion
    torchrun --nproc-per-node 2 evaluate.py --exhaustive        shared by two processes, as is the decoding of
                                                       held-out problems; torchrun's exit code is 0 or 1
    python3 evaluate.py --check-certificate            decode a random million of the pairs a certificate counts
    python3 evaluate.py --all-lengths                  every context that answers of any length have; exit code 7 unless
                                                       all are right; for models of one block with an attention window
                                                       or a scratchpad of columns
    python3 evaluate.py --lengths 8,64,1024            problems of these many digits, in the model's base

Reads   a model folder that trainer.py wrote; nothing else
Writes  evaluation.json and evaluation.png into it; with --exhaustive certificate.json and, while it counts,
        proof/shard-*.json; with --all-lengths certificate.json; with --lengths lengths.json; then README.md, the
        model card, anew

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
            parser.add_argument(
                "--samples", type=command_line.positive_integer, metavar="N", help="default: 10000; 100 of each length"
            ),
            parser.add_argument("--seed", type=command_line.whole_number, default=0, metavar="S"),
            parser.add_argument("--range", type=command_line.integer_range, metavar="MIN:MAX"),
            parser.add_argument("--runs", type=command_line.positive_integer, default=1, metavar="N"),
            parser.add_argument("--exhaustive", action="store_true", help="check all pairs, write a certificate"),
            parser.add_argument(
                "--walk", action="store_true", help="with --exhaustive: read every pair, though a table would do"
            ),
            parser.add_argument(
                "--table", action="store_true", help="with --exhaustive: refuse where a table will not do"
            ),
            parser.add_argument("--all-lengths", action="store_true", help="prove the answers of every length"),
            parser.add_argument(
                "--lengths", type=command_line.positive_integers, metavar="N,N,...", help="digits of both operands"
            ),
            parser.add_argument("--yes", action="store_true", help="start an --exhaustive check that takes hours"),
            parser.add_argument(
                "--check-certificate",
                type=command_line.positive_integer,
                nargs="?",
                const=10**6,
                metavar="N",
                help="decode N random pairs (default: a million) and compare with certificate.json",
            ),
            parser.add_argument(
                "--min-accuracy", type=command_line.share, metavar="A", help="exit with 7 below this share of 0 to 1"
            ),
        ),
    )

import contextlib
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from simple_llm.arithmetic import BY_NAME
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operands import Operands
from simple_llm.arithmetic.operation import Operation
from simple_llm.errors import GateError, SimpleLLMError, UsageError
from simple_llm.evaluation.certificates import AllLengths, Certificate, written_place
from simple_llm.evaluation.held_out import (
    chosen_operands,
    chosen_samplers,
    evaluate_sample,
    Evaluation,
    held_out,
    HeldOut,
    make_report,
    strata_of,
    written_failure,
)
from simple_llm.evaluation.lengths import evaluate_length, kinds_of, make_length_report, refuse_long_lengths
from simple_llm.files.names import ACCURACY, CERTIFICATE, EVALUATION, LENGTHS
from simple_llm.files.ours import require_ours
from simple_llm.machine import resolve_device
from simple_llm.model.decoding import Decoder
from simple_llm.model.folder import load_model, LoadedModel
from simple_llm.processes import joined, processes_of_torchrun, require_whole_launch
from simple_llm.proof.certifying import certify_pairs
from simple_llm.proof.certifying_lengths import certify_lengths, num_contexts
from simple_llm.proof.checking import check_pairs, read_certificate_to_check, refuse_contradictions
from simple_llm.sharing.fetching import fetch_model
from simple_llm.sharing.model_card import record
from simple_llm.stopping import advancing, NOTHING_WRITTEN, progress_bar, proving, stop_on_signals, StopRequest

MAX_FAILURES_SHOWN = 20
REPORT_OF = {"--exhaustive": CERTIFICATE, "--all-lengths": CERTIFICATE, "--lengths": LENGTHS}


def main(arguments: command_line.argparse.Namespace) -> None:
    is_alone = arguments.check_certificate or arguments.all_lengths or arguments.lengths
    require_whole_launch(meets=not (is_alone or arguments.exhaustive))  # a proof goes through files
    folder = fetch_model(arguments.model)
    loaded = load_model(folder)
    loaded.model.to(resolve_device("auto"))
    operands = chosen_operands(loaded.data, arguments.range)
    other_work = {
        "--exhaustive": (arguments.exhaustive, lambda: prove(loaded, folder, operands, arguments)),
        "--check-certificate": (arguments.check_certificate, lambda: check_certificate(loaded, folder, arguments)),
        "--all-lengths": (arguments.all_lengths, lambda: prove_every_length(loaded, folder, arguments)),
        "--lengths": (arguments.lengths, lambda: evaluate_lengths(loaded, folder, arguments)),
    }
    asked = [name for name, (is_asked, _) in other_work.items() if is_asked]
    if len(asked) > 1:
        raise UsageError(f"give one at a time of {', '.join(asked)}")
    for option, is_given in (("--table", arguments.table), ("--walk", arguments.walk)):
        if is_given and not arguments.exhaustive:
            raise UsageError(f"{option} is a way to do --exhaustive; give both")
    if arguments.table and arguments.walk:
        raise UsageError("give one at a time of --table, --walk")
    for option, is_given, is_heeded_by in (
        ("--range", arguments.range, "--exhaustive"),
        ("--samples", arguments.samples, "--lengths"),
        ("--min-accuracy", arguments.min_accuracy is not None, "--lengths"),
        ("--runs", arguments.runs > 1, None),
    ):
        if is_given and asked and asked[0] != is_heeded_by:
            raise UsageError(f"{option} has no meaning for {asked[0]}; leave one of them out")
    report = REPORT_OF.get(asked[0]) if asked else EVALUATION
    require_ours(folder, [report] * (report is not None))  # before hours of work, not after
    if asked and (arguments.exhaustive or processes_of_torchrun().is_first):
        other_work[asked[0]][1]()
    elif not asked:
        measure(loaded, folder, operands, arguments)


def measure(loaded: LoadedModel, folder: Path, operands: Operands, arguments: command_line.argparse.Namespace) -> None:
    """Decode samples of held-out problems, shared by the processes, and report on them."""
    num_samples = arguments.samples or 10_000
    seeds = range(arguments.seed, arguments.seed + arguments.runs)
    with joined(loaded.model.device) as processes, stop_on_signals() as stop:
        decoder = Decoder.of(loaded.model, processes)
        evaluations = [
            measure_sample(loaded, decoder, held_out(sampler, loaded.data.split, num_samples, seed), stop)
            for sampler in chosen_samplers(loaded.data, arguments.range)
            for seed in seeds
        ]
        stop.end_if_asked(NOTHING_WRITTEN)
    if not processes.is_first:
        return
    report = make_report(loaded, operands, evaluations)
    with recorded(folder, EVALUATION, report, {ACCURACY: lambda path: draw_grids(report["grids"], path)}):
        print_report(report, evaluations)
        if arguments.json:
            print(json.dumps(report))
    refuse_low_accuracy([one.score.num_correct / one.score.num_total for one in evaluations], arguments)


def draw_grids(grids: dict[str, list[dict[str, int]]], path: Path) -> None:
    """Draw the picture of a report."""
    from simple_llm.evaluation.pictures import draw_accuracy  # matplotlib: where it is broken, numbers do not need it

    draw_accuracy(grids, path)


@contextlib.contextmanager
def recorded(
    folder: Path, name: str, report: dict[str, object], pictures: dict[str, Callable[[Path], object]] | None = None
) -> Iterator[None]:
    """Write a report and what shows it, and in the block print it; one that cannot be written fails after that."""
    try:
        path, failure = record(folder, name, report, pictures), None
    except (SimpleLLMError, OSError) as error:
        path, failure = folder / name, error
    yield
    sys.stdout.flush()
    if failure:
        raise failure
    say(f"wrote {path}")


def measure_sample(loaded: LoadedModel, decoder: Decoder, problems: HeldOut, stop: StopRequest) -> Evaluation:
    """Decode and score one sample, with a progress bar over this process's share."""
    processes = decoder.processes
    bar = progress_bar(
        total=problems.num_decoded // processes.count,
        unit="problem",
        unit_scale=True,
        desc=f"{problems.operation.noun}s, seed {problems.seed}",
        is_shown=processes.is_first,
    )
    with advancing(bar, stop=stop) as on_batch:
        return evaluate_sample(loaded, decoder, problems, on_batch)


def print_report(report: dict, evaluations: list[Evaluation]) -> None:
    """Print the report for a person."""
    for one in evaluations:
        print(
            f"seed {one.seed}: {one.score} held-out {one.operation.noun}s exact; error rate at most "
            f"{one.score.error_rate_upper_95:.2e} (95%), smallest margin {one.min_logit_margin:.2f} logits"
        )
        if one.score.num_total < one.num_asked:
            print(f"  all there are in this range; {one.num_asked:,} were asked for")
    for operation in dict.fromkeys(one.operation for one in evaluations):
        print_operation(report, [one for one in evaluations if one.operation is operation], operation)
    failures = report["failures"]
    if failures:
        print(
            f"\n{len(failures):,} failures"
            + (f", the first {MAX_FAILURES_SHOWN}" if len(failures) > MAX_FAILURES_SHOWN else "")
        )
        for failure in failures[:MAX_FAILURES_SHOWN]:
            print(f"  {written_failure(failure)}")


def print_operation(report: dict, evaluations: list[Evaluation], operation: Operation) -> None:
    """Print what is known of one operation over all seeds."""
    if len(evaluations) > 1:
        counts = [one.score.num_correct for one in evaluations]
        median = statistics.median(counts)
        print(f"{len(counts)} runs of {operation.noun}s: {min(counts):,} to {max(counts):,}, median {median:,.0f}")
    if operation.commutes:
        agree = sum(one.num_commuting for one in evaluations)
        total = sum(one.score.num_total for one in evaluations)
        print(f"{operation.write('a', 'b')} and {operation.write('b', 'a')} agree on {agree:,} / {total:,}")
    tables = report.get("operations", {}).get(operation.name, report)
    for key in strata_of(operation):
        name = f"{operation.noun}s " * ("operations" in report) + key.replace("_", " ")
        print(f"\n{name:>36}  {'exact':>17}  of these in the sample")
        for row in tables[key]:
            print(f"{row['stratum']:>36}  {row['correct']:>7,} / {row['total']:>7,}  {row['sampled']:>7,}")


# ---- Every pair -----------------------------------------------------------------------------------


def prove(loaded: LoadedModel, folder: Path, operands: Operands, arguments: command_line.argparse.Namespace) -> None:
    """Count every ordered pair of the range, a shard at a time, and write the certificate."""
    by_table = True if arguments.table else False if arguments.walk else None
    certificate = certify_pairs(
        loaded, operands, folder / "proof", proving, by_table, may_take_hours=arguments.yes, **said_when()
    )
    if certificate is None:
        return  # the first process writes the certificate
    with recorded(folder, CERTIFICATE, certificate.as_dict()):
        print_pairs(certificate)
        print_document(certificate, arguments)
    refuse_wrong(certificate, "pairs")


def print_pairs(certificate: Certificate) -> None:
    """Print a certificate of all pairs for a person."""
    is_walk = certificate.rows_in_table is None
    rows = f"{certificate.prompts:,} prompts run" if is_walk else f"{certificate.rows_in_table:,} rows of a table run"
    print(f"{certificate.right:,} of {certificate.expected:,} ordered pairs right, {rows}")
    print(f"smallest margin {certificate.min_logit_margin:.3f} logits, at {written(certificate.min_logit_margin_at)}")
    for name, counted in (certificate.operations or {}).items():
        right = counted.checked - counted.wrong
        print(f"  {name:9} {right:,} of {counted.expected:,} right, smallest margin {counted.min_logit_margin:.3f}")
    print_rounding(certificate.rounding)
    for problem in certificate.failures[:MAX_FAILURES_SHOWN]:
        print(f"  wrong: {written(problem)}")


def print_rounding(moved: dict[str, float]) -> None:
    """Print how far each arithmetic moves a logit."""
    differences = ", ".join(f"{name} {value:.2g}" for name, value in moved.items())
    print(f"rounding, largest difference from float64: {differences} logits")


def written(problem: str | tuple[int, int]) -> str:
    """A problem of a certificate; a pair is a sum."""
    return problem if isinstance(problem, str) else ADDITION.write(*problem)


def check_certificate(loaded: LoadedModel, folder: Path, arguments: command_line.argparse.Namespace) -> None:
    """Decode random pairs of a certificate's range and compare what is wrong with what it says is wrong."""
    certificate, num_pairs = read_certificate_to_check(folder, loaded), arguments.check_certificate
    bar = progress_bar(total=num_pairs, unit="pair", unit_scale=True, desc="decoding")
    with advancing(bar, "interrupted") as on_batch:
        check = check_pairs(loaded, certificate, num_pairs, arguments.seed, on_batch)
    print(f"{num_pairs - check.num_wrong:,} of {num_pairs:,} random pairs decoded right, {check.num_wrong:,} wrong")
    print(f"the certificate has {certificate.wrong:,} wrong of {certificate.expected:,}")
    if arguments.json:
        shown = check.contradictions[:MAX_FAILURES_SHOWN]
        told = {"checked": num_pairs, "wrong": check.num_wrong, "contradictions": shown}
        print(json.dumps({**told, "model_sha256": loaded.sha256}))
    refuse_contradictions(check, certificate)


def said_when() -> dict[str, str]:
    """What a certificate holds of its making."""
    return {
        "command": shlex.join(["python3", *sys.argv]),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def print_document(certificate: Certificate, arguments: command_line.argparse.Namespace) -> None:
    """Print a certificate for a program that asked for it, as the last line."""
    if arguments.json:
        print(json.dumps(certificate.as_dict()))


def refuse_wrong(certificate: Certificate, what: str) -> None:
    """Fail where a certificate counts something wrong."""
    if certificate.wrong:
        raise GateError(f"{certificate.wrong:,} of {certificate.expected:,} {what} are wrong")


# ---- Every length ---------------------------------------------------------------------------------


def prove_every_length(loaded: LoadedModel, folder: Path, arguments: command_line.argparse.Namespace) -> None:
    """Run every context that a token of an answer can depend on, and write the certificate."""
    bar = progress_bar(total=num_contexts(loaded), unit="context", unit_scale=True, desc="proving")
    with advancing(bar) as on_contexts:
        certificate = certify_lengths(loaded, on_contexts, **said_when())
    with recorded(folder, CERTIFICATE, certificate.as_dict()):
        print_lengths(certificate)
        print_document(certificate, arguments)
    say("its argument says why these contexts are enough")
    refuse_wrong(certificate, "contexts")


def print_lengths(certificate: AllLengths) -> None:
    """Print a certificate of every length for a person."""
    for name, counted in (certificate.operations or {}).items():
        print(
            f"{counted.checked - counted.wrong:,} of {counted.expected:,} contexts of {BY_NAME[name].noun}s right, "
            f"smallest margin {counted.min_logit_margin:.2f}"
        )
    every = "" if certificate.wrong else f", which is every {certificate.every}"
    print(f"{certificate.right:,} of {certificate.expected:,} contexts right{every}")
    least = written_place(certificate.min_logit_margin_at)
    print(f"smallest margin {certificate.min_logit_margin:.3f} logits, at {least}")
    print_rounding(certificate.moved)
    for failure in certificate.failures[:MAX_FAILURES_SHOWN]:
        right = "" if "context" in failure else f" is {failure['right']}"  # a context ends with what is right
        print(f"  wrong: {written_place(failure)}{right}, said {failure['said']}")


def evaluate_lengths(loaded: LoadedModel, folder: Path, arguments: command_line.argparse.Namespace) -> None:
    """Decode problems of each length asked for, with uniform digits and with long carries, and print a table."""
    refuse_long_lengths(loaded, arguments.lengths)
    decoder, scores, num_problems = Decoder.of(loaded.model), [], arguments.samples or 100
    print(f"{'digits':>9}  {'drawn':>17}  {'exact':>17}  {'error rate at most':>18}  {'seconds':>8}")
    operations = loaded.operations if loaded.vocabulary.work_ids else [ADDITION]
    asked = [
        (num_digits, one, kind) for num_digits in arguments.lengths for one in operations for kind in kinds_of(one)
    ]
    bar = progress_bar(total=len(asked) * num_problems, unit="problem", desc="decoding")
    with advancing(bar) as on_batch:
        for num_digits, operation, kind in asked:
            counted = (num_problems, arguments.seed, on_batch, operation)
            score = evaluate_length(loaded, decoder, num_digits, kind, *counted)
            scores.append(score)
            bar.clear()
            print(
                f"{num_digits:>9,}  {f'{operation.noun}s, {kind}':>17}  {score.correct:>7,} / {score.total:>7,}  "
                f"{score.error_rate_upper_95:>18.2e}  {score.seconds:>8.1f}"
            )
    report = make_length_report(loaded, decoder, scores, arguments.seed)
    with recorded(folder, LENGTHS, report):
        if arguments.json:
            print(json.dumps(report))
    shares = [score.correct / score.total for score in scores if score.total]  # short sums may all be in training
    refuse_low_accuracy(shares, arguments)


def refuse_low_accuracy(shares: list[float], arguments: command_line.argparse.Namespace) -> None:
    """Fail below the gate, if one was given; nothing measured is a share of 0."""
    lowest = min(shares, default=0.0)
    if arguments.min_accuracy is not None and lowest < arguments.min_accuracy:
        raise GateError(f"accuracy {lowest:.6f} is below --min-accuracy {arguments.min_accuracy:g}")


def say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main, options, debug=options.debug)
