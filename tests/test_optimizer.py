import itertools

import pytest
import torch

from simple_llm.config.settings import Restarts, Training
from simple_llm.training import optimizer
from simple_llm.training.optimizer import build_optimizers, learning_rate_scale, Muon, orthogonalize
from tests.tiny_models import tiny_model

SHAPES = [(8, 8), (8, 24), (24, 8), (16, 64), (64, 16)]


def random_matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- Orthogonalization ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay_and_singular_values_become_about_1(shape):
    matrix = random_matrix(*shape)
    made = orthogonalize(matrix[None], torch.float32)[0]
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    in_svd_basis = u.mT @ made @ vt.mT  # diagonal where the singular vectors are the same
    new_values = in_svd_basis.diagonal()
    kept = values > 0.0102 * values.norm()  # three iterations do not lift the very smallest all the way
    assert kept.sum() >= len(values) - 1
    assert (new_values[kept] > 0.73).all()
    assert (new_values < 1.27).all()
    assert torch.allclose(in_svd_basis, new_values.diag(), atol=1e-4)


def test_matrices_of_a_batch_do_not_meet():
    matrices = torch.stack([random_matrix(8, 24, seed=seed) * 10.0**seed for seed in range(3)])
    together = orthogonalize(matrices, torch.float32)
    for matrix, made in zip(matrices, together, strict=True):
        assert torch.allclose(orthogonalize(matrix[None], torch.float32)[0], made, atol=1e-5)


def test_a_tall_matrix_is_treated_as_the_wide_one_that_is_its_transpose():
    wide = random_matrix(8, 24)
    assert torch.equal(orthogonalize(wide.mT[None], torch.float32)[0], orthogonalize(wide[None], torch.float32)[0].mT)


def test_no_gradient_moves_nothing():
    assert not orthogonalize(torch.zeros(1, 8, 8), torch.float32).any()


@pytest.mark.parametrize("shape", [(128, 512), (512, 128), (256, 400)])
@pytest.mark.parametrize("decades", [0, 2, 5])
def test_wide_matrices_are_orthogonalized_by_their_gram_matrix_to_the_same(monkeypatch, shape, decades):
    """Also where the singular values are far apart, and in bfloat16."""
    left, right = (torch.linalg.qr(random_matrix(size, min(shape), seed=size))[0] for size in shape)
    matrix = (left * torch.logspace(0, -decades, min(shape)) @ right.mT)[None]
    by_gram_matrix = orthogonalize(matrix, torch.float32)
    narrow = orthogonalize(matrix, torch.bfloat16).float()
    monkeypatch.setattr(optimizer, "_LEAST_HEIGHT", 10**9)
    expected = orthogonalize(matrix, torch.float32)
    assert 0 < (by_gram_matrix - expected).norm() < 1e-4 * expected.norm()
    assert (narrow - expected).norm() < 0.1 * expected.norm()


# ---- Muon -----------------------------------------------------------------------------------------


def steps_of(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter, gradients) -> torch.Tensor:
    """The weight after a step with each gradient."""
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_agrees_with_torchs_own(monkeypatch, shape):
    """torch takes (outputs, inputs) weights, this project (inputs, outputs): transposed, the two must agree."""
    polynomial = (3.4445, -4.7750, 2.0315)  # torch's, the same in every step
    monkeypatch.setattr(optimizer, "_NEWTON_SCHULZ", [polynomial] * 5)
    start = random_matrix(*shape)
    gradients = [random_matrix(*shape, seed=seed) for seed in (1, 2, 3)]
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.mT.clone())
    made = steps_of(Muon([ours], **settings, dtype=torch.bfloat16), ours, gradients)
    reference = torch.optim.Muon([theirs], **settings, nesterov=True, adjust_lr_fn="original")
    expected = steps_of(reference, theirs, [gradient.mT for gradient in gradients]).mT
    moved = (expected - start).norm()
    assert (made - expected).norm() < 0.05 * moved  # bfloat16 keeps 8 bits, and norms are taken 1% larger


def test_a_step_of_fused_queries_keys_and_values_is_three_steps():
    start = random_matrix(16, 48)
    gradients = [random_matrix(16, 48, seed=seed) * torch.arange(1, 4).repeat_interleave(16) for seed in (1, 2)]
    fused = torch.nn.Parameter(start.clone())
    group = {"params": [fused], "num_maps": 3}
    together = steps_of(Muon([group], lr=0.1, momentum=0.9, dtype=torch.float32), fused, gradients)
    for index, map_start in enumerate(start.chunk(3, dim=1)):
        single = torch.nn.Parameter(map_start.clone())
        map_gradients = [gradient.chunk(3, dim=1)[index] for gradient in gradients]
        alone = steps_of(Muon([single], lr=0.1, momentum=0.9, dtype=torch.float32), single, map_gradients)
        assert torch.allclose(together.chunk(3, dim=1)[index], alone, atol=1e-5)
    whole = torch.nn.Parameter(start.clone())
    as_one = steps_of(Muon([whole], lr=0.1, momentum=0.9, dtype=torch.float32), whole, gradients)
    assert (as_one - together).abs().max() > 1e-3


