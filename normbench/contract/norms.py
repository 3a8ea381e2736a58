"""How a norm is described: the layer, where it can stand, what it claims, and what `normbench check` should know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from normbench.contract.functions import (
    check_function,
    check_head,
    check_line,
    check_members,
    check_types,
    function,
    parameters,
)
from normbench.contract.sites import ALL, PLACEMENTS, Placement, Site, Traits
from normbench.errors import UsageError
from normbench.texts import in_a_line

if TYPE_CHECKING:
    from torch import Tensor, nn

#: What `normbench.layer` and a suite's table of a norm name themselves, so that no parameter can have these names.
#: (`with`, which names a second norm, is no name in Python.)
RESERVED = frozenset({"site", "module", "name", "channels", "layout", "activation", "norm", "label"})


@dataclass(frozen=True)
class Norm:
    """One kind of normalization, and how to put it into a network.

    `layer(site, **params) -> nn.Module` builds it; with placement "weight", `layer(site, module) -> module` wraps the
    linear or convolution before the site. It is a callable, whose keyword parameters with defaults are the norm's
    parameters, or a string "package.module:name": then they are read from its source, unless `params` declares them.
    `types` gives the type of a parameter whose default can't say it, as msgspec converts to it: Literal["1", "2"].

    `placement` is "before" the activation, "after" it, "fused" (the layer includes the activation that
    `site.activation` names, or none where that is None) or "weight". `traits` is a `Traits`, or a function of the
    parameters that returns one. `paper` cites where the norm comes from, `source` the code that it follows, under
    `licence`, an SPDX name. What else a layer may have, like a method `on_step(step, steps)`: see docs/plugins.md.

    `expected` says of checks of `normbench check`, by id, why they are expected to fail; it may be a function, too.
    `reference(x, site, state,
    **named) -> Tensor` is the definition, in float64: `x` the input, `state` the layer's parameters and buffers by
    name as they are before the forward. Of `named` it is given what it names: the norm's parameters, `training`, and
    with placement "weight" `module`, the linear before it was wrapped. Without `training` it defines training alone.

    Raises ValueError or TypeError where the description contradicts itself.
    """

    #: The fields that name a function.
    FUNCTIONS: ClassVar = ("layer", "reference")
    #: Those among them that decide numbers, of which code prints are made.
    COMPUTING: ClassVar = ("layer",)

    name: str
    layer: Callable[..., nn.Module] | str
    _: KW_ONLY
    summary: str
    layouts: frozenset[str] | set[str] = ALL
    placement: Placement = "before"
    traits: Traits | Callable[..., Traits] = field(default_factory=Traits)
    params: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None
    source: str | None = None
    licence: str | None = None
    expected: Mapping[str, str] | Callable[..., Mapping[str, str]] = field(default_factory=dict)
    reference: Callable[..., Tensor] | str | None = None

    def __post_init__(self) -> None:
        """Refuse a description that contradicts itself, and read the parameters of a callable layer."""
        check_head("norm", self.name, self.summary)
        check_members("layouts", self.layouts, ALL)
        check_members("placement", [self.placement], PLACEMENTS)
        if not isinstance(self.traits, Traits) and not callable(self.traits):
            raise TypeError(f"traits is {self.traits!r}; it is normbench.Traits(...), or a function that returns one")
        object.__setattr__(self, "layouts", frozenset(self.layouts))
        first = ("site", "module") if self.placement == "weight" else ("site",)
        object.__setattr__(self, "params", parameters("layer", self.layer, self.params, first))
        reserved = RESERVED & set(self.params)
        if reserved:
            raise ValueError(f"parameter {min(reserved)!r} has a name that normbench uses itself")
        check_types(self.types, self.params)
        if self.reference is not None:
            check_function("reference", self.reference)
        if not callable(self.expected):
            _check_expected(self.expected)

    def traits_with(self, params: Mapping[str, Any]) -> Traits:
        """Return the traits that the norm claims with these parameters, the others at their defaults.

        Raises UsageError where its function of the parameters raises, or returns something else.
        """
        claimed = self._with("traits", params)
        if not isinstance(claimed, Traits):
            raise UsageError(f"norm {self.name}: its traits returned {claimed!r}; they return normbench.Traits")
        return claimed

    def expected_with(self, params: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the checks that are expected to fail with these parameters, with reasons. Raises UsageError alike."""
        expected = self._with("expected", params)
        try:
            _check_expected(expected)
        except (ValueError, AttributeError) as error:
            raise UsageError(f"norm {self.name}: its expected returned {expected!r}: {error}") from None
        declared: Mapping[str, str] = expected
        return declared

    def _with(self, field_name: str, params: Mapping[str, Any]) -> Any:
        """Return a field that may be a function of all parameters, with these, the others at their defaults."""
        value = getattr(self, field_name)
        if not callable(value):
            return value
        own = {name: given for name, given in params.items() if name in self.params}
        try:
            return value(**{**self.params, **own})
        except Exception as error:
            what = f"{type(error).__name__}: {in_a_line(error)}"
            raise UsageError(
                f"norm {self.name}: its {field_name}, a function of all its parameters, raised {what}"
            ) from error

    def build(self, site: Site, params: Mapping[str, Any], *wrapped: nn.Module) -> nn.Module:
        """Return the layer at a site; with placement "weight", the linear or convolution `wrapped` by it."""
        layer: nn.Module = function(self.layer)(site, *wrapped, **params)
        return layer


def _check_expected(expected: Mapping[str, str]) -> None:
    for check, why in expected.items():
        check_line(f"expected: {check!r}", why, "it is one line that says why the check is expected to fail")
