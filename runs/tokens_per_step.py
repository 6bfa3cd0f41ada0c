"""What it costs to say more at once: one small model, trained to say 1 token, 2 tokens, or the whole answer a step.

    python3 -m runs.tokens_per_step [section.key=value ...] [--tokens 1 2 all] [--seeds 0 1 2] [--folder DIR]

For each number of tokens a step and each seed: data, tokenizer, training with an evaluation on 10,000 validation
problems every 50 steps, and 10,000 held-out problems at the end. Prints a row a run, then the held-out problems by
longest carry chain, and ends in one JSON line. A finished run is used again.
"""

import argparse
import json
from pathlib import Path

from runs.pipeline import REPOSITORY, script
from simple_llm import command_line
from simple_llm.files.names import METRICS

NUM_EVALUATED = 10_000


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--tokens", nargs="+", choices=("1", "2", "all"), default=["1", "2", "all"], help="a step")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--folder", type=command_line.path, default=REPOSITORY / "../simple-llm-data/tokens-per-step")
    made.add_argument("overrides", nargs="*", metavar="section.key=value", help="for trainer.py")
    arguments = made.parse_args()
    runs = [
        run(k, seed, arguments.folder.resolve(), arguments.overrides)
        for k in arguments.tokens
        for seed in arguments.seeds
    ]
    heads = ("tokens a step", "seed", "validation exact at step", "held-out, at the end", "smallest margin", "seconds")
    print("\n| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for one in runs:
        first = one["first_exact_step"] or "not in {:,} steps".format(one["steps"])
        print(
            f"| {one['tokens_per_step']} | {one['seed']} | {first} | {one['correct']:,} / {one['total']:,} "
            f"| {one['min_logit_margin']:.2f} | {one['seconds']:.0f} |"
        )
    chains = sorted({row["stratum"] for one in runs for row in one["by_longest_carry_chain"]})
    print("\n| tokens a step | seed | " + " | ".join(f"carry chain {chain}" for chain in chains) + " |")
    print("|---" * (2 + len(chains)) + "|")
    for one in runs:
        of = {row["stratum"]: f"{row['correct']:,} / {row['total']:,}" for row in one["by_longest_carry_chain"]}
        cells = [of.get(chain, "") for chain in chains]
        print(f"| {one['tokens_per_step']} | {one['seed']} | " + " | ".join(cells) + " |")
    print(json.dumps(runs))


def run(tokens_per_step: str, seed: int, folder: Path, overrides: list[str]) -> dict[str, object]:
    """Train and evaluate one model; return what was measured."""
    data = [f"seed={seed}", f"storage.path={folder / f'sequences-{seed}.txt'}"]
    model = folder / f"tokens-{tokens_per_step}-seed-{seed}"
    train = [
        "--train-config",
        "runs/one_pass.yaml",
        f"paths.model={model}",
        f"model.tokens_per_step={tokens_per_step}",
        f"training.seed={seed}",
        "training.eval_every=50",
        f"training.eval_problems={NUM_EVALUATED}",
        *overrides,
    ]
    script("data_generator.py", *data)
    script("tokenizer.py", *data, *train)
    trained = script("trainer.py", *data, *train)
    evaluated = script("evaluate.py", "--model", str(model), "--samples", "10000", "--seed", str(seed))
    metrics = [json.loads(line) for line in (model / METRICS).read_text("utf-8").splitlines()]
    exact = [line["step"] for line in metrics if line.get("num_correct") == NUM_EVALUATED]
    kept = ("correct", "total", "error_rate_upper_95", "min_logit_margin", "by_longest_carry_chain", "failures")
    return {
        "tokens_per_step": tokens_per_step,
        "seed": seed,
        "steps": trained["step"],
        "seconds": trained["seconds"],
        "num_parameters": trained["num_parameters"],
        "first_exact_step": min(exact, default=None),
        **{key: evaluated[key] for key in kept},
    }


if __name__ == "__main__":
    main()
