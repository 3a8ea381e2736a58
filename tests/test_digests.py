"""Hashes of what lives in a session: a change of what a layer computes with changes them, and nothing else does."""

import os
import subprocess
import sys
import threading
import types

import pytest
from torch import nn

import normbench
from normbench import digests, plugins, prints
from normbench.distributions import version_of
from normbench.errors import UsageError

NOTEBOOK = """
import functools, math
from dataclasses import dataclass

import numpy
import torch
from torch import nn

import session_helper

GAIN = 2
LIMITS = [0.5, float("inf")]
TABLE = numpy.zeros(2000)
WEIGHT = torch.ones(3)
SHARED = nn.Linear(2, 2).double()
torch.nn.init.zeros_(SHARED.weight); torch.nn.init.zeros_(SHARED.bias)

class Table(dict):
    def eps(self):
        return 1.0

ROWS = Table(a=1)

class Scaled:
    def __init__(self, function, factor):
        functools.update_wrapper(self, function)
        self.function, self.factor = function, factor

    def __call__(self, x):
        return self.factor * self.function(x)

def plain(x):
    return x

plain.gain = 1.0
scaled = Scaled(plain, 1.0)

@dataclass(frozen=True)
class Options:
    eps: float = 1e-5

OPTIONS = Options()

class Base(nn.Module):
    def scale(self, x):
        return 3 * x

@functools.lru_cache
def cached(n):
    return n + 1

@torch.no_grad()
def helper(x):
    return GAIN * x

class Mine(Base):
    kind = "mine"

    def forward(self, x):
        def inner(y):
            return LIMITS[0] * y + TABLE.sum() + WEIGHT.sum() + cached(1)
        x = scaled(x) * ROWS.eps() * plain.gain
        return helper(inner(self.scale(x))) * OPTIONS.eps + session_helper.shift(x) + SHARED(x)

def make(eps):
    def layer(site, groups=8, *, bias=True):
        return Mine() if eps else math.pi
    return layer

layer = make(1e-5)
"""

EDITS = {
    "a constant": ("GAIN = 2", "GAIN = 3"),
    "a list": ("LIMITS = [0.5", "LIMITS = [0.25"),
    "an infinity in a list": ('float("inf")', 'float("-inf")'),
    "a large array": ("zeros(2000)", "zeros(2001)"),
    "an element of a large array": ("zeros(2000)", "zeros(2000); TABLE[1234] = 1"),
    "a tensor": ("torch.ones(3)", "torch.ones(3) * 2"),
    "a module that is shared": ("SHARED.bias)", "SHARED.bias); SHARED.bias.data += 1"),
    "a field's default": ("eps: float = 1e-5", "eps: float = 1e-4"),
    "a base class": ("return 3 * x", "return 4 * x"),
    "a class attribute": ('kind = "mine"', 'kind = "yours"'),
    "a helper under a library's decorator": ("return GAIN * x", "return x * GAIN"),
    "a helper under Python's decorator": ("return n + 1", "return n + 2"),
    "a name used in an inner function alone": ("LIMITS[0] * y", "LIMITS[1] * y"),
    "a method of a container": ("return 1.0", "return 2.0"),
    "an item of a container": ("Table(a=1)", "Table(a=2)"),
    "the state of a decorator": ("Scaled(plain, 1.0)", "Scaled(plain, 2.0)"),
    "an attribute of a function": ("plain.gain = 1.0", "plain.gain = 2.0"),
    "a closure": ("make(1e-5)", "make(1e-4)"),
    "a default": ("groups=8", "groups=4"),
    "a default of a keyword": ("bias=True", "bias=False"),
    "a helper module's attribute": ("layer = make", "session_helper.STEP = 2\nlayer = make"),
    "another helper of a helper module": ("layer = make", "session_helper.shift = lambda x: x\nlayer = make"),
}


@pytest.fixture(autouse=True)
def helper(monkeypatch):
    """Have a module that belongs to no distribution, and forget what was registered."""
    module = types.ModuleType("session_helper")
    exec("STEP = 1\ndef shift(x):\n    return x + STEP\n", vars(module))
    monkeypatch.setitem(sys.modules, "session_helper", module)
    monkeypatch.setattr(plugins, "_session", [])
    plugins.current.cache_clear()
    yield
    plugins.current.cache_clear()


def digest_of(code):
    """Return the digest of the layer that a notebook's code defines, in a `__main__` of its own."""
    module, before = types.ModuleType("__main__"), sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        exec(code, vars(module))
        return digests.digest(vars(module)["layer"], version_of)
    finally:
        sys.modules["__main__"] = before


