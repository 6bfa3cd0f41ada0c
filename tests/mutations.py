"""Inputs that nobody would write on purpose: configs changed by a byte, a line or a key, and prompts of any kind."""

import random
from collections.abc import Callable, Iterator

from tests.pipeline import REPOSITORY

FILES = ("data_config.yaml", "train_config.yaml")
VALUES = (
    *("1e-4", "010", "None", "-5", "0", "1e400", ".nan", "-.inf", "true", "yes", "~", "''", "[1]", "{a: 1}", "3.0"),
    *("9" * 30, "9" * 5000, "&a 1", "*a", "!!python/name:os.system x", "1_000", "0x10", "'\\0'", '"\\0"', '"\\e[2J"'),
    *("many", "/dev/zero", "../../x", "\u0661\u0662", "\uff11", "\u202e", "${HOME}", "- 1", "|\n", "? a", "#", "1:30"),
)
KEYS = ("n_layr", "x" * 3000, "a b", '"a\\nb"', "<<", "7", "\u212b", "model", "seed", "''", "?", "__class__")
BYTES = "\0\t\n\r '\"\\{}[]:,&*!|>%@`#-?+.0aZ~\x1b\x7f\x85\u2028\ufeff\U0001f600"

Mutation = Callable[[random.Random, str], str]


def mutated_configs(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Both default files as text, data and train, changed in one way or in up to four; without end."""
    originals = [(REPOSITORY / name).read_text() for name in FILES]
    while True:
        texts = list(originals)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            index = rng.randrange(2)
            texts[index] = rng.choice(_CONFIG_MUTATIONS)(rng, texts[index])
        yield texts[0], texts[1]


def fuzzed_prompts(rng: random.Random) -> Iterator[str]:
    """Prompts: right ones, right ones with something put in, and nonsense; some of them huge. Without end."""
    while True:
        yield rng.choice(_PROMPTS)(rng)


# ---- Configs --------------------------------------------------------------------------------------


def _some_line(rng: random.Random, text: str, change: Callable[[str], str]) -> str:
    lines = text.split("\n")
    index = rng.randrange(len(lines))
    lines[index] = change(lines[index])
    return "\n".join(lines)


def _change_character(rng: random.Random, text: str) -> str:
    index = rng.randrange(len(text) + 1)
    return text[:index] + rng.choice(BYTES) + text[index + rng.randint(0, 1) :]


def _drop_part(rng: random.Random, text: str) -> str:
    first, last = sorted(rng.randrange(len(text) + 1) for _ in "ab")
    return text[:first] + text[last:]


def _repeat_part(rng: random.Random, text: str) -> str:
    first, last = sorted(rng.randrange(len(text) + 1) for _ in "ab")
    return text[:last] + text[first:last] * rng.choice((1, 2, 50)) + text[last:]


def _change_value(rng: random.Random, text: str) -> str:
    return _some_line(rng, text, lambda line: line.partition(":")[0] + ": " + rng.choice(VALUES))


def _change_key(rng: random.Random, text: str) -> str:
    def changed(line: str) -> str:
        key, colon, value = line.partition(":")
        indent = " " * (len(key) - len(key.lstrip()))
        return indent + rng.choice((*KEYS, key.strip()[:-1], key.strip() + "s")) + colon + value

    return _some_line(rng, text, changed)


def _change_indent(rng: random.Random, text: str) -> str:
    return _some_line(rng, text, lambda line: rng.choice(("", " ", "  ", "\t", "    ", "- ")) + line.lstrip())


def _repeat_line(rng: random.Random, text: str) -> str:
    return _some_line(rng, text, lambda line: "\n".join([line] * rng.choice((2, 3, 100))))


def _nest(rng: random.Random, text: str) -> str:
    opening = rng.choice(("[", "{", "{a: ", "- ", "? ", "'", '"', "!!set "))
    return _some_line(rng, text, lambda line: line.partition(":")[0] + ": " + opening * rng.choice((1, 20, 5000)))


_CONFIG_MUTATIONS: tuple[Mutation, ...] = (
    *(_change_character, _drop_part, _repeat_part, _change_value, _change_value, _change_key, _change_indent),
    *(_repeat_line, _nest),
)


# ---- Prompts --------------------------------------------------------------------------------------

_OTHER_CHARACTERS = (
    "\u0661\u06f2\u0967\uff11\u00b2\u2460\U0001d7d9"  # digits of other scripts, raised, ringed and bold
    "\uff0b\u2212\u00d7-*/_.,eExX;=:+ \t\n\r\v\f\0\x1b\x7f\x85\xa0\u200b\u2028\u202e\u3000\ufeff\udcff\U0001f600"
)


def _number(rng: random.Random) -> str:
    return "0" * rng.choice((0, 0, 0, 1, 5)) + str(rng.randrange(10 ** rng.randint(1, 6)))


def _sum(rng: random.Random) -> str:
    spaces = ("", "", " ", "\t", "   ")
    parts = [_number(rng), "+", _number(rng), rng.choice(("", "="))]
    return "".join(rng.choice(spaces) + part for part in parts) + rng.choice(spaces)


def _spoilt_sum(rng: random.Random) -> str:
    text = _sum(rng)
    for _ in range(rng.randint(1, 3)):
        index = rng.randrange(len(text) + 1)
        put_in = rng.choice(_OTHER_CHARACTERS) * rng.choice((0, 1, 1, 2))
        text = text[:index] + put_in + text[index + rng.randint(0, 1) :]
    return text


def _nonsense(rng: random.Random) -> str:
    return "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0x110000)))) for _ in range(rng.randint(0, 40)))


def _huge(rng: random.Random) -> str:
    length = rng.choice((4300, 4301, 10_000, 250_000, 600_000))
    return rng.choice(
        (
            *(rng.choice("019") * length + "+1", "1+" + "0" * length + "7", "+" * length),
            "1+1" + rng.choice(" \t") * length + "x",
        )
    )


_PROMPTS = (_sum, _spoilt_sum, _spoilt_sum, _nonsense, _huge)
