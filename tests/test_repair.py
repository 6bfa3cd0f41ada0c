import argparse
import copy
import json

import numpy as np
import pytest
import torch

from runs import repair
from simple_llm.arithmetic.digits import to_integers
from simple_llm.data.problems import concatenate
from simple_llm.data.split import split_sides, TRAIN
from simple_llm.errors import ArtefactError
from simple_llm.evaluation.margins import row_margins
from simple_llm.model.engine import Engine
from simple_llm.model.folder import load_model, LoadedModel
from simple_llm.training.learner import build_model
from tests.tiny_models import all_pairs, make_data_config, make_tokenizer, make_train_config


def prove(call_script, run_folder):
    call_script("evaluate.py", "--exhaustive", "--range", "190:230", cwd=run_folder)
    return json.loads((run_folder / "model" / "certificate.json").read_text())


def run_repair(run_folder, monkeypatch, steps=3, find=None):
    with monkeypatch.context() as patch:
        patch.chdir(run_folder)
        repair.main(argparse.Namespace(model=run_folder / "model", steps=steps, seed=0, find=find, rounds=2))


def test_a_repair_learns_training_pairs_alone_half_of_them_like_those_that_failed(run_folder, call_script, monkeypatch):
    certificate = prove(call_script, run_folder)
    learned = []
    monkeypatch.setattr(repair, "train_on", lambda loaded, problems, steps, seed: learned.append(problems))
    run_repair(run_folder, monkeypatch, steps=6)
    [problems] = learned
    split = load_model(run_folder / "model").data.split
    assert (split_sides(problems, split) == TRAIN).all()
    num_known = 6 * 112 // 2
    known, alike = problems[:num_known], problems[num_known:]
    rows = set((run_folder / "sequences.txt").read_text().split())
    written = ["|".join(f"{value:X}"[::-1] for value in (x, y, x + y)) for x, y in pairs_of(known)]
    assert set(written) <= rows
    failed = {kind(x, y) for x, y in map(tuple, certificate["failures"])}
    assert {kind(x, y) for x, y in pairs_of(alike)} == failed
    assert len(alike) == pytest.approx(num_known, abs=len(failed))


def pairs_of(problems):
    return list(zip(to_integers(problems.x, 16), to_integers(problems.y, 16), strict=True))


def kind(x, y):
    carries = (x % 16 + y % 16 >= 16, x + y >= 256)
    return len(f"{x:x}"), len(f"{y:x}"), carries


def test_a_repaired_model_is_another_one_and_keeps_the_record(run_folder, call_script, monkeypatch):
    before = prove(call_script, run_folder)
    run_repair(run_folder, monkeypatch)
    repaired = load_model(run_folder / "model")
    assert repaired.sha256 != before["model_sha256"]
    [line] = [json.loads(line) for line in (run_folder / "model" / "repairs.jsonl").read_text().splitlines()]
    assert (line["wrong"], line["steps"]) == (len(before["failures"]), 3)
    assert line["model_sha256"] == before["model_sha256"]
    assert repaired.manifest["repairs"] == [line]
    with pytest.raises(ArtefactError, match="of another model"):
        run_repair(run_folder, monkeypatch)
    assert prove(call_script, run_folder)["model_sha256"] == repaired.sha256
    assert call_script("trainer.py", cwd=run_folder).exit_code == 0  # it is still the finished model of its config


def test_a_repair_mends_some_of_what_was_wrong(trained_for, monkeypatch):
    monkeypatch.setattr(repair, "GENTLER", 1.0)  # this model has only begun to learn
    trained = trained_for(1)
    train = make_train_config(1, batch_size=128)
    loaded = LoadedModel(copy.deepcopy(trained.half), trained.tokenizer, trained.data, train, "0" * 64, {})
    problems, rng = all_pairs(99), np.random.default_rng(0)

    def wrong():
        return ~(row_margins(Engine(loaded.model, torch.float32), problems, trained.vocabulary) > 0).numpy()

    before = wrong()
    kinds = repair.one_of_each_kind(problems[before])
    known = problems[split_sides(problems, trained.data.split) == TRAIN]
    alike = repair.problems_like(kinds, loaded, len(known), rng)
    repair.train_on(loaded, concatenate([known, alike]), num_steps=100, seed=0)
    assert wrong().sum() < 0.9 * before.sum()