@pytest.mark.parametrize(("old", "new"), EDITS.values(), ids=EDITS)
def test_what_a_layer_computes_with_counts(old, new, monkeypatch):
    """Whatever the layer's code leads to counts."""
    before = digest_of(NOTEBOOK)
    assert old in NOTEBOOK

    assert before is not None
    assert before != digest_of(NOTEBOOK.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [("GAIN = 2", "# a comment\n\nGAIN = 2"), ("GAIN = 2", "GAIN = 2\nOTHER = object()"), ("", "")],
    ids=["a comment", "what no code names", "nothing"],
)
def test_nothing_else_counts(old, new):
    """What no code names, lines and comments do not count."""
    assert digest_of(NOTEBOOK) == digest_of(NOTEBOOK.replace(old, new, 1))


@pytest.mark.parametrize("value", ["threading.Lock()", "open(os.devnull)", "iter([1])", "(i for i in range(3))"])
def test_what_can_not_be_hashed(value):
    """An object that says nothing of what it computes has no hash."""
    code = NOTEBOOK.replace("GAIN = 2", f"import os, threading\nGAIN = {value}")

    if value == "iter([1])":  # it is pickled with what is left
        assert digest_of(code) != digest_of(code.replace("[1]", "[2]"))
    else:
        assert None is digest_of(code)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0.0, -0.0),
        (True, 1),
        ("1", b"1"),
        ([1, 2], (1, 2)),
        ([[1], 2], [1, [2]]),
        ({"a": 1}, {"a": 2}),
        (float("inf"), float("-inf")),
        (float("nan"), float("inf")),
        (slice(1, 2), range(1, 2)),
        (len, sum),
        (nn.ReLU, nn.GELU),
        (nn.ReLU(), nn.GELU()),
        ("ab".upper, "ac".upper),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_told_apart(one, other):
    """Values of other types or contents differ."""
    found = [digests.digest(value, version_of) for value in (one, other, one)]

    assert found[0] == found[2] != found[1]
    assert None not in found


def test_a_cycle_ends():
    """A container that holds itself has a hash."""
    cycle = [1]
    cycle.append(cycle)

    assert digests.digest(cycle, version_of)


def test_same_in_another_process():
    """A digest is the same in every process, however Python orders its sets there."""
    code = (
        "from normbench import digests; from normbench.distributions import version_of\n"
        "A = {'x', 'y', 'z', 'w'}\ndef f(x): return x in A or x in {'p', 'q', 'r'}\n"
        "print(digests.digest(f, version_of))"
    )

    found = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }

    assert 1 == len(found)
    assert 65 == len(found.pop())


def registered(eps):
    """Register a norm as a notebook's loop does, and return its print and its layer's eps."""
    normbench.register(normbench.Norm("mine", lambda site: nn.BatchNorm1d(site.channels, eps=eps), summary="Mine"))
    return prints.norm_print(plugins.current().norms["mine"], {})


def test_a_loop_over_a_value():
    """The same name with another value in its closure is other code."""
    found = [registered(eps) for eps in (1e-5, 1e-3, 1e-5)]

    assert found[0] == found[2] != found[1]


def test_words_do_not_count():
    """Another summary trains nothing again."""
    found = []
    for summary in ("Mine", "Still mine"):
        normbench.register(normbench.Norm("mine", lambda site: nn.Identity(), summary=summary))
        found.append(prints.norm_print(plugins.current().norms["mine"], {}))

    assert found[0] == found[1] is not None


def test_what_is_registered_stays_as_it_was():
    """What the code refers to may change afterwards: the norm keeps what it was registered with."""
    for gain in (1, 2):
        normbench.register(
            normbench.Norm(f"gain-{gain}", lambda site: nn.Threshold(gain, 0.0), summary="M")  # noqa: B023
        )

    assert [1, 2] == [normbench.layer(f"gain-{gain}", channels=2).threshold for gain in (1, 2)]


def test_what_can_not_be_packed_is_trained_anew():
    """A layer that holds a lock is used as it is, has no print, and can't be sent."""
    lock = threading.Lock()
    normbench.register(normbench.Norm("locked", lambda site: nn.Identity() if lock else None, summary="Locked"))

    assert prints.norm_print(plugins.current().norms["locked"], {}) is None
    assert isinstance(normbench.layer("locked", channels=2), nn.Identity)
    with pytest.raises(UsageError, match="locked was registered in this session, and can't be sent"):
        plugins.registered()
