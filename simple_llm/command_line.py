"""What every script does at its rim: options, overrides, Ctrl-C, exceptions -> one line and an exit code.

Each script reads its options before it imports torch, so that `--help` and a typo in a config are answered at
once:

    from simple_llm import command_line

    if __name__ == "__main__":
        options = command_line.pipeline_options(__doc__)

    import torch
    ...
    if __name__ == "__main__":
        command_line.run(main, options)
"""

import argparse
import contextlib
import errno
import gc
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, TextIO

from simple_llm import __version__, run_log
from simple_llm.config.loading import load_configs
from simple_llm.config.settings import DataConfig, TrainConfig, typed_path
from simple_llm.errors import ConfigError, EnvironmentFault, SimpleLLMError
from simple_llm.files.names import DATA_CONFIG, TRAIN_CONFIG
from simple_llm.files.writing import is_disk_full

OVERRIDES_HELP = "a setting of data_config.yaml or train_config.yaml, for example numbers.base=10"


@dataclass(frozen=True)
class PipelineOptions:
    """What generator, tokenizer and trainer were asked to do.

    Attributes:
        data, train: both configs, overrides applied, checked.
        arguments: the script's own options.
    """

    data: DataConfig
    train: TrainConfig
    arguments: argparse.Namespace


class _OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line."""

    def error(self, message: str) -> NoReturn:
        fail(f"{self.prog}: {message}; --help shows how it is used", 2)

    def _print_message(self, message: str, file: TextIO | None = None) -> None:
        """Print help or version; an output that does not take it is told of as anywhere else."""
        run(print, message.removesuffix("\n"))


def parser(docstring: str) -> argparse.ArgumentParser:
    """Make a parser whose help is the script's docstring; until `run`, Ctrl-C ends the process without a traceback."""
    _open_closed_streams()
    _escape_what_cannot_be_said()
    _leave_at_ctrl_c()
    os.environ["MPLBACKEND"] = "agg"  # pictures go into files; a notebook's shell names what exists in a notebook alone
    made = _OneLineParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made._negative_number_matcher = re.compile("-[0-9]")  # -5+3 is no option: it is refused as a sum, by its column
    made.add_argument("--version", action="version", version=f"simple-llm {__version__}")
    made.add_argument("--json", action="store_true", help="make the last line of stdout one JSON document")
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return made


def pipeline_options(
    docstring: str, add_arguments: Callable[[argparse.ArgumentParser], object] = lambda made: None
) -> PipelineOptions:
    """Read options and configs of a script of the pipeline; on an error, print it and exit.

    Args:
        docstring: the script's, shown by --help.
        add_arguments: adds the script's own options.
    """
    made = parser(docstring)
    made.add_argument("--data-config", type=path, default=Path(DATA_CONFIG), metavar="FILE")
    made.add_argument("--train-config", type=path, default=Path(TRAIN_CONFIG), metavar="FILE")
    made.add_argument("overrides", nargs="*", metavar="section.key=value", help=OVERRIDES_HELP)
    add_arguments(made)
    arguments = made.parse_intermixed_args()
    try:
        data, train = load_configs(arguments.data_config, arguments.train_config, arguments.overrides)
    except ConfigError as error:
        fail(str(error), error.exit_code)
    pause_collector()
    _explain_imports()
    return PipelineOptions(data, train, arguments)


def model_options(
    docstring: str, add_arguments: Callable[[argparse.ArgumentParser], object] = lambda made: None
) -> argparse.Namespace:
    """Read options of a script that works on a finished model folder and on nothing else.

    Where --model is not given, `paths.model` of train_config.yaml in the current folder is it. That is a path, and
    written so that `fetch_model` takes it for nothing else: only what was typed is looked for on the Hub.
    """
    made = parser(docstring)
    made.add_argument(
        "--model", type=model_name, metavar="DIR", help="model folder (default: paths.model of train_config.yaml)"
    )
    add_arguments(made)
    arguments = made.parse_intermixed_args()
    if arguments.model is None:
        arguments.model = os.path.join(os.curdir, _configured_model())  # ./models/adder
    pause_collector()
    _explain_imports()
    return arguments


def pause_collector() -> None:
    """Leave garbage where it is until `run`, while the imports come that follow a script's options.

    They make a million objects that stay, and the collector would look through them all again and again: more than
    a quarter of the time that a script takes to start.
    """
    gc.disable()


