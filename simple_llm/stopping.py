"""Signals as flags: work looks at them where nothing is torn, and its progress bar may stand beside them."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tqdm import tqdm

from simple_llm.errors import Interrupted

NOTHING_WRITTEN = "interrupted; nothing was written"
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class StopRequest:
    """Set by a signal; loops look at it after each step, so that nothing is torn."""

    signal_number: int = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0

    def end_if_asked(self, message: str) -> None:
        """Raise Interrupted where a signal has come."""
        if self:
            raise Interrupted(message, self.signal_number)


def progress_bar(*items: Iterable, is_shown: bool = True, **settings: object) -> tqdm:
    """A bar of tqdm on a terminal and in a notebook; a log that is neither is kept short, and TQDM_DISABLE is heeded.

    Args:
        is_shown: of several processes one shows it.
    """
    is_unwanted = os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false", "no", "off")
    is_notebook = type(settings.get("file") or sys.stderr).__module__.startswith("ipykernel.")
    is_hidden = True if is_unwanted or not is_shown else False if is_notebook else None  # None: but for a terminal
    return tqdm(*items, disable=is_hidden, **settings)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM and SIGHUP, which says that the terminal is gone, into a StopRequest.

    A second Ctrl-C leaves at once. Those that the caller has ignored, as nohup and a shell's & do, stay ignored. In a
    thread other than the first, as a notebook may have, Python takes none.
    """
    request = StopRequest()
    is_first = threading.current_thread() is threading.main_thread()
    numbers = [one for one in _STOPPING if is_first and signal.getsignal(one) is not signal.SIG_IGN]

    def handle(number: int, frame: object) -> None:
        request.signal_number = number
        if signal.SIGINT in numbers:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def advancing(
    bar: tqdm, message: str = NOTHING_WRITTEN, stop: StopRequest | None = None
) -> Iterator[Callable[[int], None]]:
    """Give what to call with the number of items just done: it moves the bar, and ends the work after a signal.

    Args:
        stop: of work that has several bars one after the other, so that no signal falls between them.
    """
    with stop_on_signals() if stop is None else contextlib.nullcontext(stop) as request, bar:

        def on_batch(num_items: int) -> None:
            bar.update(num_items)
            request.end_if_asked(message)

        yield on_batch


@contextlib.contextmanager
def proving(num_pairs: int, num_done: int) -> Iterator[Callable[[int], None]]:
    """The same for a proof, whose shards are kept: it goes on from `num_done`, and says so when it is stopped."""
    from simple_llm.processes import processes_of_torchrun  # which takes torch's seconds to import

    is_shown = processes_of_torchrun().is_first
    settings = {"total": num_pairs, "initial": num_done, "unit": "pair", "unit_scale": True, "desc": "proving"}
    bar = progress_bar(is_shown=is_shown, **settings)
    with leaving_at_once(), stop_on_signals() as stop, bar:

        def on_pairs(num_counted: int) -> None:
            bar.update(num_counted)
            stop.end_if_asked("stopped; started again, it goes on" + " with the next shard" * bool(num_counted))

        yield on_pairs


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """End the process at Ctrl-C where its threads are at work, for which Python would wait: they tear nothing."""
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)
