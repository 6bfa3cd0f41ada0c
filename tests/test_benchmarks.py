"""Benchmarks that make artefacts of their own: what they make has to be accepted."""

from benchmarks import checkpointing


def test_the_rows_that_are_verified_for_the_time_it_takes_are_valid(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpointing, "NUM_ROWS", 2**10)
    num_bytes, seconds = checkpointing.verification_seconds(tmp_path, gigabytes=1e-4)
    assert num_bytes == (tmp_path / "sequences.txt").stat().st_size > 9e4
    assert seconds > 0
