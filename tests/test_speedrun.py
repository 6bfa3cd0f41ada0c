import argparse
import io
import json
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import trainer
from runs import reference_recipe, speedrun, speedrun_seed, tracks
from simple_llm.arithmetic.digits import to_integers
from simple_llm.config.settings import DataConfig, Model, Numbers, Sampling, Split, Storage, TrainConfig, Training
from simple_llm.data.problems import concatenate
from simple_llm.data.sampling import Sampler
from simple_llm.data.split import split_sides, TRAIN, VALIDATION
from simple_llm.errors import DivergedError, GateError, UsageError
from simple_llm.model.folder import LoadedModel
from tests.oracle import PerfectAdder
from tests.tiny_models import all_pairs, make_tokenizer, make_vocabulary
from tests.trained_model import config_for

# Binary numbers of five digits: learned in seconds.
DATA_YAML = "numbers: {max: 31, base: 2}\nsampling: {uniform: 1.0, lengths: 0.0, carries: 0.0}\n"
DATA_YAML += "storage: {num_sequences: 900}\n"
TRAIN_YAML = """
model: {n_layer: 1, n_head: 2, n_embd: 32, n_positions: 8, tokens_per_step: 1, attention_window: {left: 0, right: 1}}
training: {batch_size: 64, max_steps: 300, eval_every: 25, stop_after_exact: 1, precision: fp32, device: cpu}
"""
LINE_KEYS = {
    *("track", "goal", "seeds", "passed", "no_record", "seconds", "cpu_seconds", "phases", "num_parameters"),
    *("machine", "versions", "runs", "command", "commit", "overrides"),
}
RUN_PHASES = ["import", "data", "model", "compile", "training", "validation"]


@pytest.fixture
def recipes(tmp_path):
    """A folder with a tiny recipe for every track."""
    for name in tracks.TRACKS:
        (tmp_path / f"{name}_data.yaml").write_text(DATA_YAML)
        (tmp_path / f"{name}.yaml").write_text(TRAIN_YAML)
    return tmp_path


def run_one(recipes, track, *overrides):
    """One seed of a tiny recipe, in this process."""
    data, train = tracks.recipe(track.name, recipes, 0, list(overrides))
    clock = speedrun_seed.Clock(time.monotonic())
    clock.end("import")
    return speedrun_seed.run_seed(track, data, train, recipes / "run", clock)


def asked(recipes, **others):
    """What the command line would give."""
    settings = {"track": "A", "seeds": 1, "first_seed": 0, "baseline": False, "overrides": [], "command": "", **others}
    return argparse.Namespace(recipes=recipes, **settings)


def test_the_command_that_is_told_can_be_given_again(monkeypatch):
    monkeypatch.setattr("sys.argv", ["speedrun.py", "--track", "A", "--recipes", "my recipes", "model.x=[1, 2]"])
    assert speedrun.options().command == "python3 -m runs.speedrun --track A --recipes 'my recipes' 'model.x=[1, 2]'"


# ---- From nothing, for real -----------------------------------------------------------------------


def test_a_seed_runs_in_a_process_of_its_own_and_the_last_line_says_how_long_it_took(recipes, capsys):
    started = time.monotonic()
    speedrun.main(asked(recipes))
    wall = time.monotonic() - started
    *table, line = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert document.keys() == LINE_KEYS
    [run] = document["runs"]
    assert (run["passed"], run["failures"], run["validation"]) == (True, [], [run["validation"][1]] * 2)
    assert run["test"][0] == run["test"][1] > 0
    assert run["stolen_seconds"] >= 0
    assert list(run["phases"]) == RUN_PHASES
    assert sum(run["phases"].values()) == pytest.approx(run["seconds"], abs=0.01)
    assert 1 < run["phases"]["import"] < run["seconds"] < wall  # Python and torch do not start in less
    assert document["seconds"] == dict.fromkeys(("median", "min", "max"), run["seconds"])
    assert any("| A |" in row and "1 of 1" in row for row in table)
    assert document["no_record"][0].startswith("numbers from 0 to 31")
    assert document["no_record"][-1] == f"only {run['test'][1]} problems in the test, not 10,000"
    assert f"no record: {', '.join(document['no_record'])}" in table


