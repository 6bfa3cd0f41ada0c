import json

import pytest

from simple_llm.proof import shards as shards_module
from tests.finished_run import damage, make_unfinished


def test_a_gate_that_is_not_reached_ends_with_7_after_the_report_was_written(run_folder, call_script):
    (run_folder / "model" / "evaluation.json").unlink()
    options = ("--samples", "40", "--runs", "2", "--seed", "5")
    called = call_script("evaluate.py", *options, "--min-accuracy", "1.0", cwd=run_folder)
    assert called.exit_code == 7
    assert "below --min-accuracy 1" in called.stderr
    report = json.loads((run_folder / "model" / "evaluation.json").read_text())
    assert [run["seed"] for run in report["runs"]] == [5, 6]
    assert report["total"] == 80
    assert report["error_rate_upper_95"] == max(run["error_rate_upper_95"] for run in report["runs"])
    assert call_script("evaluate.py", "--samples", "40", "--min-accuracy", "0", cwd=run_folder).exit_code == 0


def test_a_range_is_evaluated_by_itself_and_must_be_known_to_the_model(run_folder, call_script):
    called = call_script("evaluate.py", "--range", "3:40", "--json", cwd=run_folder)
    assert called.exit_code == 0
    report = json.loads(called.stdout.splitlines()[-1])
    assert report["range"] == [3, 40]
    assert 0 < report["total"] < 38 * 38
    assert {int(one[name]) for one in report["failures"] for name in "xy"} <= set(range(3, 41))
    assert "all there are in this range; 10,000 were asked for" in called.stdout
    for bad in ("0:256", "9:3"):
        called = call_script("evaluate.py", "--range", bad, cwd=run_folder)
        assert called.exit_code == 2
        assert "this model knows 0:255" in called.stderr


def test_a_model_that_is_damaged_or_not_finished_is_not_evaluated(run_folder, call_script):
    damage(run_folder / "model" / "model.safetensors")
    for script in (("evaluate.py",), ("inference.py", "1+2")):
        called = call_script(*script, cwd=run_folder)
        assert called.exit_code == 3
        assert "model.safetensors is damaged" in called.stderr
    make_unfinished(run_folder)
    called = call_script("evaluate.py", cwd=run_folder)
    assert called.exit_code == 3
    assert "holds no finished model; run `python3 trainer.py` first" in called.stderr


# ---- Every pair -----------------------------------------------------------------------------------


def prove(call_script, folder, *options):
    called = call_script("evaluate.py", "--exhaustive", "--range", "190:230", *options, cwd=folder)
    path = folder / "model" / "certificate.json"
    return called, json.loads(path.read_text()) if path.exists() else None


def test_every_pair_of_a_range_is_counted_and_a_wrong_one_fails_the_proof(run_folder, call_script):
    called, certificate = prove(call_script, run_folder, "--json")
    assert called.exit_code == 7  # the model of the finished run has learned next to nothing
    assert json.loads(called.stdout.splitlines()[-1]) == certificate
    assert (certificate["expected"], certificate["checked"]) == (41**2, 41**2)
    assert 0 < certificate["wrong"] <= 41**2
    assert len(certificate["failures"]) == min(1000, certificate["wrong"])
    assert certificate["min_logit_margin"] < 0
    asked_for = {
        "model_sha256",
        "config_sha256",
        "tokenizer_sha256",
        "range",
        "prompts",
        "dtype",
        "device",
        "versions",
        "threads",
    }
    assert asked_for | {"seconds", "shards", "command", "rounding", "min_logit_margin_at"} <= certificate.keys()
    card = " ".join((run_folder / "model" / "README.md").read_text().split())
    assert f"{41**2 - certificate['wrong']:,} of 1,681 ordered pairs of 190 to 230 right" in card

    checked = call_script("evaluate.py", "--check-certificate", "500", "--json", cwd=run_folder)
    assert checked.exit_code == 0, checked.stderr
    told = json.loads(checked.stdout.splitlines()[-1])
    assert (told["checked"], told["contradictions"]) == (500, [])


def test_a_certificate_that_says_otherwise_is_found_out(run_folder, call_script):
    _, certificate = prove(call_script, run_folder)
    path = run_folder / "model" / "certificate.json"
    for change, exit_code in (
        ({"wrong": 0, "failures": []}, 7),
        ({"checked": 41**2 - 1}, 7),
        ({"expected": 42**2, "checked": 42**2}, 7),
        ({"model_sha256": "f" * 64}, 3),
        ({"range": 3}, 3),
        ({"wrong": None}, 3),
        ({"range": [230, 190]}, 3),
        ({"range": [216, 256]}, 3),  # as many pairs, of operands beyond the model's
    ):
        path.write_text(json.dumps({**certificate, **change}))
        assert call_script("evaluate.py", "--check-certificate", "500", cwd=run_folder).exit_code == exit_code, change
    path.unlink()
    assert call_script("evaluate.py", "--check-certificate", cwd=run_folder).exit_code == 3


def test_shards_that_are_there_are_used_again_and_processes_share_them(run_folder, call_script, monkeypatch):
    monkeypatch.setattr(shards_module, "SHARD_OPERANDS", 10)
    _, whole = prove(call_script, run_folder)
    shards = sorted((run_folder / "model" / "proof").iterdir())
    assert len(shards) == 5
    untouched = shards[0].stat().st_mtime_ns
    for path in shards[1:]:
        path.unlink()
    shards[3].write_text("{}")  # a damaged one is counted again
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    called, _ = prove(call_script, run_folder)
    assert (called.exit_code, called.stdout) == (0, "")
    assert len(list((run_folder / "model" / "proof").iterdir())) == 3
    monkeypatch.setenv("RANK", "0")
    called, again = prove(call_script, run_folder)
    assert called.exit_code == 7
    assert shards[0].stat().st_mtime_ns == untouched
    same = ("checked", "wrong", "failures", "least_sure", "shards")
    assert {key: again[key] for key in same} == {key: whole[key] for key in same}


def test_two_kinds_of_work_at_once_are_refused(run_folder, call_script):
    called = call_script("evaluate.py", "--exhaustive", "--check-certificate", cwd=run_folder)
    assert called.exit_code == 2
    assert "one at a time" in called.stderr


OTHER_WORK = (("--exhaustive",), ("--check-certificate",), ("--all-lengths",), ("--lengths", "2"))


@pytest.mark.parametrize(
    ("option", "heeded_by"),
    [
        *[(("--range", "0:9"), "--exhaustive"), (("--min-accuracy", "0"), "--lengths"), (("--runs", "2"), None)],
        (("--samples", "9"), "--lengths"),
    ],
)
def test_an_option_that_would_not_be_heeded_is_refused(untrained_folder, call_script, option, heeded_by):
    for work in OTHER_WORK:
        if work[0] == heeded_by:
            continue
        called = call_script("evaluate.py", "--model", ".", *work, *option, cwd=untrained_folder)
        assert called.exit_code == 2
        assert called.stderr == f"{option[0]} has no meaning for {work[0]}; leave one of them out\n"


@pytest.mark.parametrize("value", ["nan", "99", "1.01", "-0.5", "inf", "1_0", "half", ""])
def test_a_gate_that_is_no_share_is_refused(tmp_path, call_script, value):
    called = call_script("evaluate.py", "--model", "nothing", f"--min-accuracy={value}", cwd=tmp_path)
    assert called.exit_code == 2
    assert f"expected a share from 0 to 1 such as 0.99, got {value!r}" in called.stderr
