import numpy as np

from runs.failure_map import draw_margins
from simple_llm.evaluation.pictures import draw_accuracy, draw_curve


def check_picture(path):
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [one.name for one in path.parent.iterdir()] == [path.name]  # and no half-written one beside it


def test_the_curve_is_drawn_with_and_without_carry_chains(tmp_path):
    metrics = [
        {"step": 0, "num_correct": 0, "num_total": 9},
        {"step": 0, "loss": 3.0},
        {"step": 10, "loss": 1.0},
        {"step": 20, "num_correct": 6, "num_total": 9},
    ]
    draw_curve(metrics, tmp_path / "curve.png")
    check_picture(tmp_path / "curve.png")
    metrics[0]["by_longest_carry_chain"] = {"0": [0, 5], "1": [0, 4]}
    metrics[3]["by_longest_carry_chain"] = {"0": [5, 5], "1": [1, 4]}
    draw_curve(metrics, tmp_path / "curve.png")
    check_picture(tmp_path / "curve.png")


def test_accuracy_is_drawn_where_some_cells_are_empty(tmp_path):
    cells = [
        {"digits_of_x": 1, "digits_of_y": 1, "correct": 3, "total": 4},
        {"digits_of_x": 2, "digits_of_y": 3, "correct": 0, "total": 1},
    ]
    draw_accuracy({"by_lengths": cells, "again": cells[:1]}, tmp_path / "evaluation.png")
    check_picture(tmp_path / "evaluation.png")


def test_margins_are_drawn_a_pixel_a_pair(tmp_path):
    margins = np.array([[1.0, np.inf, -3.0], [0.5, 2.0, 7.0], [-9.0, np.inf, 0.0]], np.float32)
    draw_margins(margins, 99, 10, "three by three", tmp_path / "map.png")
    check_picture(tmp_path / "map.png")