def test_other_seeds_than_the_first_and_failed_ones_make_no_record():
    runs = [{"seed": seed, "passed": seed != 8, "test": [10_000, 10_000]} for seed in (7, 8)]
    assert list(speedrun.shortfalls(runs)) == ["seeds from 7, not from 0", "1 of 2 seeds failed"]
    assert list(speedrun.shortfalls([{**runs[0], "seed": 0}])) == []


def test_a_proof_of_every_pair_is_in_the_time(recipes, monkeypatch):
    def exact(*arguments):
        return {"step": 1, "num_correct": 9, "num_total": 9}

    def prove(loaded, folder):
        time.sleep(0.2)
        return {"expected": 32**2, "checked": 32**2, "wrong": 1}

    monkeypatch.setattr(trainer, "train_model", exact)
    monkeypatch.setattr(speedrun_seed, "prove", prove)
    run = run_one(recipes, tracks.TRACKS["B"])
    assert list(run["phases"]) == [*RUN_PHASES, "proof"]
    assert run["seconds"] == pytest.approx(sum(run["phases"].values()), abs=0.01)
    assert run["phases"]["proof"] >= 0.2
    assert (run["passed"], run["why"]) == (False, "1 of 1,024 pairs are wrong")
    assert "test" not in run


def test_a_proof_finds_the_pairs_that_decoding_gets_wrong(trained_for, tmp_path):
    trained, everything = trained_for(1), all_pairs(99)
    loaded = LoadedModel(trained.half, trained.tokenizer, trained.data, config_for(1, 1), "", {})
    decoded = speedrun_seed.count(loaded, everything)
    proof = speedrun_seed.prove(loaded, tmp_path)
    assert (proof["expected"], proof["checked"]) == (10**4, 10**4)
    assert 0 < proof["wrong"] == 10**4 - decoded["counts"][0]
    assert proof["failures"] == [(failure["x"], failure["y"]) for failure in decoded["failures"]]


def test_a_seed_whose_validation_is_never_exact_fails_untested(recipes):
    run = run_one(recipes, tracks.TRACKS["B"], "training.max_steps=2")
    assert not run["passed"]
    num_correct, num_total = run["validation"]
    assert num_correct < num_total
    assert run["why"] == f"validation {num_correct:,} / {num_total:,} exact at the last step, 2"
    assert 0 < len(run["failures"]) <= num_total - num_correct
    assert all(failure["sum"] == failure["x"] + failure["y"] != failure["said"] for failure in run["failures"])
    assert not {"test", "proof"} & run.keys()


def test_a_seed_that_diverges_fails(recipes, monkeypatch):
    def diverge(*arguments):
        raise DivergedError("loss nan")

    monkeypatch.setattr(trainer, "train_model", diverge)
    run = run_one(recipes, tracks.TRACKS["A"])
    assert (run["passed"], run["why"]) == (False, "loss nan")
    assert run["seconds"] > 0


# ---- The gate -------------------------------------------------------------------------------------


def oracle(wrong):
    """A model in memory that is right on all but some pairs of 0 to 29."""
    data = DataConfig(numbers=Numbers(max=29, base=10))
    model = PerfectAdder(make_vocabulary(), wrong=wrong)
    return LoadedModel(model, make_tokenizer(data), data, TrainConfig(), "", {})


def test_one_wrong_problem_of_the_test_sample_fails_the_seed_and_is_named(oracle_engine):
    track = tracks.Track("A", "", 29)
    sample = speedrun_seed.test_sample(oracle({}).data)
    [x], [y] = (to_integers(digits[:, :1], 10) for digits in (sample.x, sample.y))
    told = speedrun_seed.verdict(track, oracle({(x, y): 7}), {})
    assert told["test"] == [len(sample) - 1, len(sample)]
    assert (told["passed"], told["failures"]) == (False, [{"x": x, "y": y, "sum": x + y, "said": 7}])
    assert speedrun_seed.verdict(track, oracle({}), {})["passed"]


