"""Putting a norm into a network: where it goes relative to a linear, an activation and a residual sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from normbench import contract
from normbench.contract import Layout, Norm, Site, Unsupported
from normbench.train.initialize import Initializer
from normbench.train.streams import global_stream

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Place(contract.Place):
    """Gives a network its norms: what a task's `network(place, recipe)` is built with.

    The layers are constructed on a stream of their own, so that no norm moves the weights of the network. `batch_size`
    counts the samples that a layer has its statistics from, and `group` are the ranks that share them.
    """

    def __init__(
        self,
        norm: Norm,
        params: Mapping[str, Any],
        *,
        seed: int,
        batch_size: int,
        initializer: Initializer,
        group: Any = None,
    ) -> None:
        self._norm = norm
        self._params = dict(params)
        self._traits = norm.traits_with(params)
        self._seed = seed
        self._batch_size = batch_size
        self._group = group
        self.initializer = initializer
        #: The layers built so far, each with its site, and the site whose layer is being built.
        self.layers: list[tuple[Site, nn.Module]] = []
        self.building: Site | None = None
        #: Whether a place had no linear for a norm that wraps one.
        self.bare = False

    @property
    def norms(self) -> list[nn.Module]:
        """The layers built so far that are norms alone, and no wrapped linears."""
        return [] if self._norm.placement == "weight" else [layer for _, layer in self.layers]

    def norm(
        self, channels: int, layout: Layout, activation: str | None = None, spatial: tuple[int, ...] | None = None
    ) -> nn.Module:
        """Return norm and activation: see `normbench.Place`."""
        if self._norm.placement == "weight":
            self.bare = True
            return activation_module(activation)
        normalized = self._layer(channels, layout, activation, spatial=spatial)
        if self._norm.placement == "before":
            return _chain(normalized, activation_module(activation))
        if self._norm.placement == "after":
            return _chain(activation_module(activation), normalized)
        return normalized

    def __call__(self, linear: nn.Module, activation: str | None = None, layout: Layout | None = None) -> nn.Module:
        """Return linear, norm and activation: see `normbench.Place`."""
        layout = layout or _layout(linear)
        channels = _channels(linear)
        self.initializer(linear)
        if self._norm.placement == "weight":
            return _chain(self._layer(channels, layout, activation, linear), activation_module(activation))
        self._drop_bias(linear)
        return _chain(linear, self.norm(channels, layout, activation))

    def sum(
        self,
        linear: nn.Module,
        shortcut: nn.Module | None = None,
        activation: str | None = None,
        layout: Layout | None = None,
    ) -> nn.Module:
        """Return the end of a residual block: see `normbench.Place`."""
        layout = layout or _layout(linear)
        channels = _channels(linear)
        self.initializer(linear)
        act, skip = activation_module(activation), shortcut or nn.Identity()
        placement = self._norm.placement
        if placement == "weight":
            return ResidualSum(self._layer(channels, layout, activation, linear), skip, act)
        if placement == "after":
            return ResidualSum(linear, skip, _chain(act, self._layer(channels, layout, activation)))
        self._drop_bias(linear)
        normalized = self._layer(channels, layout, None if placement == "fused" else activation)
        return ResidualSum(_chain(linear, normalized), skip, act)

    @contextmanager
    def block(self) -> Iterator[None]:
        """Count what is placed meanwhile as one residual block: see `normbench.Place`."""
        yield

    def _layer(
        self,
        channels: int,
        layout: Layout,
        activation: str | None,
        *wrapped: nn.Module,
        spatial: tuple[int, ...] | None = None,
    ) -> nn.Module:
        """Return the layer at the next site; with placement "weight", around the linear `wrapped`."""
        site = Site(channels, layout, activation, len(self.layers), spatial, self._group)
        check_site(self._norm, site)
        allowed = self._traits.batch_size_1
        if self._batch_size == 1 and (allowed == "no" or (allowed == "spatial" and layout == "NC")):
            raise Unsupported(f"{self._norm.name} can't train at batch size 1 where a channel has one value per sample")
        self.building = site
        with global_stream(torch.device("cpu"), self._seed, "layer-init", site.index):
            layer = built(self._norm, site, self._params, *wrapped)
        self.building = None
        self.layers.append((site, layer))
        return layer

    def _drop_bias(self, linear: nn.Module) -> None:
        """Drop the bias of a linear where the layer directly after it would take it away: its gradient is zero."""
        if self._norm.placement in ("before", "fused") and self._traits.centres:
            linear.register_parameter("bias", None)


class ResidualSum(nn.Module):
    """end(branch(x) + shortcut(skip))."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, end: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.end = branch, shortcut, end

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Add the branch's and the shortcut's outputs, which have one shape."""
        result: Tensor = self.end(self.branch(x) + self.shortcut(skip))
        return result


def check_site(norm: Norm, site: Site) -> None:
    """Raise Unsupported where a norm does not have the site's layout."""
    if site.layout not in norm.layouts:
        raise Unsupported(f"{norm.name} has no form for layout {site.layout}; it has {', '.join(sorted(norm.layouts))}")


def built(norm: Norm, site: Site, params: Mapping[str, Any], *wrapped: nn.Module) -> nn.Module:
    """Build a norm's layer and check that it is a module."""
    module = norm.build(site, params, *wrapped)
    if not isinstance(module, nn.Module):
        raise TypeError(f"norm {norm.name!r}: layer returned {module!r}; it returns a torch.nn.Module")
    return module


def activation_module(name: str | None) -> nn.Module:
    """Return an activation by name; None is the identity. Raises ValueError for a name that is not known."""
    if name is None:
        return nn.Identity()
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not known; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def _chain(*modules: nn.Module) -> nn.Module:
    """Return the modules one after another, without those that do nothing."""
    kept = [module for module in modules if type(module) is not nn.Identity]
    return kept[0] if len(kept) == 1 else nn.Sequential(*kept)


def _layout(linear: nn.Module) -> Layout:
    if isinstance(linear, nn.Conv2d | nn.ConvTranspose2d):
        return "NCHW"
    if isinstance(linear, nn.Conv1d | nn.ConvTranspose1d):
        return "NCL"
    if isinstance(linear, nn.Linear):
        return "NC"
    raise TypeError(f"{type(linear).__name__} is no linear or convolution of one or two dimensions: name its layout")


def _channels(linear: nn.Module) -> int:
    for name in ("out_channels", "out_features"):
        if isinstance(getattr(linear, name, None), int):
            return int(getattr(linear, name))
    raise TypeError(f"{type(linear).__name__} has neither out_channels nor out_features")
