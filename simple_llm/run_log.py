"""run.log in the model folder: what happened to a run and when, over all its starts. For people; no program reads it.

    2026-03-01T12:00:03Z INFO    started: python3 trainer.py training.seed=1
    2026-03-01T12:01:40Z INFO    saved ../simple-llm-data/simple-llm-gpt2/checkpoints/step-200: 51.2 MB in 0.28 s
    2026-03-01T12:02:10Z ERROR   stopped at step 262; started again, it goes on there (exit code 143)

A line an event; a second line of one is indented. Until `open_log` nothing is written anywhere, so what is logged costs
a test or another program nothing. A log that cannot be written never ends a run, nor does anything else that stands
beside a result alone.
"""

import contextlib
import errno
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from simple_llm.errors import Interrupted
from simple_llm.files.names import LOG
from simple_llm.files.ours import ANYTHING, claim
from simple_llm.files.reading import refuse_link

_package = logging.getLogger("simple_llm")  # the Hub's client warns there; without a log, that goes to stderr alone
events = logging.getLogger("simple_llm_events")  # what a script also prints, or need not
events.setLevel(logging.INFO)
events.propagate = False
events.addHandler(logging.NullHandler())
_handlers: list[tuple[logging.Logger, logging.Handler]] = []


class _Formatter(logging.Formatter):
    converter = time.gmtime

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n    ")


class _Handler(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: a full disk is told by what was to be written, not by the log of it."""


def open_log(folder: Path) -> None:
    """Append to a folder's log from now on; where that cannot be, say so once.

    Raises:
        EnvironmentFault: it is a link.
        ArtefactError: it is somebody else's.
    """
    close_log()
    path = folder / LOG
    refuse_link(path)
    _add(_package, logging.lastResort)
    try:
        handler = _appending(path)
    except OSError as error:
        _package.warning("%s cannot be written: %s", path, error.strerror)
        return
    _add(events, handler)
    _add(_package, handler)
    events.info("started: %s", shlex.join(["python3", *sys.argv]))


def _appending(path: Path) -> _Handler:
    """Open a log at the end of a whole line.

    Raises:
        OSError: it is no ordinary file, such as a pipe that would be waited for, or may not be read and written.
        ArtefactError: it is somebody else's.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no ordinary file")
    claim(path.parent, {path.name: ANYTHING})
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # the last start was killed in the middle of a line
                file.write(b"\n")
    handler = _Handler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_Formatter())
    return handler


@contextlib.contextmanager
def beside_result(what: str) -> Iterator[None]:
    """Let what stands beside a result, such as a picture, a card or a tracker, fail by itself: it is told, and no more.

        with beside_result("training_curve.png"):
            draw_curve(...)                         done without training_curve.png (ImportError: no matplotlib)

    It may be of any library, so it may fail in any way; its traceback is in the log.
    """
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        _package.warning("done without %s (%s: %s)", what, type(error).__name__, " ".join(str(error).split())[:300])
        events.info("%s", what, exc_info=True)


def _add(logger: logging.Logger, handler: logging.Handler) -> None:
    logger.addHandler(handler)
    _handlers.append((logger, handler))


def close_log() -> None:
    """Write to no log any more."""
    for logger, handler in _handlers:
        logger.removeHandler(handler)
        if isinstance(handler, _Handler):
            with contextlib.suppress(OSError):
                handler.close()
    _handlers.clear()
