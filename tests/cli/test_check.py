"""`normbench check`: its report and its exit statuses; a layer that crashes or hangs costs its own check."""

from pathlib import Path

import pytest

PLUGIN = """
import os
import time

import normbench
import torch
from torch import nn


class Half(nn.Module):
    def forward(self, x):
        return x.half()


class Ends(nn.Module):
    def forward(self, x):
        os._exit(3)


class Hangs(nn.Module):
    def forward(self, x):
        time.sleep(600)


@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("half", lambda site: Half(), summary="Another type", layouts={"NC"})
    meant = {"builds": "half is meant"}
    yield normbench.Norm("meant", lambda site: Half(), summary="Another type", layouts={"NC"}, expected=meant)
    yield normbench.Norm("ends", lambda site: Ends(), summary="Ends its process", layouts={"NC"})
    yield normbench.Norm("hangs", lambda site: Hangs(), summary="Never ends", layouts={"NC"})
"""


@pytest.fixture(autouse=True)
def plugin():
    """Write the plugin."""
    Path("mine.py").write_text(PLUGIN)


def test_a_sound_norm_passes(normbench):
    """Exit status 0; the checks that passed are named, and the last line counts all."""
    ran = normbench("check", "layer-norm", "-k", "builds", "-k", "definition", "--layout", "NC")

    assert (0, "") == (ran.status, ran.err)
    head, passed, _, counts = ran.out.splitlines()
    assert ("norm layer-norm", "passed builds, definition") == (head, " ".join(passed.split()))
    assert counts.startswith("2 passed, 0 expected to fail, 0 advice, 0 not applicable, 0 failed; ")


def test_a_failure_says_what_where_and_how_far(normbench):
    """Exit status 1; the report has the property and its reason, what was seen, and the smallest input."""
    ran = normbench("check", "half", "--plugin", "mine.py", "-k", "builds")

    assert 1 == ran.status
    assert "FAILED builds (NC): " in ran.out
    assert "seen: in training its output is " in ran.out
    assert "torch.float16" in ran.out
    assert "smallest input: " in ran.out
    assert "why: Networks are built around that: " in ran.out
    assert "0 passed, 0 expected to fail, 0 advice, 0 not applicable, 1 failed; " in ran.out


def test_what_is_declared_with_a_reason_is_no_failure(normbench):
    """Exit status 0, and the author's reason is shown."""
    ran = normbench("check", "meant", "--plugin", "mine.py", "-k", "builds")

    assert 0 == ran.status
    assert "expected to fail builds (NC): half is meant; in training its output is" in " ".join(ran.out.split())


def test_a_layer_that_ends_or_hangs_costs_that_check(normbench):
    """The checks after it run all the same."""
    for name, words in {"ends": "it ended the process: ", "hangs": "it did not end: killed after 2 s"}.items():
        ran = normbench(
            "check", name, "--plugin", "mine.py", "-k", "builds", "-k", "import", "--timeout", "2s", "--json"
        )

        results = {result["check"]: result for result in ran.json["results"]}
        assert (1, {"builds", "import"}) == (ran.status, set(results))
        assert results["builds"]["said"].startswith(words)
        assert "passed" == results["import"]["status"]


def test_a_task_and_a_norm_in_one_command(normbench):
    """What is named is found whatever its kind."""
    ran = normbench("check", "none", "digits-cnn", "-k", "builds", "-k", "shapes", "--json")

    results = [(result["kind"], result["check"], result["status"]) for result in ran.json["results"]]
    assert [("norm", "builds", "passed"), ("task", "shapes", "passed")] == results


MISTAKES = {
    "no such norm": (["batchnrom"], "check: no norm, task or probe 'batchnrom'; did you mean 'batchnorm'"),
    "no such check": (["none", "-k", "bulids"], "check: no check 'bulids'; did you mean 'builds'?"),
    "no such layout": (["none", "--layout", "NHC"], "check: no layout 'NHC'; did you mean "),
    "a layout it does not claim": (
        ["half", "--plugin", "mine.py", "--layout", "NCL"],
        "check: half does not claim layout NCL; it claims NC",
    ),
    "no such parameter": (["layer-norm(esp=1)"], "no parameter 'esp'; did you mean 'eps'?"),
    "a norm made of two": (["none(with='mine')"], 'none(with="mine") is made of two norms; check each by itself'),
    "an executor": (["serial"], "serial is an executor; its rules are tests"),
    "no such plugin": (["none", "--plugin", "yours.py"], "plugin yours.py: there is no such file"),
    "no time": (["none", "--timeout", "never"], "--timeout never: a time is a number of seconds"),
}


@pytest.mark.parametrize(("args", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_status_2(normbench, args, words):
    """What, where, and what is allowed."""
    ran = normbench("check", *args)

    assert (2, "", 1) == (ran.status, ran.out, ran.err.count("\n"))
    assert words in ran.err
