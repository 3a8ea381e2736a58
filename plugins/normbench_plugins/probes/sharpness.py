"""The largest eigenvalues of the Hessian of the loss: how sharp it is in its sharpest directions.

They come from Lanczos' method with full reorthogonalization (Golub & Van Loan 2013, Matrix Computations, section 10.3).
It needs the Hessian's products with vectors alone: gradients of gradients, both in reverse mode (Pearlmutter 1994).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import normbench
from normbench_plugins.limits import Count

if TYPE_CHECKING:
    from torch import Tensor

#: Lanczos' method ends once each residual is below this share of its eigenvalue.
RESIDUAL = 1e-2
#: How far from symmetric rounding makes a Hessian, as a share of its length.
ASYMMETRY = 1e-2


class Sharpness:
    """Gives the `count` largest eigenvalues of the Hessian of the batch's loss, in all weights that learn.

    The statistics of the batch change with the weights, and random draws are those of the step. The Hessian is
    multiplied with at most `iterations` vectors, but with `count` where that is more, and with two at least: a single
    one does not tell whether it is symmetric.
    """

    def __init__(self, training: Any, every: int = 50, count: int = 1, iterations: int = 20) -> None:  # noqa: ARG002
        self._training, self._count, self._iterations = training, count, max(iterations, count, 2)

    def on_step(self, step: int) -> Mapping[str, Any]:
        """Return the series `eigenvalue`, `residual` and `relative`.

        `eigenvalue`: the largest first, a number where `count` is 1, else (count,). One that is there several times is
        found once; where there are fewer, the rest are NaN. `residual`, in the same form: |Hx - ax| / |a| of each
        eigenvalue a that was found, with its vector x of length 1; the Hessian has an eigenvalue within this share
        of a. `relative`: the largest eigenvalue times the square of the weights' length.

        Raises Unsupported where a layer has no second derivative and where, at step 0, the Hessian is not symmetric.
        """
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        weights = [weight for weight in self._training.network.parameters() if weight.requires_grad]
        own = torch.Generator().manual_seed(step)
        start = torch.randn(sum(weight.numel() for weight in weights), generator=own).to(weights[0])
        # The faster kernels of attention have no second derivative.
        with self._training.untouched(), sdpa_kernel(SDPBackend.MATH):
            product = hessian_product(self._training.loss(), weights)
            values, residuals, asymmetry = largest(product, start, self._count, self._iterations)
        # Later the loss may be so near 0 that rounding alone does this.
        if step == 0 and asymmetry > ASYMMETRY:
            why = "a layer has no second derivative, or a gradient of its own"
            raise normbench.Unsupported(f"the Hessian is not symmetric: {why}")
        length = torch.cat([weight.detach().flatten() for weight in weights]).norm().item()
        relative = values[0] * length**2
        if self._count == 1:
            values, residuals = values[0], residuals[0]
        return {"eigenvalue": values, "residual": residuals, "relative": relative}


def hessian_product(loss: Tensor, weights: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what multiplies the Hessian of a loss in the weights, n numbers, with a vector, (n,).

    It raises Unsupported where there is no second derivative.
    """
    import torch

    gradients = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
    gradient = torch.cat([one.flatten() for one in gradients])

    def product(vector: Tensor) -> Tensor:
        try:
            rows = torch.autograd.grad(gradient, weights, vector, retain_graph=True, materialize_grads=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise normbench.Unsupported(f"a layer has no second derivative: {error}") from None
        return torch.cat([row.flatten() for row in rows])

    return product


def largest(
    product: Callable[[Tensor], Tensor], start: Tensor, count: int, iterations: int
) -> tuple[Tensor, Tensor, float]:
    """Return the largest eigenvalues of a symmetric matrix, (count,), and their residuals as shares of them.

    `product` multiplies the matrix with a vector of the shape of `start`. NaN stands where there are fewer, and
    everywhere where a product is not finite. The third is how far the matrix is from symmetric, as a share of its
    length: all of its projection is computed, not the three diagonals alone that a symmetric one has.
    """
    import torch
    from torch.nn.functional import pad

    basis = start.new_empty(iterations, len(start))
    projection = torch.zeros(iterations, iterations, dtype=torch.float64)
    image, length = start, start.norm().item()
    for k in range(iterations):
        basis[k] = image / length
        if k:
            projection[k, k - 1] = length
        image = product(basis[k])
        for _ in range(2):  # once more for what rounding left
            along = basis[: k + 1] @ image
            image = image - along @ basis[: k + 1]
            projection[: k + 1, k] += along.cpu()
        length = image.norm().item()
        if not math.isfinite(length):
            return torch.full((count,), math.nan), torch.full((count,), math.nan), 0.0
        square = projection[: k + 1, : k + 1]
        symmetric = (square + square.T) / 2
        values, vectors = (found.flip(-1)[..., :count] for found in torch.linalg.eigh(symmetric))
        residuals = vectors[-1].abs() * length / values.abs()
        exhausted = length <= 100 * torch.finfo(start.dtype).eps * symmetric.norm()
        if exhausted or (k and len(values) == count and bool((residuals <= RESIDUAL).all())):
            break
    missing = (0, count - len(values))
    asymmetry = ((square - symmetric).norm() / symmetric.norm()).item()
    return pad(values, missing, value=math.nan), pad(residuals, missing, value=math.nan), asymmetry


PROBES = [
    normbench.Probe(
        "sharpness",
        "normbench_plugins.probes.sharpness:Sharpness",
        summary="Largest eigenvalues of the Hessian of the loss",
        params={"every": 50, "count": 1, "iterations": 20},
        types={"count": Count, "iterations": Count},
    )
]
