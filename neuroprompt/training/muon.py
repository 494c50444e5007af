"""Muon: hidden matrices move by their momentum made orthogonal, everything else by AdamW.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the step size and weight decay of Liu et al. 2025
(arXiv:2502.16982), at which AdamW's learning rates hold. A policy from scratch comes as far in less than half of the
steps. `torch.optim.Muon` is the same algorithm, for matrices alone, one at a time and in bfloat16, which many CPUs only
emulate.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

QUINTIC = 3.4445, -4.7750, 2.0315  # Jordan's: it draws singular values to between 0.7 and 1.2 in five steps
NEWTON_SCHULZ_STEPS = 5


class Muon(Optimizer):
    """An optimizer of a whole model.

    Args:
        model: Matrices within its blocks are orthogonalised; embeddings, the head, norms and biases are AdamW's.
        lr: AdamW's learning rate. A matrix takes steps of the same root mean square as AdamW's would have (about 0.2).
        betas, eps: AdamW's.
        weight_decay: Decoupled, of everything that has two dimensions.
        momentum: Nesterov's, of the matrices.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
    ):
        outer = [m for m in model.modules() if isinstance(m, nn.Embedding)]
        if head := getattr(model, "get_output_embeddings", lambda: None)():
            outer.append(head)
        outside = {id(p) for module in outer for p in module.parameters()}
        trained = [p for p in model.parameters() if p.requires_grad]
        hidden = [p for p in trained if p.ndim == 2 and id(p) not in outside]
        if not hidden:
            raise ValueError("the model has no hidden matrices to train: use another optimizer")
        groups: list[dict[str, Any]] = [
            {"params": hidden, "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim > 1 and id(p) in outside], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim != 2], "weight_decay": 0.0},
        ]
        super().__init__([group for group in groups if group["params"]], {"lr": lr, "momentum": momentum})
        self._adamw = AdamW(self.param_groups, lr=lr, betas=betas, eps=eps, fused=True)  # moves all but the first
        self._share()

    def _share(self) -> None:
        """One state and one list of groups, so that schedules and checkpoints see one optimizer."""
        self._adamw.param_groups, self._adamw.state = self.param_groups[1:], self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # called by load_state_dict, with new groups
        if "_adamw" in self.__dict__:
            self._share()

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        """Move every parameter that has a gradient. Returns what `closure` does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._adamw.step()
        group = self.param_groups[0]
        alike: dict[tuple, list[nn.Parameter]] = defaultdict(list)
        for matrix in group["params"]:
            if matrix.grad is not None:
                alike[(*matrix.shape, matrix.device, matrix.dtype)].append(matrix)
        for matrices in alike.values():
            moves = orthogonalized(torch.stack([self._momentum(m, group["momentum"]) for m in matrices]))
            size = group["lr"] * 0.2 * max(matrices[0].shape) ** 0.5
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(matrices, list(moves.to(matrices[0].dtype)), alpha=-size)
        return loss

    def _momentum(self, matrix: nn.Parameter, decay: float) -> Tensor:
        state, gradient = self.state[matrix], matrix.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - decay)
        return gradient.lerp(state["momentum"], decay)


def orthogonalized(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values near 1, by Newton and Schulz's iteration.

    The iteration multiplies a matrix by a polynomial of its Gram matrix, so it is followed on Gram matrices, which are
    the smaller the flatter the matrix, and the matrix is multiplied once.

    Args:
        matrices: (count, rows, columns), float32 or float64.

    Returns:
        The same shape. Singular values far below a thousandth of the largest come out below 0.7.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalized(matrices.mT).mT
    a, b, c = QUINTIC
    flat = matrices / matrices.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]  # singular values of at most 1
    gram = flat @ flat.mT
    product = None
    for step in range(NEWTON_SCHULZ_STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step < NEWTON_SCHULZ_STEPS - 1:
            gram = factor @ gram @ factor
    assert product is not None
    return product @ flat