@pytest.mark.parametrize("settings", [{"restarts": {"first": 30, "every": 2}}, {"warmup_steps": 500}])
def test_a_repair_ends_with_a_learning_rate_near_0_however_it_went_in_training(monkeypatch, settings):
    data, train = make_data_config(), make_train_config(1, **settings)
    tokenizer = make_tokenizer(data)
    loaded = LoadedModel(build_model(data, train, tokenizer), tokenizer, data, train, "", {})
    made = []
    real = repair.make_learner
    monkeypatch.setattr(repair, "make_learner", lambda *arguments: made.append(real(*arguments)) or made[-1])
    repair.train_on(loaded, all_pairs(9), num_steps=10, seed=0)
    muon = made[0].optimizers[0]
    assert muon.param_groups[0]["lr"] == pytest.approx(1 / 9 * repair.GENTLER * train.training.muon_learning_rate)


def embeddings_after_a_repair(**training: object) -> torch.Tensor:
    """What a repair of three steps leaves of a tiny model that was trained with such settings."""
    data, train = make_data_config(), make_train_config(1, **training)
    tokenizer = make_tokenizer(data)
    torch.manual_seed(0)
    loaded = LoadedModel(build_model(data, train, tokenizer), tokenizer, data, train, "", {})
    repair.train_on(loaded, all_pairs(9), num_steps=3, seed=0)
    return loaded.model.transformer.wte.weight


def test_a_repair_learns_from_all_of_its_rows_also_where_training_chose_the_hardest():
    chosen = embeddings_after_a_repair(hard_rows={"start": 1, "of": 2, "keep": 0.25})
    assert torch.equal(chosen, embeddings_after_a_repair())


def test_a_repair_leaves_the_weights_of_its_last_step_also_where_training_took_a_mean():
    assert torch.equal(embeddings_after_a_repair(averaging={"start": 1}), embeddings_after_a_repair())


def test_failures_are_looked_for_and_repaired_in_rounds(run_folder, monkeypatch, capsys):
    run_repair(run_folder, monkeypatch, steps=2, find=5)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1].split(" of ")[1].split(" ")[-2:] for line in lines[::2]] == [["pairs", "wrong"]] * 3
    assert len(load_model(run_folder / "model").manifest["repairs"]) == 2


def test_a_model_without_a_wrong_pair_is_left_alone(run_folder, monkeypatch, capsys):
    before = load_model(run_folder / "model").sha256
    monkeypatch.setattr(repair, "find_failures", lambda *arguments: (all_pairs(9)[:0], 1000))
    run_repair(run_folder, monkeypatch, find=5)
    assert "0 of 1,000 pairs wrong" in capsys.readouterr().out
    assert load_model(run_folder / "model").sha256 == before


def test_there_must_be_something_to_repair(run_folder, call_script, monkeypatch):
    with pytest.raises(ArtefactError, match="no certificate"):
        run_repair(run_folder, monkeypatch)
    certificate = prove(call_script, run_folder)
    path = run_folder / "model" / "certificate.json"
    for change, message in (({"failures": []}, "nothing to repair"), ({"failures": 3}, "damaged")):
        path.write_text(json.dumps({**certificate, **change}))
        with pytest.raises(ArtefactError, match=message):
            run_repair(run_folder, monkeypatch)
    path.write_text("{")
    with pytest.raises(ArtefactError, match="damaged"):
        run_repair(run_folder, monkeypatch)
