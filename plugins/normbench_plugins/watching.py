"""What probes share that watch modules compute: their inputs or outputs in a step's forward, and numbers per site."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    import normbench

T = TypeVar("T")


def watched(
    training: Any,
    modules: Iterable[tuple[normbench.Site, nn.Module]],
    measure: Callable[[normbench.Site, nn.Module, Tensor], T],
    *,
    inputs: bool = False,
) -> dict[int, T]:
    """Return what `measure` makes of the output of each module, or of its input, by the index of its site.

    It measures while the network computes the loss of the step's batch at the present weights, in training mode and
    without a graph. Of a module that computes several times the last is kept; one that does not compute is left out.
    """
    import torch

    found: dict[int, T] = {}

    def watch(site: normbench.Site, module: nn.Module) -> None:
        def hook(_: nn.Module, given: tuple[Tensor, ...], output: Tensor | None = None) -> None:
            found[site.index] = measure(site, module, (given[0] if output is None else output).detach())

        if inputs:
            module.register_forward_pre_hook(hook)
        else:
            module.register_forward_hook(hook)

    with training.untouched(), torch.no_grad():  # which takes the hooks away
        for site, module in modules:
            watch(site, module)
        training.loss()
    return found


def but_channels(site: normbench.Site, values: Tensor) -> list[int]:
    """Return the axes of a tensor in a site's layout that are not that of its channels."""
    channels = values.dim() - 1 if site.layout == "NLC" else 1
    return [axis for axis in range(values.dim()) if axis != channels]


def by_site(names: Sequence[str], sites: int, found: Mapping[int, Iterable[Any]]) -> dict[str, list[float]]:
    """Return a vector for each name with a number per site, NaN where none was found, from the numbers of each site."""
    missing = [float("nan")] * len(names)
    rows = [[float(number) for number in found.get(site, missing)] for site in range(sites)]
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
