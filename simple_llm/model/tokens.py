"""Problems -> token tensors: whole rows to learn from, prompts to answer, answers to read.

Shape letters in this file: N rows, B rows in a batch, T tokens in the longest row, W places, k tokens a step.

Everything is tokenized once; a batch is an index into a tensor.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.digits import num_digits
from simple_llm.arithmetic.operation import Operation
from simple_llm.arithmetic.symbols import END, sign
from simple_llm.data.problems import Problems
from simple_llm.model.paper_tokens import question_tokens, read_texts, text_tokens
from simple_llm.model.places_simple_llm import IGNORE_INDEX

_MOST_OF_A_BYTE = 127


@dataclass(frozen=True)
class Vocabulary:
    """How a model reads and writes problems: the token IDs, the order of digits, and how much it says in a step.

    Attributes:
        digit_ids: the IDs of the digits 0, 1, 2, ...
        delimiter_id: of `+`, which begins and ends every row.
        operator_ids: between the operands, for each of OPERATIONS; None for those that the model does not know.
        sign_id: of what makes an answer negative; None where the model knows no operation that does.
        reversed: least significant digit first.
        tokens_per_step: k. With "all" the whole answer is said in one pass, at the digits of the second operand and
            the delimiter behind it: so that one is no shorter than the first, and what is said is what the columns
            give one by one, and the last carry.

                + 2 4 3 + 9 7 8 +      342 + 879 = 1221     one pass says 1 2 2 1
                + 2 4 3 - 9 7 8 +      342 - 879 = -537     one pass says 3 6 4 - (463 - 1000)
                + 2 4 3 - 9 0 0 +      342 - 9              one pass says 3 3 3 +

        work_ids: with a scratchpad of columns, the IDs of the symbols of arithmetic/symbols.py; else None. Then the
            work is the answer, and = ends it.
    """

    digit_ids: tuple[int, ...]
    delimiter_id: int
    pad_id: int
    operator_ids: tuple[int | None, ...]
    sign_id: int | None = None
    reversed: bool = True
    tokens_per_step: int | str = 1
    work_ids: tuple[int, ...] | None = None

    @property
    def end_id(self) -> int:
        """Of what ends an answer."""
        return self.delimiter_id if self.work_ids is None else self.work_ids[sign(END, self.base)]

    @property
    def rest_id(self) -> int:
        """Of what stands before what is left, in an answer that has such a thing."""
        return next(
            token for one, token in zip(OPERATIONS, self.operator_ids, strict=True) if one.leaves_rest and token
        )

    @property
    def says_all(self) -> bool:
        return self.tokens_per_step == "all"

    @property
    def base(self) -> int:
        return len(self.digit_ids)

    @property
    def operations(self) -> list[Operation]:
        """The operations that the model knows."""
        return [one for one, token in zip(OPERATIONS, self.operator_ids, strict=True) if token is not None]


@dataclass(frozen=True)
class Rows:
    """Problems as rows of tokens, padded on the right.

        tokens         + 2 1 + 9 1 + 1 3 + PAD      (12 + 19 = 31)
        answer_start   7

    Attributes:
        tokens: (N, T).
        answer_start: (N,) index of the answer's first digit.
    """

    tokens: Tensor
    answer_start: Tensor

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class _Part:
    """One number of each row, and what stands behind it.

    Attributes:
        tokens: (W, N) by place, least significant first.
        length: (N,) how many of them are written.
        mark: (N,) the token behind them.
        is_there: (N,) whether the row has it at all; None: all have.
    """

    tokens: NDArray[np.int64]
    length: NDArray[np.int64]
    mark: NDArray[np.int64]
    is_there: NDArray[np.bool_] | None = None

    @property
    def num_tokens(self) -> NDArray[np.int64]:
        """(N,) with the mark."""
        return self.length + 1 if self.is_there is None else (self.length + 1) * self.is_there


def prompt_tokens(problems: Problems, vocabulary: Vocabulary) -> Tensor:
    """Write `+x+y+`, or `+x-y+`, for each problem, padded on the right: (N, T). Of work on paper, `*x*y|`."""
    if vocabulary.work_ids:
        return question_tokens(_known(problems, vocabulary), vocabulary.work_ids, vocabulary.pad_id)
    return _write(_prompt(_in_order(problems, vocabulary), vocabulary), vocabulary)


def row_tokens(problems: Problems, vocabulary: Vocabulary) -> Rows:
    """Write `+x+y+z+` for each problem, or its work on paper."""
    if vocabulary.work_ids:
        num_asked = (prompt_tokens(problems, vocabulary) != vocabulary.pad_id).sum(1)
        return Rows(text_tokens(problems, vocabulary.work_ids, vocabulary.pad_id), num_asked)
    prompt = _prompt(problems, vocabulary)
    answer_start = torch.from_numpy(prompt[0].length + prompt[1].length) + 3
    return Rows(_write([*prompt, *_answers(problems, vocabulary)], vocabulary), answer_start)


def answer_tokens(problems: Problems, vocabulary: Vocabulary) -> Tensor:
    """Write what the model has to say, `z+` or its work on paper, padded on the right: (N, T)."""
    if vocabulary.work_ids:
        rows = row_tokens(problems, vocabulary)
        longest = int(((rows.tokens != vocabulary.pad_id).sum(1) - rows.answer_start).max()) if len(rows) else 1
        column = rows.answer_start[:, None] + torch.arange(longest)
        is_there = column < rows.tokens.size(1)
        said = rows.tokens.gather(1, column.clamp(max=rows.tokens.size(1) - 1))
        return torch.where(is_there, said, vocabulary.pad_id).long()
    return _write(_answers(_in_order(problems, vocabulary), vocabulary), vocabulary)[:, 1:]


def read_results(prompts: Tensor, answers: Tensor, vocabulary: Vocabulary) -> list[tuple[int, ...] | None]:
    """Read what was said to prompts: (N, T), (N, A) -> the answer and, of a division, what is left; None where none is.

    Args:
        prompts: see `prompt_tokens`.
        answers: see `answer_tokens`.
    """
    if vocabulary.work_ids:
        num_asked = (prompts != vocabulary.pad_id).sum(1)  # (N,)
        texts = functional.pad(prompts, (0, answers.size(1)), value=vocabulary.pad_id)
        column = num_asked[:, None] + torch.arange(answers.size(1))
        return read_texts(texts.scatter(1, column, answers), vocabulary.work_ids, vocabulary.base)
    if not any(one.leaves_rest for one in vocabulary.operations):
        return [None if answer is None else (answer,) for answer in read_answers(answers, vocabulary)]
    return _read_with_rests(prompts, answers, vocabulary)


def _read_with_rests(prompts: Tensor, answers: Tensor, vocabulary: Vocabulary) -> list[tuple[int, ...] | None]:
    """The same where an answer may have two parts, `q/r+`: each is read as an answer by itself."""
    end, pad, mark = vocabulary.delimiter_id, vocabulary.pad_id, vocabulary.rest_id
    num_columns = answers.size(1)
    is_behind = (answers == mark).cumsum(1) > 0  # (N, A) the first mark, and all behind it
    before = torch.where(is_behind, end, answers)
    column = (~is_behind).sum(1, keepdim=True) + 1 + torch.arange(num_columns)
    behind = answers.gather(1, column.clamp(max=num_columns - 1)).masked_fill(column >= num_columns, pad)
    found = []
    for divides, is_marked, answer, rest in zip(
        (prompts == mark).any(1).tolist(),
        is_behind.any(1).tolist(),
        *(read_answers(part, vocabulary) for part in (before, behind)),
        strict=True,
    ):
        parts = (answer, rest) if divides else (answer,)
        found.append(parts if divides == is_marked and None not in parts else None)
    return found


def read_answers(tokens: Tensor, vocabulary: Vocabulary) -> list[int | None]:
    """Read what was said without a scratchpad, one number each: (N, A) -> N numbers, None where it is no number.

    What follows the delimiter is not read. Padding before it is no digit: with anything behind it there is no number.
    Nor is there one where a sign stands elsewhere than at the number's top, or at nothing.
    """
    said = tokens.numpy()
    base = vocabulary.base
    digit_of = np.full(max(*vocabulary.digit_ids, int(said.max(initial=0))) + 1, -1)
    digit_of[list(vocabulary.digit_ids)] = np.arange(base)
    is_end = said == vocabulary.delimiter_id
    is_over = np.cumsum(is_end | (said == vocabulary.pad_id), axis=1) > 0  # (N, A)
    is_padded = np.cumsum((said == vocabulary.pad_id) & (np.cumsum(is_end, axis=1) == 0), axis=1) > 0
    is_sign = ~is_over & (said == (-1 if vocabulary.sign_id is None else vocabulary.sign_id))
    num_said = (~is_over).sum(axis=1)  # (N,)
    top = num_said - 1 if vocabulary.reversed else np.zeros_like(num_said)
    is_negative = is_sign.any(axis=1)
    is_elsewhere = is_sign & (np.arange(said.shape[1]) != top[:, None])
    is_skipped = is_over | is_sign
    digits = np.where(is_skipped, 0, digit_of[said])
    is_number = (~is_skipped).any(axis=1) & (digits >= 0).all(axis=1) & ~is_elsewhere.any(axis=1)  # (N,)
    is_number &= ~(is_padded & (said != vocabulary.pad_id)).any(axis=1)
    is_small = base ** said.shape[1] < 2**63
    values = np.zeros(len(said), np.int64 if is_small else object)
    for column in range(said.shape[1])[:: -1 if vocabulary.reversed else 1]:
        values = np.where(is_skipped[:, column], values, values * base + digits[:, column])
    if vocabulary.says_all:  # a debt of base^digits
        owed = np.array([base ** int(count - 1) if count else 0 for count in num_said], values.dtype)
        values = np.where(is_negative, values - owed, values)
    else:
        is_number &= ~(is_negative & (values == 0))
        values = np.where(is_negative, -values, values)
    return [value if is_one else None for value, is_one in zip(values.tolist(), is_number.tolist(), strict=True)]


def _in_order(problems: Problems, vocabulary: Vocabulary) -> Problems:
    """The problems with the longer operand second, where the model wants it so; equal lengths keep their order."""
    return problems.longer_second() if vocabulary.says_all else problems


def _second_length(problems: Problems, vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Digits that the second operand is written with: (N,); zeros fill it up where each says a digit of the answer."""
    return np.maximum(problems.x_length, problems.y_length) if vocabulary.says_all else problems.y_length


