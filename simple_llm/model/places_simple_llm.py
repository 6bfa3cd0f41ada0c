"""Where tokens of a problem stand, what they see, and which questions a model carries: what needs torch alone.

Shape letters in this file: B rows in the batch, T tokens in a row, S tokens seen by them (the cached ones and the T),
D digit tokens, V tokens in the vocabulary, P rows of the position table, L addresses looked at.

It travels with every checkpoint within modeling_simple_llm.py, so it imports nothing of the project.
"""

import math
import sys
from typing import NamedTuple

import torch
from torch import Tensor

TESTED_WITH = {"transformers": ("5.23.0", "5.24.0"), "torch": ("2.13.0",)}  # releases, these files
LOGITS_MOVE = 0.02  # less than this between libraries, in float32; another activation or epsilon moves them more
POSITION_EMBEDDINGS = ("block", "block_sinusoidal", "learned", "sinusoidal", "none")
SCRATCHPADS = ("none", "columns")
KINDS = ("sign", "operand", "head", "digit", "carry", "top")  # of tokens of a scratchpad: rows of its position table
IGNORE_INDEX = -100
QUESTION = ("prompts", "answers", "logits")  # what config.self_test holds


def refuse_wrong_settings(config) -> None:
    """Check a configuration: SimpleLLMConfig, or what has its attributes.

    Raises:
        ValueError: naming what is wrong.
    """
    if config.position_embedding not in POSITION_EMBEDDINGS:
        raise ValueError(f"position_embedding is {config.position_embedding!r}, not one of {POSITION_EMBEDDINGS}")
    if config.tokens_per_step not in (1, 2, "all"):
        raise ValueError(f"tokens_per_step is {config.tokens_per_step!r}, not 1, 2 or 'all'")
    if config.attention_window is not None and set(config.attention_window) != {"left", "right"}:
        raise ValueError(f"attention_window is {config.attention_window!r}, not left and right")
    if config.attention_window is not None and config.tokens_per_step != 1:
        raise ValueError("attention_window needs tokens_per_step = 1: others would not see what they add")
    if config.self_test is not None and (
        set(config.self_test) != set(QUESTION) or len(set(map(len, config.self_test.values()))) != 1
    ):
        raise ValueError("self_test is not as many prompts as answers and logits")
    if config.scratchpad not in SCRATCHPADS:
        raise ValueError(f"scratchpad is {config.scratchpad!r}, not one of {SCRATCHPADS}")
    if config.scratchpad == "columns":
        _refuse_what_columns_do_not_go_with(config)


def _refuse_what_columns_do_not_go_with(config) -> None:
    needed = {"tokens_per_step": 1, "position_embedding": "block", "max_position_offset": 0}
    needed |= {"attention_window": None, "position_period": None}
    for name, value in needed.items():
        if getattr(config, name) != value:
            raise ValueError(f"scratchpad = 'columns' needs {name} = {value!r}, not {getattr(config, name)!r}")
    if config.n_positions < len(KINDS):
        raise ValueError(f"scratchpad = 'columns' needs n_positions = {len(KINDS)} or more, not {config.n_positions}")
    digits, carries, signs = config.digit_token_ids or [], config.carry_token_ids or [], config.sign_token_ids or {}
    if len(digits) < 2 or len(carries) != len(digits) or set(signs) != set(_SIGNS):
        raise ValueError(f"scratchpad = 'columns' needs digits, as many carries, and the signs {_SIGNS}")
    all_ids = [*digits, *carries, *signs.values(), config.eos_token_id, config.pad_token_id]
    is_token = [isinstance(one, int) and 0 <= one < config.vocab_size for one in all_ids]
    if len(set(all_ids)) < len(all_ids) or not all(is_token):
        raise ValueError("the IDs of digits, carries, signs, = and padding are not all different tokens")


