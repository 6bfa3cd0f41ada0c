"""What a model of one block says in each context, asked once.

Shape letters in this file: N contexts, C of them that are known, V tokens in the vocabulary.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simple_llm.arithmetic.contexts import CARRY, CELLS, DIGIT, HEAD, KINDS, OPERAND, SIGN, TOP
from simple_llm.arithmetic.symbols import END, NOTHING, OVER, PLUS, sign, SIGNS
from simple_llm.model.architecture import Architecture
from simple_llm.model.context_engine import ContextEngine

MOST_AT_ONCE = 2**14  # contexts: more take memory and are no quicker
FEW = 8  # contexts: so many take as long as ten times as many
_NEVER = np.iinfo(np.int64).max  # no context has this code


class TokenSymbols:
    """The tokens of a model as symbols of work on paper, and back.

    Attributes:
        tokens: (2 base + 6,) the token of each symbol.
        symbols: (V,) the symbol of each token; NOTHING for padding, the number after all symbols for what is none.
    """

    def __init__(self, config: Architecture) -> None:
        signs = {**config.sign_token_ids, END: config.eos_token_id}
        self.base = len(config.digit_token_ids)
        self.tokens = np.array([*config.digit_token_ids, *config.carry_token_ids, *(signs[one] for one in SIGNS)])
        self.symbols = np.full(config.vocab_size, len(self.tokens), np.int16)
        self.symbols[self.tokens] = np.arange(len(self.tokens))
        self.symbols[config.pad_token_id] = NOTHING


class KnownContexts:
    """The model's own answers: what was asked is known, so that a context that comes again is looked up.

    A context is the symbols in CELLS and the kind of the last of them; in one block nothing else has a say, and there
    are some ten thousand of them in all, however much is written. They are numbered as they are asked for.

    Attributes:
        said, tokens: (C,) what follows, as a symbol and as a token.
        margins: (C,) its lead over the second best.
        logits: (C, V) that it was chosen by, or None where they are not kept.
    """

    def __init__(self, engine: ContextEngine, keeps_logits: bool = False) -> None:
        self.engine, self.names = engine, TokenSymbols(engine.config)
        self.radix = len(self.names.tokens) + 1  # symbols, and NOTHING
        self._factors = [len(KINDS) * self.radix**place for place in range(len(CELLS))]
        self._code_of_nothing = -NOTHING * sum(self._factors)
        dtype = torch.promote_types(engine.dtype, torch.float32)
        self.tokens, self.margins = np.empty(0, np.int64), torch.empty(0, dtype=dtype).numpy()
        self.said = np.empty(0, np.int16)
        self.logits = torch.empty(0, engine.config.vocab_size, dtype=dtype) if keeps_logits else None
        self._codes, self._numbers = np.array([_NEVER]), np.array([-1])  # sorted by code

    def __len__(self) -> int:
        return len(self.said)

    def code(self, kind: NDArray, **cells: NDArray) -> NDArray[np.int64]:
        """Contexts as one number each: the kind of the symbol that asks, and symbols by the names of their cells."""
        code = self._code_of_nothing + kind
        for cell, factor in zip(CELLS, self._factors, strict=True):
            code += np.multiply(cells[cell], factor, dtype=np.int64)
        return code

    def ask(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each context, (N,); the model is asked, once, for all that are new."""
        place = np.searchsorted(self._codes, codes)
        is_new = self._codes[place] != codes
        if is_new.any():
            new = np.unique(codes[is_new])
            self._learn(self._with_neighbours(new) if len(new) <= FEW else new)
            place = np.searchsorted(self._codes, codes)
        return self._numbers[place]

    def _with_neighbours(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """A few new contexts, (N,), and those with another digit above, as far as they are not known.

        A digit that asks is moved as far as the one above, as it would be in most rows. A long division asks one
        context after another, thousands of them; neighbours come sooner or later.
        """
        base = self.names.base
        above, own = (self._factors[CELLS.index(cell)] for cell in ("above", "own"))
        digit, asking = (codes // factor % self.radix + NOTHING for factor in (above, own))  # (N,) each
        moved = np.arange(base) - digit[:, None]  # (N, base)
        moves, has_digit = (symbol // base == 0 for symbol in (asking, digit))  # nothing is -1
        moved_asking = np.where(moves[:, None], (asking[:, None] + moved) % base - asking[:, None], 0)
        others = (codes[:, None] + moved * above + moved_asking * own)[has_digit]
        codes = np.unique(np.concatenate([codes, others.ravel()]))
        return codes[self._codes[np.searchsorted(self._codes, codes)] != codes]

    def _learn(self, codes: NDArray[np.int64]) -> None:
        """Ask for contexts that are not known, (N,) sorted."""
        parts = np.split(codes, range(MOST_AT_ONCE, len(codes), MOST_AT_ONCE))
        logits = torch.cat([self._logits(part) for part in parts])
        (best, second), tokens = logits.topk(2).values.unbind(-1), logits.argmax(-1).numpy()
        at = np.searchsorted(self._codes, codes)
        self._numbers = np.insert(self._numbers, at, np.arange(len(self), len(self) + len(codes)))
        self._codes = np.insert(self._codes, at, codes)
        self.tokens = np.concatenate([self.tokens, tokens])
        self.said = self.names.symbols[self.tokens]
        self.margins = np.concatenate([self.margins, (best - second).numpy()])
        if self.logits is not None:
            self.logits = torch.cat([self.logits, logits])

    def _logits(self, codes: NDArray[np.int64]) -> Tensor:
        """(N,) -> (N, V)."""
        symbols = codes[:, None] // self._factors % self.radix + NOTHING
        kinds = np.tile(np.array([SIGN, HEAD, OPERAND, DIGIT, CARRY, TOP, SIGN]), (len(codes), 1))
        kinds[:, -1] = codes % len(KINDS)
        operator, head = (symbols[:, CELLS.index(cell)] for cell in ("operator", "head"))
        is_sign = (operator == sign(OVER, self.names.base)) & (head == sign(PLUS, self.names.base))
        kinds[is_sign, CELLS.index("head")] = SIGN  # where a divisor is put back
        is_seen = symbols != NOTHING
        is_seen[:, -1] = False
        tokens = np.where(symbols == NOTHING, 0, self.names.tokens[symbols])
        arguments = (torch.from_numpy(one).to(self.engine.device) for one in (tokens, kinds, is_seen))
        return self.engine.logits(*arguments).cpu()