def _prompt(problems: Problems, vocabulary: Vocabulary) -> list[_Part]:
    digit_ids, problems = np.array(vocabulary.digit_ids), _known(problems, vocabulary)
    operators = np.array([-1 if one is None else one for one in vocabulary.operator_ids])[problems.which]
    return [
        _Part(digit_ids[problems.x], problems.x_length, operators),
        _Part(digit_ids[problems.y], _second_length(problems, vocabulary), _delimiters(problems, vocabulary)),
    ]


def _known(problems: Problems, vocabulary: Vocabulary) -> Problems:
    """The problems, of which none may be of an operation that the model does not know."""
    unknown = [one.name for one in problems.operations if one not in vocabulary.operations]
    assert not unknown, f"{unknown} asked of a model that knows {[one.name for one in vocabulary.operations]}"
    return problems


def _answers(problems: Problems, vocabulary: Vocabulary) -> list[_Part]:
    """The answer and, where an operation leaves something, what is left behind that operation's symbol."""
    answer = _answer(problems, vocabulary)
    if not problems.leaves_rest.any():
        return [answer]
    rest = _Part(np.array(vocabulary.digit_ids)[problems.rest], num_digits(problems.rest), answer.mark)
    answer = replace(answer, mark=np.where(problems.leaves_rest, vocabulary.rest_id, answer.mark))
    return [answer, replace(rest, is_there=problems.leaves_rest)]


