"""Online normalization (Chiley et al. 2019, arXiv 1905.05894), exact, and vectorised over the batch.

The samples of a batch are a stream, in their order. Sample t is normalized by exponentially weighted statistics of the
samples before it, y = (x - mean) / sqrt(var + eps); then mean and var move (equations 8a-c). Autograd through that
would give g / sqrt(var + eps). Here two errors a channel, accumulated in the backward, correct it, so that in the long
run the gradient has, like batch norm's, no part along y (v, equations 11a-b) and no mean (u, equations 12a-b). Where a
sample has several values a channel, their mean and variance take part in all this; nothing is averaged over samples.

All that is sequential concerns numbers of the shape (N, C), one a sample and channel. It is computed in float64, so
that neither autocast nor TF32 can touch it; on a CPU without autocast in x's type, or float32 for half precision.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm, hardtanh

import normbench
from normbench_plugins.layers.affine import add_affine
from normbench_plugins.layers.online_norm_steps import SCALING_EPS, Constants, Samples, backward, forward
from normbench_plugins.layers.rows import at_least_float32, check_shape, from_rows, to_rows
from normbench_plugins.layers.state import Float32State


class OnlineNorm(Float32State):
    """Online normalization with gamma and beta, and with a compensation E of the error that the stale statistics leave.

    Input and output have the shape that `layout` says: (N, C), (N, C, L), (N, C, H, W) or (N, L, C). A sample is what
    belongs to one index along N; in NLC its L tokens are its space, as pixels are, and share their statistics.

    The output is E(gamma y + beta). E(p) is p / sqrt(mean(p^2) + 1e-5), the mean over all features of a sample
    ("layer-scaling", as in the paper); or p clipped to [-clamp, clamp], with gradient 0 at the bounds and beyond
    ("clamp"); or p ("none"). It is the same in evaluation, which uses the last mean and variance and moves nothing.

    A forward in training moves `running_mean` and `running_var`, under `no_grad` too. A backward moves `u` and `v`, so
    several forwards before a backward move them in the order of the backwards, and a backward that is repeated
    (`retain_graph`) moves them again. Activation checkpointing repeats the forward, which then counts the batch twice:
    don't wrap this layer in it. There is no double backward.

    Input gradients stay bounded as long as the mean of y^2 over a sample is below 2 / (1 - alpha_backward), apart from
    outliers.

    Raises ValueError for an input of another shape than the layout's.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor
    u: Tensor
    v: Tensor

    def __init__(
        self,
        channels: int,
        layout: str = "NCHW",
        *,
        alpha_forward: float = 0.999,
        alpha_backward: float = 0.99,
        eps: float = 1e-5,
        affine: bool = True,
        compensation: str = "layer-scaling",
        clamp: float = 5.0,
    ) -> None:
        super().__init__()
        self.channels, self.layout = channels, layout
        self.constants = Constants(alpha_forward, alpha_backward, eps, compensation, clamp)
        add_affine(self, channels, affine)
        # In the paper: mu, sigma^2, epsilon^(1) and epsilon^(y).
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("u", torch.zeros(channels))
        self.register_buffer("v", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized input, in its shape and dtype."""
        check_shape(x, self.layout, self.channels)
        return self._train(x) if self.training else self._evaluate(x)

    def _train(self, x: Tensor) -> Tensor:
        rows, space = (x, 2) if self.layout == "NC" else to_rows(x, self.layout)
        if rows.dim() == 3 and rows.shape[space] == 1:
            rows, space = rows.squeeze(space), 2
        state = (self.running_mean, self.running_var, self.u, self.v)
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            z, mean, var, *_ = OnlineNormalization.apply(rows, self.weight, self.bias, *state, self.constants, space, 1)
            self.running_mean.copy_(mean)
            self.running_var.copy_(var)
        else:
            z = _Eager.apply(rows, self.weight, self.bias, state, self.constants, space)
        return z if self.layout == "NC" else from_rows(z, space, self.layout, x.shape)

    def _evaluate(self, x: Tensor) -> Tensor:
        constants, values = self.constants, at_least_float32(x)
        # Batch norm's channels come before the space.
        tokens = values.flatten(0, 1) if self.layout == "NLC" else values
        mean, var = self.running_mean.to(values.dtype), self.running_var.to(values.dtype)
        gamma, beta = (None if one is None else one.to(values.dtype) for one in (self.weight, self.bias))
        p = batch_norm(tokens, mean, var, gamma, beta, eps=constants.eps).view_as(values)
        if constants.compensation == "layer-scaling":
            norm = torch.linalg.vector_norm(p, dim=tuple(range(1, p.dim())), keepdim=True)
            gain = torch.rsqrt(norm.square() * (len(p) / max(p.numel(), 1)) + SCALING_EPS)
            p = p * gain if torch.is_grad_enabled() else p.mul_(gain)
        elif constants.compensation == "clamp":
            p = hardtanh(p, -constants.clamp, constants.clamp)
        return p.to(x.dtype)

    def extra_repr(self) -> str:
        """Return what the layer is made with."""
        values = {"layout": self.layout, **self.constants._asdict(), "affine": self.weight is not None}
        return ", ".join([str(self.channels), *(f"{name}={value!r}" for name, value in values.items())])


class OnlineNormalization(torch.autograd.Function):
    """What `OnlineNorm` does in training, from the state before a batch to the state after it, as vmap can take it.

    It takes x as (N, C), (N, C, S) or (N, S, C), gamma and beta or None, the four tensors of state, each (C,), the
    constants, the axis of S (2 where there is none), and how many lanes, layers of the same constants, lie side by side
    in the channels. The forward changes none of them; the backward writes to u and v, which `vmap` gives it as
    (lanes, C).
    """

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        u: Tensor,  # noqa: ARG004 - the backward's
        v: Tensor,  # noqa: ARG004 - the backward's
        constants: Constants,
        space: int,
        lanes: int,
    ) -> tuple[Tensor, ...]:
        """Return z, the mean and variance after the batch, and the samples."""
        z, mean, var, samples = forward(x, weight, bias, mean.flatten(), var.flatten(), False, constants, space, lanes)
        return z, mean, var, *[tensor for tensor in samples if tensor is not None]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the backward needs; u and v on `ctx`, as a saved tensor may not change before its backward."""
        x, weight, bias, _, _, ctx.u, ctx.v, *ctx.others = inputs
        ctx.save_for_backward(x, weight, bias, *output[3:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        """Return the controlled gradient of x, and those of gamma and beta, which the control doesn't touch."""
        x, weight, bias, *samples = ctx.saved_tensors
        gradients = backward(grad, x, weight, bias, Samples(*samples), ctx.u, ctx.v, False, *ctx.others)
        return *gradients, *[None] * 7

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        *others: Any,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Compute all lanes at once, side by side in the channels."""
        *state, constants, space, inner = others
        state_dims = in_dims[3:7]
        if None in state_dims:
            raise ValueError("the state is shared by all lanes; it has to be stacked: torch.func.stack_module_state")
        lanes, channels = info.batch_size, 3 - space
        outputs = OnlineNormalization.apply(
            _lanes_first(x, in_dims[0], lanes).movedim(0, channels).flatten(channels, channels + 1),
            None if weight is None else _lanes_first(weight, in_dims[1], lanes).flatten(),
            None if bias is None else _lanes_first(bias, in_dims[2], lanes).flatten(),
            # Not flattened, which could copy: the backward writes to u and v.
            *(_lanes_first(tensor, dim, lanes) for tensor, dim in zip(state, state_dims, strict=True)),
            constants,
            space,
            lanes * inner,
        )
        dims = (channels, 0, 0, *[1] * (len(outputs) - 3))
        return tuple(output.unflatten(dim, (lanes, -1)) for output, dim in zip(outputs, dims, strict=True)), dims


class _Eager(torch.autograd.Function):
    """The same for one layer. Its calls are cheaper than those of a function that vmap can take, by half a batch norm.

    The forward moves the mean and the variance itself.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        state: tuple[Tensor, Tensor, Tensor, Tensor],
        constants: Constants,
        space: int,
    ) -> Tensor:
        """Return z."""
        running_mean, running_var, ctx.u, ctx.v = state
        z, mean, var, samples = forward(x, weight, bias, running_mean, running_var, _fast(x), constants, space, 1)
        running_mean.copy_(mean)
        running_var.copy_(var)
        ctx.others = constants, space, 1
        ctx.save_for_backward(x, weight, bias, *samples)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, gamma and beta."""
        x, weight, bias, *samples = ctx.saved_tensors
        gradients = backward(grad, x, weight, bias, Samples(*samples), ctx.u, ctx.v, _fast(x), *ctx.others)
        return *gradients, None, None, None


def _fast(x: Tensor) -> bool:
    """Return whether x is on a CPU, where a look at numbers is free, and nothing makes a matrix product less exact."""
    if x.device.type != "cpu" or not x.numel():  # batch norm's backward divides by the number of values
        return False
    return torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled("cpu")


def _lanes_first(tensor: Tensor, dim: int | None, lanes: int) -> Tensor:
    """Return a view with the lanes as its first axis; a tensor without lanes is repeated."""
    return tensor.expand(lanes, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def layer(
    site: normbench.Site,
    alpha_forward: float = 0.999,
    alpha_backward: float = 0.99,
    eps: float = 1e-5,
    affine: bool = True,
    compensation: str = "layer-scaling",
    clamp: float = 5.0,
) -> nn.Module:
    """Return online norm; the decays count samples, whatever the batch size."""
    return OnlineNorm(
        site.channels,
        site.layout,
        alpha_forward=alpha_forward,
        alpha_backward=alpha_backward,
        eps=eps,
        affine=affine,
        compensation=compensation,
        clamp=clamp,
    )
