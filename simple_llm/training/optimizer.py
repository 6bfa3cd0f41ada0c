"""Muon for the matrices inside the blocks, AdamW for everything else, and how fast they go.

Shape letters in this file: M matrices of one shape, R rows, C columns.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from simple_llm.config.settings import Training
from simple_llm.files.weights import tensor_bytes
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM

# a, b, c of the polynomials a s + b s^3 + c s^5, each the closest to 1 on what those before it make of [0.01, 1]
# (Polar Express, Amsel et al., arXiv 2505.16932). Three send that interval to 1 +- 0.27, which takes five steps with
# the one polynomial that Muon was published with.
_NEWTON_SCHULZ = ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
# Rows of a matrix for `_by_gram_matrix`: of one with 8 bfloat16 makes singular values up to 1.8 there.
_LEAST_HEIGHT = 128


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Replace the singular values of each matrix by about 1: U S V^T becomes about U V^T.

    Args:
        matrices: (M, R, C).
        dtype: of the arithmetic; bfloat16 is enough where the processor multiplies it fast.

    Returns:
        (M, R, C) in `dtype`.
    """
    is_tall = matrices.size(1) > matrices.size(2)
    x = (matrices.mT if is_tall else matrices).to(dtype)  # (M, short, long)
    x = x / (x.norm(dim=(1, 2), keepdim=True) * 1.01 + 1e-7)
    is_wide = x.size(2) > 1.5 * x.size(1) and x.size(1) >= _LEAST_HEIGHT
    x = _by_gram_matrix(x) if is_wide else _by_itself(x)  # whichever has fewer operations
    return x.mT if is_tall else x


def _by_itself(x: Tensor) -> Tensor:
    """Apply each polynomial to what those before it made of X: (M, short, long) -> (M, short, long)."""
    for a, b, c in _NEWTON_SCHULZ:
        gram = torch.bmm(x, x.mT)  # (M, short, short)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


def _by_gram_matrix(x: Tensor) -> Tensor:
    """Multiply the polynomials first: X X^T is what they need of X, and what becomes of it follows without X.

    Of a matrix four times as long as high that is 17 products of short matrices where `_by_itself` takes 27.
    """
    first, *others = _NEWTON_SCHULZ
    gram = torch.bmm(x, x.mT)  # (M, short, short)
    product = polynomial = _polynomial(gram, first)
    for coefficients in others:
        gram = torch.bmm(torch.bmm(polynomial, gram), polynomial)
        polynomial = _polynomial(gram, coefficients)
        product = torch.bmm(polynomial, product)
    return torch.bmm(product, x)


def _polynomial(gram: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    """a I + b G + c G^2: (M, short, short) -> (M, short, short)."""
    a, b, c = coefficients
    inner = gram * c
    inner.diagonal(dim1=1, dim2=2).add_(b)
    polynomial = torch.bmm(gram, inner)
    polynomial.diagonal(dim1=1, dim2=2).add_(a)
    return polynomial


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized (Jordan et al., https://kellerjordan.github.io/posts/muon).

    Weights are (inputs, outputs), as in GPT-2's Conv1D. Matrices of one shape are orthogonalized in one batch. A
    group with `num_maps` = 3 holds weights that are three maps side by side, such as q, k and v in c_attn; each
    map is orthogonalized by itself.

    Args:
        params: weights or groups of weights, all two-dimensional.
        lr: step size of a square matrix; one with more outputs than inputs gets sqrt(outputs / inputs) times it.
        dtype: of the orthogonalization.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "num_maps": 1})
        self.dtype = dtype

    @torch.no_grad()
    def step(self) -> None:
        """Update every weight that has a gradient."""
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor, float]]] = defaultdict(list)
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(momentum, group["momentum"])  # Nesterov: look one step ahead
                if group["weight_decay"]:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                maps = zip(weight.chunk(group["num_maps"], dim=1), update.chunk(group["num_maps"], dim=1), strict=True)
                for weight_map, update_map in maps:
                    inputs, outputs = weight_map.shape
                    step_size = group["lr"] * max(1.0, outputs / inputs) ** 0.5
                    if inputs > outputs:  # so that tall and wide matrices share a batch
                        weight_map, update_map = weight_map.mT, update_map.mT
                    by_shape[tuple(weight_map.shape)].append((weight_map, update_map, step_size))
        for matrices in by_shape.values():
            directions = orthogonalize(torch.stack([update for _, update, _ in matrices]), self.dtype)  # (M, R, C)
            for (weight, _, step_size), direction in zip(matrices, directions, strict=True):
                weight.add_(direction, alpha=-step_size)


def build_optimizers(
    model: SimpleLLMForCausalLM, training: Training, dtype: torch.dtype
) -> tuple[Muon, torch.optim.AdamW]:
    """Give the matrices inside the blocks to Muon and embeddings, norms and biases to AdamW.

    Args:
        dtype: of Muon's orthogonalization.
    """
    fused, single, rest = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if ".h." in name and parameter.ndim == 2:
            (fused if name.endswith("c_attn.weight") else single).append(parameter)
        else:
            rest.append(parameter)
    muon = Muon(
        [{"params": fused, "num_maps": 3}, {"params": single}],
        lr=training.muon_learning_rate,
        momentum=training.muon_momentum,
        weight_decay=training.weight_decay,
        dtype=dtype,
    )
    adamw = torch.optim.AdamW(
        rest, lr=training.learning_rate, betas=(0.9, 0.95), weight_decay=training.weight_decay, fused=True
    )
    return muon, adamw


def state_bytes(optimizers: tuple[torch.optim.Optimizer, ...]) -> int:
    """The size of the optimizers' state once every weight has been stepped: Muon keeps one tensor of it, AdamW two."""
    return sum(
        (1 if isinstance(optimizer, Muon) else 2) * tensor_bytes(group["params"])
        for optimizer in optimizers
        for group in optimizer.param_groups
    )


def learning_rate_scale(step: int, training: Training) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then linear decay to 0, again and again if so set."""
    warmup_steps, restarts, last_step = training.warmup_steps, training.restarts, training.first_descent
    if restarts and step >= last_step:
        return restarts.height * (1 - (step - last_step) % restarts.every / restarts.every)
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    decay = (last_step - step) / max(1, last_step - warmup_steps)
    return min(warmup, decay)