def test_one_wrong_edge_case_fails_the_seed(oracle_engine):
    sampled = pairs_of(speedrun_seed.test_sample(oracle({}).data))
    first, second = [(29, y) for y in range(30) if (29, y) not in sampled][:2]
    track = tracks.Track("C", "", 29, edge_cases=(first, second))
    told = speedrun_seed.verdict(track, oracle({second: 5}), {})
    assert (told["passed"], told["why"], told["edge_cases"]) == (False, "edge_cases 1 / 2 right", [1, 2])
    assert told["test"][0] == told["test"][1]


def test_one_wrong_pair_of_all_fails_the_proof():
    proof = {"expected": 10**8, "checked": 10**8, "wrong": 1}
    told = speedrun_seed.verdict(tracks.TRACKS["B"], oracle({}), {"proof": proof})
    assert told == {"passed": False, "why": "1 of 100,000,000 pairs are wrong"}
    assert speedrun_seed.verdict(tracks.TRACKS["B"], oracle({}), {"proof": {**proof, "wrong": 0}})["passed"]


def canned(seed, seconds, **others):
    """What the process of a seed would say."""
    phases = {"import": 1.0, "training": seconds - 1.0}
    facts = {"num_parameters": 1, "machine": {}, "versions": {}, "cpu_seconds": 2 * seconds, "failures": []}
    return {"seed": seed, "seconds": seconds, "phases": phases, "passed": True, "why": "", **facts, **others}


def test_the_row_is_the_median_of_all_seeds_and_one_that_failed_is_exit_code_7(recipes, capsys, monkeypatch):
    seconds = {3: 5.0, 4: 9.0, 5: 4.0, 6: 6.0, 7: 20.0}
    failures = [{"x": 1, "y": 2, "sum": 3, "said": 4}]
    others = {5: {"passed": False, "why": "test 9,999 / 10,000 right", "failures": failures}}
    told = []

    def fresh_process(module, *arguments):
        told.append(arguments)
        seed = int(arguments[arguments.index("--seed") + 1])
        return canned(seed, seconds[seed], **others.get(seed, {}))

    monkeypatch.setattr(speedrun, "fresh_process", fresh_process)
    with pytest.raises(GateError, match=r"1 of 5 seeds failed; seed 5: test 9,999 / 10,000 right") as raised:
        speedrun.main(asked(recipes, seeds=5, first_seed=3, overrides=["training.max_steps=7"]))
    assert raised.value.exit_code == 7
    assert all("training.max_steps=7" in arguments for arguments in told)
    captured = capsys.readouterr()
    document = json.loads(captured.out.splitlines()[-1])
    assert (document["seeds"], document["passed"]) == (5, 4)
    assert document["seconds"] == {"median": 6.0, "min": 4.0, "max": 20.0}
    assert document["cpu_seconds"]["median"] == 12.0
    assert document["phases"] == {"import": 1.0, "training": 5.0}
    assert "1+2=3, said 4" in captured.err
    assert "| A | 1 | 5 | 4 of 5 | 6.0 (4.0 to 20.0) | 12.0 |" in captured.out


def test_a_row_whose_code_changed_between_the_seeds_is_no_record(recipes, capsys, monkeypatch):
    commits = iter(["5eed", "5eed-dirty"])
    monkeypatch.setattr(speedrun, "commit", lambda: next(commits))
    monkeypatch.setattr(speedrun, "fresh_process", lambda module, *arguments: canned(0, 5.0))
    speedrun.main(asked(recipes))
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["commit"] == "5eed"
    assert "the code changed between the seeds" in document["no_record"]


@pytest.mark.parametrize("override", ["seed=5", "training.seed=5"])
def test_a_seed_is_no_setting_of_a_track(recipes, override):
    with pytest.raises(UsageError, match=rf"^{override}: .* --first-seed"):
        speedrun.main(asked(recipes, overrides=[override]))


def test_a_seed_whose_process_fails_ends_the_run_with_its_exit_code(recipes):
    with pytest.raises(SystemExit) as raised:
        speedrun.fresh_process("runs.no_such_module")
    assert raised.value.code == 1


# ---- The clock ------------------------------------------------------------------------------------


