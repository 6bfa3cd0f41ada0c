import io
import itertools
import json
import os
import random
import resource
import sys
from types import SimpleNamespace

import pytest
import torch

import inference
from simple_llm.model.folder import LoadedModel
from simple_llm.model.prompts import MAX_CHARACTERS, parse_prompt
from simple_llm.model.tokenizer_files import save_tokenizer, vocabulary_of
from tests.model_folders import write_model
from tests.oracle import PerfectAdder
from tests.pipeline import REPOSITORY, run_python, write_configs
from tests.tiny_models import make_data_config, make_tokenizer, make_train_config

pytestmark = pytest.mark.usefixtures("oracle_engine")

DATA = make_data_config(9999, base=16)
NO_DIGIT = "12+x: column 4: 'x' is not a digit 0 to 9; write a sum such as 1342+879"


class Model(PerfectAdder):
    """The oracle with what an Calculator asks of a model besides."""

    def to(self, device):
        return self

    def position_ids(self, input_ids, attention_mask=None):
        """Count the digits of each number one by one."""
        rows = []
        for row in input_ids.tolist():
            count, positions = 0, []
            for token in row:
                count = count + 1 if token in self.vocabulary.digit_ids else 0
                positions.append(count)
            rows.append(positions)
        return torch.tensor(rows)


@pytest.fixture
def infer(call_script, monkeypatch, tmp_path):
    """Run inference.py on a model that adds (or, in the ways it is told, does not)."""

    def run(*arguments, stdin=b"", tokens_per_step=2, **settings):
        tokenizer = make_tokenizer(DATA, says_all=tokens_per_step == "all")
        model = Model(vocabulary_of(tokenizer, tokens_per_step), 16, tokens_per_step, **settings)
        loaded = LoadedModel(model, tokenizer, DATA, make_train_config(tokens_per_step), "f" * 64, {})
        monkeypatch.setattr("simple_llm.model.folder.load_model", lambda folder: loaded)
        monkeypatch.setattr("sys.stdin", None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin)))
        return call_script("inference.py", "--model", "somewhere", *arguments, cwd=tmp_path)

    return run


# ---- Sums that are answered -----------------------------------------------------------------------


@pytest.mark.parametrize("tokens_per_step", [1, 2, "all"])
def test_sums_on_the_command_line_are_answered_one_a_line(infer, tokens_per_step):
    done = infer("1342+879", " 12 + 7 ", "0+0", "9999+9999=", "007+1", tokens_per_step=tokens_per_step)
    assert done.stdout == "1342+879=2221\n12+7=19\n0+0=0\n9999+9999=19998\n7+1=8\n"
    assert (done.exit_code, done.stderr) == (0, "")


def test_a_file_and_stdin_are_answered_line_by_line_in_their_order(infer, tmp_path):
    rng = random.Random(0)
    pairs = [tuple(rng.randrange(10 ** rng.randint(1, 4)) for _ in "xy") for _ in range(200)]
    content = "\n".join(f"{x}+{y}" for x, y in pairs).encode()  # the last line without its end
    expected = "".join(f"{x}+{y}={x + y}\n" for x, y in pairs)
    assert infer(stdin=content).stdout == expected
    (tmp_path / "sums.txt").write_bytes(content)
    assert infer("--input", "sums.txt").stdout == expected


def test_fault_26_blank_lines_are_skipped_and_a_last_line_without_its_end_is_served(infer):
    done = infer(stdin=b"\r\n1+2\r\n\n  \t \n3+4\n\n5+6")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "1+2=3\n3+4=7\n5+6=11\n", "")


def test_json_is_the_last_line_and_holds_every_reply_and_the_models_hash(infer):
    done = infer("--json", "1342+879", "7+7")
    *lines, last = done.stdout.splitlines()
    assert lines == ["1342+879=2221", "7+7=14"]
    assert json.loads(last) == {
        "model_sha256": "f" * 64,
        "replies": [
            {"prompt": "1342+879", "answer": "2221", "beyond_training": False},
            {"prompt": "7+7", "answer": "14", "beyond_training": False},
        ],
        "refused": [],
    }


def test_fault_28_what_the_model_says_is_shown_right_or_wrong_and_what_does_not_end_is_no_answer(infer):
    done = infer("1+1", "12+7", "5+5", "3+4", wrong={(1, 1): 3, (5, 5): 0}, endless=frozenset({(12, 7)}))
    assert done.stdout == "1+1=3\n12+7=no answer\n5+5=0\n3+4=7\n"


