"""One seed of a track, in the fresh process that runs/speedrun.py starts for it; ends in one JSON line.

    python3 -m runs.speedrun_seed --track A --seed 0 --started SECONDS --folder DIR [section.key=value ...]

Everything from nothing, by the scripts' own functions: rows drawn, the tokenizer trained, the model built and trained
by trainer.py until its validation is exact. There the clock stops, unless every pair is to be proved too.
"""

from simple_llm import command_line

if __name__ == "__main__":
    command_line.pause_collector()

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import trainer
from data_generator import draw_problems
from runs.tracks import edge_problems, NUM_TEST, NUM_VALIDATION, recipe, RECIPES, Track, TRACKS, without
from simple_llm.arithmetic.digits import to_integers
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.data.dataset import row_format
from simple_llm.data.problems import concatenate, Problems
from simple_llm.data.sampling import Sampler
from simple_llm.data.split import problems_on_sides, split_sides, TRAIN, VALIDATION
from simple_llm.errors import DivergedError
from simple_llm.evaluation.held_out import decoded_right, held_out_sample
from simple_llm.evaluation.scoring import Score
from simple_llm.files.manifest import versions
from simple_llm.machine import host_facts, resolve_device
from simple_llm.model.decoding import Decoder
from simple_llm.model.folder import LoadedModel
from simple_llm.model.notation_simple_llm import DELIMITER
from simple_llm.model.tokenization_simple_llm import SimpleLLMTokenizer
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.model.tokens import prompt_tokens, read_answers
from simple_llm.proof.all_contexts import prove_all_contexts
from simple_llm.proof.all_pairs import prove_all_pairs, Prover
from simple_llm.proof.certifying_lengths import num_contexts
from simple_llm.proof.pair_table import can_be_tabled
from simple_llm.proof.shards import PROOF_FORMAT
from simple_llm.stopping import advancing, progress_bar, proving
from simple_llm.training.learner import build_model
from simple_llm.training.run import Run
from tokenizer import train_tokenizer

MAX_FAILURES_SHOWN = 20
_TOKENIZER_ROWS = 1000  # it learns an alphabet, which these show


class Clock:
    """Seconds by phase; each phase starts where the one before ended, and the first at `started`."""

    def __init__(self, started: float) -> None:
        self.now = started
        self.phases: dict[str, float] = {}

    def end(self, phase: str) -> None:
        """End a phase now."""
        before, self.now = self.now, time.monotonic()
        self.phases[phase] = self.now - before

    def end_training(self, step_times: list[float], is_evaluated: Callable[[int], bool]) -> None:
        """End training now, and divide it: its start, in which kernels are compiled, its steps and its validation.

        The validation after a step is what that step took longer than half of the steps without one, so its seconds
        are an estimate; together the three are exact.

        Args:
            step_times: when each step began.
            is_evaluated: whether validation looks after so many steps; it also does after the last.
        """
        started, self.now = self.now, time.monotonic()
        second = step_times[1] if len(step_times) > 1 else self.now  # when the first step and what precedes it is over
        ends = [*step_times[2:], self.now]
        seconds = {step: end - begin for step, (begin, end) in enumerate(zip(step_times[1:], ends, strict=False), 1)}
        evaluated = {step for step in seconds if is_evaluated(step + 1) or step == len(seconds)}
        plain = [one for step, one in seconds.items() if step not in evaluated]
        typical = statistics.median(plain) if plain else 0.0
        validation = sum(max(0.0, seconds[step] - typical) for step in evaluated) if plain else 0.0
        self.phases["compile"] = second - started
        self.phases["training"] = self.now - second - validation
        self.phases["validation"] = validation


def main(arguments: argparse.Namespace) -> None:
    clock = Clock(arguments.started)
    clock.end("import")
    track = TRACKS[arguments.track]
    data, train = recipe(track.name, arguments.recipes, arguments.seed, arguments.overrides)
    facts = run_seed(track, data, train, arguments.folder, clock)
    print(json.dumps({"seed": arguments.seed, **facts, "machine": host_facts(), "versions": versions()}))


