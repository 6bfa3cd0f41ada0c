"""Scripts in a process of their own, forked from this one: real signals, kills and limits, no seconds of imports."""

import contextlib
import ctypes
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from tqdm import tqdm
from transformers import dynamic_module_utils

import data_generator  # noqa: F401 - what a script imports is there before a child is forked
import evaluate  # noqa: F401
import simple_llm.evaluation.pictures  # noqa: F401
import trainer  # noqa: F401
from tests.conftest import Called
from tests.pipeline import REPOSITORY

SECONDS = 120  # after which nothing more will happen
_libc = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
_READ_ONLY, _REMOUNT, _BIND = 1, 32, 4096


class Forked:
    """`call` in a child process, its output in a file.

    Args:
        call: its return value is the exit code; what it raises is shown, and the exit code is 1.
    """

    def __init__(self, call: Callable[[], int | None]) -> None:
        self._out, self._err = (os.memfd_create(name) for name in ("stdout", "stderr"))
        self.pid = os.fork()
        if self.pid == 0:
            exit_code = 1
            try:
                os.dup2(self._out, 1)
                os.dup2(self._err, 2)
                tqdm.set_lock(threading.RLock())  # its own lock is shared by all forks: a killed one would keep it
                sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", 1, closefd=False) for descriptor in (1, 2))
                exit_code = call() or 0
            except BaseException:
                traceback.print_exc()
            finally:
                with contextlib.suppress(OSError, ValueError):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(exit_code)

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return os.pread(self._err, 2**20, 0).decode()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_for(self, happened: Callable[[], object]) -> None:
        """Wait until something is seen from outside, while the child is alive."""
        deadline = time.monotonic() + SECONDS
        while not happened():
            ended, _ = os.waitpid(self.pid, os.WNOHANG)
            assert not ended, f"it ended too early:\n{self.stderr}"
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                pytest.fail(f"it never happened:\n{self.end().stderr}")
            time.sleep(0.005)

    def end(self) -> Called:
        """Wait for it; the exit code of a killed one is minus the signal's number. One that hangs is killed."""
        deadline = time.monotonic() + SECONDS
        ended = 0
        while not ended:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(0.005)
            ended, status = os.waitpid(self.pid, os.WNOHANG)
        out, err = (os.pread(descriptor, 2**22, 0).decode() for descriptor in (self._out, self._err))
        for descriptor in (self._out, self._err):
            os.close(descriptor)
        return Called(os.waitstatus_to_exitcode(status), out, err)


def fork_script(name: str, *arguments: str, cwd: Path, before: Callable[[], object] = lambda: None) -> Forked:
    """Start a script as `python3 NAME ...` would; `before` is called in its process first."""

    def call() -> int:
        os.chdir(cwd)
        sys.argv = [name, *arguments]
        before()
        try:
            runpy.run_path(str(REPOSITORY / name), run_name="__main__")
        except SystemExit as error:
            return error.code or 0
        return 0

    return Forked(call)


def fork_stranger(code: str, *arguments: str, cwd: Path, before: Callable[[], object] = lambda: None) -> Forked:
    """Run code where the libraries are installed and nothing of this repository is, as `python3 -I -c CODE ...`.

    What it trusts and runs of a model folder is copied to `cwd`, in modules of its own.
    """

    def call() -> None:
        os.chdir(cwd)
        sys.argv = ["-c", *arguments]
        sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() not in (cwd.resolve(), REPOSITORY)]
        ours = {path.stem for path in REPOSITORY.iterdir()}
        for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
            del sys.modules[name]
        dynamic_module_utils.HF_MODULES_CACHE = str(cwd / "modules")
        before()
        exec(code, {"__name__": "__main__"})

    return Forked(call)


def with_own_mounts(test: Callable[[], None]) -> None:
    """Run a test's body where what it mounts is seen by no other process, and is gone at its end.

    Skips where the system does not let a process have mounts of its own.
    """

    def call() -> int | None:
        user, group = os.getuid(), os.getgid()
        if _libc.unshare(_NEW_MOUNTS | _NEW_USERS) != 0:
            return 77
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        return test()

    done = Forked(call).end()
    if done.exit_code == 77:
        pytest.skip("this system does not let a process have mounts of its own")
    assert done.exit_code == 0, done.stderr


def mount_disk(folder: Path, num_bytes: int) -> None:
    """Put a small, empty disk at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("tmpfs", folder, 0, f"size={num_bytes}")


def make_read_only(folder: Path) -> None:
    """Make a mounted disk read-only."""
    _mount("tmpfs", folder, _REMOUNT | _READ_ONLY, "")


def fill(folder: Path) -> Path:
    """Take all the room there is; returns the file that has it."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def _mount(kind: str, folder: Path, flags: int, options: str) -> None:
    if _libc.mount(kind.encode(), str(folder).encode(), kind.encode(), flags, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
