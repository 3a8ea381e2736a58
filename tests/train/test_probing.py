"""Probes by step: what they may look at, that looking changes nothing, and what becomes of one that fails."""

import math
import random
import re
import zlib
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

import normbench
from normbench import plugins
from normbench.registry import Offered, Plugin
from normbench.train import fit
from normbench.train.checkpoint import Checkpoints
from normbench.trials import Trial

PLUGIN = Plugin("watched", "tests")


class Restless(nn.Module):
    """Changes in every forward all that a layer can: buffers of its own, attributes, and every random generator."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("seen", None)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.own, self.past, self.calls = torch.Generator().manual_seed(5), {"means": []}, 0

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.count += 1
            mean = x.detach().mean().view(1)
            self.seen = mean if self.seen is None else torch.cat([self.seen, mean])[-3:]
            self.past["means"] = [*self.past["means"], mean][-3:]
            noise = torch.rand(1) + torch.rand(1, generator=self.own) + random.random() + np.random.rand()
            x = x * (1 + 0.01 * noise.float()) + 0.01 * self.calls + self.past["means"][0]
        return (x - self.seen.mean()) * self.weight.view(1, -1, 1, 1)


def _data(folder, recipe):
    inputs = torch.randn(40, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    targets = (inputs.mean((1, 2, 3)) > 0).long()
    return normbench.Splits((inputs[:24], targets[:24]), (inputs[24:32], targets[24:32]), (inputs[32:], targets[32:]))


def _network(place, recipe):
    blocks = [place(nn.Conv2d(2, 4, 3, padding=1), "relu"), place(nn.Conv2d(4, 4, 3, padding=1), "relu")]
    network = nn.Sequential(*blocks, nn.Dropout(recipe.dropout), nn.Flatten(), nn.Linear(64, 2))
    network.past, network.mean = [], torch.zeros(1)
    return network


@pytest.fixture
def registry(registry):
    """Return the tiny plugin, what is built in, and a task on images whose samples are changed by their draws."""
    seen = normbench.Task(
        "seen", 1, summary="Images", recipe=normbench.Recipe(rate=0.1, batch_size=4, epochs=2), chance=0.5,
        reference=1.0, data=_data, network=_network, augment_draws=1,
        augment=lambda inputs, draws: inputs + 0.1 * draws.view(-1, 1, 1, 1) + 0.01 * torch.rand(1),
    )  # fmt: skip
    registry.tasks["seen"] = Offered(seen, PLUGIN)
    registry.norms.update(plugins.current().norms)
    restless = normbench.Norm("restless", lambda site: Restless(site.channels), summary="R", layouts={"NCHW"})
    registry.norms["restless"] = Offered(restless, PLUGIN)
    weight_norm = nn.utils.parametrizations.weight_norm
    wraps = normbench.Norm("wraps", lambda site, module: weight_norm(module), summary="W", placement="weight")
    registry.norms["wraps"] = Offered(wraps, PLUGIN)
    return registry


@pytest.fixture
def watched(registry):
    """Return a function that trains with probes, given by name as what watches, and returns the outcome."""

    def train(norm="batchnorm", folder="", asked=(), probes=(), **recipe):
        for watch in probes:
            probe = normbench.Probe(watch.__name__.lower(), watch, summary="P")
            registry.probes[probe.name] = Offered(probe, PLUGIN)
        values = {"rate": 0.1, "batch_size": 4, "momentum": 0.9, "dropout": 0.3, "epochs": 2, **recipe}
        trial = Trial(task="seen", task_version=1, norm=norm, recipe=normbench.Recipe(**values), seed=3)
        names = asked or [watch.__name__.lower() for watch in probes]
        return next(fit([trial], registry=registry, probes=names, checkpoint=str(folder)))

    return train


class Watching:
    def __init__(self, training, every=1):
        self.training, self.every = training, every


class Final(Watching):
    """Gives a checksum of all weights and buffers after each step."""

    def after_step(self, step):
        tensors = (*self.training.network.parameters(), *self.training.network.buffers())
        return {"sum": zlib.crc32(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors))}


class Thorough(Watching):
    """Does at every step all that a probe can do: moves, computes backward, hooks, evaluates, freezes, draws."""

    def on_step(self, step):
        training = self.training
        with training.untouched():
            loss = training.loss()
            loss.backward()
            outputs = []
            handle = training.network[0].register_forward_hook(lambda *given: outputs.append(given[2].detach()))
            training.loss()
            training.network.eval()
            training.network(training.batch[0])
            next(training.network.parameters()).requires_grad_(False)
            for weight in training.network.parameters():
                weight.data.add_(1.0)
            training.network[1].made = 3
            weight.register_hook(lambda gradient: 2 * gradient)
            weight.register_post_accumulate_grad_hook(lambda weight: weight.grad.zero_())
            random.random()
            assert 2 == len(outputs)
            assert handle
        losses = []
        for eta in (0.5, 1.0):
            with training.moved(eta * training.rate):
                losses.append(training.loss())
        with training.untouched():
            again = training.loss()
        assert torch.equal(loss, again)
        return {"loss": loss, "moved": torch.stack(losses), "rate": training.rate}

    def after_step(self, step):
        with self.training.untouched():
            return {"after": self.training.loss()}

    def on_epoch(self, epoch):
        with self.training.untouched():
            self.training.network.eval()(torch.zeros(2, 2, 4, 4))
        return {"epoch": epoch}


NORMS = ("batchnorm", "online-norm", "none", "layer-norm", "restless", "wraps")


@pytest.mark.parametrize("norm", NORMS)
def test_a_probed_training_gives_the_same_bits(watched, norm):
    """Whatever a probe does inside untouched() and moved(), weights and buffers after each step stay what they were."""
    plain = watched(norm, probes=[Final], accumulate=2)

    probed = watched(norm, probes=[Thorough, Final], accumulate=2)

    assert "watched" == probed.traces[0].ended, probed.traces[0].reason
    assert plain.traces == probed.traces[1:]
    assert (plain.series, plain.score) == (probed.series, probed.score)


class Losses(Watching):
    def on_step(self, step):
        with self.training.untouched():
            inputs, _ = self.training.batch
            return {"loss": self.training.loss(), "size": [len(inputs), float(inputs.sum())]}


@pytest.mark.parametrize("norm", ["batchnorm", "online-norm", "none"])
@pytest.mark.parametrize("recipe", [{}, {"precision": "bf16", "channels_last": True}], ids=["float32", "bf16"])
def test_the_loss_at_the_weights_of_a_step_is_the_steps(watched, norm, recipe):
    """Dropout, augmentation and statistics begin as they did in the step: the mean over an epoch is the record's."""
    found = watched(norm, probes=[Losses], **recipe)

    losses = torch.tensor(found.traces[0].series["loss"].value, dtype=torch.float64).view(2, 6)
    assert found.series["loss"] == losses.mean(dim=1).tolist()
    assert list(range(12)) == found.traces[0].series["loss"].step
    assert {4.0} == {size for size, _ in found.traces[0].series["size"].value}


