"""What the tests of several ranks share: trials of a task in double precision, and one group of two gloo processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked_ranks import Forked

import normbench
from normbench.train import fit_pack
from normbench.train.ranks import parent
from normbench.trials import Outcome, Pack, Trial

PLUGIN = Path(__file__).parent / "ranks_plugin.py"


@pytest.fixture(scope="package", autouse=True)
def _forked() -> Iterator[None]:
    """Have ranks forked; tests share a group, and leave none behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parent, "Launched", Forked)
        yield
        parent.close()


@pytest.fixture
def plugin() -> Path:
    return PLUGIN


@pytest.fixture
def trial() -> Callable[..., Trial]:
    def made(norm: str, **recipe: Any) -> Trial:
        values = {"rate": 0.1, "batch_size": 12, "epochs": 2, "momentum": 0.9, **recipe}
        return Trial(task="double", task_version=1, norm=norm, recipe=normbench.Recipe(**values), seed=0)

    return made


@pytest.fixture
def pack() -> Callable[..., Pack]:
    def made(*trials: Trial, **options: Any) -> Pack:
        return Pack(trials=trials, probes=("telling",), plugin_files=(str(PLUGIN),), **options)

    return made


@pytest.fixture
def trained(trial: Callable[..., Trial], pack: Callable[..., Pack]) -> Callable[..., Outcome]:
    """Return a function that trains a norm under a recipe."""

    def run(norm: str, **recipe: Any) -> Outcome:
        [outcome] = fit_pack(pack(trial(norm, **recipe)))
        return outcome

    return run


@pytest.fixture
def numbers() -> Callable[..., dict[str, Any]]:
    """Return a function that gives an outcome's scores, losses and weights; or the buffers of one rank."""

    def of(outcome: Outcome, rank: int | None = None) -> dict[str, Any]:
        if rank is not None:
            return {name: series for name, series in outcome.series.items() if name.startswith(f"{rank}:")}
        series = {name: series for name, series in outcome.series.items() if ":" not in name}
        return {"score": outcome.score, "validation": outcome.validation, **series}

    return of
