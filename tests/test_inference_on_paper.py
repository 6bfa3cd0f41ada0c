"""inference.py asked whatever people type, by a model that is right in every context of work on paper."""

import io
import json
import random
import sys
from types import SimpleNamespace

import pytest
import torch

from simple_llm.model import notation_simple_llm
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import load_model
from tests.test_every_path_on_paper import by_integers

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]

EXAMPLES = "1342+879 or 342-879 or 57*46 or 1742/56"


@pytest.fixture
def ask(call_script, on_paper, monkeypatch, tmp_path):
    """Run inference.py on a model of one of the kinds of tests/paper_model.py."""

    def run(*arguments: str, stdin: bytes = b"", kind: str = "all four"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return call_script("inference.py", "--model", str(on_paper(kind)), *arguments, cwd=tmp_path)

    return run


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("57*46", "57*46=2622"),
        ("57\u00d746", "57*46=2622"),
        (" 57 * 46 = ", "57*46=2622"),
        ("1742\u00f756=", "1742/56=31 r 6"),
        ("5600/56", "5600/56=100"),
        ("0/5", "0/5=0"),
        ("3/5", "3/5=0 r 3"),
        ("342\u2212879", "342-879=-537"),
        ("5-5", "5-5=0"),
        ("007*0010", "7*10=70"),
        ("000/0007", "0/7=0"),
        ("0*0", "0*0=0"),
        ("12+873+4", "12+873+4=889"),
        ("+".join(["1"] * 50), "+".join(["1"] * 50) + "=50"),
        ("+".join(["1"] * 600), "+".join(["1"] * 600) + "=600"),
        ("+".join(["9" * 40] * 300), "+".join(["9" * 40] * 300) + f"={300 * int('9' * 40)}"),
    ],
)
def test_what_people_type_is_answered(ask, typed, said):
    done = ask(typed)
    assert (done.exit_code, done.stdout, done.stderr) == (0, said + "\n", "")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("5/0", "5/0: nothing is divided by 0"),
        ("0/00", "0/00: nothing is divided by 0"),
        ("1+2*3", "1+2*3: column 4: '*' is not expected here, a problem has one operation"),
        ("5--3", "5--3: column 3: '-' is not expected here, numbers are written without a sign"),
        ("5-3-1", "5-3-1: column 4: '-' is not expected here, more than two numbers only make a sum"),
        ("2*3*4", "2*3*4: column 4: '*' is not expected here, more than two numbers only make a sum"),
        ("8/2/2", "8/2/2: column 4: '/' is not expected here, more than two numbers only make a sum"),
        ("1+2+", "1+2+: no further number"),
        ("5*", "5*: no second number"),
        ("*5", "*5: column 1: '*' is not expected here"),
        ("5^3", "5^3: column 2: '^' is not expected here"),
        ("5", "5: no + or - or * or / in it"),
        ("", "'': no number in it"),
        ("57*46=2622", "57*46=2622: column 7: '2' is not expected here"),
        ("\u0663*\u0664", "'\u0663*\u0664': column 1: '\u0663' is not a digit 0 to 9"),
        ("\uff15*3", "'\uff15*3': column 1: '\uff15' is not a digit 0 to 9"),
        ("-5+3", "-5+3: column 1: '-' is not expected here, numbers are written without a sign"),
        ("5\u22173", "'5\u22173': column 2: '\u2217' is not expected here"),
    ],
)
def test_fault_22_what_is_no_problem_is_named_in_one_line_and_the_others_are_answered(ask, typed, told):
    done = ask("3*4", typed, "8/3")
    assert (done.exit_code, done.stdout) == (2, "3*4=12\n8/3=2 r 2\n")
    by_zero = "divided by 0" in told
    assert done.stderr == told + ("" if by_zero else f"; write a problem such as {EXAMPLES}") + "\n"


@pytest.mark.parametrize(
    ("kind", "typed", "told"),
    [
        ("products", "5+3", "5+3: this model was trained on products alone, such as 57*46"),
        ("products", "5-3", "5-3: this model was trained on products alone, such as 57*46"),
        ("differences", "5+3+1", "5+3+1: this model was trained on differences alone, such as 342-879"),
        ("differences", "6/3", "6/3: this model was trained on differences alone, such as 342-879"),
        ("decimal sums", "6*3", "6*3: this model was trained on sums alone, such as 1342+879"),
    ],
)
def test_fault_45_an_operation_that_was_not_learned_is_refused_by_name(ask, kind, typed, told):
    done = ask(typed, kind=kind)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", told + "\n")


