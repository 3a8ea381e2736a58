"""Train packs: each trial of a pack becomes an outcome, whatever happens to it."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from normbench import plugins
from normbench.registry import Registry
from normbench.spelling import choice
from normbench.train import assemble
from normbench.train.checkpoint import Checkpoints, identity
from normbench.train.data import Loaded
from normbench.train.dry_run import dry_run
from normbench.train.guard import Guard, guarded
from normbench.train.made import Code, made, registry_of
from normbench.train.module import Training, not_finite
from normbench.train.ranks import parent
from normbench.train.ranks.place import joined
from normbench.train.streams import global_stream
from normbench.train.trainer import train
from normbench.trials import Kind, Measure, Outcome, Pack, Trial


def fit(
    pack: Sequence[Trial],
    *,
    registry: Registry | None = None,
    device: str = "cpu",
    data_dir: str = "",
    probes: Sequence[str] = (),
    checkpoint: str = "",
    checkpoint_every: float = 0.0,
) -> Iterator[Outcome]:
    """Train the trials of a pack and yield the outcome of each.

    With `checkpoint`, a folder, a training is saved there every `checkpoint_every` seconds, at 0 after every optimizer
    step, and goes on from what is there.

    Whatever a layer, a task or a probe raises becomes the trial's outcome. Only an interruption goes through, and
    before the first step UsageError: for what every other trial would meet too, like a data folder that lacks the data.
    """
    registry = registry or plugins.current()
    where = torch.device(device)
    for trial in pack:
        started = time.perf_counter()
        saved = None
        if checkpoint:
            own = Path(checkpoint) / trial.key
            code = Code(trial, registry)
            saved = Checkpoints(own, checkpoint_every, identity(trial, where, probes), where, code)
        if where.type == "cpu":
            torch.set_num_threads(trial.recipe.threads)
        result: tuple[Kind, dict[str, Any]]
        with guarded(trial, registry, [choice(probe, "probes").name for probe in probes]) as guard:
            result = _fit_one(trial, registry, where, Path(data_dir), probes, saved, guard)
        if guard.kind:
            result = guard.kind, {"reason": guard.reason}
        kind, details = result
        seconds = time.perf_counter() - started + (saved.spent if saved else 0.0)
        if guard.curve is not None:
            details["traces"] = guard.curve.among(details.get("traces", ()))
        details |= {"made": made(trial, registry), "changed": tuple(guard.changed)}
        yield Outcome(trial=trial, outcome=kind, seconds=seconds, **details)


def fit_pack(pack: Pack, keeper: parent.Keeper | None = None) -> Iterator[Outcome]:
    """Train a pack as it travels to a worker: what executors call. A dry pack is tried for one step.

    A trial of several ranks is trained by a group of processes, which this process keeps for the next; `keeper` says
    what they have to know of it.
    """
    plugins.receive(pack.registered)
    if pack.trials[0].recipe.ranks > 1:
        return parent.run(pack, keeper or parent.Keeper())
    if pack.dry:
        dry_run(pack)
        return iter(())
    return fit_here(pack)


def fit_here(pack: Pack) -> Iterator[Outcome]:
    """Train a pack in this process, which for several ranks is one of theirs."""
    return fit(
        pack.trials,
        registry=registry_of(pack),
        device=pack.device,
        data_dir=pack.data_dir,
        probes=pack.probes,
        checkpoint=pack.checkpoint,
        checkpoint_every=pack.checkpoint_every,
    )


def _fit_one(
    trial: Trial,
    registry: Registry,
    device: torch.device,
    folder: Path,
    probes: Sequence[str],
    saved: Checkpoints | None,
    guard: Guard,
) -> tuple[Kind, dict[str, Any]]:
    """Train one trial, from where it was saved; return its outcome, and what was measured."""
    task, ranks = registry.task(trial.task), joined(trial.recipe.ranks)
    data = assemble.data(trial, task, folder, device)
    start = functools.partial(assemble.training, trial, registry, data, probes=probes, ranks=ranks)
    module = start()
    infinite_at_start = not_finite(module.network)
    if saved:
        module = saved.resumed(module, start)
    guard.curve = module.curve
    guard.passing = ()  # all is there that other trials need as well: from here on a UsageError is a layer's own
    with global_stream(device, trial.seed, "layer", *ranks.folded):
        train(module, [saved] if saved else [])
        module.to(device)
        kind, details = _judged(module, Measure.of(task, trial.task_params), data, infinite_at_start)
        judged = kind in ("trained", "not-trained")
        if judged and (module.eval_by_batch or module.depends_on_batch(data.test)):
            details["eval_batch"] = min(trial.recipe.eval_batch, len(data.test))
        return kind, {**details, "traces": module.probing.traces()}


def _judged(
    module: Training, measured: Measure, data: Loaded, infinite_at_start: frozenset[str]
) -> tuple[Kind, dict[str, Any]]:
    series = module.series
    common: dict[str, Any] = {"series": series, "steps": module.taken, "epoch_steps": len(module.batches)}
    common |= {"data": data.digest, "spared": module.spared, "validated": module.validated}
    diverged = {**common, "score": measured.chance, "validation": measured.chance if module.validates else None}
    if module.diverged_at is not None:
        return "diverged", {**diverged, "diverged_at": module.diverged_at, "reason": "a loss is not finite"}
    infinite = module.ranks.union(not_finite(module.network, infinite_at_start))
    if infinite:
        return "diverged", {**diverged, "reason": f"{min(infinite)} is not finite"}
    score = module.evaluate(data.test)
    if not math.isfinite(score):
        return "diverged", {**diverged, "reason": f"{measured.name} is not finite"}
    kind: Kind = "trained" if measured.trained(score) else "not-trained"
    validation = series["validation"][-1] if module.validates else None
    return kind, {**common, "score": score, "validation": validation}
