"""A trial's parts, made from what its task and its norm describe: network, data, batches, and the task's functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from normbench.contract import Site, Task, Unsupported, function, named_by
from normbench.errors import UsageError
from normbench.plan import asked_probe
from normbench.recipe import OF_DATA
from normbench.registry import Registry
from normbench.spelling import WITH, choice
from normbench.train import blame
from normbench.train.data import Batches, Loaded, Split, load
from normbench.train.initialize import Initializer
from normbench.train.looking import View, linears
from normbench.train.module import Training
from normbench.train.place import Place
from normbench.train.probing import Probing
from normbench.train.ranks.place import ALONE, Ranks
from normbench.train.streams import global_stream
from normbench.train.survey import surveyed
from normbench.trials import Trial


def place_of(trial: Trial, registry: Registry, ranks: Ranks = ALONE) -> Place:
    """Return what puts a trial's norm into its network."""
    (norm, params), *second = [(offered.thing, own) for offered, own in registry.parts(trial.norm, trial.params)]
    recipe, traits = trial.recipe, norm.traits_with(params)
    # A norm of the batch that is the same on any number of ranks has its statistics from all that share them.
    synchronized = traits.batch_dependent and not traits.rank_dependent
    return Place(
        norm,
        params,
        seed=trial.seed,
        batch_size=recipe.device_batch * (ranks.sharing(recipe.sync_ranks) if synchronized else 1),
        initializer=Initializer(recipe, trial.seed),
        group=ranks.group(recipe.sync_ranks),
        second=second[0] if second else None,
        causal=registry.task(trial.task).causal,
    )


def network(trial: Trial, registry: Registry, place: Place | None = None) -> nn.Module:
    """Return a trial's network, initialized, on the CPU: its weights are the same wherever it is trained."""
    task = registry.task(trial.task)
    place = place or place_of(trial, registry)
    with global_stream(torch.device("cpu"), trial.seed, "init"):
        built = _build(trial, task, place)
    if not isinstance(built, nn.Module):
        raise TypeError(f"task {task.name!r}: network returned {built!r}; it returns a torch.nn.Module")
    if trial.recipe.dropout and not any(
        isinstance(module, nn.modules.dropout._DropoutNd) for module in built.modules()
    ):
        raise UsageError(f"task {task.name}: dropout is {trial.recipe.dropout}; its network has no dropout")
    if place.bare and not any(placed.wraps for placed in place.layers):
        wraps = trial.params.get(WITH, trial.norm)
        raise Unsupported(f"{wraps} wraps linears; the network of {task.name} has none at its places for norms")
    if not place.layers:
        raise UsageError(f"task {task.name}: its network has no norm: it never calls place")
    place.initializer.rest(built, [placed.module for placed in place.layers])
    return built


def _build(trial: Trial, task: Task, place: Place) -> Any:
    """Return what a task gives as a trial's network."""
    build = function(task.network)
    return build(place, trial.recipe, **named_by(build, {**task.params, **trial.task_params}))


def training(
    trial: Trial,
    registry: Registry,
    data: Loaded,
    place: Place | None = None,
    probes: Sequence[str] = (),
    ranks: Ranks = ALONE,
) -> Training:
    """Return a trial's training, at its start, on the device of its data.

    `probes`, as they are spelled, watch it; `ranks` are who trains it.
    """
    task, recipe = registry.task(trial.task), trial.recipe
    if recipe.channels_last and next(data.train.slices(1))[0].dim() != 4:
        raise UsageError(f"task {task.name}: channels_last is a memory format of images, (N, C, H, W)")
    place = place or place_of(trial, registry, ranks)
    augment = _own(trial, task, task.augment) or per_sample(_own(trial, task, task.transform))
    batches, calibrates = (
        Batches(
            data.train,
            recipe.batch_size,
            trial.seed,
            task.augment_draws,
            accumulate=recipe.accumulate,
            ranks=ranks,
            stream=stream,
        )
        for stream in ("order", "recalibrate")
    )
    place.steps = recipe.total_steps(len(batches))
    place.survey = _survey(trial, registry, data.train, augment)
    built = network(trial, registry, place)
    module = Training(
        built,
        recipe,
        norms=place.norms,
        loss=_own(trial, task, task.loss) or functional.cross_entropy,
        score=_own(trial, task, task.score) or accuracy,
        augment=augment,
        data=data.train,
        validation=data.validation if recipe.hold_out else None,
        batches=batches,
        calibrates=calibrates,
        eval_by_batch=_evaluates_by_batch(trial, registry),
        ranks=ranks,
    )
    asked = {probe: asked_probe(choice(probe, "probes"), registry) for probe in probes}
    module.probing = Probing(
        _view(module, place, data),
        {spelled: (probe, found.params) for spelled, (probe, found) in asked.items()},
        functools.partial(
            blame.reason, trial=trial, registry=registry, probes=[probe.name for probe, _ in asked.values()]
        ),
        alone=ranks.size == 1,
    )
    return module