def _explain_imports() -> None:
    """Until `run`, have a library that is missing, or of a release that nobody tested, told of in one line."""

    def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        is_ours = (getattr(error, "name", None) or "").startswith("simple_llm")
        if issubclass(kind, ImportError) and not is_ours and "--debug" not in sys.argv:
            way_out = _refused_by_the_machine(error) or "`make install` installs what was tested"
            fail(f"{' '.join(str(error).split())}; {way_out}", 5)
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = explain


def _open_closed_streams() -> None:
    """Put nothing in the place of each standard stream that the caller has closed, as `>&-` does.

    Python has None there. And a file that is opened takes the lowest number that is free: it would be the one that
    libraries print to.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as the process


def _escape_what_cannot_be_said() -> None:
    """Have a character that the terminal's encoding lacks written as an escape, and a byte that is no text read as one.

    A name of a file may hold either; it is not what should end the work.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            with contextlib.suppress(OSError):  # somebody has read of it already
                stream.reconfigure(errors="backslashreplace")


def _leave_at_ctrl_c() -> None:
    """Let Ctrl-C end the process as it ends any other, while there is nothing to save but seconds of imports."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _raise_at_ctrl_c() -> None:
    """Make Ctrl-C a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def path(text: str) -> Path:
    """Read a path, for argparse: a shell turns ~ into a folder in `--model ~/x`, and not in `--model=~/x`."""
    try:
        return typed_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r} ({error})") from None


def model_name(text: str) -> str:
    """Read a folder or a name on the Hub, for argparse."""
    return str(path(text)) if text.startswith("~") else text


def whole_number(text: str) -> int:
    """Read an option's value, for argparse."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def positive_integer(text: str) -> int:
    """Read an option's value, for argparse."""
    if whole_number(text) < 1:
        raise argparse.ArgumentTypeError("expected a whole number above 0, got 0")
    return int(text)


def positive_integers(text: str) -> list[int]:
    """Read N,N,..., for argparse."""
    return [positive_integer(part) for part in text.split(",")]


def share(text: str) -> float:
    """Read a number from 0 to 1, for argparse."""
    if not re.fullmatch(r"[01]|[01]?\.[0-9]+|[0-9]e-[0-9]+", text) or float(text) > 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1 such as 0.99, got {text!r}")
    return float(text)


def integer_range(text: str) -> tuple[int, int]:
    """Read MIN:MAX, for argparse."""
    low, _, high = text.partition(":")
    if not all(part.isascii() and part.isdigit() for part in (low, high)):
        raise argparse.ArgumentTypeError(f"expected MIN:MAX such as 0:99, got {text!r}")
    return int(low), int(high)


def _configured_model() -> Path:
    try:
        return load_configs(Path(DATA_CONFIG), Path(TRAIN_CONFIG), [])[1].paths.model
    except ConfigError as error:
        fail(f"{error}\nname the model with --model", error.exit_code)


def run(main: Callable[..., None], *arguments: object, debug: bool = False, less_memory: str = "") -> None:
    """Call a script's `main` and end the process with the exit code of what happened.

    A bug keeps its traceback and exits with 1; what a user can mend becomes one message and its own code. Either is
    in run.log too, where the script has opened one.

    Args:
        debug: show the traceback of what a user can mend as well.
        less_memory: what takes the memory and what would take less, for when it runs out.
    """
    gc.enable()
    sys.excepthook = sys.__excepthook__
    _escape_what_cannot_be_said()
    try:
        _raise_at_ctrl_c()
        main(*arguments)
        sys.stdout.flush()
        _let_go(sys.stderr)
        run_log.events.info("ended (exit code 0)")
    except (Exception, KeyboardInterrupt) as error:
        message, exit_code = _explained(error, less_memory)
        run_log.events.error("%s (exit code %d)", message, exit_code, exc_info=exit_code == 1)
        if exit_code == 1:
            raise
        if debug:
            traceback.print_exc()
        if isinstance(error, BrokenPipeError):
            _let_go(sys.stdout)
            sys.exit(exit_code)
        fail(message, exit_code)
    finally:
        run_log.close_log()


