"""Every context of work on paper, listed and run: a proof for numbers of every length, and for any number of them.

Shape letters in this file: C contexts, V tokens in the vocabulary.

`arithmetic/contexts.py` lists what a token of the work can see, and shows why that is all. A problem is answered
rightly if at each token the one that has to follow has the largest logit, given the right tokens before it.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simple_llm.arithmetic.contexts import Contexts, contexts
from simple_llm.arithmetic.operation import Operation
from simple_llm.arithmetic.symbols import END, MINUS, OVER, PLUS, shown, SIGNS, Symbols, TIMES
from simple_llm.errors import UsageError
from simple_llm.evaluation.margins import lead
from simple_llm.model.architecture import Architecture, Readable
from simple_llm.model.context_engine import ContextEngine
from simple_llm.model.places_simple_llm import Grid
from simple_llm.proof.occurrence import problems_showing
from simple_llm.proof.shards import MAX_FAILURES

_CONTEXTS_AT_A_TIME = 2**13


def refuse_two_blocks(config: Architecture) -> None:
    """Say why a model's contexts cannot be listed.

    Raises:
        UsageError: it has more than one block.
    """
    if config.n_layer > 1:
        raise UsageError(
            f"--all-lengths needs model.n_layer = 1, not {config.n_layer}: in a second block a token sees more than is "
            "in its view, since those in view pass on what they have seen"
        )


# ---- How many there are -----------------------------------------------------------------------------


def count_contexts(operator: str, base: int) -> int:
    """Count the contexts of an operation, one of SIGNS, without listing them."""
    return _COUNT[operator](base)


def _count_sum(base: int) -> int:
    columns = 2 * 2 * ((base + 1) ** 2 - 1)  # two say something; two carries; operand and digit above, not both absent
    lowest = 2 * base**2  # two say something: the sign that begins the row, and the digit
    return columns + lowest + 3 + base  # a carry of 0 or 1 above all columns, 1 as a digit; the last |


def _count_difference(base: int) -> int:
    complement = 2 * 3 * base + 1  # two say something; -, borrow or none; digits above; in the end a debt
    return _count_sum(base) - 1 + complement  # no digit above all columns


def _count_product(base: int) -> int:
    carries = base * (base + 1) // 2  # with each head those up to it
    columns = 2 * base * (base + 1) * (carries + base)  # operands, digits above or none; carries or |
    return columns + carries + (carries - base) + base * (base + 1)  # a carry above all, as a digit; the last |


def _count_quotient(base: int) -> int:
    """With t the highest digit of the divisor; `high` and `low` are the two highest of what is left."""
    tops, carries = range(1, base), base * (base + 1) // 2
    guesses = sum((top + 2) * base for top in tops)  # high is none, or at most t; low is any
    taken = 2 * base**2 * (carries + base)  # two say something; operands, digits above; carries or the head
    # The top digit, where high < t: head and low are quotient and rest of 0 to t * base - 1 by t, so each head comes t
    # times, with as many carries as the head has and none. Where high = t, the head is base - 1 and the carry at least
    # low; that is new if high = t - 1 has not the same head.
    below = sum(top * (carries - base) + 2 * top * base for top in tops)
    at_top = sum(base - low for top in tops for low in range(base - top))
    # Above all columns the carry is high or high + 1, and at most the head; heads are high or more, all where there is
    # no high, or 0.
    above = 2 * (2 * base - 1) + sum(2 * (base - high) - 1 for high in tops)
    one_less = base - 1  # the sign + says it
    put_back = one_less * base**2 + base**2 + 2 * 2 * base**2  # the head says the lowest digit; two say the others
    put_on_top = 2 * one_less * (2 * one_less - 1)  # t and the digit above are not 0; not 1 without a carry
    ends = (base > 3) + 1 + 1  # not enough, where t, the digit above and a carry may be below base; enough; the last |
    return guesses + taken + below + at_top + above + one_less + put_back + put_on_top + ends


_COUNT = {PLUS: _count_sum, MINUS: _count_difference, TIMES: _count_product, OVER: _count_quotient}


# ---- Asking -----------------------------------------------------------------------------------------


def token_ids(config: Architecture) -> NDArray[np.int64]:
    """The token of each symbol, and last, where NOTHING is found, padding: (2 base + 7,)."""
    signs = [config.eos_token_id if one == END else config.sign_token_ids[one] for one in SIGNS]
    return np.array([*config.digit_token_ids, *config.carry_token_ids, *signs, config.pad_token_id])


@torch.inference_mode()
def context_logits(engine: ContextEngine, listed: Contexts, which: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Ask for contexts: what the model says in each, (C, V), and the tokens that have to follow, (C,)."""
    tokens = token_ids(engine.config)
    asked = (tokens[listed.symbols[which]], listed.kinds[which].astype(np.int64), listed.is_seen[which])
    logits = engine.logits(*(torch.from_numpy(one).to(engine.device) for one in asked))
    return logits, torch.from_numpy(tokens[listed.says[which]]).to(engine.device)