def test_numbers_of_thousands_of_digits_are_answered_whatever_was_trained_on(ask):
    rng = random.Random(0)
    longest = {"+": (2000, 2000), "-": (1000, 2000), "*": (200, 30), "/": (60, 40)}
    problems = [
        f"{rng.randrange(1, 10**first)}{symbol}{rng.randrange(1, 10**second)}"
        for symbol, (first, second) in longest.items()
    ]
    done = ask(stdin="\n".join([*problems, f"{'9' * 3000}+1"]).encode())
    assert done.exit_code == 0, done.stderr  # where a progress bar may be, if it took long
    assert done.stdout.splitlines() == [*(by_integers(f"{one}=") for one in problems), f"{'9' * 3000}+1=1{'0' * 3000}"]
    assert "beyond" not in ask("--allow-longer", "1000*1000").stdout


def test_fault_05_a_long_problem_is_left_in_its_midst(on_paper):
    calculator, heard = Calculator(load_model(on_paper("products")), torch.device("cpu")), []

    def stop(num_prompts):
        heard.append(num_prompts)
        if len(heard) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        calculator.answer([calculator.parse(f"{'9' * 500}*{'9' * 500}")], stop)
    assert heard == [0, 0, 0]


def test_fault_25_a_line_without_an_end_is_refused_shortly(ask):
    done = ask(stdin=b"9" * 10**6 + b"*3\n\xff\xfe*2\n2*2")
    assert (done.exit_code, done.stdout) == (2, "2*2=4\n")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["line 1", "line 2"]
    assert max(map(len, done.stderr.splitlines())) < 200


def test_many_lines_of_all_operations_come_back_in_their_order(ask):
    rng = random.Random(1)
    lines = []
    for _ in range(3000):
        symbol = rng.choice("+-*/+")
        count = rng.choice((2, 3, 5)) if symbol == "+" else 2
        lines.append(symbol.join(str(rng.randrange(1, 10 ** rng.randint(1, 3))) for _ in range(count)))
    done = ask(stdin="\r\n".join(lines).encode())
    assert done.exit_code == 0, done.stderr  # where a progress bar may be, if it took long
    assert done.stdout.splitlines() == [by_integers(f"{line}=") for line in lines]


def test_json_has_quotient_and_rest_as_they_are_shown(ask):
    *lines, last = ask("--json", "17/5", "5-17").stdout.splitlines()
    assert lines == ["17/5=3 r 2", "5-17=-12"]
    replies = [(one["prompt"], one["answer"], one["beyond_training"]) for one in json.loads(last)["replies"]]
    assert replies == [("17/5", "3 r 2", False), ("5-17", "-12", False)]


def test_the_trace_draws_the_work_in_the_base_of_the_model(ask):
    to_base = lambda value: notation_simple_llm.to_digits(value, 3)  # noqa: E731
    shown = ask("--trace", "17*5").stdout
    assert shown.startswith(f"17*5=85\n{to_base(17)} * {to_base(5)}\n")
    assert f"{to_base(85)}    the lowest digits of all rows" in shown
    shown = ask("--trace", "77-80").stdout
    assert "what is owed, so it is below zero" in shown and f"{to_base(3).rjust(4, '0')}    what is owed" in shown
    assert len(ask("--trace", "5*7", "9/4", "1+2+3", "4-4").stdout.split("\n\n")) == 5  # a blank line in each


def test_a_conversation_says_what_it_takes_and_helps_with_it(call_script, on_paper, monkeypatch, tmp_path):
    def talk(kind: str, *lines: str):
        typed = iter(lines)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
        monkeypatch.setattr("builtins.input", lambda: next(typed))
        return call_script("inference.py", "--model", str(on_paper(kind)), cwd=tmp_path)

    done = talk("all four", "57*46", ":help", "1+2*3", "1/0", ":quit")
    assert done.stdout == "57*46=2622\n"
    for part in (
        "adds, subtracts, multiplies and divides numbers of any length; :help tells more",
        f"answers problems such as {EXAMPLES}",
        ":trace    turns the view of work on paper on and off",
        "a problem has one operation",
        "nothing is divided by 0",
    ):
        assert part in done.stderr
    assert "answers products such as 57*46\n" in talk("products", ":help", ":quit").stderr


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--exhaustive", "--exhaustive is for answers without work on paper; every length is proved by --all-lengths"),
        ("--check-certificate", "--check-certificate decodes pairs; work on paper is checked by --all-lengths"),
    ],
)
def test_pairs_are_not_for_work_on_paper_and_what_is_is_named(call_script, on_paper, tmp_path, option, told):
    done = call_script("evaluate.py", "--model", str(on_paper("all four")), option, cwd=tmp_path)
    assert done.exit_code == 2
    assert told in done.stderr
