import errno
import gc
import itertools
import json
import os
import re
import resource
import signal

import pytest

from simple_llm import __version__, command_line, errors, stopping
from tests.pipeline import REPOSITORY, run_python, run_script, write_configs

SCRIPTS = sorted(path.name for path in REPOSITORY.glob("*.py"))

# Runs every script in one process, with --help and with a config that is wrong, and says which libraries that took.
RUN_SCRIPTS = """
import contextlib, io, json, runpy, sys
repository, *names = sys.argv[1:]
sys.path.insert(0, repository)
results = {}
for name in names:
    for arguments in (["--help"], ["--version"], ["--no-such-option"], []):
        sys.argv = [name, *arguments]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(f"{repository}/{name}", run_name="__main__")
            except SystemExit as exit:
                code = exit.code
        results[" ".join([name, *arguments])] = code, out.getvalue(), err.getvalue()
slow = sorted({"torch", "transformers", "tokenizers", "matplotlib", "numpy", "huggingface_hub"} & set(sys.modules))
print(json.dumps([results, slow]))
"""


@pytest.fixture(scope="module")
def early_answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    write_configs(folder, train={"model": {"n_layr": 3}})
    done = run_python("-c", RUN_SCRIPTS, str(REPOSITORY), *SCRIPTS, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_fault_21_help_and_a_wrong_config_are_answered_before_a_slow_library_is_imported(early_answers):
    assert early_answers[1] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_helps_and_refuses_in_the_same_way(early_answers, script):
    answers = early_answers[0]
    code, out, err = answers[f"{script} --help"]
    assert (code, err) == (0, "")
    assert f"python3 {script}" in out  # its docstring
    assert answers[f"{script} --version"] == [0, f"simple-llm {__version__}\n", ""]
    code, out, err = answers[f"{script} --no-such-option"]
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--no-such-option" in err
    code, out, err = answers[script]
    assert (code, out) == (2, "")
    assert "train_config.yaml: 1 bad setting\n  model.n_layr: unknown key, did you mean n_layer?" in err


WRONG_FILES = {
    "many mistakes": b"model: {n_layr: 3, n_head: -1}\ntraining: {learning_rate: fast, max_steps: 010}\n",
    "a gigabyte": None,
    "binary": bytes(range(256)),
    "an alias bomb": b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "brackets": b"[" * 30_000,
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_fault_21_the_real_script_refuses_a_wrong_config_at_once(tmp_path, name):
    write_configs(tmp_path)
    path, content = tmp_path / "train_config.yaml", WRONG_FILES[name]
    path.write_bytes(content or b"")
    os.truncate(path, len(content) if content else 2**30)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_script("trainer.py", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout) == (2, "")
    header, *lines = done.stderr.splitlines()
    assert re.fullmatch(r"train_config\.yaml: \d bad settings?", header)
    assert lines and all(line.startswith("  ") and len(line) < 200 for line in lines)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2  # seconds of processor time


# ---- Exit codes -----------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    """Call `command_line.run` on a main that raises; return exit code and stderr."""

    def run_main(error):
        def main():
            print("half of the output")
            raise error

        with pytest.raises(SystemExit) as caught:
            command_line.run(main)
        out, err = capsys.readouterr()
        assert out == "half of the output\n"
        return caught.value.code, err

    return run_main


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.UsageError("m"), 2),
        (errors.ConfigError("m"), 2),
        (errors.ArtefactError("m"), 3),
        (errors.DivergedError("m"), 4),
        (errors.EnvironmentFault("m"), 5),
        (errors.HubError("m"), 6),
        (errors.GateError("m"), 7),
        (errors.Interrupted("m", signal.SIGINT), 130),
        (errors.Interrupted("m", signal.SIGTERM), 143),
    ],
)
def test_what_a_user_can_mend_is_one_message_and_the_exit_code_of_the_design(run, error, exit_code):
    assert run(error) == (exit_code, "m\n")


