"""A plugin for tests on several ranks: a task in double precision, norms that go wrong on one rank, a telling probe."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn

import normbench


def data(folder, recipe):
    inputs = torch.randn(79, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = (inputs[:, 0] > 0).long()
    ends = ((0, 48), (48, 64), (64, 79))
    return normbench.Splits(*((inputs[i:j], targets[i:j]) for i, j in ends))


def network(place, recipe):
    return nn.Sequential(place(nn.Linear(6, 5), "relu"), nn.Linear(5, 2)).double()


def score(outputs, targets):
    """Return what differs from sample to sample, so that one that is counted twice shows."""
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


class On(nn.Module):
    """Calls a function in training, on one rank or on all, at one step; but for that it does nothing."""

    def __init__(self, action, rank=1, at=2):
        super().__init__()
        self.action, self.rank, self.at = action, rank, at
        self.step = 0

    def on_step(self, step, steps):
        self.step = step

    def forward(self, x):
        if self.training and self.step == self.at and self.rank in (None, own_rank()):
            return self.action(x)
        return x


def own_rank():
    return dist.get_rank() if dist.is_initialized() else 0


def fail(x):
    raise RuntimeError("boom")


def lack_memory(x):
    raise torch.OutOfMemoryError("too much")


def die(x):
    os.kill(os.getpid(), signal.SIGKILL)


def fork(x):
    os.fork()
    return x


def die_once(x):
    """Die where no rank has died before: NORMBENCH_TEST_DIED names a file that says so."""
    died = Path(os.environ["NORMBENCH_TEST_DIED"])
    if not died.exists():
        died.touch()
        die(x)
    return x


class Poisoned(On):
    """Has a buffer that becomes infinite on one rank."""

    def __init__(self):
        super().__init__(self.poison)
        self.register_buffer("state", torch.zeros(1))

    def poison(self, x):
        self.state.fill_(float("inf"))
        return x


class Counting(nn.Module):
    """Remembers the steps and the evaluations it was told of."""

    def __init__(self):
        super().__init__()
        self.register_buffer("told", torch.zeros(8))
        self.register_buffer("taken", torch.zeros(8))
        self.register_buffer("forwards", torch.zeros(()))
        self.register_buffer("evaluations", torch.zeros(()))

    def on_step(self, step, steps):
        self.told[step] += 1

    def after_step(self, step, steps):
        self.taken[step] += self.told[step]

    def before_evaluation(self):
        self.evaluations += self.training

    def forward(self, x):
        self.forwards += self.training
        return x


class Noise(nn.Module):
    """Adds noise in training, and keeps what it drew last."""

    def __init__(self):
        super().__init__()
        self.register_buffer("drawn", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.drawn.fill_(torch.rand(()))
        return x + self.drawn * self.training


class Penalized(nn.Module):
    """x * scale, whose loss has the mean of that, and a weight that only this loss depends on."""

    def __init__(self):
        super().__init__()
        self.scale, self.apart = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(3))

    def own_loss(self):
        return 0.1 * self.output.mean() + self.apart.square().sum()

    def parameter_groups(self):
        return [{"params": [self.apart], "rate_factor": 0.1}]

    def forward(self, x):
        self.output = x * self.scale
        return self.output


class Unused(nn.Module):
    """Has a weight that no loss depends on."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x


def refuse(site):
    raise normbench.Unsupported("not on a Tuesday")


@normbench.hookimpl
def normbench_norms():
    yield normbench.Norm("plain", lambda site: nn.Identity(), summary="Nothing")
    yield normbench.Norm("own-noise", lambda site: Noise(), summary="Draws")
    yield normbench.Norm("nan-on-one", lambda site: On(lambda x: x * float("nan")), summary="x")
    yield normbench.Norm("fails-on-one", lambda site: On(fail), summary="x")
    yield normbench.Norm("fails-on-all", lambda site: On(fail, rank=None), summary="x")
    yield normbench.Norm("lacks-memory-on-one", lambda site: On(lack_memory), summary="x")
    yield normbench.Norm("wrong-on-one", lambda site: On(lambda x: x[:, :1], at=0), summary="x")
    yield normbench.Norm("forks-on-one", lambda site: On(fork), summary="x")
    yield normbench.Norm("dies", lambda site: On(die), summary="x")
    yield normbench.Norm("dies-once", lambda site: On(die_once), summary="x")
    yield normbench.Norm("poisoned-on-one", lambda site: Poisoned(), summary="x")
    yield normbench.Norm("refusing", refuse, summary="x")
    yield normbench.Norm("counting", lambda site: Counting(), summary="x")
    yield normbench.Norm("penalized", lambda site: Penalized(), summary="x")
    yield normbench.Norm("unused", lambda site: Unused(), summary="x")


@normbench.hookimpl
def normbench_tasks():
    yield normbench.Task(
        "double", 1, summary="Two classes", recipe=normbench.Recipe(rate=0.1, batch_size=12, epochs=2),
        chance=0.7, reference=0.1, direction="down", measure="loss", unit="",
        data=data, network=network, score=score,
    )  # fmt: skip


class Telling:
    """Gives every weight, and every rank's every buffer, as series."""

    def __init__(self, network):
        self.network = network

    def on_epoch(self, epoch):
        told = flat(self.network.named_parameters())
        buffers = flat(self.network.named_buffers())
        gathered = [buffers]
        if dist.is_initialized():
            gathered = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, buffers)
        for rank, own in enumerate(gathered):
            told |= {f"{rank}:{name}": value for name, value in own.items()}
        return told


class Looking:
    """Gives this rank's loss at the weights of a step and after moving along the gradient, and its gradient there."""

    def __init__(self, training):
        self.training = training

    def on_step(self, step):
        training = self.training
        with training.untouched():
            loss = training.loss()
            loss.backward()
        with training.moved(training.rate):
            training.loss().backward()
            return {"looked": [loss.item(), training.loss().item(), len(training.batch[0])]}


def choosy(training):
    raise normbench.Unsupported("not on ranks")


def flat(named):
    return {f"{name}[{i}]": float(v) for name, values in named for i, v in enumerate(values.detach().flatten())}


@normbench.hookimpl
def normbench_probes():
    yield normbench.Probe("telling", Telling, summary="All weights and buffers")
    yield normbench.Probe("choosy", choosy, summary="Does not apply")
    yield normbench.Probe("looking", Looking, summary="The loss of each rank's part, here and along the gradient")