def run_seed(track: Track, data: DataConfig, train: TrainConfig, folder: Path, clock: Clock) -> dict[str, object]:
    """Train from nothing and verify; return what was counted, and the seconds up to where the clock stops."""
    rows = draw_rows(track, data, train.training.num_deciding)
    tokenizer = made_tokenizer(rows, data, train)
    prepared = trainer.prepare_data(rows, data, train, vocabulary_of(tokenizer, train.model.tokens_per_step))
    clock.end("data")
    torch.manual_seed(train.training.seed)
    model = build_model(data, train, tokenizer).to(resolve_device(train.training.device))
    clock.end("model")
    step_times: list[float] = []
    facts: dict[str, object] = {"num_parameters": model.num_parameters()}
    why, is_exact = "", False
    try:
        result = trainer.train_model(
            model, prepared, train.training, Run(folder, {}), lambda state: step_times.append(time.monotonic())
        )
        score = Score(result["num_correct"], result["num_total"])
        is_exact = score.is_perfect and score.num_total > 0
        name = "first_look" if track.knows_every_length else "validation"
        facts |= {"step": result["step"], name: [score.num_correct, score.num_total]}
        why = "" if is_exact else f"validation {score} exact at the last step, {result['step']:,}"
    except DivergedError as error:
        why = str(error)
    clock.end_training(step_times, train.training.is_evaluated)
    loaded = LoadedModel(model.eval(), tokenizer, data, train, "", {})
    if is_exact and track.is_proved:
        facts["proof"] = prove_every_length(loaded) if track.knows_every_length else prove(loaded, folder)
        clock.end("proof")
    facts |= {**stopped(clock), "passed": False, "why": why}
    if is_exact:
        facts |= verdict(track, loaded, facts)
    elif "validation" in facts:
        facts["failures"] = count(loaded, validation_problems(rows, data, train))["failures"]
    return facts


def draw_rows(track: Track, data: DataConfig, num_deciding: int = NUM_VALIDATION) -> Problems:
    """Draw the rows of training as the recipe says and those of validation as the test's, without the edge cases.

    Where every length is proved, validation is but a first look, and its rows are drawn with the others.
    """
    if track.knows_every_length:
        return draw_problems(data).problems
    training = problems_on_sides(draw_problems(data).problems, data.split, (TRAIN,))
    num_validation = max(num_deciding, NUM_VALIDATION)
    validation = held_out_sample(Sampler.of(data.numbers), data.split, num_validation, data.seed, VALIDATION)
    return without(concatenate([training, validation]), track.edge_cases)


def made_tokenizer(rows: Problems, data: DataConfig, train: TrainConfig) -> SimpleLLMTokenizer:
    """Train the tokenizer on some of the rows, as the model will see them."""
    storage = data.storage
    text = row_format(data).write(rows[:_TOKENIZER_ROWS]).decode()

    def lines() -> Iterator[str]:
        for row in text.split(storage.row_delimiter)[:-1]:
            yield DELIMITER + row.replace(storage.column_delimiter, DELIMITER) + DELIMITER

    return train_tokenizer(lines(), data, train)


def stopped(clock: Clock) -> dict[str, object]:
    """What the clock shows: the record's seconds, their phases, and the CPU seconds of this process until now."""
    return {
        "seconds": round(sum(clock.phases.values()), 3),
        "cpu_seconds": round(sum(os.times()[:4]), 3),
        "phases": {phase: round(seconds, 3) for phase, seconds in clock.phases.items()},
    }


def prove(loaded: LoadedModel, folder: Path) -> dict[str, object]:
    """Check every ordered pair as `evaluate.py --exhaustive` does, with `--table` where the model allows that."""
    operands = Sampler.of(loaded.data.numbers).operands
    by_table = can_be_tabled(loaded.model.config)
    prover = Prover(Decoder.of(loaded.model).readers, loaded.vocabulary, operands, by_table=by_table)
    counted = prove_all_pairs(prover, folder / "proof", {"format": PROOF_FORMAT}, proving)
    counted["failures"] = counted["failures"][:MAX_FAILURES_SHOWN]
    told = {key: counted[key] for key in ("expected", "checked", "wrong", "failures", "min_logit_margin")}
    return told | ({"rows_in_table": prover.pairs.num_rows} if by_table else {})


