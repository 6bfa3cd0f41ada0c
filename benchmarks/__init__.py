"""Measurements against a named other way, in turn within one run: `python3 -m benchmarks.NAME`."""
