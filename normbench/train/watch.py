"""What a dry run sees of a network's norms: which of them computes, what goes in and comes out, and what it learns."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from normbench.contract import Site
from normbench.train.module import Training
from normbench.train.place import Place, Placed

#: How far a number may be off in a second try on a GPU, relative to its size. On a CPU the bits are the same.
TOLERANCE = 1e-2


class Refused(Exception):  # noqa: N818 - what the host says of a layer, not what the layer raised
    """What is wrong with the layer of a site or, where the site is None, with the task."""

    def __init__(self, site: Site | None, what: str) -> None:
        super().__init__(what)
        self.site = site


@dataclass(frozen=True)
class Seen:
    """A tensor of a dry run: whose it is (None: no layer's), what it is, a number for all of it, whether some is nan.

    The number is a checksum of the bits on a CPU (`exact`), and elsewhere a length.
    """

    site: Site | None
    what: str
    number: float
    nan: bool
    exact: bool

    def same(self, other: Seen) -> bool:
        """Whether another try saw the same."""
        if (self.site, self.what, self.nan) != (other.site, other.what, other.nan):
            return False
        return self.number == other.number or (
            not self.exact and math.isclose(self.number, other.number, rel_tol=TOLERANCE, abs_tol=1e-6)
        )


class Watch:
    """Follows a step through the layers of a network, forward and backward.

    Where `mixed`, a layer may return another type than it is given, as torch's own do under autocast.
    """

    def __init__(self, *, mixed: bool) -> None:
        #: The site whose layer computes.
        self.site: Site | None = None
        self.seen: list[Seen] = []
        self._mixed = mixed
        self._overwrites: Site | None = None
        self._version = 0
        self._learned: set[int] = set()
        self._walked: set[Any] = set()
        self._handles: list[RemovableHandle] = []

    def begin(self, place: Place, module: Training) -> None:
        """Watch a training, and the layers that `place` has built; the weights it trains are those of its optimizer."""
        self._learned = {id(value) for group in module.optimizer.param_groups for value in group["params"]}
        self._handles.append(module.register_forward_hook(lambda module, part, loss: self._lost(loss)))  # noqa: ARG005
        for placed in place.layers:
            enter, leave = functools.partial(self._enter, placed), functools.partial(self._leave, placed)
            self._handles += [
                placed.module.register_forward_pre_hook(enter),
                placed.module.register_forward_hook(leave),
            ]

    def end(self) -> None:
        """Leave the layers alone: one may be used again, where it should not be."""
        for handle in self._handles:
            handle.remove()

    def _lost(self, loss: Tensor) -> None:
        self.see(None, "the loss", loss)
        self.check_trained(loss)

    def see(self, site: Site | None, what: str, value: Tensor) -> None:
        """Note a tensor."""
        value = value.detach()
        exact = value.device.type == "cpu"
        if exact:
            bits: Any = value.reshape(-1).contiguous().view(torch.uint8).numpy()
            number = float(zlib.crc32(bits))
        else:
            number = float(value.double().nan_to_num().norm())
        self.seen.append(Seen(site, what, number, bool(value.isnan().any()), exact))

    def to_blame(self, reason: str) -> Site | None:
        """Return the site whose layer made a step fail, or None where that was none of them."""
        if self.site is None and "modified by an inplace operation" in reason:
            return self._overwrites
        return self.site

    def trains(self, parameter: nn.Parameter) -> bool:
        """Whether the optimizer has a parameter."""
        return id(parameter) in self._learned

    def check_trained(self, output: Tensor, site: Site | None = None) -> None:
        """Raise Refused where an output is computed with a weight that the optimizer does not have.

        The part of its graph that was looked at before is left out, so that a weight is found behind its own layer.
        """
        todo = [output.grad_fn]
        while todo:
            node = todo.pop()
            if node is None or node in self._walked:
                continue
            self._walked.add(node)
            todo += [before for before, _ in node.next_functions]
            leaf: Any = getattr(node, "variable", None) if type(node).__name__ == "AccumulateGrad" else None
            if isinstance(leaf, nn.Parameter) and not self.trains(leaf):
                raise Refused(
                    site,
                    f"it computes with a weight of shape {tuple(leaf.shape)} that no optimizer has and nothing trains; "
                    "make weights in __init__, and keep modules as attributes or in a ModuleList",
                )

    def _enter(self, placed: Placed, layer: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ARG002 - a hook's
        site, given = placed.site, inputs[0]
        if not placed.wraps:
            _check_layout(site, given)
        self.site = site
        self._version = given._version
        self.see(None, f"what the norm at site {site.index} is given", given)
        if given.requires_grad:
            given.register_hook(functools.partial(self._at, None))

    def _leave(self, placed: Placed, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG002
        site, given = placed.site, inputs[0]
        if not isinstance(output, Tensor):
            raise Refused(site, f"the layer returned {type(output).__name__}; it returns a tensor")
        self._check_output(placed, given, output)
        if given._version != self._version:
            self._overwrites = self._overwrites or site
        self.see(site, "its output" if torch.is_grad_enabled() else "its output in evaluation", output)
        self.check_trained(output, site)
        if output.requires_grad:
            output.register_hook(functools.partial(self._at, site))  # type: ignore[no-untyped-call]
        self.site = None

    def _at(self, site: Site | None, gradient: Tensor) -> None:  # noqa: ARG002 - a hook's
        """Note, as a tensor's gradient is known, whose layer backward computes next."""
        self.site = site

    def _check_output(self, placed: Placed, given: Tensor, output: Tensor) -> None:
        site, wanted = placed.site, tuple(given.shape)
        if placed.wraps and output.dim() == given.dim():
            # A linear has another shape behind it than before it; of a wrapped one only the channels are known.
            _check_layout(site, output, only_axes=True)
            channels = site.layout.index("C")
            wanted = (*output.shape[:channels], site.channels, *output.shape[channels + 1 :])
        if tuple(output.shape) != wanted:
            raise Refused(site, f"the layer returned the shape {tuple(output.shape)}; here it is {wanted}")
        if output.device != given.device:
            raise Refused(site, f"the layer returned a tensor on {output.device}; here it is on {given.device}")
        if output.dtype != given.dtype and not self._mixed:
            raise Refused(site, f"the layer returned {output.dtype}; here it is {given.dtype}, as its input")


def named(network: nn.Module, place: Place) -> Iterator[tuple[Site | None, str, Tensor]]:
    """Yield each parameter and buffer of a network once, with its site (None outside of norms) and what it is."""
    known: set[int] = set()
    layers = [(placed.site, placed.module) for placed in place.layers]
    for site, module in [*layers, (None, network)]:
        for kind, values in (("parameter", module.named_parameters()), ("buffer", module.named_buffers())):
            for name, value in values:
                if id(value) not in known:
                    known.add(id(value))
                    yield site, f"its {kind} {name!r}", value


def _check_layout(site: Site, value: Tensor, *, only_axes: bool = False) -> None:
    """Raise Refused, of the task, where what it gives a norm does not have the layout or channels that it declared."""
    if value.dim() != len(site.layout) or not (only_axes or value.shape[site.layout.index("C")] == site.channels):
        raise Refused(
            None,
            f"the shape at the norm of site {site.index} is {tuple(value.shape)}; the network says {site.layout} with "
            f'{site.channels} channels (tokens are layout="NLC")',
        )
