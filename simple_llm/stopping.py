"""Signals as flags: work looks at them where nothing is torn, and its progress bar may stand beside them."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tqdm import tqdm

from simple_llm.errors import Interrupted


@dataclass
class StopRequest:
    """Set by a signal; loops look at it after each step, so that nothing is torn."""

    signal_number: int = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a StopRequest; a second Ctrl-C leaves at once."""
    request = StopRequest()

    def handle(number: int, frame: object) -> None:
        request.signal_number = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def advancing(bar: tqdm) -> Iterator[Callable[[int], None]]:
    """Give what to call with the number of items just done: it moves the bar, and ends the work after a signal."""
    with stop_on_signals() as stop, bar:

        def on_batch(num_items: int) -> None:
            bar.update(num_items)
            if stop:
                raise Interrupted("interrupted; nothing was written", stop.signal_number)

        yield on_batch
