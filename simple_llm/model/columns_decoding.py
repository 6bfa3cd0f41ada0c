"""Decoding work on paper in bulk: many problems side by side, and in each many rows at once.

Shape letters in this file: N prompts, B prompts in a batch, T tokens of the longest prompt, A tokens of the longest
answer, V tokens in the vocabulary.

A step says one token of every row that is due, `wavefront.py` says which these are. The tokens are those that are said
one at a time, up to the first that does not belong where it is said: with it an answer ends, and is not finished,
unless that token is the end.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simple_llm.arithmetic.symbols import MINUS, NOTHING, OVER, PLUS, Symbols, TIMES
from simple_llm.model.answers import Answers
from simple_llm.model.architecture import Readable
from simple_llm.model.context_engine import ContextEngine
from simple_llm.model.known_contexts import KnownContexts
from simple_llm.model.questions import Questions
from simple_llm.model.wavefront import DivisionPens, num_pens, Paper, Pens, RowPens
from simple_llm.processes import ALONE, Processes

MEMORY_BUDGET = 256 * 2**20  # bytes a batch may take
_BYTES_OF_TOKEN, _BYTES_OF_PEN, _BYTES_OF_COLUMN = 48, 400, 8


class Result(NamedTuple):
    """What is read off the work on a problem.

    Attributes:
        digits: of the sum, difference, product or quotient, least significant first, no zeros in front.
        is_negative: whether a difference is below zero.
        rest: alike, what a division leaves; None where there is no division.
        num_tokens: how much was written.
        num_steps: how many steps that took; one step says a token in many rows.
    """

    digits: NDArray[np.uint8]
    is_negative: bool
    rest: NDArray[np.uint8] | None
    num_tokens: int
    num_steps: int


class ColumnsDecoder:
    """Writes down work on paper with the most likely token at each place.

    Args:
        engine: in float32: since no context is asked for twice, nothing else would be faster.
        processes: that share the prompts; each gets all answers.
    """

    def __init__(self, engine: ContextEngine, processes: Processes = ALONE) -> None:
        self.engine, self.processes, self.config = engine, processes, engine.config
        self.known = KnownContexts(engine)

    @classmethod
    def of(cls, model: Readable, processes: Processes = ALONE) -> "ColumnsDecoder":
        """Ready a model's weights."""
        return cls(ContextEngine(model, torch.float32), processes)

    @property
    def dtype_names(self) -> str:
        """What decided: "float32"."""
        return str(self.engine.dtype).removeprefix("torch.")

    def decode(
        self,
        prompts: Tensor,
        max_answer_tokens: int | None = None,
        memory_budget: int = MEMORY_BUDGET,
        keep_logits: bool = False,
        on_batch: Callable[[int], object] = lambda num_prompts: None,
    ) -> Answers:
        """Answer every prompt with all its work; the order of the answers is the order of the prompts.

        Args:
            prompts: (N, T) questions `*75*64|`, padded on the right.
            max_answer_tokens: an answer that is longer is cut, and not finished; None: none is.
            memory_budget: bytes that a batch may take; it decides how many prompts are answered at a time.
            on_batch: called with the number of prompts just answered here, and with 0 within the work; what it raises
                ends that.

        Raises:
            ValueError: a prompt is no question.
        """
        num_prompts, prompts = len(prompts), prompts[self.processes.share]
        known = KnownContexts(self.engine, keeps_logits=True) if keep_logits else self.known
        batches = []
        for index, work in self._batches(prompts, known, memory_budget, keeps_text=True, on_batch=on_batch):
            batches.append((torch.from_numpy(index), work.text()[:, :max_answer_tokens]))
        num_tokens = self.processes.largest(max((text.shape[1] for _, text in batches), default=0))
        dtype = torch.promote_types(self.engine.dtype, torch.float32)
        answers = Answers.empty(len(prompts), num_tokens, self.config, keep_logits, dtype)
        for index, text in batches:
            _keep(answers, index, text, known)
        return answers.gathered(self.processes, num_prompts)

    def results(
        self,
        prompts: Tensor,
        on_batch: Callable[[int], object] = lambda num_prompts: None,
        memory_budget: int = MEMORY_BUDGET,
    ) -> list[Result | None]:
        """Read off the result of every prompt, in their order; of the work only what is in view is ever held.

        Args:
            prompts: as above; each process that calls this answers all of them.

        Returns:
            None where the model wrote no text of work, from end to end.

        Raises:
            ValueError: a prompt is no question.
        """
        results: list[Result | None] = [None] * len(prompts)
        for index, work in self._batches(prompts, self.known, memory_budget, keeps_text=False, on_batch=on_batch):
            for problem, result in zip(index.tolist(), work.results(), strict=True):
                results[problem] = result
        return results

    def _batches(
        self,
        prompts: Tensor,
        known: KnownContexts,
        memory_budget: int,
        keeps_text: bool,
        on_batch: Callable[[int], object],
    ) -> Iterator[tuple[NDArray[np.int64], "Work"]]:
        """Go through prompts in batches of about as many steps: which they are, and their work, done."""
        if not len(prompts):
            return
        symbols = known.names.symbols[prompts.cpu().numpy()]  # (N, T)
        num_steps, num_bytes = _estimates(Questions.of(symbols, known.names.base), keeps_text)
        order = np.argsort(num_steps, kind="stable")
        batch = num_bytes[order].cumsum() // memory_budget
        for index in np.split(order, np.flatnonzero(np.diff(batch)) + 1):
            width = int((symbols[index] != NOTHING).sum(1).max())
            work = Work(Questions.of(symbols[index, :width], known.names.base), known, keeps_text)
            work.do(lambda: on_batch(0))
            yield index, work
            on_batch(len(index))


