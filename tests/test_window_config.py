import pytest

WINDOW = ("model.attention_window={left: 0, right: 1}", "model.tokens_per_step=1")


def test_a_window_and_a_period_make_a_model_that_knows_every_length(load):
    _, train = load(*WINDOW, "model.position_period=3", "model.n_positions=4")
    assert train.model.knows_every_length
    assert (train.model.attention_window.left, train.model.attention_window.right) == (0, 1)
    assert not load(*WINDOW)[1].model.knows_every_length


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (("model.attention_window={left: 0, right: 1}",), "set model.tokens_per_step=1"),
        ((*WINDOW, "model.position_embedding=learned", "model.n_positions=99"), "set model.position_embedding=block"),
        ((*WINDOW, "numbers.reversed=false"), "no carry is in view"),
        (("model.position_period=3",), "would look the same; set model.attention_window"),
        ((*WINDOW, "model.position_period=1"), "set at least 2"),
        ((*WINDOW, "model.position_period=4"), "never go past 4 places"),
        ((*WINDOW, "model.position_period=3", "model.n_positions=3"), "set at least 4"),
        (("model.attention_window={left: -1, right: 1}", "model.tokens_per_step=1"), "model.attention_window.left"),
        (("model.attention_window={lft: 1, right: 1}", "model.tokens_per_step=1"), "did you mean left"),
    ],
)
def test_windows_that_cannot_work_are_refused_with_the_reason(errors, settings, part):
    lines = errors(*settings)
    assert any(part in line for line in lines), lines
