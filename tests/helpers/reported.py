"""A results folder that has all that a report shows, made of scores: also a norm whose name is markup, and failures."""

from __future__ import annotations

from pathlib import Path

import pytest
from folders import Folder

from normbench.store.records import SCHEMA, EnvironmentRecord, Series, TrialRecord

#: What a browser would run, or end a script with, were it not shown as text.
HOSTILE = '<img src=x onerror=alert(1)></script>"&'
NORMS = {
    "none": {0.1: [0.7, 0.6, 0.65], 0.3: [0.2, "diverged", 0.2], 1.0: ["diverged"] * 3},
    "batchnorm": {0.1: [0.8, 0.82, 0.81], 0.3: [0.85, 0.84, 0.86], 1.0: [0.7, 0.3, 0.75]},
    HOSTILE: {0.1: [0.75, 0.74, 0.73], 0.3: [0.76, 0.75, 0.77], 1.0: [0.2] * 3},
    "layer-norm": {rate: [{"outcome": "error", "reason": "no <b>luck</b>"}] * 3 for rate in (0.1, 0.3, 1.0)},
}
FRESH = {
    "none": {0.1: [0.66, 0.64, 0.65]},
    "batchnorm": {0.3: [0.85, 0.86, 0.84]},
    HOSTILE: {0.3: [0.9, 0.91, 0.92]},
}
SUITE = {
    "name": "mine",
    "summary": "Does it train & how?",
    "tasks": ["spirals"],
    "norms": list(NORMS),
    "rates": [0.1, 0.3, 1.0],
    "seeds": 3,
}


def made(path: Path) -> Path:
    """Return a results folder with four norms at three rates and seeds, their losses by step, and a session."""
    folder = Folder(path)
    folder.add(NORMS, fresh=FRESH, suite=SUITE, command=["normbench", "run", "mine", "--seeds", "3", "--jobs", "2"])
    folder.watch("curve", _losses)
    folder.time("spirals", none=1.2, **{HOSTILE: 0.9})
    environment = EnvironmentRecord(
        schema=SCHEMA, environment="environment 1", python="3.12", processor="A chip", packages={"torch": "2.9"}
    )
    with folder.store.writer() as writer:
        writer.append(environment)
    return path


def _losses(trial: TrialRecord) -> dict[str, Series] | None:
    return {"loss": Series([0, 1, 2], [3.0, 2.0, trial.recipe["rate"]])} if trial.outcome != "error" else None


@pytest.fixture(scope="session")
def mine(tmp_path_factory):
    """Return that folder, made once: nobody writes into it."""
    return made(tmp_path_factory.mktemp("report") / "mine")