def _explained(error: BaseException, less_memory: str) -> tuple[str, int]:
    """One message and the exit code; 1 is a bug."""
    if isinstance(error, SimpleLLMError):
        return str(error), error.exit_code
    if isinstance(error, BrokenPipeError):
        return "output closed", 141
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if _is_lost_process(error):
        return "another process of this run is gone; started again, it goes on from its last checkpoint", 5
    if _is_out_of_memory(error):
        return f"out of memory {less_memory}".rstrip(), EnvironmentFault.exit_code
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding():
        way_out = "set LC_ALL=C.UTF-8, or name another"
        return f"{error.object!r} cannot be written in {error.encoding}, this locale's encoding; {way_out}", 5
    if isinstance(error, FileNotFoundError):
        return f"{error.filename or 'the current folder'} not found", 3
    if is_disk_full(error):
        return f"{getattr(error, 'filename', None) or 'output'}: disk full", EnvironmentFault.exit_code
    if isinstance(error, OSError):
        what = error.filename or ("output" if error.errno in _OF_OUTPUT else "this machine")
        return f"{what}: {error.strerror or error}{_WAYS_OUT.get(error.errno, '')}", EnvironmentFault.exit_code
    if way_out := _refused_by_the_machine(error):
        return f"{_first_line(error)}; {way_out}", EnvironmentFault.exit_code
    return f"a bug: {error!r}", 1


# What an error of the system that has no file's name is of; in our own files they are named.
_OF_OUTPUT = (errno.EIO, errno.EFBIG, errno.EBADF, errno.EINVAL)
_WAYS_OUT = {
    errno.EACCES: "; get the right to it, or name another place",
    errno.EPERM: "; get the right to it, or name another place",
    errno.EROFS: "; name another place, which may be written",
    errno.EIO: "; the disk, or the way to it, fails: try again, or name another place",
    errno.ESTALE: "; its file system went away and came back: start again",
    errno.ENOTCONN: "; its file system is gone: mount it, or name another place",
    errno.ETIMEDOUT: "; its file system does not answer: try again, or name another place",
    errno.EMFILE: "; raise the limit on open files, `ulimit -n`",
    errno.ENFILE: "; close other programs: this is the limit of all of them",
    errno.EFBIG: "; raise the limit on the size of a file, `ulimit -f`",
    errno.EAGAIN: "; raise the limit on processes and threads, `ulimit -u`",
    errno.ENAMETOOLONG: "; name a shorter path",
}
# Errors that libraries raise for what the machine lacks, by a part of their text, and the way out.
_LACKS = {
    "can't start new thread": "raise the limit on processes and threads, `ulimit -u`",
    "failed to map segment from shared object": "memory ran out, or is limited: raise `ulimit -v`",
    "NVIDIA driver": "install the driver that this torch needs, or set training.device=cpu",
    "no kernel image is available": "install a torch for this GPU, or set training.device=cpu",
    "CUDA-capable device": "see that no other program has the GPU, or set training.device=cpu",
    "uncorrectable ECC error": "the GPU is damaged; take another one",
}
_COMPILERS = ("torch._dynamo", "torch._inductor", "triton")


def _refused_by_the_machine(error: BaseException) -> str:
    """What to do where a library says in an error of its own that the machine lacks something; else nothing."""
    if any(kind.__module__.startswith(_COMPILERS) for kind in type(error).__mro__) or "Dynamo is not" in str(error):
        return "torch cannot compile here: install a C++ compiler, or set training.compile=false"
    is_of_library = isinstance(error, RuntimeError | ImportError)
    return next((way_out for part, way_out in _LACKS.items() if is_of_library and part in str(error)), "")


def _first_line(error: BaseException) -> str:
    """What an error says, as one line that is not too long."""
    return next((" ".join(line.split())[:200] for line in str(error).splitlines() if line.strip()), repr(error)[:200])


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in Python, in the kernel, or in torch on a CPU or a GPU."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    known = ("out of memory", "can't allocate memory", "not enough memory", "std::bad_alloc")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in known)


def _is_lost_process(error: BaseException) -> bool:
    """Whether gloo or NCCL found one of the processes gone that a sum is made with; NCCL has other errors too."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    signs += ("remote process exited", "ncclRemoteError", "Watchdog caught collective operation timeout")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def fail(message: str, exit_code: int) -> NoReturn:
    """Print a message to stderr and exit; of several processes each but the first says which it is."""
    rank = os.environ.get("RANK", "0")
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"process {rank}: {message}" if rank.strip("0") else message, file=sys.stderr)
    _let_go(sys.stdout)
    _let_go(sys.stderr)
    sys.exit(exit_code)


def _let_go(stream: TextIO) -> None:
    """Point a stream that cannot be written at nothing, or the interpreter would fail because of it at exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
