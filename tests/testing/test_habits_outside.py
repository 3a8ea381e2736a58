"""What a layer does to its process, and what becomes of it compiled, vectorised and trained."""

import logging
import os
import threading
import warnings

import pytest
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.testing.kit import checks
from normbench.testing.run import Asked, run_check


class Layer(nn.Module):
    """Scales by a gain; a broken layer does more as it is built, or in its forward."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, x):
        y = x * self.weight
        self.also(x, y)
        return y

    def also(self, x, y):
        pass


def built(do):
    """Return a layer that does something as it is built."""

    def __init__(self, channels):  # noqa: N807
        Layer.__init__(self, channels)
        do(self)

    return type("Broken", (Layer,), {"__init__": __init__})


def called(do):
    """Return a layer that does something with itself, its input and its output in every forward."""
    return type("Broken", (Layer,), {"also": do})


class CopiesWithContext(torch.autograd.Function):
    """Keeps its output on its context: a circle that only the garbage collector finds, if at all."""

    @staticmethod
    def forward(ctx, x):
        ctx.output = x * 2
        return ctx.output

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


class NoDetach(Layer):
    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return (x - self.mean) * self.weight


class Branches(Layer):
    def forward(self, x):
        return x * self.weight if x.mean() > 0 else x * self.weight.abs()


class OtherWhereCompiled(Layer):
    def forward(self, x):
        return x * self.weight * (2 if torch.compiler.is_compiling() else 1)


class Doubled(torch.autograd.Function):
    """Without a rule for vmap."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class WithoutRule(Layer):
    def forward(self, x):
        return Doubled.apply(x) * self.weight


class SharesAcrossLanes(Layer):
    """Its statistic is an attribute: each lane overwrites that of all."""

    def also(self, x, y):
        self.last = x.detach().mean(0)


class Ascends(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class WrongSign(Layer):
    def forward(self, x):
        return Ascends.apply(torch.tanh(x * self.weight))


class Explodes(Layer):
    def forward(self, x):
        return 1e38 * x.square() * self.weight


class OnlyAtRest(Layer):
    def also(self, x, y):
        if len(x) == 64:
            raise RuntimeError("64 is too many")


#: What a layer appends to that keeps its statistics.
KEPT = []
HOOKS = nn.modules.module

BROKEN = [
    ("surroundings", built(lambda self: torch.set_default_dtype(torch.float64)), "building it changed torch's default"),
    ("surroundings", built(lambda self: HOOKS.register_module_forward_hook(print)), "_global_forward_hooks"),
    ("surroundings", built(lambda self: os.environ.update(MINE="1")), "changed the environment variable MINE"),
    ("surroundings", built(lambda self: logging.getLogger().setLevel(10)), "changed the level of the root logger"),
    ("surroundings", called(lambda *_: torch.set_num_threads(3)), "a training step changed torch's number of threads"),
    ("surroundings", called(lambda *_: warnings.simplefilter("ignore")), "the filters of warnings"),
    ("surroundings", called(lambda *_: threading.Timer(0.5, int).start()), "the threads"),
    ("surroundings", called(lambda self, x, y: self.training or torch.set_grad_enabled(True)), "an evaluation changed"),
    ("surroundings", called(lambda self, x, y: print("mean", 3)), "a training step printed 'mean 3'"),
    ("memory", called(lambda self, x, y: KEPT.append(x.mean().detach())), "after 20 steps 15 tensors more"),
    ("memory", called(lambda self, x, y: setattr(self, "x", x.detach())), "after a training step it holds its input"),
    ("memory", called(lambda self, x, y: setattr(self, "y", [y])), "its 'y' keeps the graph of a step"),
    ("memory", called(lambda self, x, y: self.training or setattr(self, "y", y)), "evaluation under no_grad it holds"),
    ("memory", NoDetach, "backward through the graph a second time"),
    ("compile", OtherWhereCompiled, "compiled, its output is another"),
    ("trains", WrongSign, "the loss did not fall"),
    ("trains", Explodes, "its trial ends as diverged"),
    ("trains", OnlyAtRest, "its trial ends as error: RuntimeError: 64 is too many (test_habits_outside.py:"),
]  # fmt: skip


@pytest.mark.parametrize(("check_id", "layer", "said"), BROKEN)
def test_a_broken_layer_is_caught(checked, check_id, layer, said):
    """Each classic mistake fails the check of what it breaks, in words that say what was seen."""
    result = checked(layer, check_id)

    assert ("failed", check_id) == (result.status, result.check)
    assert said in result.said


@pytest.mark.parametrize(
    ("check_id", "layer", "said"),
    [
        ("compile", Branches, "refuses it: Data-dependent branching"),
        ("vectorised", Branches, "refuses it: vmap: It looks like you're attempting to use a Tensor in some data"),
        ("vectorised", WithoutRule, "refuses it: In order to use an autograd.Function with functorch"),
        ("vectorised", SharesAcrossLanes, "its attribute 'last' is lost under torch.func.vmap: make it a buffer"),
        ("memory", type("Circle", (Layer,), {"forward": lambda self, x: CopiesWithContext.apply(x)}), "garbage"),
    ],
)
def test_what_a_layer_need_not_be_able_to_do_is_advice(checked, check_id, layer, said):
    """A layer that can't be compiled or vectorised is told why, and passes."""
    result = checked(layer, check_id)

    assert "advice" == result.status
    assert said in result.said


@pytest.mark.parametrize("check_id", ["surroundings", "memory", "compile", "vectorised", "trains"])
def test_a_sound_layer_passes(checked, check_id):
    """Batch norm, which has state and refuses a batch of one, passes them all."""
    assert ("passed", "") == ((result := checked(nn.BatchNorm1d, check_id)).status, result.said)


def test_a_norm_that_the_small_network_has_no_place_for_is_not_applicable(checked):
    """Where a trial ends as unsupported, the check says nothing of the norm."""

    def layer(site):
        if site.channels != 8:
            raise normbench.Unsupported("eight channels alone")
        return nn.Identity()

    result = checked(normbench.Norm("eight", layer, summary="E"), "trains")

    assert ("not-applicable", "unsupported in that network: eight channels alone") == (result.status, result.said)


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("torch.set_default_dtype(torch.float64)", "failed", "import of plugin 'mine' changed torch's default dtype"),
        ("print('welcome')", "advice", "import of plugin 'mine' prints 'welcome'"),
        ("", "passed", ""),
    ],
)
def test_what_the_import_of_a_plugin_does_is_seen(tmp_path, line, status, said):
    """What a plugin changes as it is imported fails, what it prints is advice."""
    file = tmp_path / "mine.py"
    file.write_text(
        f"import normbench, torch\n{line}\n@normbench.hookimpl\ndef normbench_norms():\n"
        "    yield normbench.Norm('mine', lambda site: torch.nn.Identity(), summary='M')\n"
    )
    result = run_check(checks("norm")["import"], Asked(kind="norm", name="mine"), plugins.load([file]))

    assert status == result.status
    assert said in result.said


def test_the_import_of_what_is_built_in_is_not_judged():
    """Nothing is imported for a norm that is built in."""
    result = run_check(checks("norm")["import"], Asked(kind="norm", name="none"), plugins.current())

    assert "not-applicable" == result.status
