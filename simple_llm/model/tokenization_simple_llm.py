"""Decimal text in, decimal text out, around a tokenizer that knows digits, operators, and what work on paper needs.

    text            1342+879=            1342+879=2221
    model text      +E35+F63+            +E35+F63+DA8+        base 16, least significant digit first
    model text      +243-978+            +243-978+735-+       342-879=-537, base 10
    model text      +2471/65+            +2471/65+13/6+       1742/56=31 r 6
    model text      *75*64|              *75*64|2⁴4³3|2³6²2|= 57*46=2622, with a scratchpad of columns

This one file travels with every checkpoint (save_pretrained copies it), so it imports nothing of the project.
"""

import re
from collections.abc import Mapping

import transformers
from transformers import PreTrainedTokenizerFast

TESTED_TRANSFORMERS = ("5.23.0", "5.24.0")  # releases this file was tested with
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DELIMITER = "+"
OPERATORS = "+-*/"  # that a model may know; without a scratchpad `+` always
NEGATIVE = "-"  # behind the highest digit of an answer below zero
RESTS = "/"  # the operator that leaves something, and stands before it in an answer
ADDS_MANY = "+"  # the one that more than two numbers may have, with a scratchpad
CARRIES = "⁰¹²³⁴⁵⁶⁷⁸⁹ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ𐞥ʳˢᵗᵘᵛʷˣʸᶻ"
BAR, END = "|", "="  # begins a row of work; ends it all
_READ_AS = str.maketrans("\u2212\u00d7\u00f7", "-*/")  # what people and their keyboards write

_PROBLEM = re.compile(
    r"\s*([0-9]+(?:\s*[-+*/]\s*[0-9]+)+)\s*"
    r"(?:=\s*(?:(-?)([0-9]+)(?:\s*r\s*([0-9]+))?\s*(?:\+\s*)?)?)?"  # software that knows of an end puts it there
)
_MODEL_TEXT = re.compile(rf"<\|[a-z_]+\|>|([0-9A-Z|=+*/{CARRIES}-]+)")  # or a token that is none
_PARTS = re.compile(r"([0-9A-Z]*)([-+*/]?)")  # a number of model text and the mark behind it
_SIGNED = re.compile(r"([|+*/-])([^|+*/=-]*)")  # a sign, and what stands behind it up to the next
_DIRECT = 4000  # characters that int() and str() convert at once; Python refuses more than 4300


def to_digits(value: int, base: int) -> str:
    """Write a whole number in a base, most significant digit first: to_digits(2221, 16) is "8AD".

    Halves the number until it is small, so a hundred thousand digits take a moment, not minutes.
    """
    if value < base**64:
        digits = []
        while value or not digits:
            value, digit = divmod(value, base)
            digits.append(DIGITS[digit])
        return "".join(reversed(digits))
    half = 64
    while base ** (2 * half) <= value:
        half *= 2
    high, low = divmod(value, base**half)
    return to_digits(high, base) + to_digits(low, base).rjust(half, "0")


def from_digits(digits: str, base: int) -> int:
    """Read digits of a base, most significant first: from_digits("8AD", 16) is 2221."""
    if len(digits) <= _DIRECT:
        return int(digits, base)
    half = len(digits) // 2
    return from_digits(digits[:-half], base) * base**half + from_digits(digits[-half:], base)


