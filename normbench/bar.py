"""A progress bar for who calls `normbench.run`: tqdm's, on a terminal or in a notebook."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

from normbench.execute import Progress
from normbench.execute.prepare import Prepared
from normbench.throughput.wanted import Session
from normbench.trials import FAILED

if TYPE_CHECKING:
    from tqdm import tqdm


def wanted() -> bool:
    """Whether somebody looks: stderr is a terminal, or this is a notebook."""
    return (sys.stderr is not None and sys.stderr.isatty()) or _in_notebook()


def _in_notebook() -> bool:
    # What has not been imported is not running, and costs a second.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


class Bar:
    """A bar over the trials of a run, which says how many failed; nothing is shown where nothing is to do."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None
        self._failed = 0

    def on_start(self, prepared: Prepared) -> None:
        """Show the bar, for the plan as it is once the folder is held."""
        with warnings.catch_warnings():
            # Without ipywidgets a notebook gets a bar of text, which will do.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
        self._bar = tqdm(total=prepared.planned, initial=prepared.planned - prepared.left, desc="trials", unit="trial")

    def on_progress(self, progress: Progress) -> None:
        """Take one trial's result in."""
        if self._bar is None:
            return
        if progress.outcome.outcome in FAILED:
            self._failed += 1
            self._bar.set_postfix_str(f"{self._failed} failed", refresh=False)
        self._bar.total = progress.total
        self._bar.update(progress.done - self._bar.n)

    def on_session(self, session: Session, done: int) -> None:
        """Say how far a session is, between its rounds: during one, nothing else may compute."""
        if self._bar is not None:
            self._bar.set_description(f"throughput of {session.baseline.task}, {done} rounds")

    def close(self) -> None:
        """End the bar; what it showed last stays."""
        if self._bar is not None:
            self._bar.close()
