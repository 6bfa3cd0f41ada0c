"""Longer runs, each a module: `python3 -m runs.NAME --help`."""

import simple_llm  # noqa: F401  (before torch, for which it sets how threads wait)
