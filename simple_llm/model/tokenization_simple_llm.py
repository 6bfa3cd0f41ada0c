"""Decimal text in, decimal text out, around a tokenizer of the library; how either is written, Notation says.

This one file travels with every checkpoint, notation_simple_llm.py written into it; it imports nothing else of ours.
"""

import re
from collections.abc import Mapping

import transformers
from transformers import PreTrainedTokenizerFast

from .notation_simple_llm import CARRIES, Notation

TESTED_TRANSFORMERS = ("5.23.0", "5.24.0")  # releases this file was tested with
_MODEL_TEXT = re.compile(rf"<\|[a-z_]+\|>|([0-9A-Z|=+*/{CARRIES}-]+)")  # or a token that is none


class SimpleLLMTokenizer(Notation, PreTrainedTokenizerFast):
    """Turns a problem into model text before tokenizing, and tokens into a problem after.

    `base`, `reversed`, `says_all`, `scratchpad` and `operators` are kept in tokenizer_config.json. Text that starts
    with `+`, or with an operator and has a |, is taken for model text as it is. There is no __init__ on purpose: with
    one, transformers would rebuild the tokenizer instead of loading tokenizer.json.
    """

    @property
    def eos_token(self) -> str:
        """What ends an answer, for software that asks; no special token, which decoding would skip."""
        return self.convert_ids_to_tokens(self.end_id)

    @property
    def eos_token_id(self) -> int:
        """ID of what ends an answer."""
        return self.end_id

    # ---- What the library's tokenizer does with text and tokens, done with model text ------------------

    def __call__(self, text=None, text_pair=None, text_target=None, **kwargs):
        """Tokens of a sum or of a list of sums; see PreTrainedTokenizerFast.__call__ for the settings.

        Raises:
            ValueError: one of them is no problem that the model knows.
            NotImplementedError: a pair of texts, or text that is already split.
        """
        if text is not None:
            text = self._written(text, text_pair, kwargs)
        if text_target is not None:
            text_target = self._written(text_target, kwargs.get("text_pair_target"), kwargs)
        return super().__call__(text, text_target=text_target, **kwargs)

    def encode(self, text, text_pair=None, **kwargs) -> list[int]:
        """Token IDs of one sum, of blank text none, as software asks for where an answer is to stop; raises as
        `__call__` does."""
        is_blank = isinstance(text, str) and not text.strip()
        return super().encode("" if is_blank else self._written(text, text_pair, kwargs), **kwargs)

    def tokenize(self, text, pair=None, **kwargs) -> list[str]:
        """Tokens of one sum, as text; raises as `__call__` does."""
        if not isinstance(text, str):
            raise ValueError(f"tokenize() takes one text, not {text!r:.60}")
        return super().tokenize(self._written(text, pair, kwargs), **kwargs)

    def decode(self, token_ids, skip_special_tokens: bool = False, **kwargs) -> str | list[str]:
        """Decimal text of tokens, or a list of it for a batch of them; settings for cleaning up change nothing."""
        if isinstance(token_ids, Mapping):  # what a tokenizer returns
            token_ids = token_ids["input_ids"]
        token_ids = _plain(token_ids)
        if isinstance(token_ids, int):
            token_ids = [token_ids]
        token_ids = [_plain(one) for one in token_ids]
        if any(isinstance(one, list | tuple) for one in token_ids):
            return [self.decode(one, skip_special_tokens) for one in token_ids]
        strange = [one for one in token_ids if not 0 <= one < len(self)]
        if strange:
            raise ValueError(f"{strange[0]} is no token ID of the {len(self)} there are")
        text = "".join(self.convert_ids_to_tokens(token_ids, skip_special_tokens=skip_special_tokens))
        return _MODEL_TEXT.sub(lambda found: self.to_decimal_text(found[1]) if found[1] else found[0], text)

    def batch_decode(self, sequences, skip_special_tokens: bool = False, **kwargs) -> list[str]:
        """Decimal texts of a batch of tokens, or of one row of them; settings for cleaning up change nothing."""
        texts = self.decode(sequences, skip_special_tokens) if len(sequences) else []
        return [texts] if isinstance(texts, str) else texts

    def _written(self, text: str | list[str], pair: object, settings: dict) -> str | list[str]:
        """Model text of one text or of many; what counts in text that the caller never saw, or cuts it, is refused."""
        refused = [name for name in ("is_split_into_words", "return_offsets_mapping") if settings.get(name)]
        refused += ["text_pair"] if pair is not None else []
        if refused:
            raise NotImplementedError(f"{', '.join(refused)}: not supported, a sum is one text that is written anew")
        written = self.to_model_text(text) if isinstance(text, str) else [self.to_model_text(one) for one in text]
        longest = len(written) if isinstance(written, str) else max(map(len, written), default=0)
        most = settings.get("max_length")
        if settings.get("truncation") and most is not None and longest > most:
            raise ValueError(f"truncation to max_length={most} would cut a sum of {longest} tokens to another sum")
        return written


def _plain(token_ids):
    """A tensor or an array, of any number of dimensions, as Python's lists and whole numbers."""
    return token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids


# What is redefined above has to be what the library and its users call: a method that was given another name would go
# on without this file.
_REDEFINED = ("__call__", "encode", "tokenize", "decode", "batch_decode")
for _name in _REDEFINED:
    if not any(_name in vars(base) for base in PreTrainedTokenizerFast.__mro__):
        raise ImportError(
            f"this tokenizer was tested with transformers {' and '.join(TESTED_TRANSFORMERS)}; with transformers "
            f"{transformers.__version__} there is no PreTrainedTokenizerFast.{_name}: "
            f"pip install transformers=={TESTED_TRANSFORMERS[-1]}"
        )

SimpleLLMTokenizer.register_for_auto_class("AutoTokenizer")
