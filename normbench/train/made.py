"""What a trial was made from, as this process has loaded it."""

from __future__ import annotations

from pathlib import Path

from normbench import plugins, prints, reads
from normbench.registry import Registry
from normbench.sources import AtHand, made_from
from normbench.trials import Made, Pack, Trial


class Code:
    """The files that a trial's norm and task have read, as plain values; and whether they are as they were."""

    def __init__(self, trial: Trial, registry: Registry) -> None:
        self._trial, self._registry = trial, registry

    def files(self) -> list[tuple[str, str, str]]:
        """Return what was read until now: where, the path there, and the hash."""
        code = made(self._trial, self._registry)
        return [(source.at, source.path, source.sha256) for source in code.files] if code else []

    def edited(self, files: list[tuple[str, str, str]]) -> str | None:
        """Return the path of one that is not what it was; None if all are."""
        return AtHand(self._registry).changed({(at, path): digest for at, path, digest in files})


def registry_of(pack: Pack) -> Registry:
    """Return the plugins that a pack needs, its data and checkpoints left out of every list."""
    reads.leave_out(pack.data_dir, pack.checkpoint)
    return plugins.current(tuple(Path(file) for file in pack.plugin_files), pack.plugins)


def reading(trial: Trial, registry: Registry) -> reads.asking:
    """While this is entered, what a trial reads counts for the norm's plugin, or the task's, if no module is known."""
    used = [one.plugin for one in registry.behind(trial)]
    plugin = next((plugin for plugin in used if not plugin.built_in), used[-1])
    return reads.asking(plugin.node, plugin.base)


def made(trial: Trial, registry: Registry) -> Made | None:
    """Return the code prints of a trial's norm and task, and the files that they have read; None if both are built in.

    It is asked for after the training: until then they may read more.
    """
    behind = registry.behind(trial)
    if all(one.plugin.built_in for one in behind):
        return None
    norm_print = prints.whole_print(trial.norm, trial.params, registry)
    task_print = prints.task_print(registry.tasks[trial.task])
    return Made(norm_print=norm_print, task_print=task_print, files=made_from(*behind))
