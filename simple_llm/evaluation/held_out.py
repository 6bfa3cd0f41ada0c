"""Held-out samples, decoded and scored: totals, strata, failures, commutation.

Shape letters in this file: N problems, A answer tokens.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import torch
from numpy.typing import NDArray

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import to_integers
from simple_llm.arithmetic.operands import Operands
from simple_llm.arithmetic.operation import Operation
from simple_llm.config.settings import DataConfig, Split
from simple_llm.data.problems import concatenate, Problems
from simple_llm.data.sampling import draw_unique, OutOfProblemsError, Sampler
from simple_llm.data.split import ordered_keys, problems_on_sides, TEST
from simple_llm.errors import UsageError
from simple_llm.evaluation.margins import logit_margins
from simple_llm.evaluation.scoring import by_stratum, Score
from simple_llm.model.answers import Answers
from simple_llm.model.decoding import Decoder
from simple_llm.model.folder import LoadedModel
from simple_llm.model.tokens import answer_tokens, prompt_tokens, read_results, Vocabulary

# A model can be right on nearly all of a uniform sample and never on a class of problems that it hardly shows.
BY_CHAIN = "by_longest_carry_chain"  # where an operation goes from column to column
STRATA: dict[str, Callable[[Problems], NDArray[np.int64]]] = {
    "by_operand_length": lambda problems: np.maximum(problems.x_length, problems.y_length),
    "by_second_operand_length": lambda problems: problems.y_length,
    BY_CHAIN: attrgetter("longest_chain"),
}
BY_SIGN = "by_sign"  # of the answers, where an operation has signs: -1, 0, 1
# Pairs of strata, for the pictures: where in the table of two lengths, and of length and carries, a model is right.
GRIDS: dict[str, tuple[tuple[str, Callable[[Problems], NDArray[np.int64]]], ...]] = {
    "by_lengths": (
        ("digits_of_x", lambda problems: problems.x_length),
        ("digits_of_y", lambda problems: problems.y_length),
    ),
    "by_length_and_carry_chain": (
        ("digits_of_the_longer", STRATA["by_operand_length"]),
        ("longest_carry_chain", attrgetter("longest_chain")),
    ),
}
STRATUM_SIZE = 200  # problems that each length and each carry chain is topped up to
_CANDIDATES = 2**17  # drawn to find them


@dataclass(frozen=True)
class Evaluation:
    """One sample of one operation, scored.

    Attributes:
        score: over the sample alone.
        tables: for each of its strata the rows, over sample and added problems: stratum, correct, total, sampled.
        grids: for each of GRIDS its cells, over sample and added problems: the two strata, correct, total.
        num_commuting: problems on which a+b and b+a get the same answer; None where they are not the same problem.
        failures: every wrong problem of the sample.
        dtype: of the arithmetic; margins of at least SURE logits are the first one's.
    """

    seed: int
    num_asked: int
    operation: Operation
    score: Score
    min_logit_margin: float
    num_commuting: int | None
    tables: dict[str, list[dict[str, int]]]
    grids: dict[str, list[dict[str, int]]]
    failures: list[dict[str, str]]
    dtype: str
    seconds: float

    def summary(self) -> dict[str, object]:
        """One run of evaluation.json."""
        return {
            "seed": self.seed,
            "correct": self.score.num_correct,
            "total": self.score.num_total,
            "error_rate_upper_95": self.score.error_rate_upper_95,
            "min_logit_margin": self.min_logit_margin,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class HeldOut:
    """Problems of the test side to measure on, of one operation.

    Attributes:
        num_asked: problems the sample was to have.
        sample: uniform over values.
        added: for the strata of which the sample shows few.
    """

    seed: int
    num_asked: int
    sample: Problems
    added: Problems
    operation: Operation = ADDITION

    @property
    def num_decoded(self) -> int:
        """Prompts to decode: the sample is asked in both orders, where they are the same problem."""
        return (1 + self.operation.commutes) * len(self.sample) + len(self.added)


def strata_of(operation: Operation) -> dict[str, Callable[[Problems], NDArray[np.int64]]]:
    """What the problems of an operation are told apart by."""
    sign = lambda problems: np.where(problems.is_negative, -1, (problems.z > 0).any(axis=0))  # noqa: E731
    strata = {name: of for name, of in STRATA.items() if operation.step or name != BY_CHAIN}
    return {**strata, BY_SIGN: sign} if operation.is_signed else strata


def chosen_operands(data: DataConfig, chosen: tuple[int, int] | None) -> Operands:
    """A model's range of operands, or the part of it that was asked for.

    Raises:
        UsageError: it is no part of it.
    """
    numbers = data.numbers
    if chosen is None:
        return Operands(numbers.min, numbers.max, numbers.base)
    minimum, maximum = chosen
    if not numbers.min <= minimum <= maximum <= numbers.max:
        raise UsageError(
            f"--range {minimum}:{maximum}: this model knows {numbers.min}:{numbers.max}, smaller number first"
        )
    return Operands(minimum, maximum, numbers.base)


def chosen_samplers(data: DataConfig, chosen: tuple[int, int] | None) -> list[Sampler]:
    """For each operation a model knows, its range of operands, or the part of it that was asked for.

    Raises:
        UsageError: it is no part of it.
    """
    if chosen is None:
        return [Sampler.of(data.numbers, operation) for operation in data.operations.known]
    operands = chosen_operands(data, chosen)
    numbers = data.numbers.model_copy(update={"min": operands.minimum, "max": operands.maximum, "sizes": None})
    return [Sampler.of(numbers, operation) for operation in data.operations.known]


def held_out(sampler: Sampler, split: Split, num_samples: int, seed: int) -> HeldOut:
    """Draw what one seed is to be measured on.

    Raises:
        UsageError: all of the range was learned from.
    """
    sample = held_out_sample(sampler, split, num_samples, seed)
    if not len(sample):
        raise UsageError("there is no held-out problem in this range; choose a wider one")
    added = held_out_strata(sampler, split, sample, seed)
    return HeldOut(seed, num_samples, sample, added, sampler.operation)


def held_out_sample(sampler: Sampler, split: Split, num_samples: int, seed: int, side: int = TEST) -> Problems:
    """Draw problems of one side uniformly over values, each ordered pair once; all of them where there are fewer."""
    rng = np.random.default_rng((seed, 0))
    try:
        return draw_unique(sampler, split, (side,), {"uniform": num_samples}, rng).problems
    except OutOfProblemsError as error:
        return draw_unique(sampler, split, (side,), {"uniform": error.available}, rng).problems


def held_out_strata(sampler: Sampler, split: Split, sample: Problems, seed: int) -> Problems:
    """Draw test problems that top up each operand length and each carry chain to STRATUM_SIZE.

    They are looked for among many candidates of every stratum of the sampler; a stratum that shows fewer there
    stays smaller.
    """
    rng = np.random.default_rng((seed, 1))
    candidates = concatenate(
        [problems_on_sides(stratum(rng, _CANDIDATES), split, (TEST,)) for stratum in sampler.strata.values()]
    )
    keys = ordered_keys(candidates, 64)
    _, first = np.unique(keys, return_index=True)
    first = np.sort(first)
    candidates = candidates[first[~np.isin(keys[first], ordered_keys(sample, 64))]]
    is_chosen = np.zeros(len(candidates), bool)
    for stratum_of in strata_of(sampler.operation).values():
        present, strata = stratum_of(sample), stratum_of(candidates)
        for value in np.unique(strata):
            num_missing = STRATUM_SIZE - int((present == value).sum() + (strata[is_chosen] == value).sum())
            left = np.flatnonzero((strata == value) & ~is_chosen)
            is_chosen[left[: max(0, num_missing)]] = True
    return candidates[is_chosen]


def evaluate_sample(
    loaded: LoadedModel, decoder: Decoder, problems: HeldOut, on_batch: Callable[[int], object]
) -> Evaluation:
    """Decode a sample, the problems added for the strata, and the sample with its operands exchanged.

    Args:
        decoder: of the model.
        on_batch: called with the number of problems just decoded.
    """
    started = time.monotonic()
    vocabulary, sample, added = loaded.vocabulary, problems.sample, problems.added
    operation = problems.operation
    answers = _decoded(decoder, sample, loaded, on_batch, keep_logits=vocabulary.work_ids is None)
    is_correct = said_right(answers, sample, vocabulary)  # (N,)
    num_commuting = None
    if operation.commutes:
        swapped = _decoded(decoder, sample.swapped, loaded, on_batch)
        num_commuting = _num_alike(sample, answers, swapped, vocabulary)
    added_correct = decoded_right(decoder, added, loaded, on_batch)
    everything, all_correct = concatenate([sample, added]), np.concatenate([is_correct, added_correct])
    return Evaluation(
        seed=problems.seed,
        num_asked=problems.num_asked,
        operation=operation,
        score=Score(int(is_correct.sum()), len(sample)),
        min_logit_margin=_least_margin(answers, sample, is_correct, vocabulary),
        num_commuting=num_commuting,
        tables={
            name: _table(by_stratum(all_correct, stratum_of(everything)), by_stratum(is_correct, stratum_of(sample)))
            for name, stratum_of in strata_of(operation).items()
        },
        grids={name: _grid(strata, everything, all_correct) for name, strata in GRIDS.items()},
        failures=_failures(sample[~is_correct], answers.tokens[torch.from_numpy(~is_correct)], vocabulary, loaded),
        dtype=decoder.dtype_names,
        seconds=time.monotonic() - started,
    )


def make_report(loaded: LoadedModel, operands: Operands, evaluations: list[Evaluation]) -> dict[str, object]:
    """What evaluation.json holds; totals are sums over operations and over runs with other seeds.

    Tables and grids are those of the first seed: of the first operation, and of each in `operations` where a model
    knows others than addition.
    """
    of_each = {one.name: [run for run in evaluations if run.operation is one] for one in loaded.operations}
    commuting = [one for one in evaluations if one.operation.commutes]
    is_adder = loaded.operations == [ADDITION]
    return {
        **_counts(evaluations),
        "model_sha256": loaded.sha256,
        "side": "test",
        "range": [operands.minimum, operands.maximum],
        "base": operands.base,
        "tokens_per_step": loaded.model.config.tokens_per_step,
        "device": loaded.model.device.type,
        "dtype": evaluations[0].dtype,
        "commutes": {
            "agree": sum(one.num_commuting for one in commuting),
            "total": sum(one.score.num_total for one in commuting),
        },
        "runs": [one.summary() | ({} if is_adder else {"operation": one.operation.name}) for one in evaluations],
        **evaluations[0].tables,
        "grids": evaluations[0].grids,
        **({} if is_adder else {"operations": {name: _of_operation(runs) for name, runs in of_each.items()}}),
        "failures": [failure for one in evaluations for failure in one.failures],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _counts(evaluations: list[Evaluation]) -> dict[str, int | float]:
    return {
        "correct": sum(one.score.num_correct for one in evaluations),
        "total": sum(one.score.num_total for one in evaluations),
        # Runs may repeat a problem, so the bound is that of the worst run, not of the sum.
        "error_rate_upper_95": max(one.score.error_rate_upper_95 for one in evaluations),
        "min_logit_margin": min(one.min_logit_margin for one in evaluations),
    }


def _of_operation(evaluations: list[Evaluation]) -> dict[str, object]:
    return {**_counts(evaluations), **evaluations[0].tables, "grids": evaluations[0].grids}


def decoded_right(
    decoder: Decoder,
    problems: Problems,
    loaded: LoadedModel,
    on_batch: Callable[[int], object] = lambda num_problems: None,
) -> NDArray[np.bool_]:
    """Decode problems and say which answers are right: (N,)."""
    return said_right(_decoded(decoder, problems, loaded, on_batch), problems, loaded.vocabulary)


def _decoded(
    decoder: Decoder,
    problems: Problems,
    loaded: LoadedModel,
    on_batch: Callable[[int], object],
    keep_logits: bool = False,
) -> Answers:
    """Ask for problems; work on paper is as long as it is."""
    most = None if loaded.vocabulary.work_ids else loaded.data.answer_tokens
    prompts = prompt_tokens(problems, loaded.vocabulary)
    return decoder.decode(prompts, most, keep_logits=keep_logits, on_batch=on_batch)


def said_right(answers: Answers, problems: Problems, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """Say which answers are right, with all their work, to the last token: (N,)."""
    right = answer_tokens(problems, vocabulary)  # (N, A)
    num_tokens = max(right.size(1), answers.tokens.size(1))
    said, right = (_padded(one, num_tokens, vocabulary.pad_id) for one in (answers.tokens, right))
    return (said == right).all(1).numpy()


def _num_alike(problems: Problems, answers: Answers, swapped: Answers, vocabulary: Vocabulary) -> int:
    """Count the problems that are answered alike when x and y change places, by whatever work."""
    if vocabulary.work_ids is None:
        return int((swapped.tokens == answers.tokens).all(1).sum())
    results, others = (
        read_results(prompt_tokens(some, vocabulary), said.tokens, vocabulary)
        for some, said in ((problems, answers), (problems.swapped, swapped))
    )
    return sum(one == other and one is not None for one, other in zip(results, others, strict=True))


def _least_margin(answers: Answers, problems: Problems, is_correct: NDArray[np.bool_], vocabulary: Vocabulary) -> float:
    """Smallest lead of a right token over the best other one, up to an answer's first error.

    Of work on paper the logits are not kept: they are many. Where it is wrong, another token leads by what is taken.
    """
    if answers.logits is None:
        return float(np.where(is_correct, answers.margins.numpy(), -answers.margins.numpy()).min())
    right = _padded(answer_tokens(problems, vocabulary), answers.logits.size(1), vocabulary.pad_id)
    return float(logit_margins(answers.logits, right, vocabulary.pad_id).min())


def _table(scores: dict[int, Score], sampled: dict[int, Score]) -> list[dict[str, int]]:
    return [
        {
            "stratum": stratum,
            "correct": score.num_correct,
            "total": score.num_total,
            "sampled": sampled.get(stratum, Score()).num_total,
        }
        for stratum, score in scores.items()
    ]


def _grid(
    strata: tuple[tuple[str, Callable[[Problems], NDArray[np.int64]]], ...],
    problems: Problems,
    is_correct: NDArray[np.bool_],
) -> list[dict[str, int]]:
    names = [name for name, _ in strata]
    values, cell = np.unique(np.stack([of(problems) for _, of in strata]), axis=1, return_inverse=True)  # (2, cells)
    scores = by_stratum(is_correct, np.ravel(cell))
    return [
        {**dict(zip(names, pair, strict=True)), "correct": scores[index].num_correct, "total": scores[index].num_total}
        for index, pair in enumerate(values.T.tolist())
    ]


def _padded(tokens: torch.Tensor, num_tokens: int, pad_id: int) -> torch.Tensor:
    return torch.nn.functional.pad(tokens, (0, num_tokens - tokens.size(1)), value=pad_id)


def _failures(
    problems: Problems, said: torch.Tensor, vocabulary: Vocabulary, loaded: LoadedModel
) -> list[dict[str, str]]:
    """Name wrong problems in decimal, with what the model said in its own digits."""
    numbers = zip(*(to_integers(digits, problems.base) for digits in problems.numbers), strict=True)
    tokenizer, failures = loaded.tokenizer, []
    for operands, count, index, row in zip(numbers, problems.num_numbers, problems.which, said, strict=True):
        x, y, *more = operands[:count]
        operation = OPERATIONS[index]
        failures.append(
            {
                "x": str(x),
                "y": str(y),
                **({"more": " ".join(map(str, more))} if more else {}),
                operation.noun: " r ".join(map(str, operation.answer(*operands[:count]))),
                "said": "".join(tokenizer.convert_ids_to_tokens(row[row != vocabulary.pad_id].tolist())),
            }
        )
    return failures


def written_failure(failure: dict[str, str]) -> str:
    """A failure as a line."""
    operation = next(one for one in OPERATIONS if one.noun in failure)
    numbers = (failure["x"], failure["y"], *failure.get("more", "").split())
    return f"{operation.write(*numbers)}={failure[operation.noun]}, said {failure['said']}"