def prove_every_length(loaded: LoadedModel) -> dict[str, object]:
    """Run every context of every operation, as `evaluate.py --all-lengths` does."""
    bar = progress_bar(total=num_contexts(loaded), unit="context", unit_scale=True, desc="proving")
    with advancing(bar) as on_contexts:
        counted = prove_all_contexts(loaded.model, loaded.operations, on_contexts)
    told = {key: counted[key] for key in ("expected", "checked", "wrong", "failures", "min_logit_margin")}
    return told | {"failures": counted["failures"][:MAX_FAILURES_SHOWN]}


def verdict(track: Track, loaded: LoadedModel, facts: dict[str, object]) -> dict[str, object]:
    """Whether a model that was exact in validation passes: all pairs proved, or sample and edge cases right."""
    if track.is_proved:
        proof, what = facts["proof"], "contexts" if track.knows_every_length else "pairs"
        is_right = proof["wrong"] == 0 and proof["checked"] == proof["expected"]
        return {
            "passed": is_right,
            "why": "" if is_right else f"{proof['wrong']:,} of {proof['expected']:,} {what} are wrong",
        }
    started = time.monotonic()
    tested = {"test": count(loaded, test_sample(loaded.data))}
    if track.edge_cases:
        tested["edge_cases"] = count(loaded, edge_problems(track, loaded.data))
    wrong = [f"{name} {Score(*one['counts'])} right" for name, one in tested.items() if one["failures"]]
    return {
        "passed": not wrong,
        "why": ", ".join(wrong),
        **{name: one["counts"] for name, one in tested.items()},
        "failures": [failure for one in tested.values() for failure in one["failures"]][:MAX_FAILURES_SHOWN],
        "evaluation_seconds": round(time.monotonic() - started, 3),
    }


def validation_problems(rows: Problems, data: DataConfig, train: TrainConfig) -> Problems:
    """Those of the rows that decide whether training is over."""
    return rows[split_sides(rows, data.split) == VALIDATION][: train.training.num_deciding]


def test_sample(data: DataConfig) -> Problems:
    """Draw the test sample of a seed, uniformly over values."""
    return held_out_sample(Sampler.of(data.numbers), data.split, NUM_TEST, data.seed)


def count(loaded: LoadedModel, problems: Problems) -> dict[str, list]:
    """Decode problems: how many are right, of how many; the first wrong ones, with what was said (None: no number)."""
    decoder, vocabulary = Decoder.of(loaded.model), loaded.vocabulary
    is_right = decoded_right(decoder, problems, loaded)
    wrong = problems[~is_right][:MAX_FAILURES_SHOWN]
    failures = []
    if len(wrong):
        answers = decoder.decode(prompt_tokens(wrong, vocabulary), loaded.data.answer_tokens)
        columns = (to_integers(digits, wrong.base) for digits in (wrong.x, wrong.y, wrong.z))
        said = read_answers(answers.tokens, vocabulary)
        failures = [dict(zip(("x", "y", "sum", "said"), row, strict=True)) for row in zip(*columns, said, strict=True)]
    return {"counts": [int(is_right.sum()), len(problems)], "failures": failures}


def add_options(made: argparse.ArgumentParser) -> None:
    """Options of a process that runs/speedrun.py starts."""
    made.add_argument("--track", choices=TRACKS, required=True)
    made.add_argument("--seed", type=command_line.whole_number, required=True)
    made.add_argument("--started", type=float, required=True, help="of time.monotonic(), where the clock starts")
    made.add_argument("--folder", type=command_line.path, required=True, help="for what the run writes")
    made.add_argument("--recipes", type=command_line.path, default=RECIPES)
    made.add_argument("overrides", nargs="*", metavar="section.key=value")


if __name__ == "__main__":
    parser = command_line.parser(__doc__)
    add_options(parser)
    command_line.run(main, parser.parse_intermixed_args())