def test_the_trace_shows_tokens_positions_and_what_each_step_said(infer):
    # The example of DESIGN: 1342 + 879 = 2221, two tokens a step.
    rows = [line.split() for line in infer("--trace", "1342+879").stdout.splitlines()]
    assert [" ".join(row) for row in rows] == [
        "1342+879=2221",
        "tokens + E 3 5 + F 6 3 + D A 8 +",
        "positions 0 1 2 3 0 1 2 3 0 1 2 3 0",
        "step 1 . . . . . . . . . D A",
        "step 2 . . . . . . . . . . . 8 +",
    ]
    assert len(infer("--trace", "9+1", tokens_per_step=1).stdout.splitlines()) == 5  # A and + are two steps


def test_the_trace_of_a_whole_answer_shows_under_each_token_what_it_said(infer):
    rows = [line.split() for line in infer("--trace", "1342+7", "9999+1", tokens_per_step="all").stdout.splitlines()]
    assert [" ".join(row) for row in rows] == [
        "1342+7=1349",
        "tokens + 7 + E 3 5 +",
        "positions 0 1 0 1 2 3 0",
        "step 1 . . . 5 4 5 +",
        "9999+1=10000",
        "tokens + 1 + F 0 7 2 +",
        "positions 0 1 0 1 2 3 4 0",
        "step 1 . . . 0 1 7 2 +",
    ]


# ---- Sums that are not ----------------------------------------------------------------------------


def test_fault_22_a_bad_line_is_named_by_number_and_column_and_the_others_are_answered(infer):
    lines = [b"1+1", b"12+x", b"", b"\xd9\xa3+4", b"1e9+1", b"2+2", b"12345+1", b"\xff+1", b"1\0+1", b"-5+3", b"3+3"]
    done = infer(stdin=b"\n".join(lines) + b"\n")
    assert (done.exit_code, done.stdout) == (2, "1+1=2\n2+2=4\n3+3=6\n")
    expected = [
        *[("line 2: ", "column 4: 'x'"), ("line 4: ", "column 1: '٣'"), ("line 5: ", "column 2: 'e'")],
        *[("line 7: ", "12345 is above 9999"), ("line 8: ", "column 1: "), ("line 9: ", "column 2: '\\x00'")],
        ("line 10: ", "column 1: '-'"),
    ]
    for line, (where, what) in zip(done.stderr.splitlines(), expected, strict=True):
        assert line.startswith(where)
        assert what in line


def test_a_bad_sum_on_the_command_line_is_named_without_a_line_number(infer):
    done = infer("12+x", "1+1", "--json")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("12+x: column 4")
    [reply] = json.loads(done.stdout.splitlines()[-1])["replies"]
    assert (reply["prompt"], reply["answer"]) == ("1+1", "2")


def test_json_tells_which_line_was_refused_and_why(infer):
    done = infer("--json", stdin=b"1+1\n\n12+x\n2+2\n\xff+1")
    document = json.loads(done.stdout.splitlines()[-1])
    assert [reply["prompt"] for reply in document["replies"]] == ["1+1", "2+2"]
    assert document["refused"][0] == {"number": 3, "prompt": "12+x", "why": NO_DIGIT}
    told = [f"line {one['number']}: {one['why']}" for one in document["refused"]]
    assert (done.exit_code, done.stderr.splitlines()) == (2, told)
    assert document["refused"][1]["prompt"] == "\\xff+1"


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("", "'': nothing to add"),
        (" \t", "' \\t': nothing to add"),
        ("-5+3", "-5+3: column 1: '-' is not expected here, numbers are written without a sign"),
        ("-5", "-5: column 1: '-' is not expected here, numbers are written without a sign"),
        ("5+-3", "5+-3: column 3: '-' is not expected here, numbers are written without a sign"),
    ],
)
def test_fault_22_an_argument_that_is_blank_or_begins_like_an_option_is_refused_as_any_other(
    infer, argument, complaint
):
    for arguments, answers in [([argument], ""), (["1+1", argument, "2+2"], "1+1=2\n2+2=4\n")]:
        done = infer(*arguments)
        assert (done.exit_code, done.stdout) == (2, answers)
        assert done.stderr == f"{complaint}; write a sum such as 1342+879\n"


@pytest.mark.parametrize("content", [b"", b"\n", b"  \n\r\n\t", None], ids=["empty", "line", "lines", "closed"])
def test_fault_26_stdin_without_a_line_is_a_mistake(infer, content):
    done = infer(stdin=content)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "no problem to answer" in done.stderr


def test_fault_25_huge_operands_and_huge_lines_are_refused_in_a_short_line_and_what_follows_is_answered(infer):
    lines = [b"9" * 10_000 + b"+1", b"1+" + b"0" * 10_000 + b"1", b"1" * 5_000_000, b"\xff" * 200_000, b"2+2"]
    done = infer(stdin=b"\n".join(lines))
    assert (done.exit_code, done.stdout) == (2, "1+1=2\n2+2=4\n")
    for line, where, what in zip(
        done.stderr.splitlines(), ("1", "3", "4"), ("is above 9999", "characters", "characters"), strict=True
    ):
        assert line.startswith(f"line {where}: ")
        assert what in line
        assert len(line) < 200


