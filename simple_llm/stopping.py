"""Signals as flags: work looks at them where nothing is torn, and its progress bar may stand beside them."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tqdm import tqdm

from simple_llm.errors import Interrupted
from simple_llm.processes import processes_of_torchrun


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
def advancing(bar: tqdm, message: str = "interrupted; nothing was written") -> Iterator[Callable[[int], None]]:
    """Give what to call with the number of items just done: it moves the bar, and ends the work after a signal."""
    with stop_on_signals() as stop, bar:

        def on_batch(num_items: int) -> None:
            bar.update(num_items)
            if stop:
                raise Interrupted(message, stop.signal_number)

        yield on_batch


@contextlib.contextmanager
def proving(num_pairs: int, num_done: int) -> Iterator[Callable[[int], None]]:
    """The same for a proof, whose shards are kept: it goes on from `num_done`, and says so when it is stopped."""
    is_shown = processes_of_torchrun().is_first
    bar = tqdm(total=num_pairs, initial=num_done, unit="pair", unit_scale=True, desc="proving", disable=not is_shown)
    with leaving_at_once(), stop_on_signals() as stop, bar:

        def on_pairs(num_counted: int) -> None:
            bar.update(num_counted)
            if stop:
                where = " with the next shard" if num_counted else ""
                raise Interrupted(f"stopped; started again, it goes on{where}", stop.signal_number)

        yield on_pairs


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """End the process at Ctrl-C where its threads are at work, for which Python would wait: they tear nothing."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)