class SimpleLLMTokenizer(PreTrainedTokenizerFast):
    """Turns a problem into model text before tokenizing, and tokens into a problem after.

    `base`, `reversed`, `says_all`, `scratchpad` and `operators` are kept in tokenizer_config.json. Text that starts
    with `+`, or with an operator and has a |, is taken for model text as it is. There is no __init__ on purpose: with
    one, transformers would rebuild the tokenizer instead of loading tokenizer.json.
    """

    @property
    def base(self) -> int:
        """Base of the digits the model sees."""
        # init_kwargs holds what tokenizer_config.json says; the library has no other home for settings of one's own.
        return self.init_kwargs["base"]

    @property
    def reversed(self) -> bool:
        """Whether the model sees the least significant digit first."""
        return self.init_kwargs["reversed"]

    @property
    def says_all(self) -> bool:
        """Whether the model says the whole answer in one pass, and so wants no shorter operand second."""
        return self.init_kwargs.get("says_all", False)

    @property
    def has_columns(self) -> bool:
        """Whether the model writes its work as on paper."""
        return self.init_kwargs.get("scratchpad", "none") == "columns"

    @property
    def operators(self) -> str:
        """The operators that the model knows; tokenizer_config.json names them where there are tokens of others too."""
        if "operators" in self.init_kwargs:
            return self.init_kwargs["operators"]
        known = self.convert_ids_to_tokens(self.convert_tokens_to_ids(list(OPERATORS)))
        return "".join(one for one, token in zip(OPERATORS, known, strict=True) if one == token)

    @property
    def delimiter_id(self) -> int:
        """ID of `+`."""
        return self.convert_tokens_to_ids(DELIMITER)

    @property
    def end_id(self) -> int:
        """ID of what ends an answer."""
        return self.convert_tokens_to_ids(END) if self.has_columns else self.delimiter_id

    @property
    def eos_token(self) -> str:
        """What ends an answer, for software that asks; no special token, which decoding would skip."""
        return self.convert_ids_to_tokens(self.end_id)

    @property
    def eos_token_id(self) -> int:
        """ID of what ends an answer."""
        return self.end_id

    @property
    def sign_ids(self) -> dict[str, int] | None:
        """IDs of the signs of work on paper, or of the operators but for `+`; None where there is no other."""
        signs = BAR + OPERATORS if self.has_columns else self.operators.replace(DELIMITER, "")
        return {one: self.convert_tokens_to_ids(one) for one in signs} or None

    @property
    def carry_ids(self) -> list[int] | None:
        """IDs of the carries 0, 1, 2, ..., where there are any."""
        return self.convert_tokens_to_ids(list(CARRIES[: self.base])) if self.has_columns else None

    @property
    def digit_ids(self) -> list[int]:
        """IDs of the digits 0, 1, 2, ... of the base."""
        return self.convert_tokens_to_ids(list(DIGITS[: self.base]))

    def write_number(self, decimal: str) -> str:
        """Decimal digits -> digits of the model text; leading zeros are dropped."""
        decimal = decimal.lstrip("0") or "0"
        digits = decimal if self.base == 10 else to_digits(from_digits(decimal, 10), self.base)
        return digits[::-1] if self.reversed else digits

    def read_number(self, digits: str) -> str:
        """Digits of the model text -> decimal digits, without leading zeros; no digits stay no digits.

        A sign at the top makes it negative. Where the model says all in one pass, there is a debt of base^digits then:

            735-     -537        said token by token
            364-     -537        in one pass: 463 - 1000
        """
        digits = digits[::-1] if self.reversed else digits
        is_negative, digits = digits.startswith(NEGATIVE), digits.removeprefix(NEGATIVE)
        if NEGATIVE in digits:  # no number: it is shown as it stands
            return NEGATIVE * is_negative + digits
        if is_negative and self.says_all and digits:
            digits = to_digits(self.base ** len(digits) - from_digits(digits, self.base), self.base)
        if self.base != 10 and digits:
            digits = to_digits(from_digits(digits, self.base), 10)
        return NEGATIVE * is_negative + (digits.lstrip("0") or digits[:1])

    def to_model_text(self, text: str) -> str:
        """Write a problem as the model reads it.

            1342+879        +E35+F63+          a prompt; a trailing = is fine
            1342+879=2221   +E35+F63+DA8+      a whole row; so is 1342+879=2221+, with its eos_token
            1342+7          +7+E35+            where the model says all at once: the longer number second,
            342-7           +243-700+          or, where they must not change places, one as long as the first
            57*46=          *75*64|            with a scratchpad; a row is as long as its work, which is the model's

        Raises:
            ValueError: the text is no problem of two whole numbers, or of an operation that the model does not know.
        """
        if isinstance(text, str) and self._is_model_text(text):
            return text
        found = _PROBLEM.fullmatch(text.translate(_READ_AS)) if isinstance(text, str) else None
        asked, sign, answer, rest = found.groups() if found else ("", None, None, None)
        numbers, operators = re.findall(r"[0-9]+", asked), set(re.findall(r"[-+*/]", asked))
        operator = operators.pop() if len(operators) == 1 else ""
        is_many = len(numbers) > 2 and not (self.has_columns and operator == ADDS_MANY)
        if not operator or operator not in self.operators or is_many or (rest and operator != RESTS):
            raise ValueError(f"expected {self._example()}, got {text!r:.60}")
        if operator == RESTS and not numbers[1].strip("0"):
            raise ValueError(f"{text!r:.60}: nothing is divided by 0")
        if self.has_columns:
            if answer:
                raise ValueError(f"{text!r:.60} has an answer; the work that leads there is the model's to write")
            return "".join(operator + self.write_number(number) for number in numbers) + BAR
        x, y = map(self.write_number, numbers)
        if self.says_all and len(x) > len(y):
            x, y = (y, x) if operator == DELIMITER else (x, y.ljust(len(x), DIGITS[0]))
        is_negative = bool(sign and answer.strip("0"))
        written = self._write_answer(answer, is_negative, len(y))
        if written and operator == RESTS:
            written = written[:-1] + RESTS + self.write_number(rest or "0") + DELIMITER
        return DELIMITER + x + operator + y + DELIMITER + written

    def _is_model_text(self, text: str) -> bool:
        return text.startswith(tuple(OPERATORS)) and BAR in text if self.has_columns else text.startswith(DELIMITER)

    def _example(self) -> str:
        """What a text may be, for a message."""
        numbers = {"+": "1342+879=", "-": "342-879=", "*": "57*46=", "/": "1742/56="}
        nouns = {"+": "a sum", "-": "a difference", "*": "a product", "/": "a quotient"}
        examples = " or ".join(numbers[one] for one in self.operators)
        return f"{nouns.get(self.operators, 'a problem')} of two whole numbers such as {examples}"

    def _write_answer(self, decimal: str | None, is_negative: bool, num_digits: int) -> str:
        """Model text of an answer, with what ends it; nothing for none. `num_digits`: of the second operand."""
        if not decimal:
            return ""
        digits, sign = self.write_number(decimal), NEGATIVE * is_negative
        if self.says_all and is_negative:
            value = self.base**num_digits - from_digits(digits[::-1], self.base)
            if value < 0:
                raise ValueError(f"-{decimal} has more digits than one pass says; it cannot be written")
            digits = to_digits(value, self.base)[::-1]
        if self.says_all:
            digits = digits.ljust(num_digits, DIGITS[0])
        return (digits + sign if self.reversed else sign + digits) + DELIMITER

    def to_decimal_text(self, model_text: str) -> str:
        """Write model text as a problem; an answer that is not finished yet is read as far as it goes.

        +E35+F63+       1342+879=
        +E35+F63+DA     1342+879=173
        +E35+F63+DA8+   1342+879=2221
        +243-978+735-+  342-879=-537
        +2471/65+13/6+  1742/56=31 r 6
        DA8+            2221             an answer by itself, as pipeline() asks for it
        +               +                the end by itself
        *75*64|2⁴4³3|   57*46=           of work on paper the answer is read off at the end

        Work by itself stays as it is, and so does work that is none.
        """
        if self.has_columns:
            return self._read_off(model_text)
        if model_text == DELIMITER:
            return DELIMITER
        if not model_text.startswith(DELIMITER):
            answer, delimiter, rest = model_text.partition(DELIMITER)
            return self._read_answer(answer) + (self.to_decimal_text(delimiter + rest) if rest else "")
        x, operator = _PARTS.match(model_text, 1).groups()
        y, end = _PARTS.match(model_text, 1 + len(x + operator)).groups()
        text = self.read_number(x) + operator + self.read_number(y)
        if not end:
            return text
        answer, _, rest = model_text[1 + len(x + operator + y + end) :].partition(DELIMITER)
        return text + "=" + self._read_answer(answer)

    def _read_answer(self, answer: str) -> str:
        """An answer without a scratchpad, and what is left: 13/6 is 31 r 6, 001/0 is 100."""
        number, rests, rest = answer.partition(RESTS)
        rest = self.read_number(rest) if rests else ""
        return self.read_number(number) + (f" r {rest}" if rest.strip("0") else "")

    # ---- Work on paper --------------------------------------------------------------------------------

    def _read_off(self, model_text: str) -> str:
        """Read a question, and what its work leads to once that has ended; see the class Grid of the model's file."""
        question, bar, work = model_text.partition(BAR)
        operator, numbers = question[:1], [digits for _, digits in _SIGNED.findall(question)]
        if operator not in OPERATORS or not operator or not all(numbers) or len(numbers) < 2:
            return model_text
        asked = operator.join(map(self.read_number, numbers)) + (END if bar else "")
        if not work.endswith(END):
            return asked
        rows = _SIGNED.findall(BAR + work[: -len(END)])
        answer = self._result(operator, numbers, rows[:-1]) if rows[-1] == (BAR, "") else None
        return asked + ("?" if answer is None else answer)

    def _result(self, operator: str, numbers: list[str], rows: list[tuple[str, str]]) -> str | None:
        """What rows of work lead to, each a sign and what follows; None where that is not their form."""
        signs = "".join(sign for sign, _ in rows)
        x, y, width = numbers[0], numbers[1], max(map(len, numbers[:2]))
        if operator == "*":
            digits = [self._row(row, len(x), grows=True) for _, row in rows]
            if None in digits or signs != BAR * len(y):
                return None
            return self.read_number("".join(one[0] for one in digits[:-1]) + digits[-1])
        if operator == "/":
            digits, places = [self._row(row[1:], len(y)) for _, row in rows], max(0, len(x) - len(y) + 1)
            if None in digits or signs.count(BAR) != places or not set(signs) <= {BAR, "+"} or signs[:1] == "+":
                return None
            heads = [row[0] for (_, row), follows in zip(rows, (signs + BAR)[1:], strict=True) if follows == BAR]
            return self._read_answer("".join(heads[::-1] or DIGITS[0]) + RESTS + (digits[-1] if digits else x))
        if operator == "-":
            digits = [self._row(row, width) for _, row in rows]
            if None in digits or signs not in (BAR, BAR + NEGATIVE):
                return None
            return self.read_number(digits[-1] + NEGATIVE * (len(rows) - 1))
        if signs != BAR * (len(numbers) - 1):
            return None
        above = x
        for number, (_, row) in zip(numbers[1:], rows, strict=True):
            above = self._row(row, max(len(number), len(above)), grows=True)
            if above is None:
                return None
        return self.read_number(above)

    def _row(self, row: str, columns: int, grows: bool = False) -> str | None:
        """The digits of a row of so many columns, and maybe one on top; None where it is no such row."""
        digits, carries = row[::2], row[1::2]
        is_row = set(digits) <= set(DIGITS[: self.base]) and set(carries) <= set(CARRIES[: self.base])
        return digits if is_row and len(carries) == columns and 0 <= len(digits) - columns <= grows else None

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
