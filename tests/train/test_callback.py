"""Probes in a Lightning training of anyone's own: what they see, what is logged, and that they change nothing."""

import math
import re
import warnings
from collections import deque

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

import normbench
from normbench import plugins
from normbench.train.streams import generators

pytestmark = pytest.mark.filterwarnings("ignore")


class Collecting(DummyLogger):
    def __init__(self):
        super().__init__()
        self.found = {}

    def log_metrics(self, metrics, step=None):
        for name, value in metrics.items():
            self.found.setdefault(name, {})[step] = value


class Classifier(pl.LightningModule):
    """Has in its step all that a probe could disturb: dropout, statistics, momentum, a schedule and what it logs."""

    def __init__(self, dropout=0.3):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout),
            nn.Flatten(), nn.Linear(16, 2),
        )  # fmt: skip

    def forward(self, x):
        return functional.dropout(self.net(x), 0.1, self.training)

    def training_step(self, batch, batch_idx=0):
        inputs, targets = batch[:2]
        inputs.mul_(2)  # a step may write to its batch
        loss = functional.cross_entropy(self(inputs), targets)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.5, momentum=0.9)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8), "interval": "step"}]


def _step_loss(module, batch):
    return module.training_step(batch)


def _pairs(samples=24):
    inputs = torch.randn(samples, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    return TensorDataset(inputs, (inputs.mean((1, 2, 3)) > 0).long())


def _fit(module, *callbacks, data=None, ckpt_path=None, **options):
    """Train; return what was logged, by name and step, and the Trainer."""
    logger = Collecting()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|torch\.jit")
        trainer = pl.Trainer(
            accelerator="cpu", logger=logger, callbacks=list(callbacks), log_every_n_steps=1, enable_progress_bar=False,
            enable_checkpointing=False, enable_model_summary=False, **{"max_epochs": 2, **options},
        )  # fmt: skip
        trainer.fit(module, DataLoader(data or _pairs(), 4), ckpt_path=ckpt_path)
    return logger.found, trainer


@pytest.fixture
def watched():
    """Return a function that registers what watches, and returns a callback with it."""

    def made(watch, *, loss=_step_loss, **params):
        normbench.register(normbench.Probe(watch.__name__.lower(), watch, summary="P"))
        return normbench.ProbeCallback(watch.__name__.lower(), loss=loss, **params)

    yield made
    plugins._session.clear()
    plugins.current.cache_clear()


class Watching:
    def __init__(self, training, every=1):
        self.training = training


class Thorough(Watching):
    """Does all that a probe can do."""

    def on_step(self, step):
        training = self.training
        with training.untouched():
            loss = training.loss()
            loss.backward()
            training.network.eval()(training.batch[0])
            training.loss()
            for weight in training.network.parameters():
                weight.data.add_(1.0)
            torch.rand(1)
        with training.moved(training.rate):
            return {"loss": loss, "moved": training.loss(), "rate": training.rate}

    def after_step(self, step):
        with self.training.untouched():
            return {"after": self.training.loss()}


def _end(module, trainer):
    """Return all that a training goes on with."""
    states = trainer.optimizers[0].state_dict()["state"]
    return {**module.state_dict(), **{f"state {i}": value["momentum_buffer"] for i, value in states.items()}}


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 4}, {"precision": "bf16-mixed"}], ids=str)
def test_a_probed_training_gives_the_same_bits(watched, options):
    """Weights, statistics, momentum, generators and what the training logs; and its loss is what the probe sees."""
    ends, logged = [], []
    for callbacks in ([], [watched(Thorough)]):
        pl.seed_everything(3, verbose=False)
        module = Classifier()
        metrics, trainer = _fit(module, *callbacks, **options)
        state = {key: str(value) for key, value in generators(torch.device("cpu")).items()}
        ends.append((_end(module, trainer), state, module.training))
        logged.append(metrics)

    (plain, generated, mode), (probed, *others) = ends
    assert plain.keys() == probed.keys()
    assert all(torch.equal(value, probed[name]) for name, value in plain.items())
    assert [generated, mode] == others
    assert logged[0]["train_loss"] == logged[1]["train_loss"] == logged[1]["thorough.loss"]
    steps = 4 if "accumulate_grad_batches" in options else 12
    assert list(range(steps)) == list(logged[1]["thorough.loss"])
    assert [0.5 * 0.8**step for step in range(steps)] == pytest.approx(list(logged[1]["thorough.rate"].values()))


class Along(Watching):
    """Gives the loss at w - rate g before the step, and that after the step."""

    def on_step(self, step):
        with self.training.moved(self.training.rate):
            return {"losses": torch.stack([self.training.loss(), self.training.batch[1].sum()])}

    def after_step(self, step):
        with self.training.untouched():
            return {"after": self.training.loss(), "steps": self.training.steps}


