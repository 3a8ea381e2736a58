"""Where a norm stands in a network, what it claims of itself, and how a network asks for it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    from torch import nn

Layout: TypeAlias = Literal["NC", "NCL", "NCHW", "NLC"]
Placement: TypeAlias = Literal["before", "after", "fused", "weight"]

#: Every layout a site can have. In NLC, that of tokens, channels come last.
ALL: frozenset[str] = frozenset(get_args(Layout))
PLACEMENTS: frozenset[str] = frozenset(get_args(Placement))


class Unsupported(Exception):  # noqa: N818 - it is an outcome, not an error
    """Raised by a layer that can't stand at a site or under a recipe; the trial ends as `unsupported`."""


@dataclass(frozen=True, slots=True)
class Site:
    """One place in a network where a norm goes.

    `channels` is C, `layout` names the axes of the input, `activation` is the name of the activation at the site or
    None, `index` counts the sites of a network from 0, and `spatial` is the size of the axes that are neither N nor C.
    `group` is the torch.distributed process group whose ranks share the statistics of a layer that synchronizes them,
    or None where there is one rank to share with.

    `sites` is the number of sites of the network, and `steps` that of the optimizer steps of the training. `block` is
    the number of the residual block that the site is in, from 0, of `blocks`; None outside of blocks. `ends_branch`
    says that what the layer gives is added to a shortcut: a layer may begin there at 0.

    What is not known is None: in a layer that `normbench.layer` makes, `spatial`, `block` and all numbers.
    """

    channels: int
    layout: Layout
    activation: str | None = None
    index: int = 0
    spatial: tuple[int, ...] | None = None
    group: Any = None
    sites: int | None = None
    block: int | None = None
    blocks: int | None = None
    ends_branch: bool = False
    steps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a layer claims about itself; the host acts on it, and `normbench check` tests it.

    `batch_dependent`: in training, a sample's output depends on the other samples of the batch.
    `order_dependent`: it depends on the order of the samples.
    `rank_dependent`: on several devices, each rank computes from its own part of the batch.
    `state`: names of the buffers that training moves.
    `batch_size_1`: whether it trains at batch size 1: "yes", "no", or "spatial" (if a channel has several values
    per sample).
    `centres`: a constant added to one channel of its input changes nothing, so that a bias directly before it is
    dropped. (Layer norm subtracts a mean over channels, which is another thing.)
    `scale_invariant`: rescaling its input changes nothing, up to eps.
    `eval_differs`: evaluation computes something else than training.
    `eval_batch_dependent`: in evaluation, too, a sample's output depends on the other samples of the batch.
    `gradient`: "exact", that of what it computes; "own", another one by intention; "none", there is none to its input.
    `draws`: it draws random numbers in training.
    `identity`: it normalizes nothing: the norm that throughput is measured without.
    `mixes_positions`: a token's output depends on later tokens of its sample (layout NLC).
    """

    batch_dependent: bool = False
    order_dependent: bool = False
    rank_dependent: bool = False
    state: tuple[str, ...] = ()
    batch_size_1: Literal["yes", "spatial", "no"] = "yes"
    centres: bool = False
    scale_invariant: bool = False
    eval_differs: bool = False
    # Not shown: code prints are made of what is, and these change no number.
    eval_batch_dependent: bool = field(default=False, repr=False)
    gradient: Literal["exact", "own", "none"] = field(default="exact", repr=False)
    draws: bool = field(default=False, repr=False)
    identity: bool = field(default=False, repr=False)
    mixes_positions: bool = field(default=False, repr=False)


class Place(Protocol):
    """Gives a task's network its norms, in the order that each asks for: see docs/plugins.md."""

    def norm(
        self, channels: int, layout: Layout, activation: str | None = None, spatial: tuple[int, ...] | None = None
    ) -> nn.Module:
        """Return norm and activation, for an input of `channels` in `layout`.

        A norm of placement "weight" has nothing to wrap here: this is the activation alone. `spatial` left out is what
        the network gives the site. Raises Unsupported where the norm can't stand there.
        """

    def __call__(self, linear: nn.Module, activation: str | None = None, layout: Layout | None = None) -> nn.Module:
        """Return linear, norm and activation.

        `layout` is that of the linear's output; left out, it is NC for a Linear, NCL and NCHW for a convolution. The
        linear's bias is dropped where a norm that centres follows directly.
        """

    def sum(
        self,
        linear: nn.Module,
        shortcut: nn.Module | None = None,
        activation: str | None = None,
        layout: Layout | None = None,
    ) -> nn.Module:
        """Return the end of a residual block, a module of (x, skip): linear(x) and shortcut(skip) are added.

        Placement before: act(norm(linear) + shortcut). After: norm(act(linear + shortcut)). Fused: act(layer without
        activation(linear) + shortcut). Weight: act(wrapped linear + shortcut). `shortcut` left out is the identity.
        """

    def block(self) -> AbstractContextManager[None]:
        """Count what is placed meanwhile as one residual block: its sites have its number as `block`."""
