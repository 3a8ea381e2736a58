"""How long the checks of a norm take, on one thread: all of them, and the fast half."""

import pytest

from normbench import plugins
from normbench.testing import check

NORMS = ("batchnorm", "layer-norm", "batch-renorm", "online-norm")


@pytest.mark.parametrize("half", ["all", "fast"])
@pytest.mark.parametrize("norm", NORMS)
def test_checks_of(benchmark, norm, half):
    """At every layout that the norm claims; the checks are imported before."""
    plugins.current()
    check(norm, only=["builds"])

    results = benchmark.pedantic(lambda: check(norm, fast=half == "fast"), rounds=3)

    ran = [result for result in results if result.status != "not-applicable"]
    benchmark.extra_info |= {"checks": len(ran), "allowed": "4 s" if half == "fast" else "20 s"}