def _answer(problems: Problems, vocabulary: Vocabulary) -> _Part:
    """The answer with its sign, which stands at its top."""
    digit_ids, delimiters = np.array(vocabulary.digit_ids), _delimiters(problems, vocabulary)
    if vocabulary.says_all:  # the delimiter behind the second operand says a digit above, a sign, or the end
        num_digits = _second_length(problems, vocabulary)
        has_digit = (problems.worked[num_digits, np.arange(len(problems))] > 0) & ~problems.is_negative
        mark = np.where(problems.is_negative, vocabulary.sign_id or vocabulary.pad_id, delimiters)
        return _Part(digit_ids[problems.worked], num_digits + has_digit, np.where(has_digit, vocabulary.pad_id, mark))
    tokens = np.pad(digit_ids[problems.z], ((0, 1), (0, 0)))  # (W + 2, N)
    if problems.is_negative.any():
        negative = np.flatnonzero(problems.is_negative)
        tokens[problems.z_length[negative], negative] = vocabulary.sign_id
    return _Part(tokens, problems.z_length + problems.is_negative, delimiters)


def _delimiters(problems: Problems, vocabulary: Vocabulary) -> NDArray[np.int64]:
    return np.full(len(problems), vocabulary.delimiter_id)


def _write(parts: list[_Part], vocabulary: Vocabulary) -> Tensor:
    """Write numbers of any lengths, a delimiter in front: (N, T)."""
    num_rows = parts[0].length.size
    row_length = 1 + sum(part.num_tokens for part in parts)  # (N,)
    tokens = np.full((num_rows, int(row_length.max(initial=1))), vocabulary.pad_id, np.int64)
    tokens[:, 0] = vocabulary.delimiter_id
    row, start = np.arange(num_rows), np.ones(num_rows, np.int64)  # (N,) column of the number's first token
    for part in parts:
        for place, of_place in enumerate(part.tokens):
            has_place = place < np.minimum(part.length, part.num_tokens)
            column = start + (place if vocabulary.reversed else part.length - 1 - place)
            tokens[row[has_place], column[has_place]] = of_place[has_place]
        has_mark = slice(None) if part.is_there is None else part.is_there
        tokens[row[has_mark], (start + part.length)[has_mark]] = part.mark[has_mark]
        start = start + part.num_tokens
    return torch.from_numpy(tokens)


