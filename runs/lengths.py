"""How far each kind of positions goes beyond the numbers it was trained on.

    python3 -m runs.lengths [--schemes window ...] [--seeds 0 1 ...] [--digits 8] [--lengths 8,16,32] [--plot PNG]

Every scheme is trained on the same rows, sums of numbers of up to 8 digits (20 with --digits 20), and evaluated on
operands of more: uniform digits, and long carry chains. Prints a table and ends in one JSON line. A finished run is
used again, and so is its evaluation. The schemes:

    window          runs/any_length.yaml: one block, attention to near places and delimiters, positions that come again
    random_offset   learned positions by place, all of a row shifted by a random number (Abacus)
    learned, sinusoidal, none       by index in the row, fixed, or no positions at all
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from runs.pipeline import REPOSITORY, script
from simple_llm import command_line
from simple_llm.evaluation.pictures import save_figure
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
    made.add_argument("--plot", type=command_line.path, metavar="PNG")
    arguments = made.parse_args()
    runs = [
        run(scheme, seed, arguments)
        for scheme in arguments.schemes
        for seed in arguments.seeds or range(5 if scheme == "window" else 3)
    ]
    print_table(runs)
    if arguments.plot:
        draw(runs, arguments.plot)
    print(json.dumps(runs))


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
        cells = []
        for length in lengths:
            scores = [score for score in one["lengths"] if score["num_digits"] == length]
            cells.append(f"{sum(score['correct'] for score in scores)} / {sum(score['total'] for score in scores)}")
        facts = [one["scheme"], str(one["seed"]), f"{one['num_parameters']:,}", f"{one['seconds']:.0f}"]
        print("| " + " | ".join([*facts, *cells]) + " |")


def draw(runs: list[dict], path: Path) -> None:
    """Exact match against length: a line a scheme, the median of its seeds, and a band from the worst to the best."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for scheme in dict.fromkeys(one["scheme"] for one in runs):
        shares = {}
        for one in (one for one in runs if one["scheme"] == scheme):
            for length in {score["num_digits"] for score in one["lengths"]}:
                scores = [score for score in one["lengths"] if score["num_digits"] == length]
                share = sum(score["correct"] for score in scores) / sum(score["total"] for score in scores)
                shares.setdefault(length, []).append(share)
        lengths = sorted(shares)
        middle = [sorted(shares[length])[len(shares[length]) // 2] for length in lengths]
        [line] = axes.plot(lengths, middle, marker="o", label=scheme)
        low, high = ([pick(shares[length]) for length in lengths] for pick in (min, max))
        axes.fill_between(lengths, low, high, color=line.get_color(), alpha=0.2)
    axes.axvline(runs[0]["trained_digits"], color="grey", linestyle="--", label="longest in training")
    axes.set(xscale="log", xlabel="digits of both operands", ylabel="exact match", ylim=(-0.02, 1.02))
    axes.legend()
    save_figure(figure, path)


if __name__ == "__main__":
    main()
