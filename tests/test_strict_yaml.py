import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_llm.config.strict_yaml import parse_yaml, StrictYamlError

# Characters that both JSON and YAML take as they are.
TEXT = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


@given(TREES)
def test_json_is_read_as_json(tree):
    # JSON is YAML in which every text is quoted, so the json module is an independent reader of it.
    written = json.dumps(tree, ensure_ascii=False)
    assert parse_yaml(written) == json.loads(written)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-12", -12),
        ("+3", 3),
        ("1.5", 1.5),
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("3e+2", 300.0),
        ("2.5e-3", 2.5e-3),
        ("2.5e3", 2500.0),
        ("-1e-4", -1e-4),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("none", "none"),
        ("cpu", "cpu"),
        ("1e", "1e"),
        ('"1e-4"', "1e-4"),
        ("'None'", "None"),
        ("'010'", "010"),
        ('"true"', "true"),
        ("2024-01-01", "2024-01-01"),
        ("2024-13-45", "2024-13-45"),
    ],
)
def test_a_value_is_what_a_person_reads(text, value):
    read = parse_yaml(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        *("010", "0x10", "0b101", "1_000", "1:30", "190:20:30", "1_0.5", "1:30.5"),
        *("on", "off", "Yes", "NO", "True", "FALSE", "None", "&anchor 1", "*anchor", "a: b", "@x", "%x"),
        pytest.param("9" * 4301, id="4301 digits"),
        *("!!int '3'", "!!str [a]", "!!float abc", "!!timestamp x", "!!python/name:os.system x"),
    ],
)
def test_a_surprise_is_refused_and_its_line_named(value):
    with pytest.raises(StrictYamlError) as caught:
        parse_yaml(f"first: 1\nsecond:\n  third: {value}\n")
    assert str(caught.value).startswith("line 3: ")


def test_the_longest_number_python_reads_is_read():
    assert parse_yaml("9" * 4300) == 10**4300 - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: key a appears twice"),
        ("s:\n  a: 1\n  a: 1", "line 3: key a appears twice"),
        ("{a: 1, a: 2}", "line 1: key a appears twice"),
        ("a: 1\n7: 2", "line 2: a key must be a word, got '7'"),
        ("true: 2", "line 1: a key must be a word, got 'true'"),
        ("? [a]\n: 2", "line 1: a key must be a word"),
        ("a: 1\nb: =", "line 2: = has a meaning of its own in YAML; write it in quotes"),
        ("a: 1\nb: <<", "line 2: << has a meaning of its own in YAML; write it in quotes"),
        ("a: 1\n=: 2", "line 2: = has a meaning of its own in YAML; write it in quotes"),
        ("a: 1\n<<: {b: 2}", "line 2: << has a meaning of its own in YAML; write it in quotes"),
        ("a: 1\n\tb: 2", "line 2: "),
        ("a:\n\t- b", "line 2: "),
        ("a: 1\n---\nb: 2", "line 2: "),
        ("a: x\0y", "character"),
        ("a: [1, 2\n", "line 2: "),
        ("a: {b: 1\n", "line 2: "),
        ("a: 'open\n", "line 2: "),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_a_bad_document_is_refused(text, message):
    with pytest.raises(StrictYamlError) as caught:
        parse_yaml(text)
    assert message in str(caught.value)


def test_fault_21_an_alias_bomb_is_refused_before_it_grows():
    bomb = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True))
    with pytest.raises(StrictYamlError, match="anchors and aliases"):
        parse_yaml(bomb)


PIECES = [
    "a",
    "b: ",
    "\n",
    "  ",
    "- ",
    ", ",
    "[",
    "]",
    "{",
    "}",
    "'",
    '"',
    "&x ",
    "*x",
    "? ",
    "| ",
    "> ",
    "<<: ",
    "=: ",
]
PIECES += [
    "!!int ",
    "!!float ",
    "!!str ",
    "!!bool ",
    "!!null ",
    "!!set ",
    "!!omap ",
    "!!binary ",
    "!!map ",
    "!x ",
    "! ",
]
PIECES += [
    "1",
    "0",
    "-",
    ".",
    "e",
    "_",
    ":",
    "#",
    "\t",
    "\0",
    "\\",
    "%",
    "---\n",
    "...\n",
    "2024-13-45",
    ".nan",
    "None",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        parse_yaml(text)
    except StrictYamlError as error:
        assert len(str(error).splitlines()) == 1
