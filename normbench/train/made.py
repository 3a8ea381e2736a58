"""What a trial was made from, as this process has loaded it."""

from __future__ import annotations

from normbench import prints
from normbench.plugins import Registry
from normbench.records import Made, Trial
from normbench.sources import made_from


def made(trial: Trial, registry: Registry) -> Made | None:
    """Return the code prints of a trial's norm and task, and the files that they have read; None if both are built in.

    It is asked for after the training: until then they may read more.
    """
    norm, task = registry.norms[trial.norm], registry.tasks[trial.task]
    if norm.plugin.built_in and task.plugin.built_in:
        return None
    norm_print, task_print = prints.norm_print(norm, trial.params), prints.task_print(task)
    return Made(norm_print=norm_print, task_print=task_print, files=made_from(norm, task))
