"""Cost against digits, base and size: schedules that double, and what is told of them."""

import argparse
import json
import math
import os
import sys

import pytest

from runs import scaling
from simple_llm.config.loading import load_configs
from simple_llm.config.settings import TrainConfig

POINTS = [(axis, value) for axis, values in scaling.AXES.items() for value in values]


@pytest.mark.parametrize(("axis", "value"), POINTS)
@pytest.mark.parametrize("way", scaling.WAYS)
def test_a_point_differs_from_the_middle_in_its_own_axis_alone(axis, value, way):
    point = scaling.Point(**{axis: value}, way=way, seed=3)
    assert point in scaling.points_to_run(argparse.Namespace(axis=axis, seeds=4))
    data, train = scaling.configs(point, steps=200)
    assert (data.seed, train.training.seed, data.numbers.reversed) == (3, 3, way != "not reversed")
    assert data.numbers.max == 10 ** (value if axis == "digits" else 4) - 1
    assert data.numbers.base == (value if axis == "base" else 10)
    assert (train.training.max_steps, train.training.eval_every) == (200, 50)
    shape = (train.model.n_layer, train.model.n_head, train.model.n_embd)
    assert shape == scaling.SHAPES[value if axis == "size" else "400k"]
    assert (train.model.attention_window is not None) == (way == "window")
    assert train.training.deep_supervision == 0  # which only some of the points could have


@pytest.mark.parametrize(("axis", "value"), POINTS)
@pytest.mark.parametrize("way", scaling.WAYS)
def test_the_settings_are_some_that_trainer_takes(axis, value, way, tmp_path):
    configs = scaling.configs(scaling.Point(**{axis: value}, way=way), steps=200)
    paths = tmp_path / "data.yaml", tmp_path / "train.yaml"
    for path, config in zip(paths, configs, strict=True):
        path.write_text(json.dumps(config.model_dump(mode="json")))
    assert load_configs(*paths, []) == configs


@pytest.fixture
def told(monkeypatch):
    """Runs that are exact after three quarters of 400 steps or more; those not reversed are never, or diverge."""

    def run_seed(track, data, train: TrainConfig, folder, clock):
        steps = train.training.max_steps
        facts = {"num_parameters": 7, "seconds": steps / 10, "cpu_seconds": sum(os.times()[:4]) + steps / 5}
        if not data.numbers.reversed and steps == 400:
            return {**facts, "why": "diverged"}
        is_exact = data.numbers.reversed and steps >= 400
        step = steps * 3 // 4 if is_exact else steps
        return {**facts, "step": step, "validation": [9 + is_exact, 10], **({"test": [9, 10]} if is_exact else {})}

    monkeypatch.setattr(scaling, "run_seed", run_seed)


def test_the_schedule_doubles_until_one_is_exact_and_counts_as_far_as_that(told):
    row = scaling.run_point(scaling.Point(base=4), "0ddba11")
    assert [attempt["schedule"] for attempt in row["attempts"]] == [100, 200, 400]
    assert scaling.cost(row, "problems") == 300 * scaling.BATCH_SIZE
    assert scaling.cost(row, "cpu_seconds") == pytest.approx(80, abs=2)
    never = scaling.run_point(scaling.Point(base=4, way="not reversed"), "0ddba11")
    assert [attempt["schedule"] for attempt in never["attempts"]] == list(scaling.SCHEDULES)
    assert never["attempts"][2]["why"] == "diverged"
    assert scaling.cost(never, "problems") == math.inf


@pytest.mark.parametrize(("num_right", "schedules"), [(9, (100, 200, 400)), (10, scaling.SCHEDULES)])
def test_longer_schedules_are_not_tried_where_400_steps_end_with_less_than_a_tenth_right(
    monkeypatch, num_right, schedules
):
    def run_seed(*arguments):
        return {"num_parameters": 7, "seconds": 1, "cpu_seconds": sum(os.times()[:4]), "validation": [num_right, 100]}

    monkeypatch.setattr(scaling, "run_seed", run_seed)
    row = scaling.run_point(scaling.Point(), "0ddba11")
    assert tuple(attempt["schedule"] for attempt in row["attempts"]) == schedules


@pytest.mark.parametrize(("seconds_a_step", "longest"), [(0.7, 1600), (0.8, 800), (2, 400), (100, 100)])
def test_a_schedule_that_would_take_too_long_is_not_tried(monkeypatch, seconds_a_step, longest):
    def run_seed(track, data, train: TrainConfig, folder, clock):
        spent = seconds_a_step * train.training.max_steps
        return {"num_parameters": 7, "cpu_seconds": sum(os.times()[:4]) + spent, "validation": [9, 10]}

    monkeypatch.setattr(scaling, "run_seed", run_seed)
    row = scaling.run_point(scaling.Point(), "0ddba11")
    assert row["attempts"][-1]["schedule"] == longest
    assert not row["attempts"][-1]["exact"]


