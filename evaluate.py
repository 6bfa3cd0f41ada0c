"""Count what a trained model gets right on problems it never saw.

    python3 evaluate.py [--model DIR] [--samples N] [--seed S] [--range MIN:MAX] [--runs N] [--min-accuracy A] [--json]

    python3 evaluate.py                                10,000 held-out problems
    python3 evaluate.py --samples 100000 --seed 7
    python3 evaluate.py --range 0:99                   operands from 0 to 99 only
    python3 evaluate.py --runs 3                       three samples and their spread
    python3 evaluate.py --min-accuracy 1.0             exit code 7 unless all are right

Reads   a model folder that trainer.py wrote; nothing else
Writes  evaluation.json into it

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
            parser.add_argument("--min-accuracy", type=float, metavar="A", help="exit with 7 below this share"),
        ),
    )

import statistics
import sys
import time
from pathlib import Path

from tqdm import tqdm

from simple_llm.device import resolve_device
from simple_llm.errors import GateError, Interrupted, UsageError
from simple_llm.evaluation import evaluate_sample, Evaluation, held_out_sample, held_out_strata, STRATA
from simple_llm.hub import fetch_model
from simple_llm.model_folder import load_model, LoadedModel, write_report
from simple_llm.sampling import Sampler

MAX_FAILURES_SHOWN = 20


def main(arguments: command_line.argparse.Namespace) -> None:
    folder = fetch_model(arguments.model)
    loaded = load_model(folder)
    loaded.model.to(resolve_device("auto"))
    sampler = chosen_sampler(loaded, arguments.range)
    evaluations = [
        run_evaluation(loaded, sampler, arguments.samples, seed)
        for seed in range(arguments.seed, arguments.seed + arguments.runs)
    ]
    report = make_report(loaded, sampler, evaluations)
    path = write_report(folder, "evaluation.json", (json.dumps(report, indent=2) + "\n").encode())
    print_report(report, evaluations, path)
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
        "failures": [failure for one in evaluations for failure in one.failures],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def print_report(report: dict, evaluations: list[Evaluation], path: Path) -> None:
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
    print(f"\nwrote {path}", file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main, options, debug=options.debug)