class Parts(Watching):
    def after_step(self, step):
        training = self.training
        named = dict(training.network.named_parameters())
        assert all(named[linear.name] is linear.weight for linear in training.linears)
        known = [linear.scale_invariant for linear in training.linears]
        sites = [-1 if linear.site is None else linear.site.index for linear in training.linears]
        acting = [site.index for site, module in training.activations if isinstance(module, nn.ReLU)]
        return {"invariant": known, "sites": sites, "activations": acting, "score": training.score("validation")}


@pytest.mark.parametrize(("norm", "invariant"), [("batchnorm", 1), ("batchnorm-after", 0), ("none", 0), ("wraps", 0)])
def test_a_probe_finds_linears_and_activations_and_evaluates(watched, norm, invariant):
    """Linears and convolutions are named in order, with their sites; the score is that of the weights it looks at."""
    found = watched(norm, probes=[Parts])

    series = found.traces[0].series
    assert [invariant, invariant, 0] == series["invariant"].value[0]
    assert [0, 1, -1] == series["sites"].value[0]
    assert [0, 1] == series["activations"].value[0]
    assert found.series["validation"] == [series["score"].value[step] for step in (5, 11)]


def test_the_batch_is_the_last_part_of_a_step(watched):
    """With accumulate a step has several, and the loss is that of the last; between steps there is none."""

    class Between(Losses):
        def on_epoch(self, epoch):
            return {"batch": len(self.training.batch[0])}

    losses, between, _ = watched(probes=[Losses, Between], accumulate=2).traces

    assert {2.0} == {size for size, _ in losses.series["size"].value}
    assert between.reason.startswith("RuntimeError: there is no batch between steps")


class Moving(Watching):
    def on_step(self, step):
        weights = [weight.detach().clone() for weight in self.training.network.parameters()]
        gradients = [weight.grad.clone() for weight in self.training.network.parameters()]
        with self.training.moved(0.5):
            there = [weight.detach() - 0 for weight in self.training.network.parameters()]
        off = [there - (weight - 0.5 * g) for there, weight, g in zip(there, weights, gradients, strict=True)]
        back = [torch.equal(a, b) for a, b in zip(self.training.network.parameters(), weights, strict=True)]
        return {"off": max(one.abs().max() for one in off), "back": all(back)}


def test_moved_stands_along_the_gradient(watched):
    """Inside, the weights are w - eta * g; then they are w, and not (w - eta * g) + eta * g."""
    series = watched(probes=[Moving]).traces[0].series

    assert max(series["off"].value) < 1e-7
    assert {1.0} == set(series["back"].value)