@pytest.mark.parametrize(
    ("error", "exit_code", "parts"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "there.txt"), 3, ["there.txt", "not found"]),
        (OSError(errno.ENOSPC, "No space left on device", "there.txt"), 5, ["there.txt", "disk full"]),
        (PermissionError(errno.EACCES, "Permission denied", "there.txt"), 5, ["there.txt", "Permission denied"]),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "there.txt"), 5, ["there.txt", "Is a directory"]),
        (OSError(errno.ENOSPC, "No space left on device"), 5, ["disk full"]),
        (RuntimeError("Connection closed by peer [127.0.0.1]:9118"), 5, ["another process", "is gone"]),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), 5, ["is gone"]),
        (RuntimeError("NCCL error: CUDA out of memory"), 5, ["out of memory"]),
        (MemoryError(), 5, ["out of memory"]),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 5, ["out of memory"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 5, ["out of memory"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
)
def test_what_the_machine_refused_is_one_line(run, error, exit_code, parts):
    code, message = run(error)
    assert code == exit_code
    assert len(message.splitlines()) == 1
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize("bug", [ValueError("x"), RuntimeError("x"), AssertionError("x"), KeyError("x")])
def test_a_bug_keeps_its_traceback(bug):
    def main():
        raise bug

    with pytest.raises(type(bug)):
        command_line.run(main)


def test_debug_shows_the_traceback_of_a_users_mistake_which_ends_as_without(capsys):
    def main():
        raise errors.UsageError("m")

    with pytest.raises(SystemExit) as caught:
        command_line.run(main, debug=True)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "m"


def test_every_error_of_the_project_has_an_exit_code_of_its_own():
    kinds = [kind for kind in errors.SimpleLLMError.__subclasses__() if kind is not errors.Interrupted]
    assert len({kind.exit_code for kind in kinds}) == len(kinds)
    assert not {kind.exit_code for kind in kinds} & {0, 1}


def test_the_collector_rests_from_the_options_to_main(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["x.py", "--model", str(tmp_path)])
    command_line.model_options("")
    assert not gc.isenabled()
    told = []
    command_line.run(lambda: told.append(gc.isenabled()))
    assert told == [True]


def test_arguments_are_handed_to_main():
    seen = []
    command_line.run(lambda *arguments: seen.extend(arguments), 1, "two")
    assert seen == [1, "two"]


# ---- Output that cannot be written ----------------------------------------------------------------

# A script with much to say, or little: what is in the buffer when main returns is flushed late.
TALKATIVE = """
import sys
from simple_llm import command_line
from simple_llm.errors import UsageError

def main(num_lines, fails):
    for line in range(num_lines):
        print(line)
    if fails:
        raise UsageError("wrong")

command_line.run(main, int(sys.argv[1]), sys.argv[2] == "fails")
"""


CLOSED_EARLY, FULL = "(ends := os.pipe())[1]; os.close(ends[0])", "open('/dev/full', 'w')"


def run_with_stdout(opened, *arguments, cwd, script=TALKATIVE, unbuffered=""):
    """Run a script with its stdout at what the expression `opened` opens; its output buffered, if it is not told."""
    program = f"import os, subprocess, sys\nout = {opened}\n" + (
        "sys.exit(subprocess.run([sys.executable, *sys.argv[1:]], stdout=out).returncode)"
    )
    return run_python(
        *("-c", program, "-c", script, *arguments), cwd=cwd, PYTHONPATH=str(REPOSITORY), PYTHONUNBUFFERED=unbuffered
    )


@pytest.mark.parametrize("num_lines", ["1", "100000"])
def test_fault_27_output_closed_early_ends_quietly_with_141(tmp_path, num_lines):
    done = run_with_stdout(CLOSED_EARLY, num_lines, "ends", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("num_lines", "end", "exit_code", "message"),
    [("1", "ends", 5, "output: disk full"), ("100000", "ends", 5, "output: disk full"), ("1", "fails", 2, "wrong")],
)
def test_fault_27_output_to_a_full_device_ends_with_one_line(tmp_path, num_lines, end, exit_code, message):
    done = run_with_stdout(FULL, num_lines, end, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (exit_code, message + "\n")


@pytest.mark.parametrize(("option", "unbuffered"), [("--help", ""), ("--help", "1"), ("--version", "")])
@pytest.mark.parametrize(
    ("opened", "ended"), [(CLOSED_EARLY, (141, "")), (FULL, (5, "output: disk full\n"))], ids=["closed", "full"]
)
def test_fault_27_help_that_nobody_can_read_ends_as_any_other_output(tmp_path, option, opened, ended, unbuffered):
    script = "from simple_llm import command_line\ncommand_line.parser('what it does').parse_args()"
    done = run_with_stdout(opened, option, cwd=tmp_path, script=script, unbuffered=unbuffered)
    assert (done.returncode, done.stderr) == ended


# Begins without one of its standard streams and uses all three.
CLOSED = """
import os, sys

if sys.argv[2:]:
    os.close(int(sys.argv.pop()))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:-1]])

from simple_llm import command_line

command_line.parser("").parse_args(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    command_line.run(lambda: (print("said"), print("told", file=sys.stderr), print(sys.stdin.read(), file=file)))
"""


@pytest.mark.parametrize(
    ("closed", "read", "ended"),
    [(0, "", (0, "said\n", "told\n")), (1, "typed", (0, "", "told\n")), (2, "typed", (0, "said\n", ""))],
    ids=["stdin", "stdout", "stderr"],
)
def test_a_standard_stream_that_is_closed_is_nothing_and_no_bug(tmp_path, closed, read, ended):
    arguments = ("-c", CLOSED, "written", str(closed))
    done = run_python(*arguments, cwd=tmp_path, stdin="typed", PYTHONPATH=str(REPOSITORY))
    assert (done.returncode, done.stdout, done.stderr) == ended
    assert (tmp_path / "written").read_text() == f"{read}\n"


# ---- Signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_request_and_the_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with stopping.stop_on_signals() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal_number == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_fault_05_a_second_ctrl_c_leaves_at_once(first):
    with pytest.raises(KeyboardInterrupt), stopping.stop_on_signals():
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# A script that gets Ctrl-C while it imports, if its last argument says so, and in its main.
INTERRUPTED = """
import os, signal, sys
from simple_llm import command_line

told = sys.argv.pop()
if "ignored" in told:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
options = command_line.model_options("")
if "importing" in told:
    os.kill(os.getpid(), signal.SIGINT)
    print("went on")
command_line.run(lambda: (os.kill(os.getpid(), signal.SIGINT), print("went on")))
"""


@pytest.mark.parametrize(
    ("told", "ended"),
    [
        ("importing", (-signal.SIGINT, "", "")),  # of which a shell makes 130
        ("working", (130, "", "interrupted\n")),
        ("importing, ignored", (0, "went on\nwent on\n", "")),
    ],
)
def test_fault_05_ctrl_c_ends_quietly_during_the_imports_too(tmp_path, told, ended):
    done = run_python("-c", INTERRUPTED, "--model", "x", told, cwd=tmp_path, PYTHONPATH=str(REPOSITORY))
    assert (done.returncode, done.stdout, done.stderr) == ended


# ---- Options --------------------------------------------------------------------------------------


def texts(alphabet, most):
    return ("".join(letters) for length in range(most + 1) for letters in itertools.product(alphabet, repeat=length))


def test_a_positive_integer_is_ascii_digits_that_make_one_or_more():
    for text in texts("019-+ _.٣²", 3):
        if text and not text.strip("019") and text.strip("0"):
            assert command_line.positive_integer(text) == int(text)
        else:
            with pytest.raises(command_line.argparse.ArgumentTypeError):
                command_line.positive_integer(text)


def test_a_whole_number_is_ascii_digits():
    for text in texts("019-+ _.٣²", 3):
        if text and not text.strip("019"):
            assert command_line.whole_number(text) == int(text)
        else:
            with pytest.raises(command_line.argparse.ArgumentTypeError):
                command_line.whole_number(text)


@pytest.mark.parametrize("text", ["0", "1", "0.5", ".5", "1.0", "0.999999", "1e-4", "0.0"])
def test_a_share_is_a_number_from_0_to_1(text):
    assert command_line.share(text) == float(text)


def test_a_range_is_two_numbers_with_a_colon():
    for text in texts("02:- ٣", 4):
        parts = text.split(":")
        if len(parts) == 2 and all(part and not part.strip("02") for part in parts):
            assert command_line.integer_range(text) == (int(parts[0]), int(parts[1]))
        else:
            with pytest.raises(command_line.argparse.ArgumentTypeError):
                command_line.integer_range(text)


def test_an_option_cannot_be_shortened(tmp_path):
    write_configs(tmp_path)
    done = run_script("data_generator.py", "--forc", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--forc" in done.stderr


# ---- Libraries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", ["data_generator.py", "tokenizer.py", "trainer.py", "inference.py", "evaluate.py", "visualize.py"]
)
def test_fault_33_a_library_that_is_missing_or_broken_is_one_line(script, tmp_path):
    write_configs(tmp_path)
    broken = tmp_path / "broken"
    for name in ("numpy", "transformers"):
        (broken / name).mkdir(parents=True)
        (broken / name / "__init__.py").write_text(f'raise ImportError("{name} has no\\n such name")\n')
    options = ["--model", "model"] if script in ("inference.py", "evaluate.py", "visualize.py") else []
    done = run_script(script, *options, cwd=tmp_path, PYTHONPATH=str(broken))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (5, "", 1)
    assert "has no such name; `make install` installs what was tested" in done.stderr
    if script == "data_generator.py":  # all of them begin in one way
        assert "Traceback" in run_script(script, "--debug", *options, cwd=tmp_path, PYTHONPATH=str(broken)).stderr