def test_training_is_divided_into_its_start_its_steps_and_its_validation(monkeypatch):
    monkeypatch.setattr(speedrun_seed, "time", SimpleNamespace(monotonic=lambda: 130.0))
    clock = speedrun_seed.Clock(100.0)
    # Until the second step 10 seconds; then steps of 1, and validations of 4 after the third and 11 at the end.
    clock.end_training([102.0, 110.0, 111.0, 116.0, 117.0, 118.0], is_evaluated=lambda step: step % 3 == 0)
    assert clock.phases == {"compile": 10.0, "training": 5.0, "validation": 15.0}
    for step_times in ([], [101.0]):
        clock = speedrun_seed.Clock(100.0)
        clock.end_training(step_times, is_evaluated=lambda step: step % 3 == 0)
        assert clock.phases == {"compile": 30.0, "training": 0.0, "validation": 0.0}


# ---- The rules ------------------------------------------------------------------------------------


def test_edge_cases_are_ten_sums_of_ten_digits_with_the_longest_carries():
    track = tracks.TRACKS["C"]
    assert len(set(track.edge_cases)) == 10
    assert all(0 <= x <= track.maximum and 0 <= y <= track.maximum for x, y in track.edge_cases)
    assert {10**10, 10**10 - 1, 2 * (10**10 - 1), 0, 1} == {x + y for x, y in track.edge_cases}


def test_edge_cases_are_never_learned_from_nor_validated_on():
    track = tracks.Track("C", "", 9, edge_cases=((9, 1), (0, 0), (3, 4)))
    data = DataConfig(
        numbers=Numbers(max=9, base=10), split=Split(train=0.8, validation=0.19), storage=Storage(num_sequences=95)
    )
    everything = pairs_of(speedrun_seed.draw_rows(tracks.Track("A", "", 9), data))
    rows = speedrun_seed.draw_rows(track, data)
    assert set(np.unique(split_sides(rows, data.split))) == {TRAIN, VALIDATION}
    edges = {(9, 1), (1, 9), (0, 0), (3, 4), (4, 3)}
    assert everything & edges
    assert pairs_of(rows) == everything - edges


def test_validation_is_drawn_as_the_test_is_and_training_as_the_recipe_says():
    data = DataConfig(sampling=Sampling(uniform=0.0, lengths=1.0, carries=0.0), storage=Storage(num_sequences=30_000))
    rows = speedrun_seed.draw_rows(tracks.TRACKS["A"], data)
    side = split_sides(rows, data.split)
    is_short = {number: (rows[side == number].x_length < 4).mean() for number in (TRAIN, VALIDATION)}
    assert (side == VALIDATION).sum() == tracks.NUM_VALIDATION
    assert is_short[TRAIN] > 0.7  # three lengths of four, but of one-digit pairs there are only 256
    assert is_short[VALIDATION] == pytest.approx(4096 / 10_000, abs=0.02)  # below 0x1000
    assert len(pairs_of(rows)) == len(rows)


@pytest.mark.parametrize("base", [10, 16])
def test_edge_cases_of_ten_digits_are_dropped_in_both_orders_and_nothing_else_is(base):
    data = DataConfig(numbers=Numbers(max=9_999_999_999, base=base))
    track = tracks.TRACKS["C"]
    edges = tracks.edge_problems(track, data)
    others = Sampler.of(data.numbers).uniform(np.random.default_rng(0), 1000)
    mixed = concatenate([others, edges, edges.swapped, others.swapped])
    assert pairs_of(tracks.without(mixed, track.edge_cases)) == pairs_of(others) | pairs_of(others.swapped)
    assert pairs_of(edges) == set(track.edge_cases)


def pairs_of(problems):
    return set(zip(*(to_integers(digits, problems.base) for digits in (problems.x, problems.y)), strict=True))


@pytest.mark.parametrize("name", tracks.TRACKS)
def test_the_recipes_here_are_within_the_rules(name):
    data, train = tracks.recipe(name, tracks.RECIPES, 3, [])
    assert (data.seed, train.training.seed) == (3, 3)
    assert list(tracks.breaches(tracks.TRACKS[name], data, train, 5)) == []


ANY_LOOK_ENDS_IT = {"restarts": {"first": 700, "every": 100, "until_exact": 10_000}, "stop_after_exact": 1}


