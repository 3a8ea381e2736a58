"""A recipe's optimizer, and what its schedule makes of the rate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from normbench.recipe import Recipe
from normbench.texts import in_a_line
from normbench.train.methods import having

#: One cycle (Smith & Topin 2018, arXiv 1708.07120, as torch's OneCycleLR has it): the share of the run in which the
#: rate rises, the factor it begins at, and the one it ends at; both ways along half a cosine.
RISE, FIRST, LAST = 0.3, 1 / 25, 1 / 25 / 1e4

#: What a layer says of a group of its own parameters.
_KEYS = frozenset({"params", "rate_factor", "weight_decay"})


def optimizer(network: nn.Module, norms: Iterable[nn.Module], recipe: Recipe) -> torch.optim.Optimizer:
    """Return a recipe's optimizer of a network. `norms` are the network's norms, whose parameters it may spare."""
    groups = _groups(network, norms, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.rate, momentum=recipe.momentum)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.rate)
    return torch.optim.AdamW(groups, lr=recipe.rate)


def multiplier(recipe: Recipe, step: int, steps: int) -> float:
    """Return what the rate is multiplied by at a step, counted from 0, of a run of `steps`."""
    if recipe.schedule == "steps":
        # 0.55 x 100 is above 55 in floating point; 55 / 100 is 0.55.
        return recipe.milestone_factor ** sum(step / steps >= milestone for milestone in recipe.milestones)
    if recipe.schedule == "cosine":
        return _between(1.0, 0.0, step / steps)
    if recipe.schedule == "one-cycle":
        top = RISE * steps - 1
        if step < top:
            return _between(FIRST, 1.0, step / top)
        return _between(1.0, LAST, (step - top) / (steps - 1 - top))
    return 1.0


def _between(start: float, end: float, way: float) -> float:
    """Return the point on half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * way)) / 2


def spared(network: nn.Module, norms: Iterable[nn.Module], made: torch.optim.Optimizer) -> dict[str, dict[str, int]]:
    """Return which parameters an optimizer that was `made` does not decay: how many of a name, of "norms", "elsewhere".

    A name is that in its own module, like "weight"; what there is none of is left out.
    """
    free = {value for group in made.param_groups if not group["weight_decay"] for value in group["params"]}
    of_norms = {parameter for norm in norms for parameter in norm.parameters()}
    counted: dict[str, Counter[str]] = {"norms": Counter(), "elsewhere": Counter()}
    for name, parameter in network.named_parameters():
        if parameter in free:
            counted["norms" if parameter in of_norms else "elsewhere"][name.rpartition(".")[2]] += 1
    return {where: dict(names) for where, names in counted.items() if names}


def _groups(network: nn.Module, norms: Iterable[nn.Module], recipe: Recipe) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups: what weight decay acts on, what it spares, and then layers' own."""
    free = _free(network, norms) if recipe.weight_decay and recipe.weight_decay_spares == "norms-and-biases" else set()
    own = _own_groups(network)
    grouped = {parameter for group in own for parameter in group["params"]}
    groups: list[dict[str, Any]] = []
    for group in [{"params": [value for value in network.parameters() if value not in grouped]}, *own]:
        if "weight_decay" in group:
            groups.append(group)
            continue
        decayed = [parameter for parameter in group["params"] if parameter not in free]
        rest = [parameter for parameter in group["params"] if parameter in free]
        for params, weight_decay in ((decayed, recipe.weight_decay), (rest, 0.0)):
            if params:
                groups.append({**group, "params": params, "weight_decay": weight_decay})
    return groups


def _free(network: nn.Module, norms: Iterable[nn.Module]) -> set[nn.Parameter]:
    """Return what "norms-and-biases" spares; of two modules with `decayed`, the inner one decides for its parameters.

    Raises ValueError where a module names what is no parameter of its own.
    """
    free = {parameter for norm in norms for parameter in norm.parameters()}
    free |= {parameter for parameter in network.parameters() if parameter.dim() <= 1}
    for module in having(network, "decayed"):
        free |= set(module.parameters())
        free -= set(_own_parameters(module, "decayed", module.decayed()))
    return free


def _own_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Return the groups that layers ask for. Raises TypeError or ValueError, naming the class, where one can't be."""
    groups: list[dict[str, Any]] = []
    grouped: set[nn.Parameter] = set()
    for module in having(network, "parameter_groups"):
        what = f"{type(module).__name__}.parameter_groups"
        for given in _listed(module.parameter_groups()):
            _check_group(what, given)
            parameters = _own_parameters(module, "parameter_groups", given["params"])
            for parameter in parameters:
                if parameter in grouped:
                    raise ValueError(f"{what}: a parameter of shape {tuple(parameter.shape)} is in two groups")
                grouped.add(parameter)
            groups.append({**given, "params": parameters})
    return groups


def _check_group(what: str, given: Any) -> None:
    """Raise TypeError or ValueError where a group does not say what one says; `what` gave it."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} has {in_a_line(given)}; a group is a dict of params, rate_factor and weight_decay")
    for name in ("params", *given):
        if name not in _KEYS or name not in given:
            has = f"the key {name!r}" if name in given else f"no {name!r}"
            raise ValueError(f"{what}: a group has {has}; its keys are params, rate_factor and weight_decay")
        if name != "params" and not (isinstance(given[name], int | float) and 0 <= given[name] < math.inf):
            raise ValueError(f"{what}: {name} is {in_a_line(given[name])}; it is a number from 0")


def _own_parameters(module: nn.Module, method: str, given: Any) -> list[nn.Parameter]:
    """Return the parameters that a module's method gave. Raises ValueError for what is no parameter of the module."""
    own = set(map(id, module.parameters()))
    parameters = _listed(given)
    for value in parameters:
        if id(value) not in own:
            what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else in_a_line(value)
            raise ValueError(f"{type(module).__name__}.{method} has {what}, which is no parameter of its own")
    return parameters


def _listed(given: Any) -> list[Any]:
    """Return what a method gave as a list; what is no collection, like None, is the one thing in it."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, torch.Tensor | Mapping) else [given]
