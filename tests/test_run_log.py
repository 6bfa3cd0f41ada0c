from simple_llm.run_log import read_metrics, RunLog


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
