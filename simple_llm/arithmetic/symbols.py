"""What stands in a text of work on paper, as small whole numbers, and how people see it.

0 to base - 1             digits
base to 2 * base - 1      carries, shown raised
2 * base and up           the signs |, +, -, *, / and =
NOTHING                   padding to the right of a text
"""

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.digits import DIGIT_ALPHABET
from simple_llm.arithmetic.division import DIVISION
from simple_llm.arithmetic.multiplication import MULTIPLICATION
from simple_llm.arithmetic.subtraction import SUBTRACTION

BAR, END = "|", "="  # begins a row of work; ends a text
PLUS, MINUS = ADDITION.symbol, SUBTRACTION.symbol
TIMES, OVER = MULTIPLICATION.symbol, DIVISION.symbol
SIGNS = (BAR, PLUS, MINUS, TIMES, OVER, END)
RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ𐞥ʳˢᵗᵘᵛʷˣʸᶻ"
NOTHING = -1

Symbols = NDArray[np.int16]


def sign(character: str, base: int) -> int:
    """The symbol of one of SIGNS."""
    return 2 * base + SIGNS.index(character)


def raised(values: NDArray, base: int) -> NDArray:
    """The symbols of carries."""
    return base + values


def value_of(symbols: NDArray, base: int) -> NDArray:
    """What digits and carries are worth; signs and nothing are worth 0."""
    return symbols % base * np.isin(symbols // base, (0, 1))


def shown(symbols: NDArray, base: int) -> str:
    """A text for people, (T,); what is no symbol, or missing in the midst of it, is a question mark."""
    alphabet = DIGIT_ALPHABET[:base] + RAISED[:base] + "".join(SIGNS)
    characters = {NOTHING: " ", **dict(enumerate(alphabet))}
    return "".join(characters.get(int(symbol), "?") for symbol in symbols).rstrip().replace(" ", "?")
