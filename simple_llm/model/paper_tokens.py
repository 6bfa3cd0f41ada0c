"""Problems -> tokens of work on paper: questions, and whole texts with their work; and what is read off a text.

Shape letters in this file: N rows, T tokens in the longest row.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simple_llm.arithmetic import paper
from simple_llm.arithmetic.digits import num_digits
from simple_llm.arithmetic.symbols import END, NOTHING, sign, Symbols
from simple_llm.data.problems import Problems

_AT_A_TIME = 2**14  # problems

Write = Callable[[str, Sequence[paper.Numbers], int], Symbols]


def question_tokens(problems: Problems, work_ids: Sequence[int], pad_id: int) -> Tensor:
    """Write what is asked, *75*64|, padded on the right: (N, T)."""
    return _tokens(problems, paper.questions, work_ids, pad_id).long()


def text_tokens(problems: Problems, work_ids: Sequence[int], pad_id: int) -> Tensor:
    """Write questions and their work up to =, padded on the right: (N, T), int16, as they are long."""
    return _tokens(problems, paper.texts, work_ids, pad_id)


def read_texts(tokens: Tensor, work_ids: Sequence[int], base: int) -> list[tuple[int, ...] | None]:
    """Read the answers off whole texts, (N, T): the answer, and what is left; None of what is no text."""
    symbol_of = np.full(max(*work_ids, int(tokens.max())) + 1, len(work_ids))  # of what is no symbol: one too many
    symbol_of[list(work_ids)] = np.arange(len(work_ids))
    said = symbol_of[tokens.numpy()].astype(np.int16)
    ends = said == sign(END, base)
    is_after = np.cumsum(ends, axis=1) - ends > 0
    answers = paper.read(np.where(is_after, NOTHING, said), base)
    return [answer if isinstance(answer, tuple | None) else (answer,) for answer in answers]


def _tokens(problems: Problems, write: Write, work_ids: Sequence[int], pad_id: int) -> Tensor:
    """Write problems, some at a time and those of one operation together."""
    ids = np.array([*work_ids, pad_id], np.int16)  # NOTHING is the last
    parts = []
    for first in range(0, len(problems), _AT_A_TIME):
        some = problems[first : first + _AT_A_TIME]
        for operation in some.operations:
            index = np.flatnonzero(some.is_of(operation))
            symbols = write(operation.symbol, _numbers(some[index], operation.takes_many), problems.base)
            parts.append((first + index, ids[symbols]))
    tokens = np.full((len(problems), max((part.shape[1] for _, part in parts), default=1)), pad_id, np.int16)
    for index, part in parts:
        tokens[index, : part.shape[1]] = part
    return torch.from_numpy(tokens)


def _numbers(problems: Problems, takes_many: bool) -> list[paper.Numbers]:
    """The operands; absent where a problem has fewer."""
    numbers = problems.numbers if takes_many else problems.numbers[:2]
    lengths: list[NDArray] = [
        num_digits(number) * (index < problems.num_numbers) for index, number in enumerate(numbers)
    ]
    return [paper.Numbers(number, length) for number, length in zip(numbers, lengths, strict=True)]
