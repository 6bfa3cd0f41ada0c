"""Small problems in which contexts of work on paper occur, so that an error can be told as a problem.

Shape letters in this file: C contexts, N problems, T symbols of a text, K kinds, W digits of a problem's two numbers.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simple_llm.arithmetic.contexts import Contexts
from simple_llm.arithmetic.digits import to_integers
from simple_llm.arithmetic.paper import Numbers, texts
from simple_llm.arithmetic.symbols import NOTHING, OVER, shown, SIGNS, Symbols, value_of
from simple_llm.model.places_simple_llm import Grid, in_view, KINDS

_MOST_DIGITS = 9  # of both numbers together
_MOST_LONGER = 3  # digits that one number has more than the other
_AT_A_TIME = 2**11  # problems
_TRIES = 2**13  # problems of each two lengths; all of them, where there are not many more

Codes = NDArray[np.int64]


def problems_showing(
    listed: Contexts, which: Sequence[int], grid_of: Callable[[Symbols], Grid]
) -> dict[int, tuple[int, int]]:
    """Find, for some contexts of an operation, a problem of two numbers that each occurs in: the smallest, or nearly.

    Args:
        which: indices of contexts.
        grid_of: where a model places the symbols of texts, (N, T).

    Returns:
        x and y by index. What occurs only where numbers begin with zeros is not found, nor maybe the rarest of others.
    """
    operator, base = shown(listed.symbols[0, :1], listed.base), listed.base
    sought = dict(zip(codes_of_contexts(listed)[which].tolist(), which, strict=True))
    found = {}
    if not sought:
        return found
    for lengths in _lengths(operator):
        for x, y in _problems(lengths, operator, base, lambda: listed.symbols[list(sought.values())]):
            text = texts(operator, [x, y], base)
            near = np.flatnonzero(_may_have(text, listed, list(sought.values())))
            codes = codes_of_texts(text[near], grid_of(text[near]), base)
            problem, symbol = np.isin(codes, list(sought)).nonzero()
            for index, code in zip(near[problem], codes[problem, symbol].tolist(), strict=True):
                if code in sought:
                    pair = (to_integers(number.digits[:, [index]], base)[0] for number in (x, y))
                    found[sought.pop(code)] = tuple(pair)
            if not sought:
                return found
    return found


def _may_have(text: Symbols, listed: Contexts, which: list[int]) -> NDArray[np.bool_]:
    """Whether what asks in one of some contexts and what follows stand side by side in a text: (N, T) -> (N,)."""
    pairs = text[:, :-1].astype(np.int64) * 2**8 + text[:, 1:]
    return np.isin(pairs, listed.symbols[which, -1].astype(np.int64) * 2**8 + listed.says[which]).any(1)


# ---- Contexts as numbers ----------------------------------------------------------------------------


def codes_of_contexts(listed: Contexts) -> Codes:
    """One number for each of the contexts of an operation, (C,)."""
    is_seen, seen = listed.is_seen, np.full((len(listed), len(KINDS)), NOTHING)
    for cell in range(1, listed.symbols.shape[1] - 1):  # all see the operator
        index = is_seen[:, cell].nonzero()[0]
        seen[index, listed.kinds[index, cell]] = listed.symbols[index, cell]
    return _codes(seen, listed.symbols[:, -1], listed.kinds[:, -1], listed.base)


def codes_of_texts(text: Symbols, grid: Grid, base: int) -> Codes:
    """The same of each symbol of the work in some texts, by what a model's grid says it sees: (N, T), -1 for others."""
    sees = in_view(grid.looks, grid.addresses).tril()  # (N, T, T)
    is_of = torch.nn.functional.one_hot(grid.kinds, len(KINDS))  # (N, T, K)
    is_of[:, :1] = 0  # all see the operator
    seen = sees.float() @ (is_of * (_tensor(text) - NOTHING)[..., None]).float()  # (N, T, K), one symbol of a kind
    codes = _codes(seen.long().numpy() + NOTHING, text, grid.kinds.numpy(), base)
    return np.where(grid.is_work.numpy(), codes, -1)


def _codes(seen: NDArray, asks: NDArray, kind: NDArray, base: int) -> Codes:
    """Write as a number what is seen of each kind, (..., K), NOTHING or a symbol; what asks; and its kind."""
    code = np.zeros(asks.shape, np.int64)
    for symbol in (*np.moveaxis(seen, -1, 0), asks):
        code = code * (2 * base + len(SIGNS) + 1) + symbol - NOTHING
    return code * len(KINDS) + kind


def _tensor(text: Symbols) -> Tensor:
    return torch.from_numpy(text.astype(np.int64))


# ---- Problems ---------------------------------------------------------------------------------------


def _lengths(operator: str) -> Iterator[tuple[int, int]]:
    """How many digits the two numbers have, few first."""
    for num_digits in range(2, _MOST_DIGITS + 1):
        for x_digits in range(1, num_digits):
            longer = 2 * x_digits - num_digits  # digits that x has more than y
            if abs(longer) <= _MOST_LONGER and (operator != OVER or longer >= 0):
                yield x_digits, num_digits - x_digits


def _problems(
    lengths: tuple[int, int], operator: str, base: int, sought: Callable[[], Symbols]
) -> Iterator[tuple[Numbers, Numbers]]:
    """Draw problems of some lengths; all of them in order, or random ones of which many digits are in a context.

    Args:
        sought: what stands in the contexts that are still sought, (C, 7).
    """
    width, rng = sum(lengths), np.random.default_rng(0)
    draws_all = base**width <= 2 * _TRIES
    for start in range(0, base**width if draws_all else _TRIES, _AT_A_TIME):
        if draws_all:
            index = np.arange(start, min(start + _AT_A_TIME, base**width))
            digits = index // base ** np.arange(width)[:, None] % base  # (W, N)
        else:
            digits = _random_digits(rng, value_of(sought()[:, 1:], base), width, base)
        x, y = digits[: lengths[0]], digits[lengths[0] :]
        is_whole = _begins_with_no_zero(x) & _begins_with_no_zero(y)
        if operator == OVER:
            is_whole &= y[-1] > 0
        if is_whole.any():
            yield Numbers.of(x[:, is_whole]), Numbers.of(y[:, is_whole])


def _begins_with_no_zero(digits: NDArray) -> NDArray[np.bool_]:
    return (digits[-1] > 0) | (len(digits) == 1)


def _random_digits(rng: np.random.Generator, values: NDArray, width: int, base: int) -> NDArray[np.int64]:
    """Draw digits of some problems, (W, N): of one context each, of those that carry most and least, and any."""
    of_context = values[rng.integers(0, len(values), _AT_A_TIME)]  # (N, 6)
    ends = np.broadcast_to([0, base - 1, base - 1], (_AT_A_TIME, 3))
    pool = np.concatenate([of_context, ends], axis=1).T  # (9, N)
    drawn = np.take_along_axis(pool, rng.integers(0, len(pool), (width, _AT_A_TIME)), axis=0)
    is_any = rng.random(drawn.shape) < rng.choice([0.2, 0.6, 1.0], _AT_A_TIME)
    return np.where(is_any, rng.integers(0, base, drawn.shape), drawn)