def test_what_breaks_the_rules_is_named():
    data, train = DataConfig(), TrainConfig(training=Training(eval_problems=10_000))
    assert list(tracks.breaches(tracks.TRACKS["D"], data, train, 5)) == []
    broken = {
        "4 of at least 5 seeds": (data, train, 4),
        "numbers from 0 to 99": (DataConfig(numbers=Numbers(max=99)), train, 5),
        "another split": (DataConfig(split=Split(seed=1)), train, 5),
        "a validation of 1,000 problems": (data, TrainConfig(), 5),
        "a validation of 9 problems": (data, TrainConfig(training=Training(eval_problems=9, **ANY_LOOK_ENDS_IT)), 5),
        "a validation of 99 problems": (data, TrainConfig(training=Training(eval_problems=99, stop_after_exact=1)), 5),
        "not the default model": (data, train.model_copy(update={"model": Model(n_layer=1)}), 5),
    }
    for start, settings in broken.items():
        [told] = tracks.breaches(tracks.TRACKS["D"], *settings)
        assert told.startswith(start)


def test_what_breaks_the_rules_of_every_length_is_named():
    data, train = tracks.recipe("E", tracks.RECIPES, 0, [])
    track = tracks.TRACKS["E"]
    sums = data.model_copy(update={"operations": DataConfig().operations})
    octal = data.model_copy(update={"numbers": data.numbers.model_copy(update={"base": 8})})
    broken = {
        "operations without subtract and multiply and divide": (sums, train),
        "base 8, not 10": (octal, train),
        "no scratchpad of columns": (data, TrainConfig()),
    }
    for start, settings in broken.items():
        [told] = tracks.breaches(track, *settings, 5)
        assert told.startswith(start)


def test_every_length_is_proved_in_the_time_and_what_is_wrong_is_told(recipes):
    small = ("numbers.base=2", "numbers.sizes=null", "numbers.max=31", "numbers.operands=2", "model.n_inner=32")
    short = ("training.max_steps=2", "training.warmup_steps=1", "training.eval_every=2", "training.averaging=null")
    data, train = tracks.recipe(
        "E", tracks.RECIPES, 0, [*small, *short, "model.n_embd=16", "training.device=cpu", "storage.num_sequences=800"]
    )
    clock = speedrun_seed.Clock(time.monotonic())
    run = speedrun_seed.run_seed(tracks.TRACKS["E"], data, train, recipes, clock)
    assert (run["passed"], run["first_look"][1]) == (False, run["first_look"][1])
    assert "proof" not in run  # nothing is proved of what is wrong at a first look


# ---- The reference recipe -------------------------------------------------------------------------


def test_the_reference_recipe_stops_when_its_seconds_are_over(recipes, monkeypatch):
    monkeypatch.setattr(reference_recipe, "MODEL", Model(n_layer=1, n_embd=16, n_head=2, tokens_per_step=1))
    monkeypatch.setattr(reference_recipe, "BATCH_SIZE", 32)
    data, train = tracks.recipe("A", recipes, 0, [])
    started = time.monotonic()
    loaded, step = reference_recipe.train_for(tracks.TRACKS["A"], data, torch.device("cpu"), started, 0.5)
    assert time.monotonic() - started >= 0.5
    assert step > 1
    assert (loaded.data.numbers.base, loaded.data.numbers.max, loaded.data.sampling) == (16, 31, UNIFORM)
    held_out = reference_recipe.held_out_problems(tracks.TRACKS["A"], data, train)
    for problems in held_out.values():
        assert pairs_of(reference_recipe.in_base(problems, loaded.data)) == pairs_of(problems)
    [right, total] = speedrun_seed.count(loaded, reference_recipe.in_base(held_out["test"], loaded.data))["counts"]
    assert 0 <= right < total == len(held_out["test"])


UNIFORM = Sampling(uniform=1, lengths=0, carries=0)


def test_the_reference_recipe_ends_its_cosine_with_its_seconds():
    assert [reference_recipe.cosine(share) for share in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


def test_what_the_host_took_away_is_read_from_the_kernel(monkeypatch):
    line = "cpu  8170204 642860 590599 4598361 19284 0 6076 949131 0 0\n"
    monkeypatch.setattr("builtins.open", lambda path, **_: io.StringIO(line if path == "/proc/stat" else ""))
    assert speedrun.stolen_seconds() == 949131 / os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr("builtins.open", lambda path, **_: io.StringIO("cpu 1 2\n"))
    assert speedrun.stolen_seconds() == 0
