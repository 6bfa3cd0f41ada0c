"""Measurements against a named other way, in turn within one run: `python3 -m benchmarks.NAME`."""

import simple_llm  # noqa: F401  (before torch, for which it sets how threads wait)
