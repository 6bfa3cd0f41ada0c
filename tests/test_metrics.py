import json
import logging

import pytest

from simple_llm.evaluation.pictures import draw_curve
from simple_llm.files.ours import ANYTHING, claim
from simple_llm.run_log import events
from simple_llm.training.metrics import read_metrics, RunLog


def write(path, start_step: int, lines: list[tuple[int, str]]) -> None:
    log = RunLog(path, start_step)
    for step, key in lines:
        log.write(step, **({"num_correct": 1, "num_total": 2} if key == "score" else {key: 0.5}))
    log.close()


def shown(path) -> list[tuple[int, str]]:
    return [(line["step"], "score" if "num_correct" in line else "loss") for line in read_metrics(path)]


def test_a_run_that_goes_on_shows_every_step_once(tmp_path):
    """A checkpoint is written after its step's evaluation and before its step's training."""
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [(0, "score"), (0, "loss"), (10, "score"), (10, "loss"), (20, "score"), (20, "loss")])
    write(path, 10, [(10, "loss"), (20, "score")])
    assert shown(path) == [(0, "score"), (0, "loss"), (10, "score"), (10, "loss"), (20, "score")]


def test_a_new_run_forgets_the_old_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [(0, "score"), (0, "loss"), (10, "loss")])
    write(path, 0, [(0, "score")])
    assert shown(path) == [(0, "score")]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 0, [(0, "score"), (0, "loss")])
    with path.open("a") as file:
        file.write('{"step": 10, "lo')
    assert shown(path) == [(0, "score"), (0, "loss")]
    write(path, 5, [(10, "loss")])
    assert shown(path) == [(0, "score"), (0, "loss"), (10, "loss")]
    assert read_metrics(tmp_path / "none") == []


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def heard():
    handler = Heard()
    events.addHandler(handler)
    yield handler.lines
    events.removeHandler(handler)


SCORE = {"step": 10, "num_correct": 1, "num_total": 2, "by_longest_carry_chain": {"0": [1, 2]}}


@pytest.mark.parametrize(
    "damaged",
    [
        *(b'{"step": 10, "lo', b"\xff\xfe", b"\0" * 20, b"[" * 100_000, b"3", b"null", b"[1]", b'{"loss": 0.5}'),
        *(json.dumps({"step": step, "loss": 0.5}).encode() for step in ("10", None, True, 1.5)),
        *(json.dumps({"step": 10, "loss": loss}).encode() for loss in ("x", None, [1])),
        *(json.dumps({**SCORE, "num_total": total}).encode() for total in (0, "2", None, -3)),
        *(
            json.dumps({**SCORE, "by_longest_carry_chain": chains}).encode()
            for chains in (3, [1], {"x": [1, 2]}, {"0": 1}, {"0": [1]}, {"0": [0, 0]}, {"0": ["1", 2]})
        ),
        json.dumps({"step": 10, "num_correct": 1}).encode(),
    ],
)
def test_a_damaged_line_is_left_out_with_a_warning_and_the_run_goes_on(tmp_path, heard, damaged):
    path = tmp_path / "metrics.jsonl"
    claim(tmp_path, {path.name: ANYTHING})
    whole = json.dumps({"step": 0, "loss": 0.7}).encode(), json.dumps({**SCORE, "step": 20}).encode()
    path.write_bytes(b"\n".join([whole[0], damaged, whole[1], b""]))
    write(path, 20, [(20, "loss")])
    assert heard == [f"{path}: line 2 is damaged and left out"]
    assert shown(path) == [(0, "loss"), (20, "score"), (20, "loss")]
    read_metrics(path)
    assert len(heard) == 1  # what was written again is whole


def test_a_curve_of_which_nothing_is_left_is_drawn_all_the_same(tmp_path):
    for lines in ([], [{"step": 3, "loss": 0.5}], [SCORE]):
        draw_curve(lines, tmp_path / "curve.png")
        assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
