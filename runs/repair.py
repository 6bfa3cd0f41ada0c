"""Train a model on, with problems like those that it gets wrong.

    python3 -m runs.repair [--model DIR]                 the wrong pairs of its certificate.json
    python3 -m runs.repair [--model DIR] --find 300      look for them under 300 random first operands, and again, until
                                                         none is found: seconds, before a proof takes minutes

Reads the model and the sequences file it was trained on. Half of the rows to learn from are of that file. The other
half is drawn anew: operands as long as those of a pair that failed, carries at the same places, every such kind as
often as any other, and all from the training side of the split: no test pair is ever learned.

Writes the repaired model over the old one and a line to repairs.jsonl beside it. Whether all pairs are right now,
`python3 evaluate.py --exhaustive` has to tell.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import trainer
from simple_llm import command_line
from simple_llm.arithmetic import BY_NAME
from simple_llm.arithmetic.digits import to_integers
from simple_llm.config.settings import Training
from simple_llm.data.dataset import read_manifest, read_problems
from simple_llm.data.problems import concatenate, from_integers, Problems
from simple_llm.data.sampling import Sampler
from simple_llm.data.split import problems_on_sides, split_sides, TRAIN
from simple_llm.errors import ArtefactError
from simple_llm.evaluation.reports import read_certificate_of_pairs
from simple_llm.files.manifest import sha256_of
from simple_llm.files.names import CARD, REPAIRS, WEIGHTS
from simple_llm.files.writing import exclusive, write_ours
from simple_llm.machine import resolve_device
from simple_llm.model.decoding import Decoder
from simple_llm.model.folder import LoadedModel
from simple_llm.model.network import load_network, LoadedNetwork, save_model
from simple_llm.model.tokens import make_examples
from simple_llm.proof.all_pairs import count_blocks, Prover
from simple_llm.run_log import beside_result
from simple_llm.sharing.model_card import write_card
from simple_llm.stopping import leaving_at_once, progress_bar
from simple_llm.training.learner import make_learner

GENTLER = 0.2  # learning rates, as a share of those of the training before
_MOST_ROUNDS = 100  # of drawing problems of one kind: the training side may have few


def main(arguments: argparse.Namespace) -> None:
    folder = arguments.model
    with exclusive(folder):
        if not arguments.find:
            loaded = load_on_device(folder)
            repair(folder, loaded, read_failures(folder, loaded), arguments.steps, arguments.seed)
            return
        found = []
        for round_ in range(arguments.rounds + 1):
            loaded = load_on_device(folder)
            failures, num_checked = find_failures(loaded, arguments.find, arguments.seed + round_)
            print(f"{folder}: {len(failures):,} of {num_checked:,} pairs wrong", flush=True)
            if not len(failures) or round_ == arguments.rounds:
                return
            found.append(failures)  # those of the rounds before stay in view
            repair(folder, loaded, concatenate(found), arguments.steps, arguments.seed + round_)


def load_on_device(folder: Path) -> LoadedNetwork:
    """Load a model to where evaluate.py checks it."""
    loaded = load_network(folder)
    loaded.model.to(resolve_device("auto"))
    return loaded


def repair(folder: Path, loaded: LoadedNetwork, failures: Problems, num_steps: int, seed: int) -> None:
    """Train on, write the model, and record that."""
    read_manifest(loaded.data)
    known = problems_on_sides(read_problems(loaded.data), loaded.data.split, (TRAIN,))
    rng = np.random.default_rng(seed)
    num_rows = min(len(known), num_steps * loaded.train.training.batch_size // 2)
    kinds = one_of_each_kind(failures)
    alike = problems_like(kinds, loaded, num_rows, rng)
    problems = concatenate([known[rng.permutation(len(known))[:num_rows]], alike])
    started = time.monotonic()
    train_on(loaded, problems, num_steps, seed)
    facts = {key: value for key, value in loaded.manifest.items() if key not in ("files", "versions")}
    done = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wrong": len(failures),
        "kinds": len(kinds),
        "steps": num_steps,
        "seconds": round(time.monotonic() - started, 1),
        "model_sha256": loaded.sha256,
    }
    facts["repairs"] = [*facts.get("repairs", []), done]
    save_model(folder, loaded.model, loaded.data, loaded.train, facts)
    write_ours(folder / REPAIRS, "".join(json.dumps(one) + "\n" for one in facts["repairs"]).encode())
    with beside_result(CARD):
        write_card(folder)
    print(
        f"{folder}: {num_steps:,} steps on {len(problems):,} problems, {len(alike):,} of them like the "
        f"{len(failures):,} wrong ones ({len(kinds):,} kinds); weights {sha256_of(folder / WEIGHTS)[:12]}"
    )


def find_failures(loaded: LoadedModel, num_first: int, seed: int) -> tuple[Problems, int]:
    """Check all second operands under some first ones of evenly drawn lengths; the wrong pairs, and of how many."""
    operands, readers = Sampler.of(loaded.data.numbers).operands, Decoder.of(loaded.model).readers
    drawn = operands.by_length(np.random.default_rng(seed), num_first)
    blocks, failures, num_checked = [(x, x) for x in sorted(set(to_integers(drawn, operands.base)))], [], 0
    for operation in loaded.operations:
        with leaving_at_once():
            shards = count_blocks(Prover(readers, loaded.vocabulary, operands, operation), blocks)
        pairs = [pair for shard in shards for pair in shard.failures]
        failures.append(from_integers(pairs, operands.base, operands.width, operation))
        num_checked += sum(shard.checked for shard in shards)
    return concatenate(failures), num_checked


def read_failures(folder: Path, loaded: LoadedModel) -> Problems:
    """The wrong pairs of the model's certificate.

    Raises:
        ArtefactError: there is no certificate of this model, or it has nothing to repair.
    """
    counted = read_certificate_of_pairs(folder, loaded.sha256).of_each
    base, width = loaded.data.numbers.base, loaded.data.operand_digits
    failures = concatenate([from_integers(one.failures, base, width, BY_NAME[name]) for name, one in counted.items()])
    if not len(failures):
        raise ArtefactError(f"{folder} has nothing to repair: no pair is wrong")
    return failures


def one_of_each_kind(problems: Problems) -> Problems:
    """Keep the first problem of each operation, pair of lengths and set of places that pass on a carry."""
    out_of = problems.carries[1:].astype(np.int64)  # (W, N)
    bits = (out_of << np.arange(len(out_of))[:, None]).sum(axis=0)  # (N,)
    kinds = np.stack([problems.which, problems.x_length, problems.y_length, bits])  # (4, N)
    return problems[np.unique(kinds, axis=1, return_index=True)[1]]


def problems_like(kinds: Problems, loaded: LoadedModel, count: int, rng: np.random.Generator) -> Problems:
    """Draw about `count` training-side problems, of each kind as many."""
    wanted, parts = -(-count // len(kinds)), []
    for index in range(len(kinds)):
        kind, missing = kinds[index : index + 1], wanted
        sampler = Sampler.of(loaded.data.numbers, *kind.operations)
        for _ in range(_MOST_ROUNDS):
            found = sampler.like(rng, kind, 2 * missing)
            parts.append(problems_on_sides(found, loaded.data.split, (TRAIN,))[:missing])
            missing -= len(parts[-1])
            if not missing:
                break
    problems = concatenate(parts)
    assert (split_sides(problems, loaded.data.split) == TRAIN).all()
    return problems


def train_on(loaded: LoadedNetwork, problems: Problems, num_steps: int, seed: int) -> None:
    """Take optimizer steps from the weights as they are, with gentler learning rates, decaying to 0."""
    before = loaded.train.training
    config = Training.model_validate(
        before.model_dump()
        | {
            "max_steps": num_steps,
            "warmup_steps": min(before.warmup_steps, num_steps // 10),
            "restarts": None,
            "averaging": None,
            "hard_rows": None,  # the wrong pairs are chosen already
            "seed": seed,
            "learning_rate": GENTLER * before.learning_rate,
            "muon_learning_rate": GENTLER * before.muon_learning_rate,
        }
    )
    examples = make_examples(problems, loaded.vocabulary)
    learner = make_learner(loaded.model, config)
    with progress_bar(range(num_steps), unit="step", desc="repairing") as steps:
        for step in steps:
            loss = learner.step(examples, step)
            if step % trainer.LOG_EVERY == 0:
                steps.set_postfix_str(f"loss {loss:.4f}")
    loaded.model.eval()


if __name__ == "__main__":
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", type=command_line.path, default=Path("../simple-llm-data/proved"))
    made.add_argument("--find", type=command_line.positive_integer, metavar="N", help="check N first operands")
    made.add_argument("--rounds", type=command_line.positive_integer, default=8, help="of --find, at most")
    made.add_argument("--steps", type=command_line.positive_integer, default=200)
    made.add_argument("--seed", type=command_line.whole_number, default=0)
    command_line.run(main, made.parse_args())