def _estimates(questions: Questions, keeps_text: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many steps problems take, and how many bytes, about: (N,) each."""
    first, second, pens = questions.size(0), questions.size(1), num_pens(questions)
    one_after_another = [questions.are(OVER), questions.are(MINUS)]
    rows = np.select(one_after_another, [2 * np.maximum(first - second + 1, 0), 2], pens)
    width = np.select([questions.are(OVER), questions.are(TIMES)], [second, first], questions.longest) + 1
    num_tokens = 2 * rows * width
    at_once = [questions.are(TIMES), questions.are(PLUS)]
    num_steps = np.select(at_once, [2 * width + 3 * pens, 2 * width + pens], num_tokens)
    num_bytes = pens * _BYTES_OF_PEN + (first + second + width) * _BYTES_OF_COLUMN
    return num_steps, num_bytes + keeps_text * num_tokens * _BYTES_OF_TOKEN


def _keep(answers: Answers, index: Tensor, text: NDArray[np.int32], known: KnownContexts) -> None:
    """Write down what some of the prompts, (B,), were answered: (B, A) contexts, -1 behind the last."""
    config, num_tokens = known.engine.config, text.shape[1]
    is_said, said = torch.from_numpy(text >= 0), torch.from_numpy(text).clamp(min=0).long()
    tokens = torch.from_numpy(known.tokens)[said].where(is_said, config.pad_token_id)
    answers.tokens[index, :num_tokens] = tokens
    answers.is_finished[index] = (is_said & (tokens == config.eos_token_id)).any(1)
    answers.margins[index] = torch.from_numpy(known.margins)[said].where(is_said, torch.inf).amin(1)
    if answers.logits is not None:
        answers.logits[index, :num_tokens] = known.logits[said] * is_said[..., None]


class Said(NamedTuple):
    """What some pens said at a step: which of them, (L,), and in which contexts."""

    pens: Pens
    step: int
    at_work: NDArray[np.int32]
    contexts: NDArray[np.int32]


class Work:
    """The work on a batch of problems.

    Args:
        keeps_text: whether what was said is kept, too, and not only what is in view.
    """

    def __init__(self, questions: Questions, known: KnownContexts, keeps_text: bool) -> None:
        self.questions, self.known, self.keeps_text = questions, known, keeps_text
        self.paper = Paper(questions)
        self.pens = [kind.of(self.paper, known) for kind in (RowPens, DivisionPens)]
        self.said: list[Said] = []

    def do(self, on_step: Callable[[], object]) -> None:
        """Say what there is to say, one token of every row that is due at a step.

        Args:
            on_step: called before each; what it raises ends the work.
        """
        step = 0
        while going := [pens for pens in self.pens if not pens.are_done]:
            on_step()
            for pens in going:
                pens.begin(step)
            views = [pens.look(step) for pens in going]
            asked = self.known.ask(np.concatenate([view.code for view in views]))
            for pens, view in zip(going, views, strict=True):
                contexts, asked = asked[: len(view.code)], asked[len(view.code) :]
                if self.keeps_text:
                    self.said.append(Said(pens, step, pens.at_work.astype(np.int32), contexts.astype(np.int32)))
                pens.hear(view, self.known.said[contexts], step)
            step += 1

    def text(self) -> NDArray[np.int32]:
        """What was said, (B, A): contexts, -1 behind the last; without rows that do not count."""
        num_tokens = self._num_tokens()
        text = np.full((len(num_tokens), num_tokens.max()), -1, np.int32)
        lengths = {pens: pens.lengths() for pens in self.pens}
        first_places = {pens: _first_places(pens, length, text.shape[1]) for pens, length in lengths.items()}
        for pens, step, at_work, contexts in self.said:
            index = step - pens.start[at_work]
            counts = index < lengths[pens][at_work]
            text.ravel()[(first_places[pens][at_work] + index)[counts]] = contexts[counts]
        return text

    def _num_tokens(self) -> NDArray[np.int64]:
        """How much of what was said counts, (B,)."""
        num_tokens = np.zeros(len(self.questions.operator), np.int64)
        for pens in self.pens:
            np.add.at(num_tokens, pens.problem, pens.lengths())
        return num_tokens

    def _num_steps(self) -> NDArray[np.int64]:
        """How many steps each problem took, (B,)."""
        num_steps = np.zeros(len(self.questions.operator), np.int64)
        for pens in self.pens:
            np.maximum.at(num_steps, pens.problem, pens.start + pens.lengths())
        return num_steps

    def results(self) -> list[Result | None]:
        """What is read off, of each problem."""
        first, second, is_division = self.questions.size(0), self.questions.size(1), self.questions.are(OVER)
        num_heads = np.maximum(first - second + 1, 0)
        num_left = np.where(num_heads > 0, second, first)
        rows, _ = self.pens
        is_negative = np.bincount(rows.problem, rows.owes, minlength=len(first)) > 0
        counts = zip(self._num_tokens().tolist(), self._num_steps().tolist(), strict=True)
        results: list[Result | None] = []
        for problem, (is_right, told) in enumerate(zip(self.paper.is_right, counts, strict=True)):
            columns, heads = self.paper.of(problem)
            if not is_right:
                results.append(None)
            elif is_division[problem]:
                quotient, rest = _number(heads[: num_heads[problem]]), _number(columns[: num_left[problem]])
                results.append(Result(quotient, False, rest, *told))
            else:
                results.append(Result(_number(columns), bool(is_negative[problem]), None, *told))
        return results


def _first_places(pens: Pens, lengths: NDArray[np.int64], num_columns: int) -> NDArray[np.int64]:
    """Where in a text, (B, num_columns) made flat, the first token of each pen stands: (P,) -> (P,)."""
    before = lengths.cumsum() - lengths  # tokens of all pens before each
    return pens.problem * num_columns + before - before[np.searchsorted(pens.problem, pens.problem)]


def _number(symbols: Symbols) -> NDArray[np.uint8]:
    """The digits of a number without zeros in front; of none at all, 0."""
    highest = np.flatnonzero(symbols > 0)[-1:]
    return symbols[: highest[0] + 1].astype(np.uint8) if len(highest) else np.zeros(1, np.uint8)
