"""Cost against digits, base and size: schedules that double, and what is told of them."""

import argparse
import json
import math
import os

import pytest

from runs import scaling
from simple_llm.config import TrainConfig

POINTS = [(axis, value) for axis, values in scaling.AXES.items() for value in values]


@pytest.mark.parametrize(("axis", "value"), POINTS)
@pytest.mark.parametrize("is_reversed", [True, False])
def test_a_point_differs_from_the_middle_in_its_own_axis_alone(axis, value, is_reversed):
    point = scaling.Point(**{axis: value}, reversed=is_reversed, seed=3)
    assert point in scaling.points_of([axis], 4)
    data, train = scaling.configs(point, steps=200)
    assert (data.seed, train.training.seed, data.numbers.reversed) == (3, 3, is_reversed)
    assert data.numbers.max == 10 ** (value if axis == "digits" else 4) - 1
    assert data.numbers.base == (value if axis == "base" else 10)
    assert (train.training.max_steps, train.training.eval_every) == (200, 50)
    shape = (train.model.n_layer, train.model.n_head, train.model.n_embd)
    assert shape == scaling.SHAPES[value if axis == "size" else "400k"]


@pytest.fixture
def told(monkeypatch):
    """Runs that are exact from 400 steps on, reversed ones; the others never are."""

    def run_seed(track, data, train: TrainConfig, folder, clock):
        steps = train.training.max_steps
        is_exact = data.numbers.reversed and steps >= 400
        cpu_seconds = sum(os.times()[:4]) + steps / 5
        facts = {"step": steps, "num_parameters": 7, "seconds": steps / 10, "cpu_seconds": cpu_seconds}
        return {**facts, "validation": [9 + is_exact, 10], **({"test": [10, 10]} if is_exact else {})}

    monkeypatch.setattr(scaling, "run_seed", run_seed)


def test_the_schedule_doubles_until_one_ends_exact(told):
    row = scaling.run_point(scaling.Point(base=4))
    assert [attempt["schedule"] for attempt in row["attempts"]] == [100, 200, 400]
    assert scaling.cost(row, "problems") == 400 * scaling.BATCH_SIZE
    never = scaling.run_point(scaling.Point(base=4, reversed=False))
    assert [attempt["schedule"] for attempt in never["attempts"]] == list(scaling.SCHEDULES)
    assert scaling.cost(never, "problems") == math.inf


def test_rows_are_kept_told_and_drawn_and_not_run_again(told, tmp_path, capsys, monkeypatch):
    paths = {"rows": tmp_path / "rows.jsonl", "plot": tmp_path / "images" / "scaling.png"}
    asked = argparse.Namespace(axis="base", seeds=2, plot_only=False, json=True, **paths)
    scaling.main(asked)
    first = capsys.readouterr().out
    rows = json.loads(first.splitlines()[-1])
    assert len(rows) == 2 * 2 * len(scaling.AXES["base"]) == len(paths["rows"].read_text().splitlines())
    assert f"| base | 4 | yes | 7 | 2 of 2 | {400 * scaling.BATCH_SIZE:,}" in first
    assert "| base | 4 | no | 7 | 0 of 2 | never (never to never) | never (never to never) |" in first
    assert paths["plot"].read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(scaling, "run_seed", None)
    scaling.main(asked)
    assert capsys.readouterr().out == first


def test_a_real_run_is_counted_by_its_own_cpu_seconds(monkeypatch):
    monkeypatch.setattr(scaling, "SCHEDULES", (4, 8))
    monkeypatch.setitem(scaling.SHAPES, "400k", (1, 1, 8))
    monkeypatch.setattr(scaling, "NUM_ROWS", 600)
    row = scaling.run_point(scaling.Point(digits=2))
    assert [attempt["exact"] for attempt in row["attempts"]] == [False, False]
    assert all(0 < attempt["cpu_seconds"] < 600 for attempt in row["attempts"])
    assert all(right < total for right, total in (attempt["validation"] for attempt in row["attempts"]))


def test_the_point_where_the_axes_meet_is_run_once_and_told_on_each(told):
    points = scaling.points_of(list(scaling.AXES), 1)
    assert len(points) == len(set(points)) == 2 * (1 + sum(len(values) - 1 for values in scaling.AXES.values()))
    rows = [scaling.run_point(point) for point in points]
    for axis, middle in {"digits": 4, "base": 10, "size": "400k"}.items():
        groups = scaling.grouped(rows, axis)
        assert list(groups) == [(way, value) for way in (True, False) for value in scaling.AXES[axis]]
        assert [scaling.point_of(row) for row in groups[True, middle]] == [scaling.Point()]
