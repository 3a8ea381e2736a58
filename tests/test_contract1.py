"""Plugins that were written for the contract's first version, from the documentation of commit 2000f99, work unchanged.

What they gave then was recorded by a run of that commit.
"""

import json
import sys
from pathlib import Path

import pytest
import torch

import normbench
from normbench import environment, plugins
from normbench.cli.main import status

DATA = Path(__file__).parent / "data" / "contract1"
FILES = [DATA / f"first_{name}.py" for name in ("norms", "task", "others")]
NAMES = {
    "norms": ["first-blend", "first-fused", "first-running", "first-weight"],
    "tasks": ["first-spots"],
    "suites": ["first"],
    "probes": ["first-sharpest"],
    "executors": ["first-in-turn"],
}
#: Another processor, or another torch, adds up in another order; twelve steps make more of that.
ROUNDING = 1e-3


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Give each test its own current folder, and leave Python's path as it was."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    plugins.current.cache_clear()
    yield
    plugins.current.cache_clear()


@pytest.mark.parametrize("kind", NAMES)
def test_they_are_listed(kind, capsys):
    """Each is loaded without a word, and listed with what it offers."""
    done = status(["list", kind, "--json", *(word for file in FILES for word in ("--plugin", str(file)))])

    out, err = capsys.readouterr()
    entries = {entry["name"]: entry for entry in json.loads(out)[kind]}
    assert (0, "") == (done, err)
    assert NAMES[kind] == sorted(name for name in entries if entries[name]["plugin"].startswith("first"))


def test_they_give_what_they_gave():
    """Their trials have the keys, outcomes, scores and series that they had."""
    recorded = json.loads((DATA / "at-2000f99.json").read_text(encoding="utf-8"))
    here = [environment.describe("cpu").processor, torch.backends.cpu.get_cpu_capability(), torch.__version__]
    off = 0.0 if here == recorded["computed_on"] else ROUNDING

    results = normbench.run(
        "first", plugin_files=FILES, executor="first-in-turn(pause=0)", probes="first-sharpest",
        throughput=False, device="cpu",
    )  # fmt: skip

    found = {one.key: one for one in results.trials()}
    assert recorded["trials"].keys() == found.keys()
    for key, then in recorded["trials"].items():
        now = found[key]
        assert (then["outcome"], then["reason"], [*then["series"]]) == (now.outcome, now.reason, [*now.series])
        if then["outcome"] != "unsupported":
            assert then["score"] == pytest.approx(now.score, rel=off, abs=0)
        for name, values in then["series"].items():
            assert values == pytest.approx(now.series[name], rel=off, abs=0), (now.norm, name)