def pad_left(tokens: Tensor, pad_id: int) -> Tensor:
    """Move the padding of right-padded rows to their left: (N, T) -> (N, T)."""
    num_padding = (tokens == pad_id).sum(1)  # (N,)
    column = torch.arange(tokens.size(1), device=tokens.device)
    return torch.where(column >= num_padding[:, None], shift_right(tokens, num_padding), pad_id)


def shift_right(values: Tensor, distance: Tensor) -> Tensor:
    """Move each row to the right, (N, T) by (N,); what comes in on the left is the row's first value, repeated."""
    column = torch.arange(values.size(1), device=values.device) - distance[:, None]  # (N, T)
    return values.gather(1, column.clamp(min=0))


@dataclass(frozen=True)
class Examples:
    """Rows to learn from; indexing selects some of them.

    Attributes:
        inputs: (N, T) tokens.
        targets: (N, T) what is to be said at each of them, IGNORE_INDEX where nothing is.
        place_targets: (N, T) what the middle of the model is asked for, see `place_targets`.
    """

    inputs: Tensor
    targets: Tensor
    place_targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: NDArray[np.int64] | Tensor | slice) -> "Examples":
        return Examples(self.inputs[index], self.targets[index], self.place_targets[index])

    @cached_property
    def rows_by_length(self) -> list[NDArray[np.int64]]:
        """The indices of the rows of each length there is, up to the last token that is to be said, shortest first."""
        column = torch.arange(self.targets.size(1))
        lengths = torch.where(self.targets != IGNORE_INDEX, column, -1).amax(1)  # (N,)
        return [(lengths == length).nonzero()[:, 0].numpy() for length in lengths.unique()]

    def to(self, device: torch.device) -> "Examples":
        return Examples(*(one.to(device, torch.long) for one in (self.inputs, self.targets, self.place_targets)))