def test_weights_of_many_shapes_are_each_stepped_as_if_alone():
    starts = [random_matrix(*shape) for shape in (*SHAPES, (8, 8))]
    gradients = [random_matrix(*start.shape, seed=9 + index) for index, start in enumerate(starts)]
    weights = [torch.nn.Parameter(start.clone()) for start in starts]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    untouched = torch.nn.Parameter(torch.ones(8, 8))  # no gradient
    Muon([*weights, untouched], lr=0.1, dtype=torch.float32).step()
    assert torch.equal(untouched, torch.ones(8, 8))
    for start, gradient, weight in zip(starts, gradients, weights, strict=True):
        alone = torch.nn.Parameter(start.clone())
        expected = steps_of(Muon([alone], lr=0.1, dtype=torch.float32), alone, [gradient])
        assert torch.allclose(weight, expected, atol=1e-5)


# ---- Which optimizer has what ---------------------------------------------------------------------


@pytest.mark.parametrize("position_embedding", ["block", "block_sinusoidal", "none"])
def test_every_parameter_is_in_exactly_one_optimizer(position_embedding):
    model = tiny_model(position_embedding=position_embedding)
    muon, adamw = build_optimizers(model, Training(), torch.float32)
    held = [id(weight) for optimizer in (muon, adamw) for group in optimizer.param_groups for weight in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    of_muon = sorted(names[id(weight)] for group in muon.param_groups for weight in group["params"])
    matrices = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert of_muon == sorted(f"transformer.h.{layer}.{name}.weight" for layer in range(2) for name in matrices)
    fused = [names[id(weight)] for group in muon.param_groups if group["num_maps"] == 3 for weight in group["params"]]
    assert fused == [f"transformer.h.{layer}.attn.c_attn.weight" for layer in range(2)]


def test_the_settings_reach_the_optimizers():
    training = Training(learning_rate=0.5, muon_learning_rate=0.25, muon_momentum=0.75, weight_decay=0.125)
    muon, adamw = build_optimizers(tiny_model(), training, torch.bfloat16)
    assert {(group["lr"], group["momentum"], group["weight_decay"]) for group in muon.param_groups} == {
        (0.25, 0.75, 0.125)
    }
    assert {(group["lr"], group["weight_decay"]) for group in adamw.param_groups} == {(0.5, 0.125)}
    assert muon.dtype == torch.bfloat16


# ---- Schedule -------------------------------------------------------------------------------------


def test_the_learning_rate_rises_to_its_peak_and_falls_to_0():
    training = Training(warmup_steps=20, max_steps=100)
    scales = [learning_rate_scale(step, training) for step in range(101)]
    assert scales[0] == pytest.approx(1 / 21)  # the first step already learns
    assert scales[20] == max(scales) == 1
    assert scales[60] == pytest.approx(0.5)
    assert scales[100] == 0
    assert all(scale > 0 for scale in scales[:100])
    changes = [after - before for before, after in itertools.pairwise(scales)]
    assert changes == pytest.approx([1 / 21] * 20 + [-1 / 80] * 80)


@pytest.mark.parametrize(("warmup_steps", "max_steps"), [(0, 1), (0, 10), (10, 10), (50, 10), (1, 1)])
def test_odd_schedules_stay_between_0_and_1_and_end_at_0(warmup_steps, max_steps):
    training = Training(warmup_steps=warmup_steps, max_steps=max_steps)
    scales = [learning_rate_scale(step, training) for step in range(max_steps + 1)]
    assert all(0 < scale <= 1 for scale in scales[:-1])
    assert scales[-1] == 0


def test_after_the_first_descent_the_learning_rate_falls_again_from_a_part_of_its_peak():
    training = Training(warmup_steps=2, max_steps=25, eval_every=7, restarts=Restarts(first=10, every=5, height=0.4))
    first = Training(warmup_steps=2, max_steps=10)
    scales = [learning_rate_scale(step, training) for step in range(25)]
    assert scales[:10] == [learning_rate_scale(step, first) for step in range(10)]
    assert scales[10:] == pytest.approx(3 * [0.4, 0.32, 0.24, 0.16, 0.08])
    assert [step for step in range(26) if training.is_evaluated(step)] == [7, 10, 14, 15, 20, 21, 25]
    assert [training.end_of_descent(step) for step in (0, 9, 10, 11, 15, 16, 25)] == [10, 10, 10, 15, 15, 20, 25]


def test_a_run_that_may_end_where_it_is_exact_expects_to_at_the_end_of_each_descent():
    restarts = Restarts(first=10, every=5, until_exact=40)
    training = Training(warmup_steps=2, max_steps=25, eval_every=7, eval_problems=9, restarts=restarts)
    assert [training.expected_end(step) for step in (0, 9, 10, 11, 15, 24)] == [10, 10, 15, 15, 20, 25]
    assert [training.num_evaluated(step) for step in (7, 10, 14, 15)] == [9, 40, 9, 40]
    assert [training.is_enough(step, num_exact) for step, num_exact in ((7, 1), (10, 0), (10, 1))] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("max_steps", [7, 10])
def test_a_run_of_no_more_steps_than_the_first_descent_is_one_descent(max_steps):
    training = Training(warmup_steps=2, max_steps=max_steps, restarts=Restarts(first=10, every=5))
    once = Training(warmup_steps=2, max_steps=max_steps)
    scales = [[learning_rate_scale(step, one) for step in range(max_steps)] for one in (training, once)]
    assert scales[0] == scales[1]
    assert training.expected_end(0) == training.end_of_descent(0) == max_steps