def _view(module: Training, place: Place, data: Loaded) -> View:
    """Return what the probes of a training look at."""
    splits = {"test": data.test, **({"validation": data.validation} if module.recipe.hold_out else {})}
    scores = {name: functools.partial(module.evaluate, split) for name, split in splits.items()}
    before = {id(linear): (site, place.is_scale_invariant(linear)) for site, linear in place.linears}
    return View(module, place.norm_at, place.activations, linears(module.network, before), scores)


def _evaluates_by_batch(trial: Trial, registry: Registry) -> bool:
    """Whether a task or a norm says that the evaluation of a sample depends on the others of its batch."""
    claimed = [norm.thing.traits_with(params) for norm, params in registry.parts(trial.norm, trial.params)]
    return registry.task(trial.task).eval_batch_dependent or any(traits.eval_batch_dependent for traits in claimed)


def _survey(
    trial: Trial, registry: Registry, split: Split, augment: Callable[[Tensor, Tensor], Tensor] | None
) -> tuple[Site, ...]:
    """Return the sites of a trial's network, as the first two samples see it."""
    task, samples = registry.task(trial.task), next(split.slices(2))[0]

    def inputs() -> Tensor:
        copies = samples.cpu().clone()
        return copies if augment is None else augment(copies, torch.rand(len(copies), task.augment_draws))

    build = functools.partial(_build, trial, task)
    made_for = (registry.tasks[trial.task], samples.shape, samples.dtype)
    return surveyed(trial, registry.norm(trial.norm), build, inputs, made_for)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 for each sample whose largest output is its target's, else 0; (N, classes), (N,) -> (N,)."""
    return (outputs.argmax(dim=1) == targets).float()


def _own(trial: Trial, task: Task, given: Callable[..., Tensor] | str | None) -> Callable[..., Tensor] | None:
    """Return a task's function with the task's parameters that it names filled in."""
    if given is None:
        return None
    fn = function(given)
    params = named_by(fn, {**task.params, **trial.task_params})
    return (lambda *inputs: fn(*inputs, **params)) if params else fn


def per_sample(transform: Callable[[Tensor, Tensor], Tensor] | None) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return what changes a batch, (N, ...) with draws (N, k), from what changes a sample; None from None.

    It raises TypeError or ValueError where the samples of a batch become no tensors of one shape.
    """
    if transform is None:
        return None

    def augment(inputs: Tensor, draws: Tensor) -> Tensor:
        samples = [transform(sample, drawn) for sample, drawn in zip(inputs, draws, strict=True)]
        for sample in samples:
            if not isinstance(sample, Tensor):
                raise TypeError(f"transform returned {type(sample).__name__}; it returns a tensor")
            if sample.shape != samples[0].shape:
                shapes = f"{tuple(samples[0].shape)} and {tuple(sample.shape)}"
                raise ValueError(f"transform returned the shapes {shapes} in one batch; it gives all samples one shape")
        return torch.stack(samples)

    return augment


#: The data of the trial before, and for what it was loaded: one data set at a time, whoever asks.
_last: list[tuple[Any, Loaded]] = []


def data(trial: Trial, task: Task, folder: Path, device: torch.device) -> Loaded:
    """Return a task's data, kept from the trial before where that trained on the same.

    Of the recipe, data may depend on what `OF_DATA` names; everything else is the task's own there.
    """
    recipe = msgspec.structs.replace(task.recipe, **{name: getattr(trial.recipe, name) for name in OF_DATA})
    wanted = (task, trial.task_params, recipe, folder, device)
    if not _last or _last[0][0] != wanted:
        _last.clear()
        _last.append((wanted, load(task, trial.task_params, recipe, folder, device)))
    return _last[0][1]
