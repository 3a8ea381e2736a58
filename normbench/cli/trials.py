"""How a trial is named in a line: by its norm, and by all else that the trials of its plan don't share."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.spelling import assignments, spelled
from normbench.trials import Cell, Trial


class Names:
    """Names the trials of cells that were planned together."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._labels = {spelled(cell.norm, cell.params): cell.label for cell in cells}
        recipes = {(spelled(cell.task, cell.task_params), cell.recipe) for cell in cells}
        self._tasks = {task for task, _ in recipes}
        conditions = dict.fromkeys(name for cell in cells for name in cell.condition)
        varied = [
            name
            for name in conditions
            if len({(task, getattr(recipe, name)) for task, recipe in recipes}) > len(self._tasks)
        ]
        tuned = [name for cell in cells for setting in cell.settings for name in setting]
        self._values = list(dict.fromkeys([*varied, *tuned]))

    def of(self, trial: Trial) -> str:
        """Return what a trial is: "'batchnorm' on digits-cnn (batch_size=8) at rate 0.1, seed 0"."""
        return f"{self._norm(trial, self._values)} at rate {trial.recipe.rate:g}, seed {trial.seed}"

    def of_fresh(self, cell: Cell, seed: int) -> str:
        """Return what a trial is whose rate the grid has not chosen yet."""
        values = [name for name in self._values if name not in cell.settings[0]]
        return f"{self._norm(cell, values)} at the rate that its grid chooses, seed {seed}"

    def _norm(self, of: Trial | Cell, values: Sequence[str]) -> str:
        norm = spelled(of.norm, of.params)
        task = f" on {spelled(of.task, of.task_params)}" if len(self._tasks) > 1 else ""
        assigned = assignments({name: getattr(of.recipe, name) for name in values})
        where = f"{task} ({assigned})" if assigned else task
        return f"{self._labels.get(norm, norm)!r}{where}"