class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def training_step(self, batch):
        return self.loss_of(batch)

    def loss_of(self, batch):
        return (batch[0] @ self.weight - batch[1]).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01, momentum=0.9)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_is_logged_is_that_of_numpy(watched, accumulate):
    """Linear regression by its formulas: the gradient is that of all batches of a step, the loss that of its last."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 3)), rng.normal(size=24)
    data = TensorDataset(torch.tensor(x), torch.tensor(y))

    logged, _ = _fit(
        Line(), watched(Along, loss=Line.loss_of, every=2), data=data, accumulate_grad_batches=accumulate, max_epochs=1
    )

    expected, w, momentum = {"along.losses/0": {}, "along.losses/1": {}, "along.after": {}}, np.ones(3), np.zeros(3)
    parts = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 24, 4)]
    for step in range(6 // accumulate):
        own = parts[step * accumulate : (step + 1) * accumulate]
        gradient = np.mean([2 * a.T @ (a @ w - b) / 4 for a, b in own], axis=0)
        a, b = own[-1]
        along = np.mean((a @ (w - 0.01 * gradient) - b) ** 2)
        momentum = 0.9 * momentum + gradient
        w = w - 0.01 * momentum
        values = (along, b.sum(), np.mean((a @ w - b) ** 2))
        if step % 2 == 0:
            for series, value in zip(expected.values(), values, strict=True):
                series[step] = value
    assert {6.0 // accumulate} == set(logged.pop("along.steps").values())
    assert expected.keys() == logged.keys()
    for name, series in expected.items():
        assert series == pytest.approx(logged[name], rel=1e-12)


class Searching(Line):
    """Computes loss and gradient several times in a step."""

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), 0.1, max_iter=4)


class Gradient(Watching):
    def on_step(self, step):
        return {"gradient": self.training.network.weight.grad}


def test_of_several_gradients_in_a_step_the_first_is_seen(watched):
    """It is that of the weights before the step, at the first step all 1."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=8)
    data = TensorDataset(torch.tensor(x), torch.tensor(y))

    logged, _ = _fit(Searching(), watched(Gradient, loss=Line.loss_of), data=data, max_epochs=1)

    expected = 2 * x[:4].T @ (x[:4].sum(axis=1) - y[:4]) / 4
    assert [pytest.approx(one) for one in expected] == [logged[f"gradient.gradient/{i}"][0] for i in range(3)]
    assert [0, 1] == list(logged["gradient.gradient/0"])


class Vectors(Watching):
    """Gives a vector with a number per site, NaN at the second; what it has counted goes on from a checkpoint."""

    looks = 0

    def on_step(self, step):
        self.looks += 1
        return {"count": self.looks, "site": [1.0, float("nan"), 3.0]}

    def on_epoch(self, epoch):
        return {"epoch": epoch}

    def state_dict(self):
        return {"looks": self.looks}

    def load_state_dict(self, state):
        self.looks = state["looks"]


def test_a_probe_goes_on_from_a_checkpoint(watched, tmp_path):
    """What it keeps is in the Trainer's checkpoint; each number of a vector is a metric, but for NaN."""
    logged, trainer = _fit(Classifier(), watched(Vectors, every=3), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "end.ckpt")

    further, _ = _fit(Classifier(), watched(Vectors, every=3), max_epochs=2, ckpt_path=tmp_path / "end.ckpt")

    ours = {name: series for name, series in logged.items() if name.startswith("vectors.")}
    assert {
        "vectors.count": {0: 1, 3: 2}, "vectors.site/0": {0: 1, 3: 1}, "vectors.site/2": {0: 3, 3: 3},
        "vectors.epoch": {6: 1},
    } == ours  # fmt: skip
    assert ({6: 3, 9: 4}, {12: 2}) == (further["vectors.count"], further["vectors.epoch"])


class Lost(Watching):
    def on_step(self, step):
        if step == 1:
            raise ValueError("lost")
        return {"step": step}


class Batch(Watching):
    def on_step(self, step):
        return {"size": len(self.training.batch[0])}


@pytest.mark.parametrize(
    ("watch", "said"),
    [
        (Lost, r"probe 'lost' failed, and looks no more: ValueError: lost \(test_callback\.py:\d+\)"),
        (Batch, "probe 'batch' does not apply, and looks no more: the batch is no pair of tensors, inputs and targets"),
    ],
)
def test_a_probe_that_fails_costs_a_warning_alone(watched, watch, said):
    """It is said once, and training goes on; what a batch is matters only to a probe that asks for it."""
    data = TensorDataset(*_pairs().tensors, torch.zeros(24)) if watch is Batch else _pairs()

    with pytest.warns(UserWarning, match="^ProbeCallback") as caught:
        logged, _ = _fit(Classifier(), watched(watch), data=data, max_epochs=1)

    (message,) = [str(one.message) for one in caught if "ProbeCallback" in str(one.message)]
    assert re.fullmatch(f"ProbeCallback: {said}", message)
    assert list(range(6)) == list(logged["train_loss"])
    assert ["lost.step"] * (watch is Lost) == [name for name in logged if "." in name]


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ("curve", "the training has no test split"),
        ("activation-beta", "the loss does not call the network itself, whose outputs are asked for"),
    ],
)
def test_a_built_in_probe_that_does_not_apply_says_why(probe, said):
    """There are no splits here, and a loss need not call what the Trainer is given."""
    callback = normbench.ProbeCallback(probe, loss=lambda module, batch: module.net(batch[0]).sum())

    with pytest.warns(UserWarning, match=f"probe '{probe}' does not apply, and looks no more: {said}"):
        _fit(Classifier(), callback, max_epochs=1)


