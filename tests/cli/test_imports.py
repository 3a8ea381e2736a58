"""What is only listed, planned or shown waits for no library that it does not need."""

import json
import os
import subprocess
import sys

import pytest

from normbench.cli.commands import COMMANDS
from normbench.hookspecs import KINDS

DRAWING = ["matplotlib", "altair", "jinja2", "vl_convert"]
HEAVY = ["torch", "pytorch_lightning", "torchvision", "sklearn", "scipy", "numpy", "pandas", "pyarrow", *DRAWING]
TRAINING = ["torch", "pytorch_lightning", "torchvision", "sklearn", "pyarrow"]

LISTINGS = [
    ["--help"],
    ["--version"],
    *([command, "--help"] for command in COMMANDS),
    *(["list", kind] for kind in KINDS),
    ["plugins"],
    ["new-plugin", "my-norm"],
    ["run", "qick"],
]
OPTIONS = ["--norm", "none", "--set", "rates=[0.1, 1]", "--set", "epochs=1", "--seeds", "1"]
READERS = [
    ["plan", "quick", *OPTIONS],
    ["run", "quick", "--device", "cpu", "--no-throughput", *OPTIONS],
    ["fingerprint", "quick", "--device", "cpu", "--norm", "none"],
    ["leaderboard", "results/quick"],
    ["compare", "results/quick", "results/quick", "--fail", "accuracy:-0.5pt"],
    ["plot", "results/quick", "-o", "plot.png"],
    ["report", "results/quick", "-o", "report.html"],
    ["export", "results/quick", "-o", "quick.json"],
    ["merge", "results/quick", "quick.json", "-o", "merged"],
]

# One process for all commands: each is charged with what it was the first to import.
SCRIPT = """
import contextlib, io, json, sys
from normbench.cli.main import status
heavy, commands = json.loads(sys.argv[1])
found = []
for command in commands:
    before = set(sys.modules)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ended = status(command)
    found.append([ended, [name for name in heavy if name in sys.modules and name not in before]])
print(json.dumps(found))
"""


@pytest.fixture
def imported(results):
    """Return a function that runs commands in a fresh process, and gives the status and heavy imports of each."""

    def run(heavy, commands):
        # Another plugin that is installed here may import torch at its top: then only its own users pay.
        environment = {**os.environ, "NORMBENCH_PLUGINS": "builtin,suites"}
        command = [sys.executable, "-c", SCRIPT, json.dumps([heavy, commands])]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return {" ".join(words): tuple(found) for words, found in zip(commands, json.loads(ran.stdout), strict=True)}

    return run


def test_listings_import_nothing_slow(imported):
    """Help, lists and refusals come at once: they import no torch, numpy, scipy, scikit-learn or matplotlib."""
    found = imported(HEAVY, LISTINGS)

    expected = {" ".join(command): (0, []) for command in LISTINGS} | {"run qick": (2, [])}
    assert expected == found


def test_what_reads_results_imports_no_torch(imported, results, lines):
    """Plans, boards, records and pictures, and a run that finds everything done, import nothing that trains."""
    readers = [*READERS, ["show", lines(results)[0]["key"]]]

    found = imported(TRAINING, readers)

    assert {" ".join(command): (0, []) for command in readers} == found


def test_describing_a_plugin_imports_no_torch():
    """A plugin's file that names its layer as a string costs its users' listings nothing."""
    describe = "normbench.Norm('mine', 'mine.layers:layer', summary='Mine', params={'eps': 1e-5})"
    script = f"import sys, normbench; {describe}; print('torch' in sys.modules)"

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "False\n" == ran.stdout
