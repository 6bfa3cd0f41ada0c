"""Greedy decoding in bulk: prompts in, answers out, k tokens a step or the whole answer at once.

Shape letters in this file: N prompts, B prompts in a batch, T tokens of the longest prompt, A tokens of the longest
answer, V tokens in the vocabulary, k tokens a step.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from simple_llm.machine import resolve_precision
from simple_llm.model.answers import Answers, Said
from simple_llm.model.architecture import Architecture, Readable
from simple_llm.model.columns_decoding import ColumnsDecoder
from simple_llm.model.engine import Cache, Engine
from simple_llm.model.places_simple_llm import answer_logits
from simple_llm.model.tokens import pad_left, shift_right
from simple_llm.model.window_decoding import bytes_per_problem, PlaceReader
from simple_llm.processes import ALONE, Processes

MEMORY_BUDGET = 128 * 2**20  # bytes a batch may take: larger ones are no quicker
SURE = 1.0  # logits; of two tokens nearer than this, bfloat16 does not decide
FEW = 8  # prompts: so few are read in float32 at once, which does not take longer
_WORTH_A_PASS = 1 / 10  # of the tokens of a batch: sharing has to save more than that
_FIRST_ROWS = 32  # sizes a batch of first tokens may have: kernels are made, and kept, for every size
_WORTH_DROPPING = 1 / 4  # of the answers: fewer that have ended are not worth copying the others' keys and values


class Reader(Protocol):
    """What decoding needs of an engine."""

    config: Architecture
    device: torch.device
    dtype: torch.dtype

    def position_ids(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor: ...
    def bytes_per_token(self) -> int: ...
    def new_cache(self, num_rows: int, room: int) -> Cache: ...
    def read(self, tokens: Tensor, positions: Tensor, is_token: Tensor, cache: Cache, num_last: int) -> Tensor: ...


class Decoder:
    """Answers prompts with the most likely token at each place.

    Where the processor multiplies bfloat16 fast, it is used, and every answer in which two tokens came near each
    other is decided again in float32: the digits are those of float32 wherever bfloat16 moves no two logits against
    each other by SURE or more. How far it moves one, `proof/rounding.py` measures.

    Args:
        readers: the second one decides what the first is not sure of, and all of FEW prompts; one alone decides
            everything.
        processes: that share the prompts; each gets all answers.
    """

    def __init__(self, *readers: Reader, processes: Processes = ALONE) -> None:
        self.readers, self.processes = readers, processes
        self.config = readers[0].config

    @classmethod
    def of(cls, model: Readable, processes: Processes = ALONE) -> "Decoder | ColumnsDecoder":
        """Ready a model's weights, in bfloat16 and float32 or in float32 alone; work on paper has a way of its own."""
        if model.config.scratchpad == "columns":
            return ColumnsDecoder.of(model, processes)
        dtype = resolve_precision("auto", model.device)
        exact = [Engine(model, torch.float32)] if dtype != torch.float32 else []
        return cls(Engine(model, dtype), *exact, processes=processes)

    @classmethod
    def in_float32(cls, model: Readable) -> "Decoder | ColumnsDecoder":
        """Ready a model's weights in float32 alone, wherever it is."""
        return cls.of(model) if model.config.scratchpad == "columns" else cls(Engine(model, torch.float32))

    @property
    def dtype_names(self) -> str:
        """What decided: "float32", or "bfloat16+float32" where the second decides what the first is not sure of."""
        return "+".join(str(reader.dtype).removeprefix("torch.") for reader in self.readers)

    @torch.inference_mode()
    def decode(
        self,
        prompts: Tensor,
        max_answer_tokens: int,
        memory_budget: int = MEMORY_BUDGET,
        keep_logits: bool = False,
        on_batch: Callable[[int], object] = lambda num_prompts: None,
    ) -> Answers:
        """Answer every prompt; the order of the answers is the order of the prompts.

        Prompts of like lengths are answered together, shorter ones padded on the left. Those that begin alike lie
        side by side and share the keys and values of their first tokens.

        Args:
            prompts: (N, T) rows `+x+y+`, padded on the right.
            max_answer_tokens: A; an answer that has not ended by then stays unfinished.
            memory_budget: bytes that a batch may take; it decides how many prompts are answered at a time.
            on_batch: called with the number of prompts just answered here; what it raises ends the work.
        """
        num_prompts, prompts = len(prompts), prompts[self.processes.share]
        dtype = torch.promote_types(self.readers[-1].dtype, torch.float32)
        answers = Answers.empty(len(prompts), max_answer_tokens, self.config, keep_logits, dtype)
        unsure = sorted_by_shape(prompts, self.config)
        readers = self.readers if len(prompts) > FEW else self.readers[-1:]
        for reader in readers:
            num_tokens = prompts.size(1) + max_answer_tokens
            if self.config.attention_window:
                bytes_of_one = bytes_per_problem(reader, num_tokens)
            else:
                bytes_of_one = reader.bytes_per_token() * num_tokens
            for index in _batches(unsure, memory_budget // bytes_of_one):
                said = _answer(reader, prompts[index].to(reader.device), max_answer_tokens)
                answers.keep(index, said)
                if reader is readers[0]:
                    on_batch(len(index))
            unsure = unsure[~(answers.margins[unsure] >= SURE)]  # nor is what is not a number sure
        return answers.gathered(self.processes, num_prompts)


def sorted_by_shape(prompts: Tensor, config: Architecture) -> Tensor:
    """Order prompts by their length, then by the length of x, then by x itself: (N, T) -> (N,) indices."""
    length, prefix_length = _lengths(prompts, config)
    shares_prefixes = config.attention_window is None
    columns = range(int(prefix_length.max()) if len(prompts) and shares_prefixes else 0)
    keys = [*(prompts[:, column] for column in reversed(columns)), prefix_length, length]  # the last counts most
    return torch.from_numpy(np.lexsort([key.numpy() for key in keys]))


def _lengths(prompts: Tensor, config: Architecture) -> tuple[Tensor, Tensor]:
    """Count the tokens of `+x+y+` and of its prefix, up to the operator: (N, T) -> (N,), (N,)."""
    is_mark = torch.ones(config.vocab_size, dtype=torch.bool, device=prompts.device)
    is_mark[config.digit_token_ids] = False
    is_second_mark = is_mark[prompts].cumsum(1) == 2
    return (prompts != config.pad_token_id).sum(1), is_second_mark.int().argmax(1) + 1


def _batches(index: Tensor, most: int) -> tuple[Tensor, ...]:
    """Split indices into the fewest batches of at most so many, all of one size but for the last."""
    num_batches = -(-len(index) // max(1, most))
    return index.split(-(-len(index) // num_batches)) if num_batches else ()


def _answer(reader: Reader, prompts: Tensor, num_tokens: int) -> Said:
    """Answer one batch of prompts, (B, T) padded on the right."""
    config = reader.config
    length, prefix_length = _lengths(prompts, config)
    prompts = prompts[:, : int(length.max())]
    if config.attention_window:
        return _answer_by_place(reader, prompts, length, prefix_length, num_tokens)
    if config.tokens_per_step == "all":
        num_answer_tokens = length - prefix_length  # digits of y, and the delimiter
        num_last = int(num_answer_tokens.max())
        logits, _ = _read_prompts(reader, prompts, 0, num_last)
        return _said_at_once(logits, num_answer_tokens, num_tokens, config)
    logits, cache = _read_prompts(reader, prompts, num_tokens + 1, config.tokens_per_step)
    return _said_in_steps(reader, pad_left(prompts, config.pad_token_id), logits, cache, num_tokens)


def _answer_by_place(reader: Reader, prompts: Tensor, length: Tensor, prefix_length: Tensor, num_tokens: int) -> Said:
    """Answer prompts, (B, T) padded on the right, with a model that sees a window of places."""
    x_length, y_length = prefix_length - 2, length - prefix_length - 1  # (B,) each
    place = torch.arange(int(torch.maximum(x_length, y_length).max()), device=prompts.device)  # (P,)
    last = prompts.size(1) - 1
    x = prompts[:, (1 + place).clamp(max=last)]
    y = prompts.gather(1, (prefix_length[:, None] + place).clamp(max=last))
    said = list(PlaceReader(reader, x, x_length, y, y_length).answer(num_tokens))
    tokens, logits = (torch.stack(parts, dim=1) for parts in zip(*said, strict=True))  # (B, A), (B, A, V)
    return _up_to_the_end(tokens, logits, torch.ones_like(tokens, dtype=torch.bool), num_tokens, reader.config)


def _read_prompts(reader: Reader, prompts: Tensor, num_more: int, num_last: int) -> tuple[Tensor, Cache]:
    """Read prompts, (B, T) padded on the right; the first tokens, which neighbours have in common, are read once.

        prompts     + 1 2 + 5 +          first       + 1 2       read once, their keys and values used twice
                    + 1 2 + 6 7 +        rest        . + 5 +
                                                     + 6 7 +     padded on the left

    Args:
        num_more: tokens that the cache is to have room for behind the prompts.
        num_last: see Returns.

    Returns:
        logits (B, num_last, V) of the last tokens, and the cache with all of them.
    """
    config = reader.config
    length, prefix_length = _lengths(prompts, config)
    positions = reader.position_ids(prompts, (prompts != config.pad_token_id).long())  # (B, T)
    is_first, num_shared = _worth_sharing(prompts, int(prefix_length.min()))
    cache = reader.new_cache(int(is_first.sum()), prompts.size(1) + num_more)
    if num_shared:
        first = torch.ones_like(prompts[is_first, :num_shared], dtype=torch.bool)
        reader.read(prompts[is_first, :num_shared], positions[is_first, :num_shared], first, cache, 1)
        cache = cache.select(is_first.cumsum(0) - 1)
    rest, rest_positions = prompts[:, num_shared:], positions[:, num_shared:]
    return _read(reader, rest, rest_positions, length - num_shared, cache, num_last), cache


def _worth_sharing(prompts: Tensor, most: int) -> tuple[Tensor, int]:
    """Choose how many first tokens to read once for all neighbours that have them in common.

    Args:
        prompts: (B, T).
        most: tokens that may be shared.

    Returns:
        (B,) the rows that differ from the one above within those tokens, filled up with others to a multiple of
        B / 32, and how many tokens these are; all rows and 0 where sharing does not pay.
    """
    num_rows, num_columns = prompts.shape
    differs = (prompts[1:, :most] != prompts[:-1, :most]).int().cummax(1).values  # (B - 1, most)
    num_shared = torch.arange(1, most + 1, device=prompts.device)
    num_saved = (num_rows - 1 - differs.sum(0)) * num_shared  # (most,) tokens that need not be read
    best = int(num_saved.argmax())
    if num_saved[best] <= _WORTH_A_PASS * num_rows * num_columns:
        return torch.ones(num_rows, dtype=torch.bool, device=prompts.device), 0
    is_first = functional.pad(differs[:, best].bool(), (1, 0), value=True)
    num_more = -int(is_first.sum()) % max(1, num_rows // _FIRST_ROWS)
    return is_first | ((~is_first).cumsum(0) <= num_more), best + 1


def _read(reader: Reader, tokens: Tensor, positions: Tensor, num_tokens: Tensor, cache: Cache, num_last: int) -> Tensor:
    """Read the first `num_tokens` tokens of each row, moved to the right end: (B, T), (B, T), (B,)."""
    distance = tokens.size(1) - num_tokens  # (B,)
    is_token = torch.arange(tokens.size(1), device=tokens.device) >= distance[:, None]  # (B, T)
    moved, moved_positions = shift_right(tokens, distance), shift_right(positions, distance)
    return reader.read(
        torch.where(is_token, moved, reader.config.pad_token_id),
        torch.where(is_token, moved_positions, 0),
        is_token,
        cache,
        num_last,
    )


def _said_at_once(logits: Tensor, num_answer_tokens: Tensor, num_tokens: int, config: Architecture) -> Said:
    """Pick the answers out of one pass over the prompts.

    Args:
        logits: (B, L, V) at the last L tokens of each prompt.
        num_answer_tokens: (B,) how many of those say the answer.
    """
    logits = answer_logits(logits, num_answer_tokens)
    index = torch.arange(logits.size(1), device=logits.device)
    return _up_to_the_end(logits.argmax(-1), logits, index < num_answer_tokens[:, None], num_tokens, config)


def _said_in_steps(reader: Reader, rows: Tensor, logits: Tensor, cache: Cache, num_tokens: int) -> Said:
    """Say k tokens, read them, and so on until every answer has ended.

        12+873+        k = 2: pass 1 says 99 at "3+", pass 2 reads 99 and says 3+

    Args:
        rows: (B, T) the prompts, padded on the left, which `cache` holds.
        logits: (B, k, V) at their last tokens.
    """
    config, k = reader.config, logits.size(1)
    is_token = rows != config.pad_token_id  # what is said later counts, be it padding
    room = -(-num_tokens // k) * k
    said = rows.new_full((len(rows), room), config.pad_token_id)
    said_logits = logits.new_zeros(len(rows), room, logits.size(2))
    going = torch.arange(len(rows), device=rows.device)  # (b,) the rows still read
    has_ended = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    for first in range(0, num_tokens, k):
        new_tokens = logits.argmax(-1)  # (b, k)
        said[going, first : first + k], said_logits[going, first : first + k] = new_tokens, logits
        has_ended[going] |= (new_tokens == config.eos_token_id).any(1)
        if has_ended.all() or first + k >= num_tokens:
            break
        is_new = torch.ones_like(new_tokens, dtype=torch.bool)
        rows, is_token = torch.cat([rows, new_tokens], dim=1), torch.cat([is_token, is_new], dim=1)
        still = (~has_ended[going]).nonzero()[:, 0]
        if len(still) <= (1 - _WORTH_DROPPING) * len(going):
            going, cache = going[still], cache.select(still)
            rows, is_token, new_tokens, is_new = (one[still] for one in (rows, is_token, new_tokens, is_new))
        positions = reader.position_ids(rows, is_token.long())[:, -k:]
        logits = reader.read(new_tokens, positions, is_new, cache, k)
    return _up_to_the_end(said, said_logits, torch.ones_like(said, dtype=torch.bool), num_tokens, config)


def _up_to_the_end(tokens: Tensor, logits: Tensor, is_said: Tensor, num_tokens: int, config: Architecture) -> Said:
    """Cut answers behind the first delimiter, and all of them to A tokens.

    Args:
        tokens, is_said: (B, L) what was said, and what of it belongs to the answer.
        logits: (B, L, V).
    """
    is_end = is_said & (tokens == config.eos_token_id)
    is_said = is_said & (is_end.cumsum(1) - is_end.long() == 0)
    if config.tokens_per_step == "all":  # which needs no delimiter after a carry digit
        is_finished = is_said.sum(1) <= num_tokens
    else:
        is_finished = is_end[:, :num_tokens].any(1)
    missing = num_tokens - tokens.size(1)
    return Said(
        functional.pad(torch.where(is_said, tokens, config.pad_token_id), (0, missing), value=config.pad_token_id),
        functional.pad(logits, (0, 0, 0, missing)),
        functional.pad(is_said, (0, missing)),
        is_finished,
    )
