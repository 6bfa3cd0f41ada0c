import json

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
