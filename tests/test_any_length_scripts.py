"""The scripts on a model with an attention window: every length proved, sampled and asked for."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from simple_llm.model.network import save_model
from simple_llm.model.tokenizer_files import save_tokenizer
from tests.finished_run import damage
from tests.trained_model import any_length_config, ANY_LENGTH_DATA

pytestmark = pytest.mark.library

TRAINING = {"step": 350, "num_correct": 50, "num_total": 50, "num_parameters": 5000}


def write_model(folder: Path, trained) -> Path:
    save_tokenizer(trained.tokenizer, folder)
    save_model(folder, trained.model, ANY_LENGTH_DATA, any_length_config(350), TRAINING)
    return folder


@pytest.fixture
def folder(tmp_path, any_length):
    return write_model(tmp_path / "model", any_length)


def test_a_model_is_proved_for_every_length_and_the_certificate_says_why(folder, call_script):
    called = call_script("evaluate.py", "--model", "model", "--all-lengths", "--json", cwd=folder.parent)
    assert called.exit_code == 0
    certificate = json.loads((folder / "certificate.json").read_text())
    assert json.loads(called.stdout.splitlines()[-1]) == certificate
    assert certificate["kind"] == "all lengths"
    assert certificate["checked"] == certificate["expected"] > 600
    assert certificate["wrong"] == 0
    assert max(certificate["rounding"].values()) < certificate["min_logit_margin"] / 2
    argument = " ".join(certificate["argument"])
    assert f"{certificate['expected']:,} contexts" in argument
    assert "come again every 2 places" in argument
    card = " ".join((folder / "README.md").read_text().split())
    assert f"**{certificate['checked']:,} of {certificate['checked']:,} contexts" in card
    called = call_script("evaluate.py", "--model", "model", "--check-certificate", cwd=folder.parent)
    assert called.exit_code == 3
    assert "is of all lengths, not of pairs" in called.stderr


def test_pairs_are_proved_by_a_table_as_they_are_by_reading_each(tmp_path, any_length, call_script):
    folder = write_model(tmp_path / "half", replace(any_length, model=any_length.half))
    told = []
    for options in ((), ("--table",), ("--walk",)):
        called = call_script("evaluate.py", "--model", "half", "--exhaustive", *options, "--json", cwd=tmp_path)
        assert called.exit_code == 7
        certificate = json.loads((folder / "certificate.json").read_text())
        assert json.loads(called.stdout.splitlines()[-1]) == certificate
        told.append(certificate)
    by_default, by_table, one_by_one = told
    assert "rows_in_table" not in one_by_one
    assert {**by_default, "date": "", "command": ""} == {**by_table, "date": "", "command": ""}
    same = ("expected", "checked", "wrong", "failures", "range")
    assert {key: by_table[key] for key in same} == {key: one_by_one[key] for key in same}
    assert 0 < by_table["wrong"] < by_table["checked"]
    assert by_table["shards"] == one_by_one["shards"]  # and with them which of all pairs are right
    assert by_table["rows_in_table"] < by_table["checked"]
    checked = call_script("evaluate.py", "--model", "half", "--check-certificate", "500", cwd=tmp_path)
    assert checked.exit_code == 0, checked.stderr


def test_a_table_is_refused_where_pairs_do_not_look_alike(run_folder, call_script):
    called = call_script("evaluate.py", "--exhaustive", "--table", cwd=run_folder)
    assert called.exit_code == 2
    assert "--table is for sums by a model of n_layer = 1" in called.stderr
    called = call_script("evaluate.py", "--table", cwd=run_folder)
    assert (called.exit_code, called.stderr.strip()) == (2, "--table is a way to do --exhaustive; give both")
    called = call_script("evaluate.py", "--exhaustive", "--table", "--walk", cwd=run_folder)
    assert (called.exit_code, called.stderr.strip()) == (2, "give one at a time of --table, --walk")


def test_what_a_model_gets_wrong_is_spelled_out_and_ends_with_7(tmp_path, any_length, call_script):
    folder = write_model(tmp_path / "half", replace(any_length, model=any_length.half))
    called = call_script("evaluate.py", "--model", "half", "--all-lengths", cwd=tmp_path)
    assert called.exit_code == 7
    certificate = json.loads((folder / "certificate.json").read_text())
    assert 0 < len(certificate["failures"]) == certificate["wrong"] <= 1000
    first = certificate["failures"][0]
    assert "wrong: digit {digit} of {x}+{y} is {right}, said {said}".format(**first) in called.stdout
    assert certificate["min_logit_margin"] < 0


def test_a_model_that_sees_everything_cannot_be_proved_for_every_length(run_folder, call_script):
    called = call_script("evaluate.py", "--all-lengths", cwd=run_folder)
    assert called.exit_code == 2
    assert "needs model.attention_window" in called.stderr
    called = call_script("evaluate.py", "--all-lengths", "--exhaustive", cwd=run_folder)
    assert (called.exit_code, called.stderr.strip()) == (2, "give one at a time of --exhaustive, --all-lengths")


def test_lengths_are_sampled_far_beyond_training(folder, call_script):
    options = ("--model", "model", "--lengths", "1,5,150", "--samples", "20", "--json")
    called = call_script("evaluate.py", *options, "--min-accuracy", "1", cwd=folder.parent)
    assert called.exit_code == 0
    report = json.loads(called.stdout.splitlines()[-1])
    assert report == json.loads((folder / "lengths.json").read_text())
    assert [(row["num_digits"], row["kind"]) for row in report["lengths"]] == [
        (num_digits, kind) for num_digits in (1, 5, 150) for kind in ("uniform", "carries")
    ]
    for row in report["lengths"]:
        assert row["correct"] == row["total"] == sum(total for _, _, total in row["by_longest_carry_chain"])
        assert row["total"] == 20 or row["num_digits"] <= 5  # few short sums are on the test side
    assert "| 150 | carries | 20 / 20 |" in (folder / "README.md").read_text()


def test_lengths_past_the_position_table_are_refused_and_others_are_counted(run_folder, call_script):
    called = call_script("evaluate.py", "--lengths", "2,9", cwd=run_folder)
    assert called.exit_code == 2
    assert "has positions for 6 digits, not for 9" in called.stderr
    called = call_script("evaluate.py", "--lengths", "2", "--samples", "30", "--min-accuracy", "1", cwd=run_folder)
    assert called.exit_code == 7
    assert "uniform" in called.stdout


def test_sums_of_any_length_are_answered(folder, call_script):
    x, y = 10**40 - 1, 10**25 + 7
    called = call_script("inference.py", "--model", "model", f"{x}+{y}", "1+1", "00+243", cwd=folder.parent)
    assert called.stdout.splitlines() == [f"{x}+{y}={x + y}", "1+1=2", "0+243=243"]
    damage(folder / "model.safetensors")
    assert call_script("inference.py", "--model", "model", "1+1", cwd=folder.parent).exit_code == 3
