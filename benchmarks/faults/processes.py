"""The project's scripts in processes that can be killed, without the seconds that their imports take.

A process is forked from this one, which has imported torch, transformers and everything else that the scripts need,
and runs the script's file as __main__: what it does, and what a SIGKILL does to it, is what happens to
`python3 NAME.py`.
"""

import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import data_generator  # noqa: F401 - so that no process spends its time on it
import evaluate  # noqa: F401
import tokenizer  # noqa: F401
import trainer  # noqa: F401
from benchmarks.faults.tally import Tally
from tests.pipeline import REPOSITORY

KILLED = -signal.SIGKILL
_LOOK_EVERY = 0.0005  # seconds


class Script:
    """A script that was started in the folder `cwd`; what it prints goes to a log beside that folder."""

    def __init__(self, name: str, *arguments: str, cwd: Path) -> None:
        self.command = " ".join([name, *arguments])
        self.log = cwd.with_name(f"{cwd.name}.log")
        self._exit_code: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            _run(name, arguments, cwd, self.log)

    def exit_code(self) -> int | None:
        """How it ended, or None while it runs; KILLED is how a killed one did."""
        if self._exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._exit_code = os.waitstatus_to_exitcode(status)
        return self._exit_code

    def kill(self) -> int:
        """Send SIGKILL, unless it has ended; return how it ended."""
        if self.exit_code() is None:
            os.kill(self.pid, signal.SIGKILL)
            self._exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._exit_code

    def kill_after(self, look: Callable[[], bool], delay: float) -> int:
        """Kill it so many seconds after `look`, which is called all the time, first says so; return how it ended."""
        deadline = None
        while self.exit_code() is None:
            if look() and deadline is None:
                deadline = time.monotonic() + delay
            if deadline is not None and time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_EVERY)
        return self.kill()

    def wait(self, look: Callable[[], object] = lambda: None) -> int:
        """Let it come to its end, looking all the time; return how it ended."""
        return self.kill_after(lambda: bool(look()) and False, 0)

    def ending(self) -> str:
        """Say how it ended, for people."""
        lines = self.log.read_text(errors="replace").splitlines()
        return f"{self.command}: exit code {self.exit_code()}, {lines[-1] if lines else 'no message'}"


def run_script(name: str, *arguments: str, cwd: Path) -> None:
    """Run a script to its end, which has to be a good one."""
    script = Script(name, *arguments, cwd=cwd)
    assert script.wait() == 0, script.ending()


def _run(name: str, arguments: tuple[str, ...], cwd: Path, log: Path) -> NoReturn:
    """Become the script."""
    exit_code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        os.chdir(cwd)
        sys.argv = [name, *arguments]
        runpy.run_path(str(REPOSITORY / name), run_name="__main__")
        exit_code = 0
    except SystemExit as ended:
        exit_code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)  # what this process shares with its parent is the parent's to close


def look_for_leavings(folder: Path) -> Tally:
    """Look, once, whether temporary files are there after all the kills and after good runs of the same script."""
    left = Tally("  temporary files of what was killed: gone in the end")
    there = [str(path.relative_to(folder)) for path in sorted(folder.rglob(".tmp-*"))]
    left.judge(f"{', '.join(there)} stays" if there else "")
    return left