@pytest.fixture
def asked(tmp_path):
    paths = {"rows": [tmp_path / "new" / "rows.json"], "plot": tmp_path / "images" / "scaling.png"}
    return argparse.Namespace(axis="base", seeds=2, plot_only=False, json=True, **paths)


def test_rows_are_kept_told_and_drawn_and_not_run_again(told, asked, tmp_path, capsys, monkeypatch):
    scaling.main(asked)
    first = capsys.readouterr().out
    rows = json.loads(first.splitlines()[-1])
    assert len(rows) == 2 * 3 * len(scaling.AXES["base"])
    assert rows == json.loads(asked.rows[0].read_text())
    assert f"| base | 4 | reversed | 7 | 2 of 2 | 18 / 20 | {300 * scaling.BATCH_SIZE:,} | 80 " in first
    assert "| base | 4 | not reversed | 7 | 0 of 2 |  | - | - |" in first
    assert asked.plot.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(scaling, "run_seed", None)
    scaling.main(asked)
    assert capsys.readouterr().out == first

    others = tmp_path / "others.json"
    others.write_text(json.dumps(rows[:4]))
    asked.rows[0].write_text(json.dumps(rows[4:]))
    asked.rows.append(others)
    scaling.main(asked)
    assert sorted(capsys.readouterr().out.splitlines()[:-1]) == sorted(first.splitlines()[:-1])
    asked.plot_only, asked.rows = True, [tmp_path / "mistyped.json"]
    with pytest.raises(FileNotFoundError, match=r"mistyped\.json"):
        scaling.main(asked)


def test_points_that_another_process_added_meanwhile_are_kept(told, asked, monkeypatch):
    theirs = {**scaling.run_point(scaling.Point(base=5), "0ddba11"), "commit": "theirs"}
    real, commits = scaling.run_point, iter(["ours", "later"])

    def run_point(point, code):
        asked.rows[0].write_text(json.dumps([theirs]))
        return real(point, code)

    monkeypatch.setattr(scaling, "run_point", run_point)
    monkeypatch.setattr(scaling, "commit", lambda: next(commits))
    scaling.main(asked)
    rows = json.loads(asked.rows[0].read_text())
    assert theirs in rows
    assert {row["commit"] for row in rows} == {"theirs", "ours"}
    assert len(rows) == 1 + 2 * 3 * len(scaling.AXES["base"])


def test_the_axes_of_the_picture_are_named_by_the_values_that_were_measured(told, asked, monkeypatch):
    drawn = []
    monkeypatch.setattr(scaling, "save_figure", lambda figure, path: drawn.append(figure))
    scaling.main(asked)
    for axes in drawn[0].axes:
        assert [label.get_text() for label in axes.get_xticklabels()] == list(map(str, scaling.AXES["base"]))
    named = [text.get_text() for text in drawn[0].axes[0].texts]
    assert [text for text in named if text in scaling.WAYS] == list(scaling.WAYS)


def test_a_real_run_is_counted_by_its_own_cpu_seconds(monkeypatch):
    monkeypatch.setattr(scaling, "SCHEDULES", (4, 8))
    monkeypatch.setitem(scaling.SHAPES, "400k", (1, 1, 8))
    monkeypatch.setattr(scaling, "NUM_ROWS", 600)
    before = sum(os.times()[:4])
    row = scaling.run_point(scaling.Point(digits=2), "0ddba11")
    spent = [attempt["cpu_seconds"] for attempt in row["attempts"]]
    assert min(spent) > 0
    assert sum(spent) <= sum(os.times()[:4]) - before + 0.01
    assert [attempt["exact"] for attempt in row["attempts"]] == [False, False]
    assert all(right < total for right, total in (attempt["validation"] for attempt in row["attempts"]))


def test_the_point_where_the_axes_meet_is_run_once_and_told_on_each(told):
    points = scaling.points_to_run(argparse.Namespace(axis=None, seeds=1))
    assert len(points) == len(set(points)) == 3 * (1 + sum(len(values) - 1 for values in scaling.AXES.values()))
    rows = [scaling.run_point(point, "0ddba11") for point in points]
    for axis, middle in {"digits": 4, "base": 10, "size": "400k"}.items():
        groups = scaling.grouped(rows, axis)
        assert list(groups) == [(way, value) for way in scaling.WAYS for value in scaling.AXES[axis]]
        assert [scaling.point_of_row(row) for row in groups["reversed", middle]] == [scaling.Point()]


def test_several_files_of_rows_are_named_one_after_the_other(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["scaling.py", "--rows", "a.json", "b.json", "--plot-only"])
    assert [str(path) for path in scaling.options().rows] == ["a.json", "b.json"]
