"""Greedy decoding of models with an attention window: place by place, with nothing kept but what is in view.

Shape letters in this file: B problems, T tokens of the longest prompt, P places of the longest operand, C places read
together, W = left + 1 + right places in view, S tokens in view, A answer tokens, H heads, D channels of a head,
V tokens in the vocabulary.

A digit sees the delimiters before it and, of each number before it and its own, the places next to its own. So all
three numbers can advance together, x a little ahead of y and y ahead of the sum, and what lies `left` places behind is
dropped:

    + 2 4 3 1 + 9 7 8 + 1 2        1342 + 879, left 0, right 1, two digits of the sum said

    x  2 4[3 1]                    the next pass reads the 2 of the sum,
    y  9 7[8]                      which sees what is in brackets,
    z  1[2]                        all delimiters, and itself

Time grows with the number of digits and memory does not, but for the text itself. Places take the part of columns:
numbers of all lengths stand side by side without padding, and where one has ended there is nothing to see.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from simple_llm.model.engine import Engine

CHUNK = 64  # places of an operand read together
NUM_DELIMITERS = 3
X, Y, Z = range(3)


@dataclass
class _Digits:
    """Keys and values of one number, at the places that are still of use.

    Attributes:
        keys, values: (L, B, H, room, D).
        exists: (B, room) whether the number has a digit there.
        first: place of the first column; places below 1 exist for no number.
        end: the place after the last one read.
    """

    keys: Tensor
    values: Tensor
    exists: Tensor
    first: int
    end: int = 1

    def columns(self, places: range) -> slice:
        return slice(places.start - self.first, places.stop - self.first)

    def drop_below(self, place: int) -> None:
        """Move what is at `place` and above to the front."""
        distance = place - self.first
        for one, dimension in ((self.keys, 3), (self.values, 3), (self.exists, 1)):
            num_kept = one.size(dimension) - distance
            one.narrow(dimension, 0, num_kept).copy_(one.narrow(dimension, distance, num_kept).clone())
        self.exists[:, self.exists.size(1) - distance :] = False
        self.first = place


def bytes_per_problem(engine: Engine, num_tokens: int) -> int:
    """What a problem takes while it is answered: its text, what it said of each token, and the places in view."""
    window, vocabulary_size = engine.config.attention_window, engine.config.vocab_size
    num_places = NUM_DELIMITERS + 3 * (CHUNK + window["left"] + 3 * window["right"] + 1)
    return engine.bytes_per_token() * num_places + (4 * vocabulary_size + 32) * num_tokens


class PlaceReader:
    """Reads B problems of any lengths with a model that has an attention window.

    Args:
        x, y: (B, P) tokens of the operands, least significant first.
        x_length, y_length: (B,) how many of them there are.
    """

    def __init__(self, engine: Engine, x: Tensor, x_length: Tensor, y: Tensor, y_length: Tensor) -> None:
        self.engine, config = engine, engine.config
        self.left, self.right = config.attention_window["left"], config.attention_window["right"]
        self.delimiter_id = config.eos_token_id
        self.operands = ((x, x_length), (y, y_length))
        self.num_rows = len(x)
        self.delimiters = [self._empty(NUM_DELIMITERS) for _ in "kv"]
        self.num_delimiters = 0
        room = self.left + CHUNK + 3 * self.right + 1
        self.numbers = [
            _Digits(
                self._empty(room), self._empty(room), x.new_zeros(len(x), room, dtype=torch.bool), first=1 - self.left
            )
            for _ in (X, Y, Z)
        ]

    def _empty(self, room: int) -> Tensor:
        config = self.engine.config
        shape = (config.n_layer, self.num_rows, config.n_head, room, config.n_embd // config.n_head)
        return torch.zeros(shape, dtype=self.engine.dtype, device=self.engine.device)

    def answer(self, num_tokens: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Say up to `num_tokens` tokens, one at a time, until every answer has ended: yields (B,) and (B, V) logits.

        What is neither digit nor delimiter ends an answer too: there is no place for it.
        """
        config = self.engine.config
        is_digit = torch.zeros(config.vocab_size, dtype=torch.bool, device=self.engine.device)
        is_digit[config.digit_token_ids] = True
        self._read_delimiter()
        self._read_operand(X, 1 + 2 * self.right)
        self._read_delimiter()
        self._read_operand(Y, 1 + self.right)
        logits = self._read_delimiter()
        is_going = torch.ones(self.num_rows, dtype=torch.bool, device=logits.device)
        for place in range(1, num_tokens + 1):
            token = logits.argmax(-1)  # (B,)
            yield token, logits
            is_going = is_going & is_digit[token]
            if place == num_tokens or not is_going.any():
                return
            if (place - 1) % CHUNK == 0:
                for number in self.numbers:
                    number.drop_below(place - self.left)
                self._read_operand(X, place + CHUNK + 2 * self.right)
                self._read_operand(Y, place + CHUNK + self.right)
            logits = self._read_digits(Z, range(place, place + 1), token[:, None], is_going[:, None])

    def _read_operand(self, which: int, end: int) -> None:
        """Read the digits of x or y up to the place before `end`."""
        tokens, length = self.operands[which]
        start = self.numbers[which].end
        for first in range(start, end, CHUNK):
            places = range(first, min(first + CHUNK, end))
            place = torch.arange(places.start, places.stop, device=tokens.device)
            digits = tokens[:, place.clamp(max=tokens.size(1)) - 1]
            self._read_digits(which, places, digits, place <= length[:, None])

    def _read_digits(self, which: int, places: range, tokens: Tensor, exists: Tensor) -> Tensor:
        """Read digits of one number at places side by side, (B, C), where they exist: (B, V) logits of the last."""
        number = self.numbers[which]
        number.exists[:, number.columns(places)] = exists
        number.end = places.stop
        positions = torch.arange(places.start, places.stop, device=tokens.device) * exists
        in_view = [self._in_view(one.exists, one, places) for one in self.numbers[: which + 1]]  # (B, C, W) each
        in_view[-1] = in_view[-1] & (torch.arange(in_view[-1].size(2), device=tokens.device) <= self.left)
        delimiters = exists.new_ones(*tokens.shape, which + 1)
        sees = torch.cat([delimiters, *in_view], dim=2)  # (B, C, S)

        def keep(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            number.keys[layer][:, :, number.columns(places)] = keys
            number.values[layer][:, :, number.columns(places)] = values
            return tuple(self._view(layer, kind, which, places) for kind in ("keys", "values"))

        return self._pass(tokens, positions, sees, keep)

    def _read_delimiter(self) -> Tensor:
        """Read a delimiter: it sees those before it, itself, and the lowest places of the numbers before: (B, V)."""
        count = self.num_delimiters
        tokens = torch.full((self.num_rows, 1), self.delimiter_id, device=self.engine.device)
        lowest = range(1, 1 + self.right)
        exists = [one.exists[:, None, one.columns(lowest)] for one in self.numbers[:count]]  # (B, 1, right) each
        sees = torch.cat([tokens.new_ones(self.num_rows, 1, count + 1, dtype=torch.bool), *exists], dim=2)

        def keep(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            views = []
            for one, kind, delimiters in zip((keys, values), ("keys", "values"), self.delimiters, strict=True):
                delimiters[layer][:, :, count : count + 1] = one
                digits = [getattr(number, kind)[layer][:, :, number.columns(lowest)] for number in self.numbers[:count]]
                views.append(torch.cat([delimiters[layer][:, :, : count + 1], *digits], dim=2)[:, :, None])
            return tuple(views)  # (B, H, 1, S, D) each

        self.num_delimiters += 1
        return self._pass(tokens, torch.zeros_like(tokens), sees, keep)

    def _in_view(self, values: Tensor, number: _Digits, places: range, dimension: int = 1) -> Tensor:
        """For each of C places what is in view of it: (.., room, ..) -> (.., C, .., W), the places in view last."""
        in_view = number.columns(range(places.start - self.left, places.stop + self.right))
        return values.narrow(dimension, in_view.start, in_view.stop - in_view.start).unfold(
            dimension, self.left + 1 + self.right, 1
        )

    def _view(self, layer: int, kind: str, which: int, places: range) -> Tensor:
        """Keys or values of the delimiters and of the places in view: (B, H, C, S, D)."""
        delimiters = self.delimiters[kind == "values"][layer][:, :, None, : which + 1]
        windows = [
            self._in_view(getattr(one, kind)[layer], one, places, 2).mT for one in self.numbers[: which + 1]
        ]  # (B, H, C, W, D) each
        return torch.cat([delimiters.expand(-1, -1, len(places), -1, -1), *windows], dim=3)

    def _pass(
        self,
        tokens: Tensor,
        positions: Tensor,
        sees: Tensor,
        keep: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Run the blocks over tokens, (B, C), that see (B, C, S) each: (B, V) logits of the last.

        Args:
            keep: called with a layer's number and its new keys and values, (B, H, C, D); returns those in view,
                (B, H, C, S, D).
        """
        state = self.engine.embed(tokens, positions)  # (B, C, H D)
        mask = torch.zeros_like(sees, dtype=self.engine.dtype).masked_fill_(~sees, -torch.inf)[:, None]
        for layer, block in enumerate(self.engine.blocks):
            query, keys, values = self.engine.query_key_value(state, block)
            keys, values = keep(layer, keys, values)
            weights = ((keys @ query[..., None])[..., 0] + mask).softmax(-1)  # (B, H, C, S)
            seen = (weights[..., None, :] @ values)[..., 0, :]  # (B, H, C, D)
            state = self.engine.after_attention(state, seen, block)
        return self.engine.logits(state[:, -1:])[:, 0]
