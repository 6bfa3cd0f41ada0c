"""The other half of a terminal: a Python without readline, a session that is lost, logs that are no terminal."""

import contextlib
import io
import os
import signal
import sys
import threading

import pytest

from simple_llm import command_line, stopping
from simple_llm.stopping import progress_bar
from simple_llm.training.checkpoint import newest_checkpoint
from tests.forked import fork_script, Forked
from tests.test_signals import ENDLESS, steps_done

pytestmark = pytest.mark.library


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Notebook(io.StringIO):
    """As the stderr of a notebook, which says that it is no terminal, and shows what is written over."""

    __module__ = "ipykernel.iostream"


@pytest.mark.parametrize("has_terminal", [True, False], ids=["told by the session", "its terminal is gone too"])
def test_fault_44_a_lost_session_saves_and_ends(run_folder, has_terminal):
    (run_folder / "model" / "metrics.jsonl").unlink()
    master, slave = os.openpty()

    def put_on_a_terminal():
        if not has_terminal:
            os.dup2(slave, 2)
        os.close(master)

    running = fork_script("trainer.py", *ENDLESS, cwd=run_folder, before=put_on_a_terminal)
    os.close(master)  # from here on, what is written there is an error
    running.wait_for(lambda: steps_done(run_folder) >= 10)
    running.send(signal.SIGHUP)
    done = running.end()
    os.close(slave)
    assert done.exit_code == 128 + signal.SIGHUP, done.stderr
    path, _, rejected = newest_checkpoint(run_folder / "model" / "checkpoints")
    assert (int(path.name.removeprefix("step-")) >= 10, rejected) == (True, [])
    assert "(exit code 129)" in (run_folder / "model" / "run.log").read_text()
    if has_terminal:
        assert "started again, it goes on there" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_fault_44_a_signal_that_is_ignored_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stopping.stop_on_signals() as stop:
            os.kill(os.getpid(), number)
            assert not stop
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("exit_code", [0, 2])
def test_fault_44_a_terminal_that_is_gone_changes_no_exit_code(exit_code):
    master, slave = os.openpty()

    def call():
        os.close(master)
        sys.stderr = os.fdopen(slave, "w", 1, closefd=False)

        def main():
            with contextlib.suppress(OSError):
                print("told", file=sys.stderr)
            if exit_code:
                raise command_line.ConfigError("wrong")

        command_line.run(main)

    def ends_as_a_script():
        try:
            call()
        except SystemExit as error:
            return error.code
        sys.stderr.flush()
        return 0

    running = Forked(ends_as_a_script)
    os.close(master)
    assert running.end().exit_code == exit_code
    os.close(slave)


def test_fault_44_work_in_another_thread_than_the_first_goes_on_without_signals():
    seen = []

    def work():
        with stopping.stop_on_signals() as stop:
            seen.append(bool(stop))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (seen, signal.getsignal(signal.SIGTERM)) == ([False], before)


@pytest.mark.parametrize(("value", "is_shown"), [(None, True), ("", True), ("0", True), ("1", False), ("true", False)])
def test_fault_44_a_bar_is_on_a_terminal_or_in_a_notebook_and_not_where_it_is_not_wanted(monkeypatch, value, is_shown):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    if value is not None:
        monkeypatch.setenv("TQDM_DISABLE", value)
    terminal, notebook, log = Terminal(), Notebook(), io.StringIO()
    for file in (terminal, notebook, log):
        with progress_bar(total=3, file=file, mininterval=0) as bar:
            bar.update(3)
    assert (bool(terminal.getvalue()), bool(notebook.getvalue()), log.getvalue()) == (is_shown, is_shown, "")
    with progress_bar(total=3, file=terminal, is_shown=False) as bar:
        assert bar.disable
    assert list(progress_bar(range(3), file=log)) == [0, 1, 2]


def test_fault_44_no_script_has_a_bar_in_its_log(finished_run):
    assert [name for name, done in finished_run.done.items() if "\r" in done.stderr or "%|" in done.stderr] == []
