"""A plugin's file with a task whose functions, scores among them, are named by strings and have parameters."""

from pathlib import Path

import pytest

from normbench import plugins
from normbench.contract import function, named_by

PLUGIN = """
import normbench


@normbench.hookimpl
def normbench_tasks():
    yield normbench.Task(
        "arcs",
        1,
        summary="On which arc of a circle is a point?",
        recipe=normbench.Recipe(rate=0.1, batch_size=20, epochs=1),
        data="arcs_of_the_tests:data",
        network="arcs_of_the_tests:network",
        transform="arcs_of_the_tests:transform",
        augment_draws=1,
        chance="arcs_of_the_tests:chance",
        reference="arcs_of_the_tests:reference",
        example="arcs_example_of_the_tests:example",
        params={"classes": 4},
        types={"classes": int},
    )
"""
FUNCTIONS = """
import math

import normbench
import torch
from torch import nn


def data(folder, recipe, classes):
    angles = torch.linspace(0, 0.999, 80)[torch.randperm(80, generator=torch.Generator().manual_seed(0))]
    points = torch.stack([(2 * math.pi * angles).sin(), (2 * math.pi * angles).cos()], dim=1)
    targets = (classes * angles).long()
    return normbench.Splits(*((points[i:j], targets[i:j]) for i, j in ((0, 40), (40, 60), (60, 80))))


def network(place, recipe, classes):
    return nn.Sequential(place(nn.Linear(2, 8), "relu"), nn.Linear(8, classes))


def transform(sample, draws):
    return sample * (0.5 + draws)


def chance(classes):
    print("no part of the result")
    return 1 / classes


def reference(classes):
    return 1 - 0.1 / classes
"""
EXAMPLE = """
from pathlib import Path

import torch

Path("example-imported").touch()


def example(recipe, classes):
    return torch.zeros(min(recipe.batch_size, classes), 2)
"""
SUITE = """
name = "arcs"
summary = "Two and four arcs"
tasks = ["arcs", "arcs(classes=2)"]
norms = ["none"]
rates = [0.1]
seeds = 1
"""


@pytest.fixture
def arcs():
    """Write the plugin with its suite; return how it is asked for."""
    files = {"arcs.py": PLUGIN, "arcs_of_the_tests.py": FUNCTIONS, "arcs.toml": SUITE}
    files["arcs_example_of_the_tests.py"] = EXAMPLE
    for name, content in files.items():
        Path(name).write_text(content)
    return ("arcs.toml", "--plugin", "arcs.py")


def test_scores_of_parameters_are_in_records_and_boards(normbench, arcs, lines):
    """Each trial is judged by chance and reference at its own parameters, and so are boards."""
    ran = normbench("run", *arcs, "--executor", "serial", "--device", "cpu", "--no-throughput", "--json")

    assert 0 == ran.status, ran.err
    judged = {
        one.get("task_params", {}).get("classes", 4): (
            one["measure"]["chance"],
            one["measure"]["reference"],
            one["score"],
        )
        for one in lines("results/arcs")
    }
    assert {4: (0.25, 0.975), 2: (0.5, 0.95)} == {classes: anchors[:2] for classes, anchors in judged.items()}
    progress = [max(0.0, (score - chance) / (reference - chance)) for chance, reference, score in judged.values()]
    [aggregate] = [board for board in ran.json["boards"] if board["board"] == "aggregate"]
    assert pytest.approx(sum(progress) / 2) == aggregate["rows"][0]["progress"]


def test_an_example_is_imported_when_it_is_asked_for(normbench, arcs):
    """Nothing else needs it; asked for, it is found beside the plugin's file, and given the parameters it names."""
    assert 0 == normbench("plan", "--no-time", *arcs).status
    task = plugins.current((Path("arcs.py"),)).task("arcs")
    before = Path("example-imported").exists()

    example = function(task.example)

    assert (False, True) == (before, Path("example-imported").exists())
    assert (4, 2) == example(task.recipe, **named_by(example, task.params)).shape
