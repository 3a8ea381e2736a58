"""A norm under test at one layout: it builds its layers, and draws their inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn

from normbench.contract import Layout, Norm, Site, Task, Traits, Unsupported, function, named_by
from normbench.registry import GROUP, Offered, Plugin, Registry
from normbench.testing.results import NotApplicable
from normbench.train.place import built
from normbench.train.streams import generator, global_stream

#: Sizes of the axes that are neither N nor C, in the inputs of checks: small, and no two alike.
SPATIAL: Mapping[Layout, tuple[int, ...]] = {"NC": (), "NCL": (6,), "NCHW": (4, 3), "NLC": (5,)}
#: Those for a norm that can't have these: even, and powers of two.
EVEN: Mapping[Layout, tuple[int, ...]] = {"NC": (), "NCL": (8,), "NCHW": (4, 4), "NLC": (8,)}
#: The numbers of channels that are tried for a norm, the first that it has a form for counts.
CHANNELS = (8, 16, 32, 64, 3, 1)
CPU = torch.device("cpu")


def linear(layout: Layout, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """Return a linear, or for maps a convolution of size 3."""
    if layout in ("NC", "NLC"):
        return nn.Linear(inputs, outputs)
    kind = nn.Conv1d if layout == "NCL" else nn.Conv2d
    return kind(inputs, outputs, 3, stride, padding=1)


def registry_of(task: Task, *norms: Norm) -> Registry:
    """Return a registry of a task and norms alone."""
    checks = Plugin("checks", "checks", GROUP)
    return Registry(
        norms={norm.name: Offered(norm, checks) for norm in norms}, tasks={task.name: Offered(task, checks)}
    )


@dataclass(frozen=True)
class Subject:
    """A norm with its parameters at one layout. What is drawn depends on `seed` alone.

    With placement "weight" a layer is a wrapped linear, or a 3 x 3 convolution, from C channels to as many: its weights
    are multiplied by `factor`, and to those of the first output channel `shift` is added. `group` are the ranks that a
    layer computes on. If `late`, steps are the last of a training.
    """

    norm: Norm
    params: Mapping[str, Any]
    layout: Layout
    seed: int = 0
    plugin: Plugin | None = None
    group: Any = None
    late: bool = False
    factor: float = 1.0
    shift: float = 0.0

    @cached_property
    def traits(self) -> Traits:
        """What the norm claims with these parameters."""
        return self.norm.traits_with(self.params)

    @property
    def every_param(self) -> dict[str, Any]:
        """All parameters, those that are not given at their defaults."""
        return {**self.norm.params, **self.params}

    @property
    def wraps(self) -> bool:
        """Whether a layer is a wrapped linear."""
        return self.norm.placement == "weight"

    @property
    def axis(self) -> int:
        """The axis of the channels."""
        return self.layout.index("C")

    @property
    def spatial(self) -> tuple[int, ...]:
        """The sizes of the axes that are neither N nor C, unless a check asks for others."""
        return self._sizes[1] if self._sizes else SPATIAL[self.layout]

    @cached_property
    def channels(self) -> int:
        """The number of channels, unless a check asks for another: the first of `CHANNELS` that the norm can have.

        Twice as many where it can't have half of them: as many groups as channels would be another norm.
        """
        if self._sizes is None:
            raise NotApplicable(f"it supports none of {', '.join(map(str, CHANNELS))} channels in {self.layout}")
        channels = self._sizes[0]
        return channels if self._can_have(channels // 2) or not self._can_have(2 * channels) else 2 * channels

    @cached_property
    def _sizes(self) -> tuple[int, tuple[int, ...]] | None:
        """The first number of channels, and sizes of the other axes, that the norm can have; None where it has none."""
        for spatial, channels in itertools.product((SPATIAL[self.layout], EVEN[self.layout]), CHANNELS):
            try:
                self._built(self._site(channels, spatial, None))
            except Unsupported:
                continue
            except Exception:  # for a check to say
                return channels, spatial
            return channels, spatial
        return None

    def _can_have(self, channels: int) -> bool:
        try:
            self._built(self._site(channels, self.spatial, None))
        except Exception:  # whatever says that these channels don't divide
            return False
        return True

    @cached_property
    def activation(self) -> str | None:
        """The activation that a fused layer includes, unless a check asks for another: a smooth one where it can."""
        for activation in ("silu", "relu") if self.norm.placement == "fused" else ():
            with suppress(Unsupported):
                self._built(self._site(self.channels, self.spatial, activation))
                return activation
        return None

    def with_params(self, **params: Any) -> Subject:
        """Return the same norm with other values of some parameters."""
        return replace(self, params={**self.params, **params})

    def layer(
        self,
        channels: int | None = None,
        *,
        spatial: tuple[int, ...] | None = None,
        activation: str | EllipsisType | None = ...,
        dtype: torch.dtype = torch.float32,
        steps: int | None = None,
    ) -> nn.Module:
        """Return a new layer, in training mode; two of the same arguments begin alike. Raises Unsupported.

        What is left out is as in all checks: `channels`, `spatial` and `activation`.
        """
        chosen = self.activation if isinstance(activation, EllipsisType) else activation
        site = self._site(channels or self.channels, self.spatial if spatial is None else spatial, chosen, steps)
        layer = self._built(site)
        if dtype != torch.float32:  # what it is in float32 is the layer's own
            cast: Any = layer._apply
            cast(lambda value: value.to(dtype) if value.is_floating_point() else value)
        return layer.train()

    def built_bare(self) -> nn.Module:
        """Return a layer that was built with the global generators as they are, and left as it leaves them."""
        wrapped = [self.linear(self.channels)] if self.wraps else []
        return self.norm.build(self._site(self.channels, self.spatial, self.activation), self.params, *wrapped)

    def moved(self, layer: nn.Module) -> nn.Module:
        """Give a layer's parameters and none of its buffers values that are not those it began with; return it.

        A check of gamma at 1 and beta at 0 would miss what a layer does with them.
        """
        draws = generator(self.seed, "check", "moved")
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=draws).to(parameter))
        return layer

    def input(
        self,
        samples: int = 8,
        channels: int | None = None,
        *,
        spatial: tuple[int, ...] | None = None,
        mean: float = 0.0,
        std: float = 1.0,
        dtype: torch.dtype = torch.float32,
        draw: int = 0,
    ) -> Tensor:
        """Return normal numbers in the layout's shape; `draw` numbers inputs that are to differ."""
        shape = self.shape(samples, channels, spatial)
        numbers = torch.randn(shape, generator=generator(self.seed, "check", "input", draw), dtype=torch.float64)
        return (mean + std * numbers).to(dtype)

    def shape(
        self, samples: int, channels: int | None = None, spatial: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """Return the shape of an input."""
        count, sizes = channels or self.channels, self.spatial if spatial is None else spatial
        return (samples, *sizes, count) if self.layout == "NLC" else (samples, count, *sizes)

    def gradient(self, like: Tensor, draw: int = 0) -> Tensor:
        """Return a random gradient for an output: one of ones is removed by every norm that centres, and hides much."""
        numbers = torch.randn(
            like.shape, generator=generator(self.seed, "check", "gradient", draw), dtype=torch.float64
        )
        return numbers.to(like.dtype)

    def called(self, call: Callable[[], Any]) -> Any:
        """Call something with the global generators at a start that is the same each time."""
        with global_stream(CPU, self.seed, "check", "layer"):
            return call()

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Return a layer's output; what it draws is the same each time."""
        output: Tensor = self.called(lambda: layer(x))
        return output

    def reference(
        self,
        layer: nn.Module,
        x: Tensor,
        *,
        channels: int,
        spatial: tuple[int, ...] | None = None,
        module: nn.Module | None = None,
    ) -> Tensor:
        """Return what the norm's own definition gives, from the state of a layer that has not computed on x yet."""
        define = function(self.norm.reference)  # type: ignore[arg-type]
        state = {name: value.detach().clone() for name, value in [*layer.named_parameters(), *layer.named_buffers()]}
        named = {**self.every_param, "training": layer.training, "module": module}
        site = self._site(channels, self.spatial if spatial is None else spatial, self.activation)
        defined: Tensor = define(x, site, state, **named_by(define, named))
        return defined

    def linear(self, channels: int) -> nn.Module:
        """Return the linear, or convolution, that a layer of placement "weight" wraps."""
        with global_stream(CPU, self.seed, "check", "linear"):
            wrapped = linear(self.layout, channels, channels)
        assert isinstance(wrapped.weight, Tensor)
        with torch.no_grad():
            wrapped.weight *= self.factor
            wrapped.weight[0] += self.shift
        return wrapped

    def _site(self, channels: int, spatial: tuple[int, ...], activation: str | None, steps: int | None = None) -> Site:
        # Within a block, and not the first: a layer may be for blocks alone, or count them.
        known = {"group": self.group, "spatial": spatial, "sites": 3, "steps": steps or 100, "block": 1, "blocks": 3}
        return Site(channels, self.layout, activation, **known)

    def _built(self, site: Site) -> nn.Module:
        wrapped = [self.linear(site.channels)] if self.wraps else []
        with global_stream(CPU, self.seed, "check", "layer-init"):
            return built(self.norm, site, self.params, *wrapped)
