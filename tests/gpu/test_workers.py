"""Workers on GPUs: each has its own, memory that ran out is free for the next trial, and trials on several train."""

from __future__ import annotations

import pytest
import torch

from normbench.execute import Request, prepare, run
from normbench.store import Store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]

GREEDY = """
import os
import normbench
import torch
from torch import nn

class Greedy(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept = []

    def on_step(self, step, steps):
        while step == 1:
            self.kept.append(torch.empty(1 << 30, device="cuda"))

    def forward(self, x):
        return x

class Sees(nn.Module):
    def on_step(self, step, steps):
        assert os.environ["CUDA_VISIBLE_DEVICES"].count(",") == 0
        assert torch.cuda.device_count() == 1

    def forward(self, x):
        return x

@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("greedy", lambda site: Greedy(), summary="Takes all memory")
    yield normbench.Norm("sees", lambda site: Sees(), summary="Looks at the GPUs")
"""


def trained(tmp_path, *norms, **options):
    """Run `quick` with these norms at one rate on CUDA; return the records by norm."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "greedy.py").write_text(GREEDY)
    asked = {"seeds": 1, "settings": {"rates": 0.1, "epochs": 1}, "throughput": False, **options}
    request = Request(
        "quick", norms=norms, plugin_files=[tmp_path / "greedy.py"], out=tmp_path / "out", device="cuda", **asked
    )
    run(prepare(request))
    return {record.norm: record for record in Store(tmp_path / "out").trials()}


def test_a_trial_after_one_that_ran_out_of_memory_has_a_clean_device(tmp_path):
    """The outcome is `oom`, at the batch that was asked for; what comes next in the same slot trains."""
    found = trained(tmp_path, "greedy", "batchnorm", options={"jobs": 1})

    assert "oom" == found["greedy"].outcome
    assert found["batchnorm"].outcome in ("trained", "not-trained")


def test_a_worker_sees_one_gpu_which_trials_may_share(tmp_path):
    """With two trials on a GPU each still sees that one alone."""
    found = trained(tmp_path, "sees", "batchnorm", options={"per_gpu": 2})

    assert all(record.outcome in ("trained", "not-trained") for record in found.values())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_as_one(tmp_path):
    """Without batch statistics, and with synchronized ones, a trial's losses are those of one GPU, to rounding."""
    norms = ("layer-norm", "sync-batchnorm")
    one = trained(tmp_path / "one", *norms)
    two = trained(tmp_path / "two", *norms, settings={"rates": 0.1, "epochs": 1, "devices": 2})

    assert [2, 2] == [record.ranks for record in two.values()]
    for norm, record in one.items():
        assert record.series["loss"] == pytest.approx(two[norm].series["loss"], rel=1e-3)
