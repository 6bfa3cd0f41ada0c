"""Benchmarks that make artefacts of their own: what they make has to be accepted."""

import json
from argparse import Namespace

import pytest

from benchmarks import checkpointing, decode, wavefront
from simple_llm.model.folder import KEPT_MODEL
from tests.pipeline import REPOSITORY

pytestmark = pytest.mark.library


def test_the_rows_that_are_verified_for_the_time_it_takes_are_valid(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpointing, "NUM_ROWS", 2**10)
    num_bytes, seconds = checkpointing.verification_seconds(tmp_path, gigabytes=1e-4)
    assert num_bytes == (tmp_path / "sequences.txt").stat().st_size > 9e4
    assert seconds > 0


def test_rows_side_by_side_and_one_token_at_a_time_write_the_same(capsys):
    wavefront.main(Namespace(model=KEPT_MODEL, digits=3, rounds=1))
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["tokens"] > 20
    assert document["rates"].keys() == {"the wavefront", "one token at a time"}


def test_rates_of_an_earlier_run_are_drawn_without_running(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decode, "in_turn", None)
    results, plot = REPOSITORY / "docs" / "decode.json", tmp_path / "decode.png"
    monkeypatch.setattr("sys.argv", ["decode.py", "--results", str(results), "--plot", str(plot)])
    decode.main()
    assert json.loads(capsys.readouterr().out) == json.loads(results.read_text())
    assert plot.read_bytes().startswith(b"\x89PNG")
