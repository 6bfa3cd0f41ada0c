import json

import numpy as np

from runs import lengths
from runs.failure_map import draw_margins
from simple_llm.evaluation.pictures import draw_accuracy, draw_curve
from tests.pipeline import REPOSITORY

DOCS = REPOSITORY / "docs"


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


def test_what_is_kept_for_pictures_stands_in_the_results():
    rows = [line.split(" | ") for line in (DOCS / "RESULTS.md").read_text(encoding="utf-8").splitlines()]
    runs = json.loads((DOCS / "lengths.json").read_text())
    for scheme, name in zip(lengths.SCHEMES, ("window", "random offset", "learned", "sinusoidal", "none"), strict=True):
        of_seeds = [one for one in runs if one["scheme"] == scheme]
        [row] = [
            row for row in rows if row[0].startswith(f"| {name}") and row[1] == f"{of_seeds[0]['num_parameters']:,}"
        ]
        for cell, *scores in zip(row[3:10], *(one["lengths"] for one in of_seeds), strict=True):
            counts = [score["correct"] for score in scores]
            assert cell in (", ".join(map(str, counts)), f"{counts[0]} x {len(counts)}" * (len(set(counts)) == 1))
    cells = [cell.removesuffix(" |") for row in rows for cell in row]
    for document in json.loads((DOCS / "decode.json").read_text()).values():
        for rate in document["rates"].values():
            shown = "{median:,} ({min:,} to {max:,})".format(**rate)
            assert any(cell.startswith(shown) for cell in cells), shown


def test_lengths_are_drawn_a_panel_a_kind_of_positions(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(lengths, "save_figure", lambda figure, path: drawn.append(figure))
    lengths.draw(json.loads((DOCS / "lengths.json").read_text()), tmp_path / "lengths.png")
    panels = {axes.get_title(): axes.lines[-1].get_ydata() for axes in drawn[0].axes}
    assert list(panels) == [scheme.replace("_", " ") for scheme in lengths.SCHEMES]
    assert list(panels["window"]) == [1.0] * 7
    assert list(panels["none"]) == [38 / 200] + [0.0] * 6  # the median of 36, 38 and 62
