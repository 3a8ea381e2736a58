"""What a network tells its norms before it is built: it is built once with placeholders, and given a few samples.

This is done on the CPU, and moves nothing: the network is thrown away, and generators are put back as they were.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from normbench.activations import activation
from normbench.contract import Norm, Site, Traits
from normbench.train.initialize import Initializer
from normbench.train.place import Place, Placed
from normbench.train.streams import global_stream
from normbench.trials import Trial

#: The latest surveys, each with what it was made for: trials of one network repeat none.
_made: deque[tuple[Any, tuple[Site, ...]]] = deque(maxlen=16)


class _Placeholder(nn.Module):
    """Where a norm would be: the activation that a fused one includes, or nothing."""

    def __init__(self, included: str | None) -> None:
        super().__init__()
        self.activation = activation(included)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.activation(x)
        return result


def surveyed(
    trial: Trial, norm: Norm, network: Callable[[Place], nn.Module], inputs: Callable[[], Tensor], made_for: Any
) -> tuple[Site, ...]:
    """Return the sites of a trial's network, apart from `group` and `steps`; none where it can't be built.

    `network` builds it, and `inputs` gives a few samples on the CPU, as it is trained on them. Both may depend on all
    of the recipe but its rate, and on what `made_for` says. Where the network can't compute with them, `spatial` is
    what it said itself: what is wrong is said by the training.
    """
    centres = norm.traits_with(trial.params).centres
    key = (made_for, trial.task_params, msgspec.structs.replace(trial.recipe, rate=1.0), norm.placement, centres)
    known = next((sites for made, sites in _made if made == key), None)
    if known is None:
        known = _survey(trial, _stand_in(norm, centres=centres), network, inputs)
        _made.append((key, known))
    return known


def _stand_in(norm: Norm, *, centres: bool) -> Norm:
    """Return a norm of the same placement that normalizes nothing."""

    def layer(site: Site) -> nn.Module:
        return _Placeholder(site.activation if norm.placement == "fused" else None)

    def wrap(site: Site, module: nn.Module) -> nn.Module:  # noqa: ARG001 - a layer's signature
        return module

    return Norm(
        norm.name,
        wrap if norm.placement == "weight" else layer,
        summary="A placeholder",
        placement=norm.placement,
        traits=Traits(centres=centres),
    )


def _survey(
    trial: Trial, norm: Norm, network: Callable[[Place], nn.Module], inputs: Callable[[], Tensor]
) -> tuple[Site, ...]:
    place = Place(norm, {}, seed=0, batch_size=2, initializer=Initializer(trial.recipe, 0))
    with global_stream(torch.device("cpu"), 0, "survey"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            built = network(place)
        except (Exception, SystemExit):
            return ()
        spatial = _spatial(place.layers, built, inputs)
    blocks = {index: number for number, sites in enumerate(place.blocks) for index in sites}
    return tuple(
        dataclasses.replace(
            site,
            spatial=site.spatial or spatial.get(site.index),
            sites=len(place.sites),
            block=blocks.get(site.index),
            blocks=len(place.blocks),
        )
        for site in place.sites
    )


def _spatial(layers: list[Placed], network: nn.Module, inputs: Callable[[], Tensor]) -> dict[int, tuple[int, ...]]:
    """Return the sizes that a network has at its sites, by index, apart from N and C; none where they are several."""
    seen: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    for placed in layers:
        placed.module.register_forward_hook(_noting(placed.site, seen[placed.site.index]))
    with torch.no_grad(), suppress(Exception, SystemExit):
        samples = inputs()
        network.eval()(samples)
        if not all(seen.values()):  # what computes in training alone
            network.train()(samples)
    return {index: next(iter(sizes)) for index, sizes in seen.items() if len(sizes) == 1}


def _noting(site: Site, seen: set[tuple[int, ...]]) -> Callable[[nn.Module, Any, Tensor], None]:
    """Return a hook that notes the sizes of a layer's output."""

    def note(module: nn.Module, given: Any, output: Tensor) -> None:  # noqa: ARG001 - a hook's
        if output.dim() == len(site.layout):
            seen.add(tuple(size for size, axis in zip(output.shape, site.layout, strict=True) if axis not in "NC"))

    return note