def test_what_a_probe_sees_of_the_schedule_and_of_the_sites(watched):
    """The rate is the step's own, after it as before it; sites come in order; parameters reach the probe."""

    class Seeing(Watching):
        def on_step(self, step):
            return {"rate": self.training.rate}

        def after_step(self, step):
            indices = [site.index for site, module in self.training.sites if isinstance(module, nn.BatchNorm2d)]
            return {"after": [self.training.rate, *indices, self.training.steps, self.training.step - step]}

    found = watched(probes=[Seeing], asked=["seeing(every=5)"], schedule="cosine").traces[0]

    assert ("seeing", {"every": 5}) == (found.probe, found.probe_params)
    assert [0, 5, 10] == found.series["rate"].step
    assert found.series["rate"].value == [0.05 * (1 + math.cos(math.pi * step / 12)) for step in (0, 5, 10)]
    assert [found.series["rate"].value[1], 0.0, 1.0, 12.0, 0.0] == found.series["after"].value[1]


def _weight(training):
    return next(training.network.parameters())


def _optimizer(training):
    return training._module.optimizer  # as a closure or the garbage collector could give it


def _leave(training):
    training.left = training.untouched()
    training.left.__enter__()


MOVING = {
    "a weight": (lambda training: _weight(training).data.add_(1.0), "the weight '0.0.weight'"),
    "a weight in place": (lambda training: nn.init.zeros_(_weight(training)), "the weight '0.0.weight'"),
    "a buffer": (lambda training: training.network(training.batch[0]), "the buffer '0.1.0.num_batches_tracked'"),
    "a gradient": (lambda training: _weight(training).grad.zero_(), "the gradient of '0.0.weight'"),
    "what learns": (lambda training: _weight(training).requires_grad_(False), "whether '0.0.weight' learns"),
    "a gradient's data": (lambda training: _weight(training).grad.data.mul_(2), "the gradient of '0.0.weight'"),
    "momentum's data": (
        lambda training: _optimizer(training).state[_weight(training)]["momentum_buffer"].data.mul_(1.5),
        "the optimizer's momentum_buffer",
    ),
    "a setting": (
        lambda training: _optimizer(training).param_groups[0].update(momentum=0.5),
        "the optimizer's momentum of group",
    ),
    "a weight's hook": (lambda training: _weight(training).register_hook(lambda g: g), "the hooks of '0.0.weight'"),
    "a hook": (
        lambda training: training.network.register_forward_hook(lambda *given: given[2]),
        "the attribute _forward_hooks",
    ),
    "an attribute": (lambda training: setattr(training.network[0][1][0], "eps", 0.5), "the attribute 0.1.0.eps"),
    "a list": (lambda training: training.network.past.append(1), "the attribute past in"),
    "a tensor": (lambda training: training.network.mean.add_(1), "the attribute mean in"),
    "a method": (lambda training: setattr(training.network, "forward", _weight), "the attribute forward"),
    "a module": (lambda training: training.network.append(nn.Identity()), "the attribute _modules"),
    "the mode": (lambda training: training.network.eval(), "the attribute training"),
    "torch's settings": (lambda training: torch.set_default_dtype(torch.float64), "torch's default dtype in"),
    "hooks of all": (
        lambda training: nn.modules.module.register_module_forward_hook(lambda *given: None),
        "torch.nn.modules.module._global_forward_hooks in",
    ),
    "what it does not leave": (_leave, "everything, since it never left untouched(), in after_step"),
    "torch's generator": (lambda training: torch.rand(1), "the generator of torch"),
    "NumPy's generator": (lambda training: np.random.rand(), "the generator of numpy"),
    "Python's generator": (lambda training: random.random(), "the generator of python"),
}


@pytest.mark.parametrize(("move", "what"), MOVING.values(), ids=MOVING)
def test_a_probe_that_moves_something_is_named(watched, move, what):
    """The trial would be another, so that it is in error, with the probe and what it moved."""

    class Restive(Watching):
        def after_step(self, step):
            return {"moved": [move(self.training) is None]} if step == 2 else None

    found = watched(probes=[Restive])

    assert "error" == found.outcome
    assert found.reason.startswith(f"RuntimeError: probe 'restive' moved {what}")
    assert "in after_step" in found.reason


def test_what_can_not_be_put_back_is_named(registry, watched):
    """A layer that keeps its state in an object of its own can't be looked at by computing with it."""

    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.past = deque(maxlen=3)

        def forward(self, x):
            self.past.append(len(x))
            return x

    registry.norms["keeping"] = Offered(normbench.Norm("keeping", lambda site: Keeping(), summary="K"), PLUGIN)

    found = watched("keeping", probes=[Losses])

    assert found.reason.startswith("RuntimeError: probe 'losses' moved the attribute 0.1.0.past")


