"""What a layer raises is told with the author's own line, and its whole trace for who asks for it."""

import importlib
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

import normbench
from normbench.errors import UsageError
from normbench.registry import Offered, Plugin
from normbench.train import fit
from normbench.train.dry_run import try_trial

LAYER = """
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, site):
        super().__init__()
        self.linear = nn.Linear(7, 7)

    def forward(self, x):
        return helper(self.linear, x)


def helper(linear, x):
    return linear(x)
"""


@pytest.fixture
def plugin(registry, tmp_path):
    """Return a function that puts a norm into the registry whose layer is in a file of a plugin's, by its path."""
    made = []

    def put(file, distribution=""):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(LAYER)
        for package in [parent for parent in path.relative_to(tmp_path).parents if parent.name]:
            (tmp_path / package / "__init__.py").touch()
        sys.path.insert(0, str(tmp_path))
        name = ".".join(Path(file).with_suffix("").parts)
        module = importlib.import_module(name)
        made.extend([name, name.partition(".")[0]])
        norm = normbench.Norm("mine", lambda site: module.Layer(site), summary="M")
        registry.norms["mine"] = Offered(norm, Plugin("mine", "t", distribution, module=module))

    yield put
    sys.path.remove(str(tmp_path))
    for name in made:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("file", "distribution", "line"),
    [("blamed.py", "", "blamed.py:16"), ("blamed_package/layers/mine.py", "blamed", "layers/mine.py:16")],
)
def test_the_authors_own_line_is_named(plugin, registry, trial, file, distribution, line):
    """Of what torch raises, the deepest line in the plugin's own files, in the dry run and in a trial."""
    plugin(file, distribution)

    [outcome] = fit([trial("mine")], registry=registry)
    with pytest.raises(UsageError) as refused:
        try_trial(trial("mine"), registry, torch.device("cpu"), Path())

    assert outcome.reason.startswith("RuntimeError: ")
    assert outcome.reason.endswith(f" ({line})")
    assert str(refused.value).endswith(f" ({line})")
    assert "\n" not in str(refused.value)


def test_the_whole_trace_is_for_who_asks(plugin, registry, trial, monkeypatch, capsys):
    """By NORMBENCH_TRACEBACK the trace goes to stderr, and the reason stays one line."""
    plugin("blamed.py")
    [short] = fit([trial("mine")], registry=registry)
    assert "" == capsys.readouterr().err

    monkeypatch.setenv("NORMBENCH_TRACEBACK", "1")
    [outcome] = fit([trial("mine")], registry=registry)

    assert short.reason == outcome.reason
    trace = capsys.readouterr().err
    assert trace.startswith("Traceback (most recent call last):")
    assert "return helper(self.linear, x)" in trace
    assert "torch/nn/modules/linear.py" in trace


def test_the_line_of_a_second_norm_is_named(plugin, registry, trial):
    """Of a norm made of two the second's own file counts, too."""
    plugin("blamed.py")
    module = registry.norms["mine"].plugin.module
    layer = lambda site, linear: nn.Sequential(linear, module.Layer(site))  # noqa: E731
    second = normbench.Norm("mine", layer, summary="M", placement="weight")
    registry.norms["mine"] = Offered(second, Plugin("mine", "t", module=module))

    [outcome] = fit([msgspec.structs.replace(trial("plain"), params={"with": "mine"})], registry=registry)

    assert outcome.reason.endswith(" (blamed.py:16)")
