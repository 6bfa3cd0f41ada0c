"""Work on paper beside the usual way: the same problems for each, and what counts as within training."""

import json

import pytest

from runs import usual_way
from simple_llm.arithmetic import BY_NAME
from simple_llm.config.loading import load_configs
from simple_llm.errors import UsageError
from tests.forked import fork_script
from tests.pipeline import REPOSITORY

pytestmark = pytest.mark.library

FEW = ["storage.num_sequences=3000", "model.n_layer=1", "model.n_head=2", "model.n_embd=16", "training.batch_size=16"]


def test_rows_and_parameters_are_those_of_work_on_paper():
    data, train = load_configs(usual_way.DATA, usual_way.TRAIN_CONFIG, ["numbers.operands=2"])
    paper_data, paper = load_configs(usual_way.DATA, REPOSITORY / "runs/speedrun/E.yaml", [])
    assert data.numbers.sizes == paper_data.numbers.sizes
    assert (train.model.scratchpad, train.model.attention_window) == ("none", None)
    assert paper.model.scratchpad == "columns"


@pytest.mark.parametrize(
    ("sizes", "num_digits"),
    [
        ("{multiply: [5, 4]}", {"multiply": 4, "add": 3}),
        ("{divide: [7, 5]}", {"divide": 7, "subtract": 3}),  # 7 by 4 is within 7 by 5
        ("{divide: [7, 3]}", {"divide": 6}),  # a problem of 7 digits has a divisor of 4
    ],
)
def test_what_is_within_training_goes_by_the_shorter_number_and_twice_the_divisor(sizes, num_digits):
    shares = [f"operations.{name}=0.25" for name in ("add", "subtract", "multiply", "divide")]
    overrides = ["numbers.max=999", "numbers.base=10", f"numbers.sizes={sizes}", *shares]
    data, _ = load_configs(REPOSITORY / "data_config.yaml", REPOSITORY / "train_config.yaml", overrides)
    found = {name: usual_way.trained_digits(data.numbers, BY_NAME[name]) for name in num_digits}
    assert found == num_digits


def test_lengths_without_positions_are_refused_before_training():
    data, train = load_configs(usual_way.DATA, usual_way.TRAIN_CONFIG, ["numbers.operands=2"])
    usual_way.refuse_long_answers(data, train, 12)
    with pytest.raises(UsageError, match=r"model\.n_positions=27"):
        usual_way.refuse_long_answers(data, train, 13)


def test_a_short_run_asks_both_models_the_same_and_draws_them(tmp_path):
    picture = tmp_path / "usual.png"
    arguments = [
        "--seconds",
        "0.2",
        "--times",
        "3",
        "--lengths",
        "1:3",
        "--samples",
        "10",
        "--plot",
        str(picture),
        *FEW,
    ]
    result = fork_script("runs/usual_way.py", *arguments, cwd=REPOSITORY).end()
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    short, long = told["runs"]
    assert (short["seconds"], long["seconds"]) == (0.2, pytest.approx(0.6))
    assert long["steps"] == pytest.approx(3 * short["steps"], abs=2)
    for run in told["runs"]:
        asked = [(score["operation"], score["num_digits"]) for score in run["lengths"]]
        assert asked == [(name, digits) for name in ("add", "subtract", "multiply", "divide") for digits in (1, 2, 3)]
        assert all(0 <= score["correct"] <= score["total"] <= 10 for score in run["lengths"])
    assert [score["total"] for score in short["lengths"]] == [score["total"] for score in long["lengths"]]
    assert result.stdout.count("\n| multiply | the usual way, ") == 2
    assert picture.read_bytes().startswith(b"\x89PNG")