def _raising(training):
    raise ValueError("lost")


def _exiting(training):
    raise SystemExit("enough")


FAILING = {
    "raises": (_raising, r"ValueError: lost \(test_probing.py:\d+\)"),
    "exits": (_exiting, r"SystemExit: enough \(test_probing.py:\d+\)"),
    "moves statistics": (lambda training: training.loss(), r"RuntimeError: loss\(\) computes anew.*"),
    "no mapping": (lambda training: 1.0, "TypeError: it returned float; it returns a mapping.*"),
    "text": (lambda training: {"x": "1"}, "TypeError: 'x' is '1'; it is a number, or a vector.*"),
    "matrix": (lambda training: {"x": torch.zeros(2, 2)}, "TypeError: 'x' is .*; it is a number, or a vector.*"),
    "empty vector": (lambda training: {"x": []}, "TypeError: 'x' is a vector of 0 numbers; it is .*"),
    "empty name": (lambda training: {"": 1.0}, "ValueError: it named a series ''; a name is a text that is not empty"),
    "another length": (
        lambda training: {"x": torch.zeros(1 + training.step)}, "ValueError: 'x' has 4 numbers at step 3, and 3 before"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fail", "reason"), FAILING.values(), ids=FAILING)
def test_a_probe_that_fails_costs_its_trace_alone(watched, fail, reason):
    """The trial is what it would be, other probes go on, and the failure says where it was."""

    class Frail(Watching):
        def on_step(self, step):
            return fail(self.training) if step > 1 else None

    whole = watched(probes=[Final])

    found = watched(probes=[Frail, Final])

    assert whole.traces == found.traces[1:]
    assert (whole.series, whole.score) == (found.series, found.score)
    assert ("error", {}) == (found.traces[0].ended, found.traces[0].series)
    assert re.fullmatch(reason, found.traces[0].reason)


@pytest.mark.parametrize("raised", [normbench.Unsupported("no images"), ValueError("no images")])
def test_a_probe_that_does_not_apply_says_so(watched, raised):
    """What `watch` raises costs the trace; Unsupported is an answer, and no failure."""

    class Choosy:
        def __init__(self, training):
            raise raised

    trace = watched(probes=[Choosy]).traces[0]

    unsupported = isinstance(raised, normbench.Unsupported)
    assert trace.ended == ("unsupported" if unsupported else "error")
    assert "no images" in trace.reason


def test_what_looks_at_nothing_is_refused(watched):
    """Whatever has none of the methods would be silent for hours; after epochs alone there is one."""

    class Mute(Watching):
        def on_steps(self, step):
            pass

    def late(network):
        return Mute(network)

    watching, epochs = watched(probes=[Mute]), watched(probes=[late])

    assert "error" == watching.traces[0].ended
    assert watching.traces[0].reason == "TypeError: what watch returned has no on_step or after_step or on_epoch"
    assert epochs.reason == "TypeError: what watch returned has no on_epoch"


def test_under_compile_a_probe_computes_eagerly(watched, monkeypatch):
    """What is compiled is called by the training alone."""
    calls = []
    monkeypatch.setattr(torch, "compile", lambda fn, **_: lambda *args: calls.append(1) or fn(*args))
    plain = watched(probes=[Final], compile=True)
    alone = len(calls)

    probed = watched(probes=[Thorough, Final], compile=True)

    assert plain.traces == probed.traces[1:]
    assert 2 * alone == len(calls) > 0


class Meandering(Watching):
    """Keeps a sum over all steps so far."""

    total = 0.0

    def on_step(self, step):
        with self.training.untouched():
            self.total += self.training.loss().item()
        return {"total": self.total, "none": math.nan}

    def on_epoch(self, epoch):
        return {"epoch": [epoch, self.total]}

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


@pytest.mark.parametrize("kill_after", [4, 6, 12], ids=["within an epoch", "at its end", "at the end"])
def test_a_resumed_training_has_the_whole_trace(watched, tmp_path, monkeypatch, kill_after):
    """What a probe gave before the kill, and what it kept, comes back; one that failed stays out."""

    class Failing(Watching):
        def on_step(self, step):
            if step == 1:
                raise ValueError("lost")

    class Killed(BaseException):
        pass

    def killed(self, module):
        save(self, module)
        if module.taken == kill_after:
            raise Killed

    whole = watched(probes=[Meandering, Failing])
    save = Checkpoints.save
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(Killed):
            watched(probes=[Meandering, Failing], folder=tmp_path)

    resumed = watched(probes=[Meandering, Failing], folder=tmp_path)

    assert repr(whole.traces) == repr(resumed.traces)
    assert [6, 12] == whole.traces[0].series["epoch"].step
