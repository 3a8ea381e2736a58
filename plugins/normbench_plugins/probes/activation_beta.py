"""Effective smoothness of a network in the output of one of its blocks, as a demonstration in the browser draws it.

abaybektursun/why-batchNorm-works takes x, the output of a block, f(x), the sum of the network's outputs (logits), and
g = df/dx, and draws the largest |g(x) - g(x - a g)| / |a g| over a = 0.1, 0.15 ... 0.4. The moments of the norms after
the block are held as they are at x, so that each scales and shifts its channels by fixed numbers. The paper's quantity,
which the probe `smoothness` gives, is another: of weights and the loss, with what the change of the moments adds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import normbench
from normbench_plugins.limits import Index, Reach
from normbench_plugins.probes.smoothness import effective_beta, length

if TYPE_CHECKING:
    from torch import Tensor, nn

    Map: TypeAlias = Callable[[Tensor], Tensor]


class ActivationBeta:
    """Measures the batch of a step, before the step is taken; at each point the same random numbers are drawn.

    The block's output is that of the linear, norm or activation at a site, whichever computes last: the activation
    where norms stand before it, the norm where they stand after.
    """

    def __init__(
        self,
        training: Any,
        every: int = 10,  # noqa: ARG002 - the host counts it
        site: int = 0,
        reach: Sequence[float] = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4),
    ) -> None:
        """Find the block and the norms of the others. Raises Unsupported where the network has no such site."""
        from torch import nn

        if site >= len(training.sites):
            raise normbench.Unsupported(f"site is {site}; the network has sites 0 to {len(training.sites) - 1}")
        self._training, self._site, self._reach = training, site, reach
        linears = [(linear.site, linear.module) for linear in training.linears if linear.site is not None]
        self._block = [module for at, module in (*training.sites, *training.activations, *linears) if at.index == site]
        # A wrapped linear has no moments, and the identity is what it is.
        wrapped = {module for _, module in linears}
        self._others = [
            (at, module)
            for at, module in training.sites
            if at.index != site and not isinstance(module, nn.Identity) and wrapped.isdisjoint(module.modules())
        ]

    def on_step(self, step: int) -> dict[str, Tensor]:  # noqa: ARG002 - the same at every step
        """Return the series `beta`, a number; inf where something is not finite.

        Raises Unsupported where the moments of a norm after the block can't be held, and where the loss is computed by
        parts of the network alone.
        """
        import torch

        training, outputs = self._training, []
        with training.untouched():
            training.network.requires_grad_(False)  # the gradient is that of x alone
            block, x = self._hold()
            x.requires_grad_()
            training.network.register_forward_hook(lambda *computed: outputs.append(computed[2]))

            def gradient(move: Tensor | float) -> Tensor:
                replaced = block.register_forward_hook(lambda *_: x - move)
                training.loss()
                replaced.remove()
                if not outputs:
                    raise normbench.Unsupported(
                        "the loss does not call the network itself, whose outputs are asked for"
                    )
                (found,) = torch.autograd.grad(outputs.pop().sum(), x, materialize_grads=True)
                return found

            here = gradient(0.0)
            changes = [length([here - gradient(a * here)]) for a in self._reach]
        return {"beta": effective_beta(changes, length([here]), self._reach)}

    def _hold(self) -> tuple[nn.Module, Tensor]:
        """Return the module of the block and what it gives; the norms after it compute from now on what they do there.

        That is within `untouched`. Raises Unsupported where a norm can't be held so.
        """
        block: list[Any] = []
        held: dict[nn.Module, tuple[normbench.Site, Map | None]] = {}

        def in_block(module: nn.Module, _: Any, output: Tensor) -> None:
            block[:] = module, output.clone()  # what follows may write to it
            held.clear()  # those before

        def elsewhere(site: normbench.Site, module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            held[module] = site, _scale_and_shift(given[0], output, site.layout.index("C"))

        hooks = [module.register_forward_hook(in_block) for module in self._block]
        hooks += [module.register_forward_hook(functools.partial(elsewhere, site)) for site, module in self._others]
        self._training.loss()
        for hook in hooks:
            hook.remove()
        if not block:
            raise normbench.Unsupported(f"nothing at site {self._site} is a module that computes")
        for module, (site, at_x) in held.items():
            if at_x is None:
                raise normbench.Unsupported(
                    f"the norm at site {site.index}, {type(module).__name__}, does not scale and shift each channel by "
                    "one number, so that its moments can't be held"
                )
            module.forward = at_x
        return block[0], block[1]


def _scale_and_shift(given: Tensor, output: Tensor, channels: int) -> Map | None:
    """Return the map that a norm is at an input, scale * input + shift per channel, and None where it is no such map.

    `channels` is the axis of the channels. Scale and shift are a least squares fit, in double precision; a channel that
    is the same in all the batch stays what it is.
    """
    import torch

    over = [axis for axis in range(given.dim()) if axis != channels]
    x, y = given.double(), output.double()
    mean = x.mean(over, keepdim=True)
    centred = x - mean
    variance = centred.square().mean(over, keepdim=True)
    scale = (centred * y).mean(over, keepdim=True) / variance.where(variance > 0, 1.0)
    shift = y.mean(over, keepdim=True) - scale * mean
    terms = (scale * x).abs() + shift.abs()  # whose rounding is the norm's
    off = (torch.addcmul(shift, scale, x) - y).abs()
    if (off.amax(over) > torch.finfo(output.dtype).eps ** 0.5 * terms.amax(over)).any():
        return None
    computes_in = torch.promote_types(output.dtype, torch.float32)
    scale, shift = scale.to(computes_in), shift.to(computes_in)
    return lambda moved: torch.addcmul(shift, scale, moved).to(output.dtype)


PROBES = [
    normbench.Probe(
        "activation-beta",
        "normbench_plugins.probes.activation_beta:ActivationBeta",
        summary="Effective smoothness of the outputs in a block's output, with the moments of later norms held",
        params={"every": 10, "site": 0, "reach": (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)},
        types={"site": Index, "reach": Reach},
    )
]
