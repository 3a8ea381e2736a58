"""No check fails a sound layer of other people: of torch, timm, x-transformers. benchmarks/checks.py has more seeds."""

from pathlib import Path

import pytest

from normbench import plugins
from normbench.testing.run import Asked, chosen, run_check

PLUGIN = Path(__file__).parents[1] / "helpers" / "sound_layers.py"


@pytest.mark.filterwarnings("ignore")  # what timm and x-transformers use of torch is deprecated
def test_no_check_fails_a_sound_layer():
    """What is known of one is declared as expected, with its reason."""
    registry = plugins.current((PLUGIN,))
    layers = [name for name, offered in registry.norms.items() if not offered.plugin.built_in]
    asked = [Asked(kind="norm", name=name, fast=True) for name in layers]
    results = [run_check(check, one, registry) for one in asked for check in chosen(one)]

    assert [] == [f"{one.name}: {one.check}: {one.said}" for one in results if one.status == "failed"]
    assert {"torch-group-norm", "timm-evonorm-b0"} == {one.name for one in results if one.status == "expected"}
    assert 19 == len(layers)
