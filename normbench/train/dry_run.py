"""One step of every norm before hours of training: a layer that raises, or changes a shape, is named with its site."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from normbench import loading, plugins, surroundings
from normbench.contract import Site, Unsupported
from normbench.errors import UsageError
from normbench.plugins import Registry
from normbench.records import Pack, Trial
from normbench.suites import spelled
from normbench.train import assemble
from normbench.train.memory import ran_out
from normbench.train.ranks import Ranks, joined
from normbench.train.sites import Place
from normbench.train.streams import global_stream


def dry_run(pack: Pack) -> bool:
    """Try a pack's first trial for one step, in training and in evaluation, and keep nothing of it.

    Return whether it took its step, and was not left to the trial.

    Raises UsageError for a layer that raises or whose output has the wrong shape, naming the norm and the site, and for
    a task that can't be built or has no data. What a norm says is unsupported, and a lack of memory, is left to the
    trial, whose outcome it is. A trial of several ranks is tried by `normbench.train.fit_pack`.
    """
    process = os.getpid()
    try:
        registry = plugins.current(tuple(Path(file) for file in pack.plugin_files), pack.plugins)
        with loading.asking(plugins.SESSION_NODE):
            return try_trial(pack.trials[0], registry, torch.device(pack.device), Path(pack.data_dir))
    finally:
        if os.getpid() != process:
            os._exit(0)  # a layer forked, and this is the copy


def try_trial(trial: Trial, registry: Registry, device: torch.device, folder: Path) -> bool:
    """Try one trial: see `dry_run`."""
    ranks = joined(trial.recipe.ranks)
    place = assemble.place_of(trial, registry, ranks)
    watch = _Watch(wraps=registry.norm(trial.norm).placement == "weight")
    changed: list[str] = []
    if device.type == "cpu":
        torch.set_num_threads(trial.recipe.threads)  # the trial may take over the data that is computed here
    try:
        with surroundings.kept() as changed, global_stream(device, trial.seed, "layer", *ranks.folded):
            _step(trial, registry, device, folder, place, watch, ranks)
    except (UsageError, KeyboardInterrupt):
        raise
    except Unsupported:
        return False
    except (Exception, SystemExit) as error:
        if ran_out(error):
            return False
        kind = "" if isinstance(error, _WrongShapeError) else f"{type(error).__name__}: "
        what = kind + " ".join(str(error).split())
        if changed:
            what += f"; before that, norm {trial.norm!r} changed {surroundings.listed(changed)}"
        raise UsageError(f"{_who(trial, watch.site or place.building)}: {what}") from error
    return True


def _step(
    trial: Trial, registry: Registry, device: torch.device, folder: Path, place: Place, watch: _Watch, ranks: Ranks
) -> None:
    eager = msgspec.structs.replace(trial, recipe=trial.recipe.changed(compile=False))
    data = assemble.data(trial, registry.task(trial.task), folder, device)
    module = assemble.training(eager, registry, data, place, ranks=ranks).to(device)
    for site, layer in place.layers:
        watch.attach(site, layer)
    inputs, targets, draws = next(iter(module.batches))
    torch.autograd.backward(module.training_step((inputs, targets, draws)))
    module.evaluate((inputs, targets))


class _WrongShapeError(Exception):
    """A layer's output is not what its site asks for."""


class _Watch:
    """Knows the site whose layer computes, and compares what goes in with what comes out."""

    def __init__(self, wraps: bool) -> None:
        self.site: Site | None = None
        self._wraps = wraps

    def attach(self, site: Site, layer: nn.Module) -> None:
        """Watch the layer of a site."""
        layer.register_forward_pre_hook(lambda module, inputs: self._enter(site))  # noqa: ARG005 - a hook's signature
        layer.register_forward_hook(lambda module, inputs, output: self._leave(site, inputs[0], output))  # noqa: ARG005

    def _enter(self, site: Site) -> None:
        self.site = site

    def _leave(self, site: Site, given: Tensor, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise _WrongShapeError(f"the layer returned {type(output).__name__}; it returns a tensor")
        # A linear has another shape behind it than before it; of a wrapped one only the channels are known.
        wanted = (*output.shape[:1], site.channels, *output.shape[2:]) if self._wraps else tuple(given.shape)
        if self._wraps and site.layout == "NLC":
            wanted = (*output.shape[:-1], site.channels)
        if tuple(output.shape) != wanted:
            raise _WrongShapeError(f"the layer returned the shape {tuple(output.shape)}; here it is {wanted}")
        self.site = None


def _who(trial: Trial, site: Site | None) -> str:
    """Name the norm with its site, or, where no layer is to blame, the task and the norm that was in it."""
    norm = spelled(trial.norm, trial.params)
    if site is None:
        return f"task {spelled(trial.task, trial.task_params)}, with norm {norm}"
    return f"norm {norm} at site {site.index} of {trial.task} ({site.channels} channels, {site.layout})"