class Places:
    """Where a model's tokens stand: a part of whatever has a `config`, see `refuse_wrong_settings`."""

    def position_ids(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Number the tokens of whole rows as the model was trained: (B, T) -> (B, T).

        Args:
            attention_mask: (B, T), 0 for padding; index 0 is the first token that is not padding.
        """
        if self.config.position_embedding == "none":
            return torch.zeros_like(input_ids)
        if self.config.scratchpad == "columns":
            return self.grid(input_ids, attention_mask).kinds
        if self.config.position_embedding.startswith("block"):
            digit_ids = torch.tensor(self.config.digit_token_ids, device=input_ids.device)
            return block_position_ids(input_ids, digit_ids)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return (attention_mask.long().cumsum(1) - 1).clamp(min=0)

    def grid(self, input_ids: Tensor, attention_mask: Tensor | None = None, before: "Grid | None" = None) -> "Grid":
        """Lay out the tokens of whole rows, or those that follow on others, as a scratchpad of columns has them.

        Args:
            input_ids: (B, T).
            attention_mask: (B, T), 0 for padding; the padding token is padding without it, too.
            before: the grid of the tokens before these.
        """
        return columns_grid(symbols_of(self.config, input_ids, attention_mask), before)


def block_position_ids(input_ids: Tensor, digit_ids: Tensor) -> Tensor:
    """Number the digits of every number 1, 2, 3, ...; every other token gets 0.

    Numbers are written least significant digit first, so equal IDs mean equal place value: the hundreds of all
    three numbers below get ID 3 (Abacus embeddings, McLeish et al., arXiv 2405.17399).

        tokens     + 2 4 3 1 + 9 7 8 + 1 2 2 2 +     (1342 + 879 = 2221)
        positions  0 1 2 3 4 0 1 2 3 0 1 2 3 4 0

    Args:
        input_ids: (B, T) token IDs.
        digit_ids: (D,) the token IDs that are digits.

    Returns:
        (B, T) int64 position IDs.
    """
    is_digit = (input_ids[..., None] == digit_ids).any(-1)  # (B, T)
    digits_so_far = is_digit.long().cumsum(1)  # (B, T)
    numbers_so_far = (~is_digit).long().cumsum(1)  # (B, T) which number a digit belongs to
    # At each number's delimiter note how many digits came before it. Digits write to a last column nobody reads.
    num_columns = input_ids.size(1) + 2
    column = torch.where(is_digit, num_columns - 1, numbers_so_far)  # (B, T)
    digits_before = digits_so_far.new_zeros(input_ids.size(0), num_columns).scatter(1, column, digits_so_far)
    return (digits_so_far - digits_before.gather(1, numbers_so_far)) * is_digit


# ---- A scratchpad of columns ------------------------------------------------------------------------

SIGN, OPERAND, HEAD, DIGIT, CARRY, TOP = range(len(KINDS))
_SIGNS = "|+-*/"
_PADDING, _OTHER, _A_DIGIT, _A_CARRY, _BAR, _PLUS, _MINUS, _TIMES, _OVER = range(9)  # what a token may be
_NO_ADDRESS, _NOWHERE = -1, -2
_SIDE = 1 << 28  # rows of the paper, and columns


class Grid(NamedTuple):
    """Squared paper: where tokens stand, and where they look.

    Every token has one address: a kind, a row and a column. A token of the work looks at five addresses, and sees what
    stands there and is not after it: the operator, and, of its row and column, head, operand, digit above and carry.
    Other tokens look at the operator alone, padding at nothing.

    57 * 46 = 2622 in base 10 is *75*64|2⁴4³3|2³6²2|=, lowest digits first, carries raised. A row of work is a sign,
    then digits and carries in turn; the sign is the carry of column 0. Row 2 stands one column to the left:

        *            7            5            *            6            4
        sign 0 0     operand 0 0  operand 0 1  -            head 1 0     head 2 0        (kind, row, column)
        |            2            ⁴            4            ³            3
        carry 1 0    digit 1 0    carry 1 1    digit 1 1    carry 1 2    digit 1 2
        |            2            ³            6            ²            2
        carry 2 0    digit 2 1    carry 2 1    digit 2 2    carry 2 2    digit 2 3

        row 2  operator  head  operand  above  carry  says
        |      *         4     7        4      |      2     4 * 7 + 4 = 32
        2      *         4     7        4      |      ³
        ³      *         4     5        3      ³      6     4 * 5 + 3 + 3 = 26
        6      *         4     5        3      ³      ²
        ²      *         4     -        -      ²      2
        2      *         4     -        -      ²      |

    In a sum or difference, +21+378+4|5⁰8⁰8⁰|..., the first number is row 0, and the operand of row r is number r + 1,
    the head the sign before it. A difference below 0 has its complement in a row that begins with -.

    1742 / 56 = 31, rest 6 is /2471/65|07⁰1⁰|36²0¹|16¹0⁰|=. The head, first in its row, is a digit of the quotient: so
    many times the operand y is taken away from the row above and, in column 0, from the next digit of x. Every | stands
    one column further to the right. Where the head was too much, a row + adds y again: the sign is what it looks at
    for a head, and its own head counts the quotient down. The highest digit of a row is of the kind top.

        row 2  operator  head  operand  above  carry  says
        |      /         -     5        7      -      3     17 / 5; it sees the top digit 1 of what is left, too
        3      /         3     6        4      -      6     4 - 3 * 6 = 6 - 20
        6      /         3     6        4      -      ²
        ²      /         3     5        7      ²      0     7 - 3 * 5 - 2 = 0 - 10
        0      /         3     5        7      ²      ¹
        ¹      /         3     -        1      ¹      |     all of it is taken away

    Attributes:
        kinds: (B, T) which of KINDS a token is; its position ID.
        looks: (B, T, 5) addresses looked at.
        is_work: (B, T) whether a token is of the work, so that the next one follows from what it sees.
        addresses: (B, S) of these tokens and of those before them.
        counted: (B, 1) each, as it is at the last token; the grid of the next tokens goes on from it.
    """

    kinds: Tensor
    looks: Tensor
    is_work: Tensor
    addresses: Tensor
    counted: "Count"


class Count(NamedTuple):
    """What is counted up to and with each token, (B, T) each: all that has to be known of the tokens before it."""

    num_tokens: Tensor
    operator: Tensor  # what the first token is
    number: Tensor  # numbers of the question
    x_size: Tensor  # digits of the first of them
    y_size: Tensor  # digits of the second
    row: Tensor  # rows of work
    group: Tensor  # those of them that begin with |
    sign: Tensor  # twice what num_tokens was at the last sign, and 1 more if that is |

    @property
    def times(self) -> Tensor:
        return self.operator == _TIMES

    @property
    def over(self) -> Tensor:
        return self.operator == _OVER

    @property
    def since(self) -> Tensor:
        """Tokens since the last sign."""
        return self.num_tokens - self.sign // 2

    @property
    def column(self) -> Tensor:
        """Which column of its row a token is in; the signs of a division are in that of the top digit."""
        over = self.over.long()
        return torch.where(self.over & (self.since == 0), self.y_size - 1, (self.since - over) // 2)

    @property
    def shift(self) -> Tensor:
        """How many columns further to the left the row stands."""
        return self.times * (self.row - 1) + self.over * (self.x_size - self.y_size + 1 - self.group)


def count_up(symbols: Tensor, before: Count) -> Count:
    """Go on counting: what the next tokens are, (B, T), and the count up to them, (B, 1) each -> (B, T) each."""
    is_sign, is_bar = symbols >= _BAR, symbols == _BAR
    num_tokens = before.num_tokens + (symbols > _PADDING).cumsum(1)
    group = before.group + is_bar.cumsum(1)
    number = before.number + (is_sign & (group == 0)).cumsum(1)
    is_digit = (symbols == _A_DIGIT) & (group == 0)
    return Count(
        num_tokens=num_tokens,
        operator=before.operator + (symbols * (num_tokens == 1)).cumsum(1),
        number=number,
        x_size=before.x_size + (is_digit & (number == 1)).cumsum(1),
        y_size=before.y_size + (is_digit & (number == 2)).cumsum(1),
        row=before.row + (is_sign & (group > 0)).cumsum(1),
        group=group,
        sign=torch.where(is_sign, 2 * num_tokens + is_bar, before.sign).cummax(1).values,
    )


def symbols_of(config, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """What each token of a scratchpad is: (B, T) -> (B, T).

    Args:
        config: see `refuse_wrong_settings`.
        attention_mask: (B, T), 0 for padding; the padding token is padding without it, too.
    """
    table = torch.full((config.vocab_size,), _OTHER)
    table[config.pad_token_id] = _PADDING
    table[config.digit_token_ids] = _A_DIGIT
    table[config.carry_token_ids] = _A_CARRY
    for symbol, sign in enumerate(_SIGNS, _BAR):
        table[config.sign_token_ids[sign]] = symbol
    symbols = table.to(input_ids.device)[input_ids]
    return symbols if attention_mask is None else symbols.masked_fill(attention_mask == 0, _PADDING)


def begin_with_questions(symbols: Tensor, is_zero: Tensor) -> bool:
    """Whether rows, (B, T), begin with a question: *75*64| and, if it has begun, its work.

    Args:
        is_zero: (B, T) whether a token is the digit 0; no divisor begins with one.
    """
    follows, is_sign = symbols.roll(-1, 1), symbols >= _BAR
    num_tokens, is_asked = (symbols > _PADDING).cumsum(1), (symbols == _BAR).cumsum(1) == 0
    operator = torch.where(num_tokens == 1, symbols, _PADDING).amax(1, keepdim=True)  # (B, 1)
    starts_number = (symbols == operator) & (follows == _A_DIGIT)
    is_right = torch.where(is_asked, starts_number | (symbols == _A_DIGIT), symbols >= _A_DIGIT)
    by_zero = is_asked & (operator == _OVER) & is_zero & (follows == _BAR)
    num_numbers = (is_sign & is_asked).sum(1)
    is_whole = ~is_asked[:, -1] & ((num_numbers == 2) | (num_numbers > 2) & (operator == _PLUS)[:, 0])
    return bool((is_right | (num_tokens == 0)).all() and not by_zero.any() and is_whole.all())


def columns_grid(symbols: Tensor, before: Grid | None = None) -> Grid:
    """Lay tokens out as Grid draws it; what stands before them does not make it slower.

    Args:
        symbols: (B, T) what each token is.
        before: the grid of the tokens before these.
    """
    count = Count(*[symbols.new_zeros(symbols.size(0), 1)] * 8) if before is None else before.counted
    count = count_up(symbols, count)
    is_work = (count.group > 0) & (symbols >= _A_DIGIT)
    addresses = torch.where(is_work, _addresses_of_work(symbols, count), _addresses_of_question(symbols, count))
    addresses = torch.where((symbols > _PADDING) & (count.num_tokens == 1), _at(SIGN, 0), addresses)
    kinds = (addresses // _SIDE**2).clamp(min=SIGN)
    is_top = is_work & count.over & (kinds == DIGIT) & (count.column == count.y_size - 1)
    return Grid(
        torch.where(is_top, TOP, kinds),
        _looks(symbols, count, is_work),
        is_work,
        addresses if before is None else torch.cat([before.addresses, addresses], 1),
        Count(*(one[:, -1:] for one in count)),
    )


def _addresses_of_question(symbols: Tensor, count: Count) -> Tensor:
    """Where the digits of the numbers stand, and the sign before each number of a sum: (B, T)."""
    times, number, since = count.times, count.number, count.since
    digit = _at(torch.where(times | (number > 1), OPERAND, DIGIT), number - 1, since - 1)
    digit = torch.where(times & (number > 1), _at(HEAD, since), digit)
    sign = torch.where(times | count.over, _NO_ADDRESS, _at(HEAD, number - 1))
    is_digit, is_sign = (symbols == _A_DIGIT) & (number > 0), symbols >= _BAR
    return torch.where(is_digit, digit, torch.where(is_sign, sign, _NO_ADDRESS))


def _addresses_of_work(symbols: Tensor, count: Count) -> Tensor:
    """Where the tokens of the work stand: (B, T)."""
    row, column, since = count.row, count.column, count.since
    address = torch.where(symbols == _A_DIGIT, _at(DIGIT, row, count.shift + column), _at(CARRY, row, column))
    return torch.where(count.over & (since < 2), _at(torch.where(since == 0, SIGN, HEAD), row), address)


def _looks(symbols: Tensor, count: Count, is_work: Tensor) -> Tensor:
    """Where tokens look: (B, T, 5).

    In a division | guesses from the two highest digits of what is left: that above it and the next. Where no digit of x
    is left to come down, it looks at no column, nor does +, which looks at the head above.
    """
    over, row, column, shift, is_sign = count.over, count.row, count.column, count.shift, symbols >= _BAR
    guesses = over & (symbols == _BAR) & (shift >= 0)
    adds_back = over & (count.sign % 2 == 0)
    head = torch.where(adds_back, _at(torch.where(is_sign, HEAD, SIGN), row - is_sign.long()), _at(HEAD, row))
    head = torch.where(guesses, _at(DIGIT, row - 1, shift + column + 1), head)
    operand = _at(OPERAND, torch.where(count.times | over, over.long(), row), column)
    comes_down = over & ~adds_back & (column == 0)
    above = _at(DIGIT, torch.where(comes_down, 0, row - 1), shift + column)
    has_column = is_work & (guesses | ~(over & is_sign))
    is_looking = torch.stack([symbols > _PADDING, is_work, has_column, has_column, has_column], -1)
    looks = torch.stack([_at(SIGN, 0 * row), head, operand, above, _at(CARRY, row, column)], -1)
    return torch.where(is_looking, looks, _NOWHERE)


def _at(kind: Tensor | int, row: Tensor | int, column: Tensor | int = 0) -> Tensor | int:
    """An address as one number."""
    return (kind * _SIDE + row) * _SIDE + column


def in_view(looks: Tensor, addresses: Tensor) -> Tensor:
    """Whether something stands where a token looks: (B, T, L), (B, S) -> (B, T, S)."""
    return (looks[..., None] == addresses[:, None, None]).any(2)


# ---- Without one ------------------------------------------------------------------------------------


def table_rows(position_ids: Tensor, period: int | None) -> Tensor:
    """Rows of the position table: with period P, places 1 to P, and again from 1; row 0 is for what is no digit."""
    if period is None:
        return position_ids
    return torch.where(position_ids > 0, 1 + (position_ids - 1) % period, 0)


def in_window(query_position_ids: Tensor, key_position_ids: Tensor, left: int, right: int) -> Tensor:
    """Whether each query may see each key, by their places alone: (B, T), (B, S) -> (B, T, S).

    What is no digit has place 0 and is seen by all. What is no digit sees the lowest `right` places of each number:

        left 0, right 1     + 2 4 3 1 + 9 7 8 + 1
        the last + sees     x x       x x     x            to say the ones
        the last 1 sees     x x x     x x x   x x          to say the tens, and both ones and the 1 for the carry
    """
    distance = key_position_ids[:, None, :] - query_position_ids[:, :, None]
    return (key_position_ids == 0)[:, None, :] | (distance >= -left) & (distance <= right)


def answer_logits(logits: Tensor, num_answer_tokens: Tensor) -> Tensor:
    """Move what is said in one pass to the left: (B, L, V) at the last L tokens of each prompt -> (B, L, V).

    Row b's answer is in its last `num_answer_tokens[b]` columns, of (B,); what stands to the right of it afterwards
    is of no use.

        tokens     + 5 + 6 7 +        + 1 2 + 5 6 7 +      (5 + 76 = 81, 21 + 765 = 786)
        said           1 8 +                  6 8 7 +      one pass
    """
    num_columns = logits.size(1)
    column = torch.arange(num_columns, device=logits.device) + (num_columns - num_answer_tokens)[:, None]  # (B, L)
    return logits.gather(1, column.clamp(max=num_columns - 1)[..., None].expand_as(logits))


def sinusoidal_table(num_positions: int, width: int) -> Tensor:
    """Fixed position vectors (Vaswani et al., arXiv 1706.03762), sines in even columns, cosines in odd: (P, width)."""
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))  # (ceil(width / 2),)
    angle = torch.arange(num_positions)[:, None] * frequency  # (P, ceil(width / 2))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


# ---- The questions that a model carries -------------------------------------------------------------


def untested_versions() -> dict[str, str]:
    """The libraries that are in use here, and of a release that these files were not tested with."""
    here = {name: sys.modules[name].__version__.partition("+")[0] for name in TESTED_WITH if name in sys.modules}
    return {name: version for name, version in here.items() if version not in TESTED_WITH[name]}


def untested_message(what: str) -> str:
    """One line that names the releases here, those tested, and the way out."""
    tested = ", ".join(f"{name} {' and '.join(versions)}" for name, versions in TESTED_WITH.items())
    here = ", ".join(f"{name} {version}" for name, version in untested_versions().items())
    mend = " ".join(f"{name}=={versions[-1]}" for name, versions in TESTED_WITH.items())
    return f"this model was tested with {tested}; with {here or 'what is here'} {what}: pip install {mend}"


def up_to_the_end(said: list[int], end_id: int, pad_id: int) -> list[int]:
    """An answer up to and with its end, or without the padding behind one that has none."""
    if end_id in said:
        return said[: said.index(end_id) + 1]
    while said and said[-1] == pad_id:
        said = said[:-1]
    return said


def numbers_of(text: str) -> list[float]:
    """Numbers between spaces: token IDs, or logits."""
    return [float(word) if "." in word else int(word) for word in text.split()]


def write_self_test(prompts: list[list[int]], answers: list[list[int]], logits: Tensor) -> dict[str, list[str]]:
    """Write questions, answers, and the logits (B, V) of their first tokens as SimpleLLMConfig.self_test has them."""
    tokens = ([" ".join(map(str, row)) for row in rows] for rows in (prompts, answers))
    numbers = [" ".join(f"{logit:.3f}" for logit in row) for row in logits.tolist()]
    return dict(zip(QUESTION, (*tokens, numbers), strict=True))