def test_sums_and_a_file_of_sums_are_not_given_together(infer):
    done = infer("--input", "sums.txt", "1+1")
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "give problems or --input, not both\n")


def test_an_input_file_that_is_not_there_is_named(infer, tmp_path):
    done = infer("--input", "no.txt")
    assert (done.exit_code, done.stderr) == (3, "--input no.txt not found\n")
    (tmp_path / "folder").mkdir()
    done = infer("--input", "folder")
    assert (done.exit_code, done.stderr) == (2, "--input folder is a folder; name a file with one problem a line\n")


@pytest.mark.parametrize("content", [None, "empty", "tokenizer only"])
def test_a_folder_without_a_finished_model_is_refused(call_script, tmp_path, content):
    if content:
        (tmp_path / "model").mkdir()
    if content == "tokenizer only":
        save_tokenizer(make_tokenizer(DATA), tmp_path / "model")
    write_configs(tmp_path)
    for arguments in (["--model", "model"], []):  # named, or as the config in this folder says
        done = call_script("inference.py", *arguments, "1+1", cwd=tmp_path)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (3, "", 1)
        assert "model" in done.stderr
        assert "run `python3 trainer.py` first" in done.stderr


# ---- Reading lines --------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(9))
def test_lines_are_cut_where_they_are_too_long_and_counted_all_the_same(monkeypatch, length):
    monkeypatch.setattr(inference, "MAX_CHARACTERS", 2)
    for letters in itertools.product(b"1\n\r", repeat=length):
        content = bytes(letters)
        lines = content.split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        expected = [line[:4].rstrip(b"\r").decode() for line in lines]
        assert list(inference.bounded_lines(io.BytesIO(content))) == expected


def test_fault_25_no_more_than_a_megabyte_of_a_line_is_held_at_a_time():
    class Endless(io.RawIOBase):
        """A line of 50 MB and a short one, never more of it than is asked for."""

        left, largest = 50_000_000, 0

        def readline(self, size=-1):
            assert size > 0
            self.largest = max(self.largest, size)
            if not self.left:
                return b""
            size = min(size, self.left)
            self.left -= size
            return b"1" * size if self.left else b"1" * (size - 1) + b"\n"

    file = Endless()
    [line] = inference.bounded_lines(file)
    assert len(line) == MAX_CHARACTERS + 2
    assert file.largest <= 1_000_000
    assert not file.left


def test_fault_25_a_line_of_100_megabytes_is_named_and_takes_no_memory(infer, tmp_path):
    with (tmp_path / "sums.txt").open("wb") as file:
        file.write(b"1+1\n")
        file.truncate(100_000_000)  # sparse: a line of NULs that takes no disk
        file.seek(100_000_000)
        file.write(b"\n2+2")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = infer("--input", "sums.txt")
    assert (done.exit_code, done.stdout) == (2, "1+1=2\n2+2=4\n")
    assert done.stderr.startswith("line 2: ") and "a prompt has at most 500,000" in done.stderr
    assert len(done.stderr) < 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


def test_fault_25_of_very_many_lines_each_is_answered_in_its_place_and_each_bad_one_named(capsys):
    class Calculator:
        loaded = SimpleNamespace(data=DATA, sha256="")

        def parse(self, text):
            return parse_prompt(text, DATA.numbers)

        def answer(self, prompts, on_batch):
            return [str(int(prompt.x) + int(prompt.y)) for prompt in prompts]

    num_lines = 100_000  # more than are held at a time
    lines = (f"{number % 9999}+1" if number % 25_000 else "1e9+1" for number in range(1, num_lines + 1))
    arguments = SimpleNamespace(prompts=[], trace=False, json=False)
    assert inference.answer_lines(Calculator(), lines, arguments, inference.tqdm(disable=True)) == 4
    out, err = capsys.readouterr()
    expected = (f"{number % 9999}+1={number % 9999 + 1}" for number in range(1, num_lines + 1) if number % 25_000)
    assert all(line == one for line, one in zip(out.splitlines(), expected, strict=True))
    assert [line.split(":")[0] for line in err.splitlines()] == [f"line {n}" for n in range(25_000, 100_001, 25_000)]


