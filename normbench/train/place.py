"""Putting a norm into a network: where it goes relative to a linear, an activation and a residual sum."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from normbench import contract
from normbench.activations import activation as activation_module
from normbench.contract import Layout, Norm, Site, Unsupported
from normbench.train.initialize import Initializer
from normbench.train.streams import global_stream


@dataclass(frozen=True)
class Placed:
    """A layer that was built at a site; `wraps`: it is the linear there, wrapped by a norm."""

    site: Site
    module: nn.Module
    wraps: bool


class Place(contract.Place):
    """Gives a network its norms: what a task's `network(place, recipe)` is built with.

    The layers are constructed on a stream of their own, so that no norm moves the weights of the network. `batch_size`
    counts the samples that a layer has its statistics from, and `group` are the ranks that share them. `second` is the
    norm of placement "weight" that wraps the linear before the norm, where that is made of two. With `causal`, a norm
    that mixes positions is unsupported at sites of tokens.
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
        second: tuple[Norm, Mapping[str, Any]] | None = None,
        causal: bool = False,
    ) -> None:
        self._norm = norm
        self._params = params
        self._centres = norm.traits_with(params).centres
        self._wraps = (norm, params) if norm.placement == "weight" else second
        self._seed = seed
        self._batch_size = batch_size
        self._group = group
        self._causal = causal
        self.initializer = initializer
        #: What is known of the sites before they are built, and the number of optimizer steps.
        self.survey: Sequence[Site] = ()
        self.steps: int | None = None
        #: The sites so far, the layers built at them, and the site whose layer is being built.
        self.sites: list[Site] = []
        self.layers: list[Placed] = []
        self.building: Site | None = None
        #: Whether a place had no linear for a norm that wraps one.
        self.bare = False
        #: The activations at sites, where they are no part of the layer, and the linears and convolutions before sites.
        self.activations: list[tuple[Site, nn.Module]] = []
        self.linears: list[tuple[Site, nn.Module]] = []
        #: The sites of each residual block by index, and those since the last block.
        self.blocks: list[list[int]] = []
        self._open: list[int] = []
        self._in_block = False

    @property
    def norms(self) -> list[nn.Module]:
        """The layers built so far that are norms alone, and no wrapped linears."""
        return [placed.module for placed in self.layers if not placed.wraps]

    def is_scale_invariant(self, linear: nn.Module) -> bool:
        """Whether rescaling the weights of a linear before a site changes nothing, up to eps, by what norms claim.

        A norm that is scale-invariant follows directly and there is no bias, or such a norm wraps it.
        """
        if self._wraps is not None:
            norm, params = self._wraps
            return norm.traits_with(params).scale_invariant
        follows = self._norm.placement in ("before", "fused") and getattr(linear, "bias", None) is None
        return follows and self._norm.traits_with(self._params).scale_invariant

    @property
    def norm_at(self) -> list[tuple[Site, nn.Module]]:
        """Each site once, with its norm or, where that wraps, with the wrapped linear."""
        at = {placed.site.index: (placed.site, placed.module) for placed in self.layers if placed.wraps}
        at |= {placed.site.index: (placed.site, placed.module) for placed in self.layers if not placed.wraps}
        return [at[index] for index in sorted(at)]

    def norm(
        self, channels: int, layout: Layout, activation: str | None = None, spatial: tuple[int, ...] | None = None
    ) -> nn.Module:
        """Return norm and activation: see `normbench.Place`."""
        self.bare = self.bare or self._wraps is not None
        if self._norm.placement == "weight":
            return activation_module(activation)
        return self._with_activation(self._site(channels, layout, activation, spatial=spatial))

    def __call__(self, linear: nn.Module, activation: str | None = None, layout: Layout | None = None) -> nn.Module:
        """Return linear, norm and activation: see `normbench.Place`."""
        site = self._site(_channels(linear), layout or _layout(linear), activation)
        return _chain(self._prepared(linear, site), self._with_activation(site))

    def sum(
        self,
        linear: nn.Module,
        shortcut: nn.Module | None = None,
        activation: str | None = None,
        layout: Layout | None = None,
    ) -> nn.Module:
        """Return the end of a residual block: see `normbench.Place`."""
        placement = self._norm.placement
        own = None if placement == "fused" else activation
        site = self._site(_channels(linear), layout or _layout(linear), own, ends_branch=placement != "after")
        branch, end = self._prepared(linear, site), self._activation(site, activation)
        if placement == "after":
            end = _chain(end, self._layer(site))
        elif placement != "weight":
            branch = _chain(branch, self._layer(site))
        if not self._in_block:
            self._end_block()
        return ResidualSum(branch, shortcut or nn.Identity(), end)

    @contextmanager
    def block(self) -> Iterator[None]:
        """Count what is placed meanwhile as one residual block: see `normbench.Place`."""
        if self._in_block:
            raise ValueError("place.block() inside of a block; residual blocks are counted one after another")
        self._open, self._in_block = [], True
        try:
            yield
        finally:
            self._in_block = False
            self._end_block()

    def _end_block(self) -> None:
        self.blocks.append(self._open)
        self._open = []

    def _site(
        self,
        channels: int,
        layout: Layout,
        activation: str | None,
        *,
        spatial: tuple[int, ...] | None = None,
        ends_branch: bool = False,
    ) -> Site:
        """Return the next site, with what the survey knows of it."""
        index = len(self.sites)
        site = Site(
            channels, layout, activation, index, spatial, self._group, ends_branch=ends_branch, steps=self.steps
        )
        known = self.survey[index] if index < len(self.survey) else site
        # A network may be another one each time that it is built.
        if (known.channels, known.layout, known.activation) == (channels, layout, activation):
            site = dataclasses.replace(
                site,
                spatial=spatial or known.spatial,
                sites=known.sites,
                block=known.block,
                blocks=known.blocks,
            )
        self.sites.append(site)
        self._open.append(index)
        return site

    def _prepared(self, linear: nn.Module, site: Site) -> nn.Module:
        """Return the linear of a site with its initial weights, wrapped where a norm wraps it.

        Its bias is dropped where the layer directly after it would take it away: its gradient is zero.
        """
        self.initializer(linear)
        if self._centres and self._norm.placement in ("before", "fused"):
            linear.register_parameter("bias", None)
        self.linears.append((site, linear))
        if self._wraps is None:
            return linear
        of_two = [] if self._norm.placement == "weight" else ["with"]
        return self._built(*self._wraps, site, linear, stream=of_two)

    def _with_activation(self, site: Site) -> nn.Module:
        """Return the layer of a site and its activation, in the order that the norm asks for."""
        if self._norm.placement == "weight":
            return self._activation(site, site.activation)
        if self._norm.placement == "fused" or site.activation is None:
            return self._layer(site)  # also where it does nothing: probes look at what computes at a site
        activation, layer = self._activation(site, site.activation), self._layer(site)
        return _chain(layer, activation) if self._norm.placement == "before" else _chain(activation, layer)

    def _activation(self, site: Site, name: str | None) -> nn.Module:
        module = activation_module(name)
        if name is not None:
            self.activations.append((site, module))
        return module

    def _layer(self, site: Site) -> nn.Module:
        return self._built(self._norm, self._params, site)

    def _built(
        self, norm: Norm, params: Mapping[str, Any], site: Site, *wrapped: nn.Module, stream: Sequence[str] = ()
    ) -> nn.Module:
        """Return a norm's layer at a site; with placement "weight", around the linear `wrapped`."""
        check_site(norm, site)
        traits = norm.traits_with(params)
        if self._causal and site.layout == "NLC" and traits.mixes_positions:
            raise Unsupported(f"{norm.name} mixes positions: a token would see later ones, and the task is causal")
        allowed = traits.batch_size_1
        if self._batch_size == 1 and (allowed == "no" or (allowed == "spatial" and site.layout == "NC")):
            raise Unsupported(f"{norm.name} can't train at batch size 1 where a channel has one value per sample")
        self.building = site
        with global_stream(torch.device("cpu"), self._seed, "layer-init", site.index, *stream):
            layer = built(norm, site, params, *wrapped)
        self.building = None
        self.layers.append(Placed(site, layer, wraps=bool(wrapped)))
        return layer


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