class Restive(Watching):
    def after_step(self, step):
        self.training.network.net[1].running_mean.add_(1.0)


class Keeping(Classifier):
    """Has a module that keeps what can't be put back."""

    def __init__(self):
        super().__init__()
        self.net.append(Counting())


class Counting(nn.Identity):
    def __init__(self):
        super().__init__()
        self.past = deque()

    def forward(self, x):
        self.past.append(len(x))
        return x


@pytest.mark.parametrize(
    ("module", "watch", "moved"),
    [
        (Classifier, Restive, "probe 'restive' moved the buffer 'net.1.running_mean' in after_step"),
        (Keeping, Lost, "ProbeCallback: loss moved the attribute net.6.past, which can't be put back"),
    ],
)
def test_what_moves_ends_the_training(watched, module, watch, moved):
    """It would be another training."""
    with pytest.raises(RuntimeError, match=re.escape(moved)):
        _fit(module(), watched(watch))


class Manual(Classifier):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


REFUSED = {
    "manual optimization": (Manual, {}, 1, "Manual optimizes manually; it is for automatic optimization"),
    "twice": (Classifier, {}, 2, "probe 'batch' is asked for twice; a training has one of a name"),
    "no scalar": (
        Classifier, {"loss": lambda module, batch: module(batch[0])}, 1,
        "loss returned a tensor of shape (4, 2); it returns a scalar tensor",
    ),
    "nothing": (Classifier, {"loss": lambda module, batch: None}, 1, "loss returned None; it returns a scalar tensor"),
    "detached": (
        Classifier, {"loss": lambda module, batch: _step_loss(module, batch).detach()}, 1,
        "loss returned a scalar without a graph; gradients are computed of it",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("module", "options", "times", "said"), REFUSED.values(), ids=REFUSED)
def test_a_training_that_can_not_be_looked_at_is_refused(watched, module, options, times, said):
    """It ends before its first step, with what it takes."""
    callbacks = [watched(Batch, every=1 + i, **options) for i in range(times)]

    with pytest.raises(normbench.UsageError) as refused:
        _fit(module(), *callbacks)

    assert f"ProbeCallback: {said}" == str(refused.value)


MISTAKES = {
    "no name": (None, {}, "probe is None; it is the name of a probe"),
    "probe": ("batches", {}, "no probe 'batches'; did you mean 'batch'?"),
    "parameter": ("batch", {"evry": 2}, "batch: no parameter 'evry'; did you mean 'every'?"),
    "every": ("batch", {"every": 0}, "batch: every is 0; a probe looks at every so many steps, 1 or more"),
    "loss": ("batch", {"loss": 1.0}, "loss is 1.0; it is a function of a LightningModule and a batch"),
    "norms": ("batch", {"norms": (nn.Identity(),)}, "norms is (Identity(),); it is a tuple of types of modules"),
    "norm": ("batch", {"norms": Watching}, f"norms is {Watching}; it is a tuple of types of modules"),
    "epochs": ("last", {}, "probe 'last' is for normbench's own trainings: it looks after epochs alone"),
}


@pytest.mark.parametrize(("name", "options", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_at_once(watched, name, options, said):
    """Before there is a Trainer, in one line."""
    watched(Batch)
    normbench.register(normbench.Probe("last", lambda network: None, summary="P"))

    with pytest.raises(normbench.UsageError, match=f"^ProbeCallback: {re.escape(said)}"):
        normbench.ProbeCallback(name, **{"loss": _step_loss, **options})


class Residual(Classifier):
    def __init__(self):
        super().__init__()
        self.net = resnet18(num_classes=2)


def test_built_in_probes_in_a_network_of_torchvision():
    """Several at once: a loss that is the step's, moments at the nine activations, a rate for each linear with a norm.

    The activations are those of the first norm and of each block's second.
    """
    data = TensorDataset(torch.randn(8, 3, 32, 32), torch.tensor([0, 1] * 4))
    asked = {"smoothness": {"reach": [1.0]}, "moments": {}, "gradients": {}}
    probes = [normbench.ProbeCallback(name, every=1, loss=_step_loss, **own) for name, own in asked.items()]

    logged, _ = _fit(Residual(), *probes, data=data, max_epochs=1)

    norms = (0, 2, 4, 6, 9, 11, 14, 16, 19)
    assert logged["train_loss"] == logged["smoothness.loss"]
    assert [f"moments.mean_change/{site}" for site in norms] == [name for name in logged if "mean_change" in name]
    assert [f"gradients.effective_rate/{linear}" for linear in range(20)] == [name for name in logged if "eff" in name]
    assert all(math.isfinite(value) for series in logged.values() for value in series.values())