def make_examples(problems: Problems, vocabulary: Vocabulary) -> Examples:
    """Write problems as rows to learn from.

    With k tokens a step each token is paired with the one k ahead, and hidden from the loss is what the model is not
    asked to say. To say all at once, only the prompt is read:

        tokens     + 2 1 + 9 1 + 1 3 + PAD      (12 + 19 = 31)
        inputs     + 2 1 + 9 1 + 1 3            k = 2
        targets    . . . . . 1 3 + .
        inputs     + 2 1 + 9 1 +                all at once
        targets    . . . . 1 3 +
        inputs     * 7 5 * 6 4 | 2 ⁴ 4 ³ 3 | 2 ³ 6 ² 2 |      57 * 46, work on paper
        targets    . . . . . . 2 ⁴ 4 ³ 3 | 2 ³ 6 ² 2 | =
    """
    if vocabulary.work_ids:
        return _work_examples(problems, vocabulary)
    problems, k = _in_order(problems, vocabulary), vocabulary.tokens_per_step
    if k == "all":
        inputs = prompt_tokens(problems, vocabulary)
        given = place_targets(problems, vocabulary, inputs.size(1))
        return Examples(inputs, _with_last_token(given, problems, vocabulary), given)
    rows = row_tokens(problems, vocabulary)
    column = torch.arange(rows.tokens.size(1))  # (T,)
    is_answer = (column >= rows.answer_start[:, None]) & (rows.tokens != vocabulary.pad_id)  # (N, T)
    labels = torch.where(is_answer, rows.tokens, IGNORE_INDEX)
    inputs = rows.tokens[:, :-k].contiguous()
    targets = labels[:, k:].contiguous()
    return Examples(inputs, targets, place_targets(problems, vocabulary, inputs.size(1)))


def _work_examples(problems: Problems, vocabulary: Vocabulary) -> Examples:
    """Texts to learn every token of the work from, in few bytes: they are long. The middle is asked for the same."""
    rows = row_tokens(problems, vocabulary)
    tokens = rows.tokens.to(torch.int8 if max(vocabulary.work_ids) <= _MOST_OF_A_BYTE else torch.int16)
    column = torch.arange(tokens.size(1))
    is_work = (column >= rows.answer_start[:, None]) & (tokens != vocabulary.pad_id)  # (N, T)
    targets = torch.where(is_work, tokens, IGNORE_INDEX)[:, 1:].contiguous()
    return Examples(tokens[:, :-1].contiguous(), targets, targets)


def _with_last_token(targets: Tensor, problems: Problems, vocabulary: Vocabulary) -> Tensor:
    """Add what the delimiter behind the second operand says: a digit above, a sign, or the end of the answer."""
    num_digits, row = _second_length(problems, vocabulary), torch.arange(len(problems))
    said = _write([_answer(problems, vocabulary)], vocabulary)[row, 1 + num_digits]
    targets = targets.clone()
    targets[row, torch.from_numpy(problems.x_length + num_digits) + 2] = said
    return targets


def place_targets(problems: Problems, vocabulary: Vocabulary, num_columns: int) -> Tensor:
    """At each digit of the second operand, give what its column gives: all that it depends on is there.

        tokens     + 2 1 + 9 1 + 1 3 +      (12 + 19 = 31)
        targets    . . . . 1 3 . . . .
        tokens     + 2 1 - 9 1 + 7 - +      (12 - 19 = -7, or 93 - 100)
        targets    . . . . 3 9 . . . .

    Where the most significant digit comes first, no digit can be known before the last, and nothing is given.

    Returns:
        (N, num_columns), IGNORE_INDEX where there is none.
    """
    first, second = _prompt(problems, vocabulary)
    given = _Part(np.array(vocabulary.digit_ids)[problems.worked], second.length, second.mark)
    tokens = _write([first, given], vocabulary)
    column, start = torch.arange(tokens.size(1)), torch.from_numpy(first.length)[:, None] + 2
    is_second = (column >= start) & (column < start + torch.from_numpy(second.length)[:, None])  # (N, T)
    targets = torch.where(is_second & vocabulary.reversed, tokens, IGNORE_INDEX)
    return functional.pad(targets, (0, num_columns - targets.size(1)), value=IGNORE_INDEX)
