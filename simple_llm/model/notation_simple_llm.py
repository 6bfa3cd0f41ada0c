"""Problems as a model reads and writes them: decimal text, model text, and the tokens there are; needs Python alone.

    text            1342+879=            1342+879=2221
    model text      +E35+F63+            +E35+F63+DA8+        base 16, least significant digit first
    model text      +243-978+            +243-978+735-+       342-879=-537, base 10
    model text      +2471/65+            +2471/65+13/6+       1742/56=31 r 6
    model text      *75*64|              *75*64|2⁴4³3|2³6²2|= 57*46=2622, with a scratchpad of columns

It travels with every checkpoint within tokenization_simple_llm.py, so it imports nothing of the project.
"""

import re

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


class Notation:
    """How problems are written for a model and read from it.

    It is a part of whatever knows the tokens: of a class with `convert_tokens_to_ids` and `convert_ids_to_tokens`, as
    the library's tokenizers have them.

    Attributes:
        init_kwargs: `base`, `reversed`, `says_all`, `scratchpad` and `operators`, as tokenizer_config.json has them;
            the library has this name for them, and no other home for settings of one's own.
    """

    init_kwargs: dict[str, object]

    @property
    def base(self) -> int:
        """Base of the digits the model sees."""
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
