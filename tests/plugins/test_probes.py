"""The built-in probes are held to the checks of a probe; `tox -e checks` has more norms, and what they cost."""

import dataclasses

import pytest

from normbench import plugins
from normbench.testing.run import Asked, chosen, run_check

REGISTRY = plugins.load()
BUILT_IN = [name for name, probe in REGISTRY.probes.items() if probe.plugin.name == "builtin"]


@pytest.mark.parametrize("probe", BUILT_IN)
def test_the_checks_hold(probe):
    """It moves nothing, repeats and resumes, with the norms that keep the most: running statistics and controllers."""
    norms = {norm: REGISTRY.norms[norm] for norm in ("batchnorm", "online-norm")}
    asked = Asked(kind="probe", name=probe)

    results = [
        run_check(check, asked, dataclasses.replace(REGISTRY, norms=norms))
        for check in chosen(asked)
        if check.id != "cost"
    ]

    assert {"passed"} == {result.status for result in results}, results