def test_fault_25_lines_are_answered_block_by_block(monkeypatch, capsys):
    monkeypatch.setattr(inference, "LINES_AT_A_TIME", 3)
    taken, asked = [], []

    def lines():
        for number in range(10):
            taken.append(number)
            yield "x" if number == 4 else f"{number}+1"

    class Calculator:
        loaded = SimpleNamespace(data=DATA, sha256="")

        def parse(self, text):
            return parse_prompt(text, DATA.numbers)

        def answer(self, prompts, on_batch):
            asked.append(len(prompts))
            assert len(taken) <= min(10, 3 * (len(asked) + 1))  # one block is read ahead, no more
            return ["?"] * len(prompts)

    arguments = SimpleNamespace(prompts=[], trace=False, json=False)
    assert inference.answer_lines(Calculator(), lines(), arguments, inference.tqdm(disable=True)) == 1
    assert asked == [3, 2, 3, 1]
    out, err = capsys.readouterr()
    assert out.split() == [f"{number}+1=?" for number in range(10) if number != 4]
    assert err.startswith("line 5: ")


def test_long_lines_are_answered_fewer_at_a_time(monkeypatch):
    monkeypatch.setattr(inference, "CHARACTERS_AT_A_TIME", 8)
    numbered = enumerate(["1+2", "123456+1", "1+1", "2+2", "3+3", "4+4"])
    blocks = iter(lambda: inference.next_block(numbered), [])
    assert [[number for number, _ in block] for block in blocks] == [[0, 1], [2, 3, 4], [5]]


# ---- On a terminal --------------------------------------------------------------------------------


@pytest.fixture
def talk(call_script, monkeypatch, tmp_path):
    """Type lines to inference.py, then Ctrl-D; its stdout is a file, unless it is told to be a terminal."""

    def run(*lines, options=(), has_terminal=False):
        tokenizer = make_tokenizer(DATA)
        loaded = LoadedModel(
            Model(vocabulary_of(tokenizer, 2), 16), tokenizer, DATA, make_train_config(2), "f" * 64, {}
        )
        monkeypatch.setattr("simple_llm.model.folder.load_model", lambda folder: loaded)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: has_terminal)
        typed = iter(lines)

        def read_line(prompt=""):
            print(prompt, end="")
            try:
                return next(typed)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", read_line)
        return call_script("inference.py", "--model", "somewhere", *options, cwd=tmp_path)

    return run


def test_a_conversation_answers_helps_and_goes_on_after_a_mistake(talk):
    done = talk("1+1", "", "12+x", ":help", ":nonsense", " 2 + 2 ")
    assert (done.exit_code, done.stdout) == (0, "1+1=2\n2+2=4\n")
    for part in ("0 to 9999", "column 4: 'x'", ":quit", "no command :nonsense"):
        assert part in done.stderr


def test_a_conversation_ends_when_asked_and_traces_when_asked(talk):
    assert talk(":quit", "1+1").stdout == ""
    assert "positions" in talk(":trace", "1+1").stdout
    assert "positions" not in talk(":trace", ":trace", "1+1").stdout


def test_a_conversation_asks_on_the_terminal_also_where_its_answers_go_into_a_file(talk):
    done = talk("1+1", "2+2")
    assert (done.stdout, done.stderr.count("> ")) == ("1+1=2\n2+2=4\n", 3)
    done = talk("1+1", "2+2", has_terminal=True)
    assert (done.stdout, done.stderr.count("> ")) == ("> 1+1=2\n> 2+2=4\n> ", 0)


def test_fault_44_a_conversation_needs_no_readline(talk, monkeypatch):
    monkeypatch.setitem(sys.modules, "readline", None)
    done = talk("1+1", ":quit")
    assert (done.exit_code, done.stdout) == (0, "1+1=2\n")


@pytest.mark.parametrize("last", [[], [":quit"]])
def test_the_last_line_of_a_conversation_is_the_json_document_that_was_asked_for(talk, last):
    *lines, document = talk("1+1", "12+x", "2+2", *last, options=["--json"]).stdout.splitlines()
    assert lines == ["1+1=2", "2+2=4"]
    assert json.loads(document) == {
        "model_sha256": "f" * 64,
        "replies": [
            {"prompt": "1+1", "answer": "2", "beyond_training": False},
            {"prompt": "2+2", "answer": "4", "beyond_training": False},
        ],
        "refused": [{"number": 2, "prompt": "12+x", "why": NO_DIGIT}],
    }


# ---- The real script ------------------------------------------------------------------------------


def test_fault_27_output_closed_early_is_quiet_even_after_a_bad_line(tmp_path):
    write_model(tmp_path / "model", make_data_config(99), make_train_config())
    program = "import os, subprocess, sys\nend, start = os.pipe()\nos.close(end)\n" + (
        "sys.exit(subprocess.run([sys.executable, *sys.argv[1:]], stdout=start).returncode)"
    )
    script = os.fspath(REPOSITORY / "inference.py")
    done = run_python("-c", program, script, "--model", "model", "1+x", "1+1", cwd=tmp_path, PYTHONUNBUFFERED="")
    assert done.returncode == 141
    assert done.stderr.splitlines() == ["1+x: column 3: 'x' is not a digit 0 to 9; write a sum such as 1342+879"]
