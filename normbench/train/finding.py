"""Where a network that anyone has built has its norms, activations and linears, as it is seen when it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from normbench.activations import ACTIVATIONS
from normbench.contract import Layout, Site
from normbench.train.looking import Linear, linears

#: The norms of torch; all batch and instance norms are of the first kind.
_NORMS: Final = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_LINEARS: Final = (nn.Linear, _ConvNd)
_ACTIVATIONS: Final[dict[type[nn.Module], str]] = {getattr(nn, kind): name for name, kind in ACTIVATIONS.items()}


class Found(NamedTuple):
    """What `normbench.train.looking.View` has by these names."""

    sites: list[tuple[Site, nn.Module]]
    activations: list[tuple[Site, nn.Module]]
    linears: list[Linear]


class _Call(NamedTuple):
    """A module has computed; `read` and `written` are torch's counts of writes to both tensors, right after it.

    `convolved`: the linear before it, or itself, is a convolution.
    """

    module: nn.Module
    given: Tensor
    output: Tensor
    read: int
    written: int
    convolved: bool


class _Place(NamedTuple):
    """A norm, and the activation that it goes into; or, twice, an activation alone."""

    first: _Call
    activation: _Call | None


def found(network: nn.Module, compute: Callable[[], object], norms: Sequence[type[nn.Module]] = ()) -> Found:
    """Return the sites of a network, the activations there, and all its linears and convolutions.

    Sites are seen when `compute` lets the network compute, and are in the order in which they do. A norm is a site,
    with the activation that its very output goes into, where one does; an activation without such a norm is a site
    whose layer is an `nn.Identity`. `norms` are types of norms beside torch's own; what is inside of a norm is part of
    it. Of a module that computes several times, the last time counts. Left out are sites of a layout that normbench
    does not have, and whatever is computed by functions.

    A linear is scale-invariant where it has no bias and its output goes straight into a norm of torch's. Hooks are left
    behind on the modules.
    """
    calls = _calls(network, compute, (*_NORMS, *norms))
    laid_out = [(place, layout) for place in _places(calls) if (layout := _layout(place.first)) is not None]
    at = [(_site(place, layout, i, len(laid_out)), place) for i, (place, layout) in enumerate(laid_out)]
    entries = {id(place.first.given): (site, place.first) for site, place in at}
    before = {}
    for call in calls:
        if isinstance(call.module, _LINEARS) and id(call.output) in entries:
            site, into = entries[id(call.output)]
            straight = call.written == into.read and getattr(call.module, "bias", None) is None
            before[id(call.module)] = site, straight and _is_scale_invariant(into.module)
    return Found(
        [(site, nn.Identity() if place.first is place.activation else place.first.module) for site, place in at],
        [(site, place.activation.module) for site, place in at if place.activation is not None],
        list(linears(network, before)),
    )


def _calls(network: nn.Module, compute: Callable[[], object], norms: tuple[type[nn.Module], ...]) -> list[_Call]:
    """Return the last call of each norm, activation and linear, in order; their tensors live as long."""
    calls: dict[nn.Module, _Call] = {}
    convolved = False

    def note(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        nonlocal convolved
        given = next((one for one in (*inputs, *named.values()) if isinstance(one, Tensor)), None)
        if given is None or not isinstance(output, Tensor):
            return
        if isinstance(module, _LINEARS):
            convolved = isinstance(module, _ConvNd)
        calls.pop(module, None)
        calls[module] = _Call(module, given, output, given._version, output._version, convolved)

    inside = {part for norm in network.modules() if isinstance(norm, norms) for part in [*norm.modules()][1:]}
    for module in network.modules():
        if isinstance(module, (*norms, *_LINEARS, *_ACTIVATIONS)) and module not in inside:
            module.register_forward_hook(note, with_kwargs=True)
    compute()
    return list(calls.values())


def _places(calls: Iterable[_Call]) -> list[_Place]:
    """Return the places of norms and activations, in order."""
    places: list[_Place] = []
    after_norm: dict[int, int] = {}  # the place of a norm by its output
    for call in calls:
        if isinstance(call.module, _LINEARS):
            continue
        if not isinstance(call.module, tuple(_ACTIVATIONS)):
            after_norm[id(call.output)] = len(places)
            places.append(_Place(call, None))
        elif id(call.given) in after_norm:
            at = after_norm.pop(id(call.given))
            places[at] = _Place(places[at].first, call)
        else:
            places.append(_Place(call, call))
    return places


def _layout(call: _Call) -> Layout | None:
    """Return the layout of what a norm or an activation is given; None for one that normbench does not have."""
    shape, module = call.given.shape, call.module
    if isinstance(module, _NormBase | nn.GroupNorm):
        tokens = False
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        tokens = shape[-1:] == module.normalized_shape
    else:
        tokens = not call.convolved
    layouts: dict[tuple[int, bool], Layout] = {(3, True): "NLC", (3, False): "NCL", (4, False): "NCHW"}
    return "NC" if len(shape) == 2 else layouts.get((len(shape), tokens))


def _site(place: _Place, layout: Layout, index: int, sites: int) -> Site:
    spatial = list(place.first.given.shape[1:])
    channels = spatial.pop(layout.index("C") - 1)
    activation = None
    if place.activation is not None:
        kinds = type(place.activation.module).__mro__
        activation = next(_ACTIVATIONS[kind] for kind in kinds if kind in _ACTIVATIONS)
    return Site(channels, layout, activation, index, tuple(spatial) or None, sites=sites)


def _is_scale_invariant(module: nn.Module) -> bool:
    """Whether it is a norm of torch's that takes the moments of its input."""
    if isinstance(module, _NormBase):
        return module.training or not module.track_running_stats
    return isinstance(module, _NORMS)