@dataclass(frozen=True)
class Answers:
    """What a model says in all contexts of an operation.

    Attributes:
        operation: which.
        margins: (C,) how far the right token is ahead of all others; 0 or less, or no number, is wrong.
        said: (C,) tokens with the largest logits.
        moved: the largest difference of a logit from what float64 gives.
        problems: x and y by index of contexts that are wrong or the least sure, where they were found.
    """

    operation: Operation
    listed: Contexts
    margins: Tensor
    said: Tensor
    moved: float
    problems: dict[int, tuple[int, int]]

    @property
    def is_wrong(self) -> Tensor:
        return ~(self.margins > 0)

    @property
    def least_sure(self) -> int:
        return int(self.margins.argmin())  # of what is no number, if there is such a margin

    def counts(self) -> dict[str, int | float]:
        return {
            "expected": count_contexts(self.operation.symbol, self.listed.base),
            "checked": len(self.listed),
            "wrong": int(self.is_wrong.sum()),
            "min_logit_margin": float(self.margins[self.least_sure]),
        }

    def described(self, index: int, config: Architecture) -> dict[str, str]:
        """A context in words, which end with what has to follow; a problem that has it, if known; and what is said."""
        names = {int(token): shown([symbol], self.listed.base) for symbol, token in enumerate(token_ids(config)[:-1])}
        problem = {"problem": self.operation.write(*self.problems[index])} if index in self.problems else {}
        said = {"said": names.get(int(self.said[index]), "no symbol")}
        return {"operation": self.operation.name, **problem, "context": self.listed.spelled(index), **said}


def ask(
    operation: Operation,
    engine: ContextEngine,
    exact: ContextEngine,
    grid_of: Callable[[Symbols], Grid],
    on_contexts: Callable[[int], object] = lambda num_contexts: None,
) -> Answers:
    """Run every context of an operation.

    Args:
        engine, exact: of the same model, in the arithmetic that decides and in float64.
        grid_of: where the model places the symbols of texts, (N, T).
        on_contexts: called with the number of contexts just run.
    """
    listed = contexts(operation.symbol, len(engine.config.digit_token_ids))
    margins, said, moved = [], [], []
    for start in range(0, len(listed), _CONTEXTS_AT_A_TIME):
        some = slice(start, start + _CONTEXTS_AT_A_TIME)
        logits, right = context_logits(engine, listed, some)
        margins.append(lead(logits, right).float().cpu())
        said.append(logits.argmax(-1).cpu())
        moved.append((logits.cpu().double() - context_logits(exact, listed, some)[0].cpu()).abs().max())
        on_contexts(len(right))
    answers = Answers(operation, listed, torch.cat(margins), torch.cat(said), float(torch.stack(moved).max()), {})
    told = dict.fromkeys([*answers.is_wrong.nonzero()[:MAX_FAILURES, 0].tolist(), answers.least_sure])
    answers.problems.update(problems_showing(listed, list(told), grid_of))
    return answers


def prove_all_contexts(
    model: Readable,
    operations: Sequence[Operation],
    on_contexts: Callable[[int], object] = lambda num_contexts: None,
) -> dict[str, object]:
    """Run every context of a model's operations, in float32, and count.

    Args:
        model: of one block, with a scratchpad of columns.
        on_contexts: called with the number of contexts just run.

    Returns:
        expected and checked, counted in two ways; wrong, failures (the first MAX_FAILURES, see `Answers.described`),
        min_logit_margin and where it is, operations (the same numbers of each), seconds, and rounding, the largest
        difference of a logit from what float64 gives.

    Raises:
        UsageError: the contexts of this model cannot be listed.
    """
    refuse_two_blocks(model.config)
    started, tokens = time.monotonic(), token_ids(model.config)
    engine, exact = ContextEngine(model, torch.float32), ContextEngine(copy.deepcopy(model).to("cpu"), torch.float64)

    def grid_of(text: Symbols) -> Grid:
        return model.grid(torch.from_numpy(tokens[text]))

    answers = [ask(operation, engine, exact, grid_of, on_contexts) for operation in operations]
    counts = {one.operation.name: one.counts() for one in answers}
    worst = answers[_smallest([one["min_logit_margin"] for one in counts.values()])]
    failures = [(one, index) for one in answers for index in one.is_wrong.nonzero()[:MAX_FAILURES, 0].tolist()]
    return {
        **{key: sum(of_one[key] for of_one in counts.values()) for key in ("expected", "checked", "wrong")},
        "failures": [one.described(index, model.config) for one, index in failures[:MAX_FAILURES]],
        "min_logit_margin": counts[worst.operation.name]["min_logit_margin"],
        "min_logit_margin_at": worst.described(worst.least_sure, model.config),
        "operations": counts,
        "seconds": round(time.monotonic() - started, 3),
        "rounding": {"float32": float(np.max([one.moved for one in answers]))},
    }


def _smallest(margins: list[float]) -> int:
    """Where the smallest is; what is no number is smaller than all."""
    return min(range(len(margins)), key=lambda index: -math.inf if math.isnan(margins[index]) else margins[index])
