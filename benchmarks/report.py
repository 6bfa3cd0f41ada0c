"""How a benchmark measures and what it prints: medians, spreads, ratios, and one JSON document last."""

import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

from simple_llm.machine import host_facts


def in_turn(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run each way once a round, in turn, so that all meet the same noise.

    Args:
        ways: each does its work and returns how many items it did.

    Returns:
        items a second of wall time, one figure a round.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            num_items = way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU may not have done yet what it was given
            rates[name].append(num_items / (time.perf_counter() - started))
    return rates


def print_rates(rates: dict[str, list[float]], unit: str, **facts: object) -> dict[str, object]:
    """Print a line a way, the ratio of the first to each other, and everything as JSON on the last line.

    Returns:
        what the JSON holds.
    """
    first = next(iter(rates))
    document: dict[str, object] = {"unit": f"{unit}/s", **facts, "machine": machine(), "rates": {}, "ratio": {}}
    for name, figures in rates.items():
        median = statistics.median(figures)
        ratios = [one / other for one, other in zip(rates[first], figures, strict=True)]
        document["rates"][name] = {"median": median, "min": min(figures), "max": max(figures), "n": len(figures)}
        line = f"{name:28} {median:>14,.0f} {unit}/s  ({min(figures):,.0f} to {max(figures):,.0f}, n = {len(figures)})"
        if name != first:
            document["ratio"][name] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
            line += (
                f"  {first} is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
            )
        print(line)
    print(json.dumps(document))
    return document


def machine() -> dict[str, object]:
    """Facts a reader needs to compare."""
    return {**host_facts(), "python": platform.python_version(), "torch": torch.__version__}
