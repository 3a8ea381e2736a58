"""What each probe costs at its default `every`: a probed training against the same training without it."""

from __future__ import annotations

import os
import statistics
import time

import pytest

from normbench import plugins
from normbench.train import fit
from normbench.train.curve import Curve
from normbench.trials import Trial

ROUNDS = 9
DATA = os.environ.get("NORMBENCH_DATA", "")
PROBES = [name for name, offered in plugins.current().probes.items() if offered.plugin.built_in]


@pytest.mark.benchmark(group="probes")
@pytest.mark.parametrize("probe", ["", *PROBES])
def test_watching_with(benchmark, monkeypatch, probe):
    """Each round times the training without the probe, then with it: a round is compared with itself.

    Without a probe it is the loss by step, which every trial keeps, against a training that does not keep it.
    """
    if not DATA:
        pytest.skip("needs the image data: NORMBENCH_DATA")
    registry = plugins.current()
    task = registry.task("mnist-cnn")
    trial = Trial(task=task.name, task_version=task.version, norm="batchnorm", recipe=task.recipe, seed=0)
    asked = [probe] if probe else []
    plain: list[float] = []

    def trained(probes: list[str]) -> None:
        outcome = next(fit([trial], registry=registry, data_dir=DATA, probes=probes))
        assert {"watched"} >= {trace.ended for trace in outcome.traces}

    def unprobed() -> None:
        with monkeypatch.context() as patched:
            if not probe:
                patched.setattr(Curve, "add", lambda *_: None)
            began = time.perf_counter()
            trained([])
            plain.append(time.perf_counter() - began)

    benchmark.pedantic(lambda: trained(asked), setup=unprobed, rounds=ROUNDS, warmup_rounds=1)

    pairs = zip(benchmark.stats.stats.data, plain[-ROUNDS:], strict=True)
    low, middle, high = statistics.quantiles([probed / own for probed, own in pairs], n=4)
    every = registry.probe(probe).params.get("every") if probe else 1
    benchmark.extra_info |= {"probe": probe, "every": every, "ratio": middle, "quartiles": [low, high]}
