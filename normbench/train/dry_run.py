"""One step of every norm before hours of training: what can't work is named with its site.

The step is taken twice, by two networks built from the same seed. What differs between them depends on something that
is no part of a layer, and no trial of such a norm could be repeated.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from normbench.contract import Site
from normbench.errors import UsageError
from normbench.registry import Registry
from normbench.spelling import spelled
from normbench.train import assemble
from normbench.train.data import InMemory
from normbench.train.guard import guarded
from normbench.train.made import registry_of
from normbench.train.place import Place
from normbench.train.ranks.place import Ranks, joined
from normbench.train.streams import global_stream
from normbench.train.watch import Refused, Seen, Watch, named
from normbench.trials import Pack, Trial


def dry_run(pack: Pack) -> bool:
    """Try a pack's first trial for one step, in training and in evaluation, and keep nothing of it.

    Return whether it took its step, and was not left to the trial.

    Raises UsageError for a layer that raises, whose output has the wrong shape or type, that has weights which are
    never trained, that ignores the mode it is put into, or that gives other numbers when it is built a second time,
    naming the norm and the site; and for a task that can't be built or has no data. What a norm says is unsupported,
    and a lack of memory, is left to the trial, whose outcome it is. A trial of several ranks is tried by
    `normbench.train.fit_pack`.
    """
    return try_trial(pack.trials[0], registry_of(pack), torch.device(pack.device), Path(pack.data_dir))


def try_trial(trial: Trial, registry: Registry, device: torch.device, folder: Path) -> bool:
    """Try one trial: see `dry_run`."""
    ranks = joined(trial.recipe.ranks)
    tries: list[list[Seen]] = []
    if device.type == "cpu":
        torch.set_num_threads(trial.recipe.threads)  # the trial may take over the data that is computed here
    for filled in (False, True):
        place = assemble.place_of(trial, registry, ranks)
        watch = Watch(mixed=trial.recipe.precision != 32)
        try:
            with (
                guarded(trial, registry, passing=(UsageError, Refused)) as guard,
                global_stream(device, trial.seed, "layer", *ranks.folded),
                _unset_memory(filled=filled),
            ):
                _step(trial, registry, device, folder, place, watch, ranks)
        except Refused as refused:
            raise UsageError(f"{_who(trial, refused.site)}: {refused}{guard.before}") from None
        finally:
            watch.end()
        if guard.kind == "error":
            site = watch.to_blame(guard.reason) or place.building
            raise UsageError(f"{_who(trial, site)}: {guard.reason}")
        if guard.kind:
            return False
        tries.append(watch.seen)
    _check_same(trial, *tries)
    return True


def _step(
    trial: Trial, registry: Registry, device: torch.device, folder: Path, place: Place, watch: Watch, ranks: Ranks
) -> None:
    """Take a step, and evaluate; what `watch` sees of it is the same in every try."""
    eager = msgspec.structs.replace(trial, recipe=trial.recipe.changed(compile=False))
    data = assemble.data(trial, registry.task(trial.task), folder, device)
    module = assemble.training(eager, registry, data, place, ranks=ranks)
    for site, name, value in named(module.network, place):
        if is_lazy(value):
            raise Refused(site, f"{name} has no shape before the first forward; give it one when it is built")
    _check_modes(module.network, place)
    watch.begin(place, module)
    parts = next(iter(module.batches))
    module.gradients(parts)
    for site, name, value in named(module.network, place):
        if isinstance(value, nn.Parameter) and not watch.trains(value):
            raise Refused(site, f"{name} is made after the optimizer, and would never be trained; make it in __init__")
        if value.grad is not None:
            watch.see(site, f"the gradient of {name}", value.grad)
    module.evaluate(InMemory(*data.train.batch(parts[0][0])))
    module.update()
    for site, name, value in named(module.network, place):
        watch.see(site, f"{name} after a step", value)


def _check_modes(network: nn.Module, place: Place) -> None:
    """Raise Refused for a module that stays in training mode when the network leaves it, or whose own mode is lost."""
    begun = {module: module.training for module in network.modules()}
    owners = {module: placed.site for placed in place.layers for module in placed.module.modules()}
    network.eval()
    for module in begun:
        if module.training:
            what = f"its {type(module).__name__} stays in training mode in evaluation"
            raise Refused(owners.get(module), f"{what}; where train() is overridden, it calls super().train(mode)")
    network.train()
    for module, training in begun.items():
        if module.training and not training:
            what = f"its {type(module).__name__} begins in evaluation mode, which does not last"
            raise Refused(owners.get(module), f"{what}; override train() to keep it")


def _check_same(trial: Trial, once: list[Seen], again: list[Seen]) -> None:
    """Raise UsageError for the first thing that two tries did not see alike."""
    for first, second in itertools.zip_longest(once, again):
        if first is not None and second is not None and first.same(second):
            continue
        seen = first or second
        source = "something outside of it, like a counter of its class, or a module that several layers share"
        if first is not None and second is not None and second.nan and not first.nan:
            source = "memory that nothing has set, like that of torch.empty"
        raise UsageError(
            f"{_who(trial, seen.site)}: built twice from one seed it gives other numbers ({seen.what}): they depend on "
            f"{source}"
        )


@contextmanager
def _unset_memory(*, filled: bool) -> Iterator[None]:
    """Let memory that nothing sets hold nan, or what it happens to; and compute in the same way each time."""
    memory: Any = torch.utils.deterministic
    mode, fill = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic")
        torch.set_deterministic_debug_mode("warn")
        memory.fill_uninitialized_memory = filled
        try:
            yield
        finally:
            memory.fill_uninitialized_memory = fill
            torch.set_deterministic_debug_mode(mode)


def _who(trial: Trial, site: Site | None) -> str:
    """Name the norm with its site, or, where no layer is to blame, the task and the norm that was in it."""
    norm = spelled(trial.norm, trial.params)
    if site is None:
        return f"task {spelled(trial.task, trial.task_params)}, with norm {norm}"
    return f"norm {norm} at site {site.index} of {trial.task} ({site.channels} channels, {site.layout})"
