"""What a process shares is as it was after a plugin or a layer, and what was changed has a name."""

import os
import random
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from normbench.surroundings import kept, listed


def _hide():
    nn.BatchNorm2d.forward = lambda self, x: x


def _replace():
    functional.relu = torch.sin


def _replace_by_another():
    functional.batch_norm = functional.instance_norm


def _remove():
    del torch.relu


def _hook():
    nn.modules.module.register_module_forward_hook(lambda *seen: None)


def _method():
    nn.Linear.forward = lambda self, x: x


def _base():
    nn.modules.batchnorm._BatchNorm.forward = lambda self, x: x


#: What a layer may do, what of it is said, and how it is seen.
CHANGES = {
    "default dtype": (
        lambda: torch.set_default_dtype(torch.float64),
        "torch's default dtype",
        torch.get_default_dtype,
    ),
    "default device": (
        lambda: torch.set_default_device("meta"),
        "torch's default device",
        lambda: torch.ones(1).device,
    ),
    "gradients": (lambda: torch.set_grad_enabled(False), "torch's grad mode", torch.is_grad_enabled),
    "threads": (
        lambda: torch.set_num_threads(torch.get_num_threads() + 1),
        "torch's number of threads",
        torch.get_num_threads,
    ),
    "determinism": (
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        "torch's deterministic algorithms",
        torch.are_deterministic_algorithms_enabled,
    ),
    "matmul": (
        lambda: torch.set_float32_matmul_precision("medium"),
        "torch's precision of float32 products",
        torch.get_float32_matmul_precision,
    ),
    "cudnn": (
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        "torch.backends.cudnn.benchmark",
        lambda: torch.backends.cudnn.benchmark,
    ),
    "autocast": (
        lambda: torch.set_autocast_enabled("cpu", True),
        "torch's autocast on cpu",
        lambda: torch.is_autocast_enabled("cpu"),
    ),
    "denormals": (
        lambda: torch.set_flush_denormal(True),
        "torch's flushing of denormal numbers",
        lambda: (torch.tensor([1e-38]) / 100).item(),
    ),
    "hooks": (
        _hook,
        "torch.nn.modules.module._global_forward_hooks",
        lambda: len(nn.modules.module._global_forward_hooks),
    ),
    "function": (_replace, "torch.nn.functional.relu", lambda: functional.relu),
    "torch's other function": (
        _replace_by_another,
        "torch.nn.functional.batch_norm",
        lambda: functional.batch_norm,
    ),
    "removed": (_remove, "torch.relu", lambda: hasattr(torch, "relu")),
    "method": (_method, "torch.nn.modules.linear.Linear.forward", lambda: nn.Linear.forward),
    "method of a base": (
        _base,
        "torch.nn.modules.batchnorm._BatchNorm.forward",
        lambda: nn.modules.batchnorm._BatchNorm.forward,
    ),
    "hidden method": (_hide, "torch.nn.modules.batchnorm.BatchNorm2d.forward", lambda: nn.BatchNorm2d.forward),
    "folder": (lambda: os.chdir("/"), "the working directory", os.getcwd),
    "signal": (
        lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        "the handler of SIGUSR1",
        lambda: signal.getsignal(signal.SIGUSR1),
    ),
    "variable": (lambda: os.environ.update(NEW="1"), "the environment variable NEW", lambda: os.environ.get("NEW")),
    "variable removed": (
        lambda: os.environ.pop("HOME"),
        "the environment variable HOME",
        lambda: os.environ.get("HOME"),
    ),
}
#: What is put back without a word.
QUIET = {
    "torch's generator": (lambda: torch.manual_seed(3), lambda: torch.get_rng_state().sum()),
    "numpy's generator": (lambda: np.random.seed(3), lambda: np.random.get_state()[1].sum()),
    "python's generator": (lambda: random.seed(3), random.getstate),
    "warnings": (lambda: warnings.simplefilter("error"), lambda: list(warnings.filters)),
    "path": (lambda: sys.path.pop(0), lambda: list(sys.path)),
    "path anew": (lambda: setattr(sys, "path", []), lambda: list(sys.path)),
}


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    """Have a home, and a folder to leave."""
    monkeypatch.setenv("HOME", "/")
    monkeypatch.delenv("NEW", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("change", "words", "seen"), CHANGES.values(), ids=CHANGES)
def test_what_is_changed_is_put_back_and_named(change, words, seen):
    """It is as it was, and the first of what is said says what was changed; the next one is told nothing of it."""
    before = seen()

    with kept() as changed:
        change()
        assert before != seen()

    assert before == seen()
    assert words in changed
    with kept() as changed:
        pass
    assert [] == changed


@pytest.mark.parametrize(("change", "seen"), QUIET.values(), ids=QUIET)
def test_what_is_put_back_without_a_word(change, seen):
    """Drawing numbers is no mischief; it must not move what others draw."""
    before = seen()

    with kept() as changed:
        change()

    assert before == seen()
    assert [] == changed


def test_a_layer_that_raises_is_named_too():
    """What was changed before an error is known where the error is caught."""
    changed = []

    def trained():
        nonlocal changed
        with kept() as changed:
            torch.set_default_dtype(torch.float64)
            raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        trained()

    assert (["torch's default dtype"], torch.float32) == (changed, torch.get_default_dtype())


def test_what_is_added_to_the_path_stays_behind_all_else():
    """A plugin may import from there later, and nobody's module is hidden by it."""
    before = list(sys.path)

    with kept():
        sys.path.insert(0, "/their/modules")

    assert [*before, "/their/modules"] == sys.path
    sys.path.remove("/their/modules")


def test_torch_that_comes_meanwhile_is_kept_as_it_came():
    """A plugin that is the first to import torch, and changes it at once, changes it for nobody else."""
    code = """
import importlib.util, sys
from normbench.surroundings import kept
with kept() as changed:
    importlib.util.find_spec("torch")
    assert "torch" not in sys.modules
    import torch
    relu = torch.nn.functional.relu
    torch.nn.functional.relu = None
    torch.set_default_dtype(torch.float64)
assert torch.nn.functional.relu is relu, torch.nn.functional.relu
assert torch.get_default_dtype() is torch.float32
assert "normbench" not in repr(sys.meta_path), sys.meta_path
print(changed)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert 0 == done.returncode, done.stderr
    assert "[\"torch's default dtype\", 'torch.nn.functional.relu']\n" == done.stdout


def test_what_torch_does_to_itself_is_not_named():
    """Compiling replaces methods of modules, for good."""
    with kept() as changed:
        from torch._dynamo import mutation_guard

        mutation_guard.install_generation_tagging_init()

    assert [] == changed


@pytest.mark.parametrize(
    ("number", "expected"), [(1, "0"), (2, "0 and 1"), (5, "0, 1, 2, 3 and 4"), (9, "0, 1, 2, 3 and 5 more")]
)
def test_what_was_changed_as_part_of_a_sentence(number, expected):
    """Of many things the first are named, and the others counted."""
    assert expected == listed([str(i) for i in range(number)])
