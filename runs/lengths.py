"""How far each kind of positions goes beyond the numbers it was trained on.

    python3 -m runs.lengths [--schemes window ...] [--seeds 0 1 ...] [--digits 8] [--lengths 8,16,32] [--plot PNG]
    python3 -m runs.lengths --results docs/lengths.json --plot docs/images/lengths.png        of an earlier run

Every scheme is trained on the same rows, sums of numbers of up to 8 digits (20 with --digits 20), and evaluated on
operands of more: uniform digits, and long carry chains. Prints a table and ends in one JSON line. A finished run is
used again, and so is its evaluation. The schemes:

    window          runs/any_length.yaml: one block, attention to near places and delimiters, positions that come again
    random_offset   learned positions by place, all of a row shifted by a random number (Abacus)
    learned, sinusoidal, none       by index in the row, fixed, or no positions at all
"""

import argparse
import json
import statistics
from pathlib import Path

from matplotlib.figure import Figure

from runs.pipeline import REPOSITORY, script
from simple_llm import command_line
from simple_llm.evaluation.pictures import ACCENT, QUIET, save_figure, SHADE
from simple_llm.evaluation.scoring import Score
from simple_llm.files.names import LENGTHS, MANIFEST, WEIGHTS

SCHEMES = {
    "window": "runs/any_length.yaml",
    **{name: f"runs/length/{name}.yaml" for name in ("random_offset", "learned", "sinusoidal", "none")},
}
DATA = {8: "runs/any_length_data.yaml", 20: "runs/length/twenty_digits_data.yaml"}
DEFAULT_LENGTHS = "8,16,32,64,128,256,1024"


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    made.add_argument("--seeds", type=int, nargs="+", help="default: 0 to 4 for window, 0 to 2 for the others")
    made.add_argument("--digits", type=int, choices=DATA, default=8, help="of the longest numbers in training")
    made.add_argument("--lengths", default=DEFAULT_LENGTHS, help="digits of both operands, to evaluate")
    made.add_argument("--samples", type=int, default=100, help="problems of each length and kind")
    made.add_argument("--folder", type=command_line.path, default=REPOSITORY / "../simple-llm-data/length")
    made.add_argument("--results", type=command_line.path, metavar="JSON", help="of an earlier run; run nothing")
    made.add_argument("--plot", type=command_line.path, metavar="PNG")
    arguments = made.parse_args()
    runs = json.loads(arguments.results.read_text("utf-8")) if arguments.results else run_all(arguments)
    print_table(runs)
    if arguments.plot:
        draw(runs, arguments.plot)
    print(json.dumps(runs))


def run_all(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Train and evaluate every scheme with each of its seeds."""
    return [
        run(scheme, seed, arguments)
        for scheme in arguments.schemes
        for seed in arguments.seeds or range(5 if scheme == "window" else 3)
    ]


def run(scheme: str, seed: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Train and evaluate one model; return what was measured."""
    folder, digits = arguments.folder.resolve(), arguments.digits
    data = ["--data-config", DATA[digits], f"seed={seed}", f"storage.path={folder / f'sequences-{digits}-{seed}.txt'}"]
    model = folder / f"{scheme}-{digits}-{seed}"
    train = ["--train-config", SCHEMES[scheme], f"paths.model={model}", f"training.seed={seed}"]
    for name in ("data_generator.py", "tokenizer.py"):
        script(name, *data, *train)
    trained = script("trainer.py", *data, *train)
    evaluated = evaluate(model, seed, arguments)
    return {
        "scheme": scheme,
        "seed": seed,
        "trained_digits": digits,
        "seconds": trained["seconds"],
        "num_parameters": trained["num_parameters"],
        "lengths": evaluated["lengths"],
    }


def evaluate(model: Path, seed: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Evaluate a model, unless the report that lies beside it is about these weights and answers what is asked."""
    report = model / LENGTHS
    if report.exists():
        known = json.loads(report.read_text("utf-8"))
        sha256 = json.loads((model / MANIFEST).read_text("utf-8"))["files"][WEIGHTS]["sha256"]
        lengths = ",".join(dict.fromkeys(str(score["num_digits"]) for score in known["lengths"]))
        totals = {score["total"] for score in known["lengths"]}
        answers = known["model_sha256"], known["seed"], lengths, totals
        if answers == (sha256, seed, arguments.lengths, {arguments.samples}):
            return known
    asked = ("--lengths", arguments.lengths, "--samples", str(arguments.samples), "--seed", str(seed))
    return script("evaluate.py", "--model", str(model), *asked)


def print_table(runs: list[dict]) -> None:
    """A row a run: exact of those asked, uniform digits and long carries together."""
    lengths = sorted({one["num_digits"] for one in runs[0]["lengths"]})
    heads = ["positions", "seed", "parameters", "training, s", *(f"{length:,} digits" for length in lengths)]
    print("\n| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for one in runs:
        cells = [str(score_at(one, length)) for length in lengths]
        seconds = f"{one['seconds']:.0f}" if "seconds" in one else "not kept"
        facts = [one["scheme"], str(one["seed"]), f"{one['num_parameters']:,}", seconds]
        print("| " + " | ".join([*facts, *cells]) + " |")


def score_at(one: dict, num_digits: int) -> Score:
    """What a run has right at one length, uniform digits and long carries together."""
    scores = [score for score in one["lengths"] if score["num_digits"] == num_digits]
    return Score(sum(score["correct"] for score in scores), sum(score["total"] for score in scores))


def share_at(one: dict, num_digits: int) -> float:
    score = score_at(one, num_digits)
    return score.num_correct / score.num_total


def draw(runs: list[dict], path: Path) -> None:
    """Exact match against length: a panel a scheme, as most would be on one line; a dot a seed, a line the median."""
    lengths = sorted({score["num_digits"] for one in runs for score in one["lengths"]})
    schemes = dict.fromkeys(one["scheme"] for one in runs)
    figure = Figure(figsize=(2.1 * len(schemes) + 0.4, 2.8), layout="constrained")
    panels = figure.subplots(1, len(schemes), sharey=True, squeeze=False)[0]
    for axes, scheme in zip(panels, schemes, strict=True):
        of_seeds = [[share_at(one, length) for length in lengths] for one in runs if one["scheme"] == scheme]
        for seed, shares in enumerate(of_seeds):
            beside = [length * 1.12 ** (seed - (len(of_seeds) - 1) / 2) for length in lengths]
            axes.plot(beside, shares, "o", color=ACCENT, markersize=3, alpha=0.6, linewidth=0)
        axes.plot(lengths, [statistics.median(shares) for shares in zip(*of_seeds, strict=True)], color=ACCENT)
        axes.axvspan(lengths[0] / 2, runs[0]["trained_digits"] * 2**0.5, color=SHADE, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths[::2], map(str, lengths[::2]))
        axes.set(title=scheme.replace("_", " "), xlim=(lengths[0] / 2, lengths[-1] * 2), ylim=(-0.04, 1.04))
    panels[0].set_ylabel("exact match")
    figure.supxlabel("digits of both operands; shaded: within training", color=QUIET, fontsize="medium")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
