"""Work on paper by Python's integers: one problem at a time, written as text, lowest digits first, carries raised."""

RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹ᵃᵇᶜᵈᵉᶠ"
DIGITS = "0123456789ABCDEF"
SIGNS = "|+-*/"


def reversed_digits(value: int, base: int, width: int = 1) -> str:
    """Digits of a number, lowest first, filled up with zeros."""
    said = ""
    while value or len(said) < width:
        said, value = said + DIGITS[value % base], value // base
    return said


def written(operator: str, numbers: list[int], base: int) -> str:
    """A question, its work, and the end: written("*", [57, 46], 10) is *75*64|2⁴4³3|2³6²2|=."""
    question = "".join(operator + reversed_digits(number, base) for number in numbers)
    return question + {"+": _sum, "-": _difference, "*": _product, "/": _quotient}[operator](*numbers, base) + "="


def _row(columns: int, base: int, result: int, carry_into, top_digit: bool) -> str:
    """Digits of a result and, before each but the first, the carry into its column; the last carry is that out of all.

    Args:
        carry_into: a function of p = base ** column, the carry into that column.
        top_digit: whether a carry out of all columns stands there once more, as a digit.
    """
    said = ""
    for column in range(columns):
        said += DIGITS[result // base**column % base] + RAISED[carry_into(base ** (column + 1))]
    last = carry_into(base**columns)
    return said + (DIGITS[last] if last and top_digit else "")


def _sum(*numbers_and_base: int) -> str:
    *numbers, base = numbers_and_base
    said, total, width = "|", numbers[0], len(reversed_digits(numbers[0], base))
    for number in numbers[1:]:
        width = max(width, len(reversed_digits(number, base)))
        above = total
        total += number
        said += _row(width, base, total, lambda p, x=number, t=above: (x % p + t % p) // p, top_digit=True) + "|"
        width = max(width, len(reversed_digits(total, base)))
    return said


def _difference(x: int, y: int, base: int) -> str:
    width = max(len(reversed_digits(x, base)), len(reversed_digits(y, base)))
    rest = (x - y) % base**width
    said = "|" + _row(width, base, rest, lambda p: int(x % p < y % p), top_digit=False)
    if x < y:
        said += "-" + _row(width, base, y - x, lambda p: int(rest % p > 0), top_digit=False)
    return said + "|"


def _product(x: int, y: int, base: int) -> str:
    said, above, width = "|", 0, len(reversed_digits(x, base))
    for digit in map(DIGITS.index, reversed_digits(y, base)):
        result = x * digit + above
        said += _row(width, base, result, lambda p, d=digit, t=above: (x % p * d + t % p) // p, top_digit=True) + "|"
        above = result // base
    return said


def _quotient(x: int, y: int, base: int) -> str:
    """Long division; each digit is guessed from two digits of what is left and one of y, and never too small."""
    digits, width = reversed_digits(x, base), len(reversed_digits(y, base))
    said, left = "|", x // base ** max(0, len(digits) - width + 1)
    for place in reversed(range(len(digits) - width + 1)):
        left = left * base + DIGITS.index(digits[place])
        head = min(base - 1, left // base ** (width - 1) // (y // base ** (width - 1)))
        rest = left - head * y
        said += DIGITS[head] + _row(width, base, rest, lambda p, q=head, t=left: -((t % p - q * (y % p)) // p), False)
        while rest < 0:
            head, before, rest = head - 1, rest % base**width, rest + y
            said += "+" + DIGITS[head]
            said += _row(width, base, rest, lambda p, t=before: (t % p + y % p) // p, top_digit=False)
        said, left = said + "|", rest
    return said


def read_off(text: str, base: int) -> int | tuple[int, int]:
    """The result of a whole text, read as a person would: along the edge of a product, the heads of a division."""
    operator, question = text[0], text[: text.index("|")]
    rows = text[len(question) : -2].replace("+", "|+").replace("-", "|-").split("|")[1:]
    digits = ["".join(token for token in row if token in DIGITS) for row in rows]

    def value(said: str) -> int:
        return sum(DIGITS.index(digit) * base**place for place, digit in enumerate(said))

    if operator == "/":
        follows = [*rows[1:], "|"]
        heads = [row[0] for row, after in zip(digits, follows, strict=False) if not after.startswith("+")]
        x = question[1:].split("/")[0]
        return value("".join(reversed(heads))), value(digits[-1][1:] if heads else x)
    if operator == "*":
        return value("".join(row[0] for row in digits[:-1]) + digits[-1])
    return -value(digits[-1]) if rows[-1].startswith("-") else value(digits[-1])
