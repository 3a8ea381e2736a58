"""No norm touches another's numbers, whatever it does to the process that trains both; it is what is named."""

import os
from collections import defaultdict
from textwrap import dedent, indent

import pytest

from normbench.execute import Request, prepare, run
from normbench.store import Store

pytestmark = pytest.mark.slow

#: What neighbours do to their process, as they are built or in their second step.
BUILT = {"patching": "functional.relu = functional.batch_norm = torch.relu = lambda x, *more, **named: 0.5 * x"}
STEPS = {
    "widening": "torch.set_default_dtype(torch.float64)",
    "moving": """
        os.environ["OMP_NUM_THREADS"] = "2"
        os.chdir("/")
        torch.set_num_threads(2)
        nn.Conv2d.forward = lambda self, x: nn.functional.conv2d(0 * x, self.weight, None, self.stride, self.padding)
    """,
}
SOURCE = """
import os
import torch
from torch import nn
from torch.nn import functional
import normbench

with open({log!r}, "a") as file:
    file.write(f"{{os.getpid()}} {name}\\n")

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
{built}
    def forward(self, x):
        return x / 2

    def on_step(self, step, steps):
        if step == 1:
            pass
{step}

@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm({name!r}, lambda site: Layer(), summary="Changes what all share", layouts={{"NCHW"}})
"""
WAYS = {"serial": ("serial", {}), "jobs=2": ("processes", {"jobs": 2})}
EXPECTED = {
    "patching": ("torch.nn.functional.relu", "torch.nn.functional.batch_norm", "torch.relu"),
    "widening": ("torch's default dtype",),
    "moving": (
        "torch's number of threads",
        "torch.nn.modules.conv.Conv2d.forward",
        "the environment variable OMP_NUM_THREADS",
        "the working directory",
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a plugin's file for each neighbour; a process that loads one writes so to `log`."""
    folder = tmp_path_factory.mktemp("neighbours")
    for name in BUILT | STEPS:
        built, step = (indent(dedent(body.get(name, "")), " " * by) for body, by in ((BUILT, 8), (STEPS, 12)))
        source = SOURCE.format(log=str(folder / "log"), name=name, built=built, step=step)
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    return [folder / f"{name}.py" for name in BUILT | STEPS]


@pytest.fixture(scope="module")
def ran(files, tmp_path_factory):
    """Return what batch norm gives alone, and beside neighbours in each way to train them."""

    def way(executor, options, neighbours):
        out = tmp_path_factory.mktemp("results")
        request = Request(
            "quick",
            norms=[*neighbours, "batchnorm"],
            seeds=2,
            settings={"epochs": 1, "rates": 0.1},
            plugin_files=files if neighbours else (),
            executor=executor,
            options=options,
            throughput=False,
            out=out,
            device="cpu",
        )
        return run(prepare(request)), {(one.norm, one.key): (one.score, one.series) for one in Store(out).trials()}

    found = {name: way(executor, options, [file.stem for file in files]) for name, (executor, options) in WAYS.items()}
    return found | {"alone": way("serial", {}, [])}


@pytest.mark.parametrize("name", WAYS)
def test_numbers_depend_on_no_neighbour(ran, name):
    """Batch norm gives the bits that it gives alone, wherever and beside whomever it is trained."""
    of = {way: {key: gave for key, gave in found.items() if key[0] == "batchnorm"} for way, (_, found) in ran.items()}

    assert 2 == len(of["alone"])
    assert of["alone"] == of[name]


@pytest.mark.parametrize("name", WAYS)
def test_numbers_of_a_neighbour_depend_on_no_executor(ran, name):
    """Nor do those of a norm that changes what all share: each of its trials begins with a process as it was."""
    assert 8 == len(ran[name][1])
    assert ran["serial"][1] == ran[name][1]


@pytest.mark.parametrize("name", WAYS)
def test_who_changed_something_is_named_once(ran, name):
    """There is a line for each neighbour, with what it changed, and none for another norm."""
    warnings = ran[name][0].warnings

    assert [*EXPECTED] == sorted((warning.split("'")[1] for warning in warnings), key=[*EXPECTED].index)
    for warning in warnings:
        changed = EXPECTED[warning.split("'")[1]]
        assert [] == [words for words in changed if words not in warning], warning
        assert warning.endswith(", which was put back after each trial")


def test_a_worker_loads_the_plugins_of_what_it_trains(ran, files):
    """A plugin that is not asked for in a trial is not in its process."""
    loaded = defaultdict(set)
    for line in files[0].with_name("log").read_text(encoding="utf-8").splitlines():
        process, name = line.split()
        loaded[process].add(name)

    assert {file.stem for file in files} == loaded.pop(str(os.getpid()))
    assert {1} == {len(names) for names in loaded.values()}
    assert {file.stem for file in files} == set().union(*loaded.values())
