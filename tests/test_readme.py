"""What README.md and docs/ show of commands that take seconds is what these print, word for word."""

import json
import re
import shlex
import shutil
import textwrap

import pytest

from simple_llm.files.names import CERTIFICATE, VERIFY
from simple_llm.model.folder import KEPT_MODEL
from tests.pipeline import REPOSITORY, run_python

pytestmark = pytest.mark.library

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MADE = "../simple-llm-data/calculator"  # what make calculator leaves, in place of which the kept one is asked


def blocks(text):
    """The console and the indented blocks of a page, without what they are indented by."""
    fenced = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    .*\n(?:    .*\n|\n(?=    ))*", text, re.MULTILINE)
    return fenced + [textwrap.dedent(one) for one in indented]


def commands(text):
    """The commands in blocks of a page and what is shown below each: ("python3 inference.py ...", "1+1=2")."""
    parts = [part for block in blocks(text) for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, shown.strip("\n")) for command, _, shown in (part.partition("\n") for part in parts)]


ASKED = [
    (command.replace(MADE, "models/calculator"), shown)
    for page in ("README.md", "docs/CALCULATOR.md", "docs/SCRIPTS.md")
    for command, shown in commands((REPOSITORY / page).read_text(encoding="utf-8"))
    if re.match(r"python3 inference.py --model \S+/calculator ", command)
]


@pytest.mark.parametrize(("command", "shown"), ASKED, ids=[command for command, _ in ASKED])
def test_inference_says_what_is_shown(command, shown, call_script):
    _, script, *arguments = shlex.split(command, comments=True)
    called = call_script(script, *arguments, cwd=REPOSITORY)
    assert (called.exit_code, called.stdout.rstrip("\n")) == (0, shown)


def test_the_first_minute_asks_the_calculator_and_has_it_prove_itself(tmp_path):
    lines = [command for command, _ in commands(README)]
    assert ASKED[0][0] in lines
    assert f"python3 {KEPT_MODEL.relative_to(REPOSITORY)}/{VERIFY}" in lines
    done = run_python("-I", str(KEPT_MODEL / VERIFY), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] in [line for block in blocks(README) for line in block.splitlines()]
    counted = json.loads((KEPT_MODEL / CERTIFICATE).read_bytes())["operations"]
    [told] = re.findall(r"all ([\d,]+) cases\n.*?\((.*?)\)", README)
    assert told[0] == f"{sum(one['checked'] for one in counted.values()):,}"
    assert re.findall(r"([\d,]+) of", told[1]) == [f"{one['checked']:,}" for one in counted.values()]
    assert all(f"  {one['checked']:,}  " in done.stdout for one in counted.values())


def test_the_lines_of_python_print_what_their_comment_says(monkeypatch, capsys):
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(REPOSITORY)
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"\)  # (.*)", code)


def test_quickstart_begins_with_the_rows_and_the_tokenizer_that_are_shown(tmp_path, call_script):
    [shown] = [block for block in blocks(README) if block.startswith("wrote 100,000 rows")]
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("data_config.yaml", "train_config.yaml"):
        shutil.copy(REPOSITORY / name, folder)
    said = "".join(call_script(name, cwd=folder).stdout for name in ("data_generator.py", "tokenizer.py"))
    beginning = "\n".join(shown.splitlines()[: len(said.splitlines())])
    assert re.fullmatch(
        re.escape(beginning).replace(r"\.\.\.", ".*"), said.rstrip("\n")
    )  # ... stands for what is left out


def test_every_target_that_is_named_is_one_of_make():
    targets = re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", README))
    assert len(named) > 7
    assert named <= set(targets)


def test_every_file_that_is_linked_is_there():
    linked = re.findall(r"\]\(([^)#:]+)[^)]*\)", README)
    assert len(linked) > 20
    assert [one for one in linked if not (REPOSITORY / one).exists()] == []
