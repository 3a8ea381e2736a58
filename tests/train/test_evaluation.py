"""How a network is evaluated: among how many samples at once, and with which running averages."""

import itertools
import zlib
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import normbench
from normbench.registry import Offered, Plugin
from normbench.train import assemble, fit


@pytest.fixture
def training(registry, trial):
    """Return a function that begins the training of a norm with these traits, and how its network may be computed."""

    def begin(norm, traits=None, **recipe):
        described = normbench.Norm("mine", norm, summary="M", traits=traits or normbench.Traits())
        registry.norms["mine"] = Offered(described, Plugin("t", "t"))
        one = trial("mine", task_params={"samples": 50}, **recipe)
        data = assemble.data(one, registry.task("tiny"), None, torch.device("cpu"))
        module = assemble.training(one, registry, data)
        for parts in itertools.islice(module.batches, 3):
            module.step(parts)
        return SimpleNamespace(module=module, data=data, layer=module.network[0][1][0])

    return begin


class ByBatch(nn.BatchNorm1d):
    """Batch norm whose evaluation is by the batch; it notes the sizes of the batches that it is given there."""

    def __init__(self, channels):
        super().__init__(channels, track_running_stats=False)
        self.seen = []

    def forward(self, x):
        if not self.training:
            self.seen.append(len(x))
        return super().forward(x)


@pytest.mark.parametrize(
    ("eval_batch", "batches", "begins"),
    [(6, [6, 6, 6], [0, 6, 12]), (7, [7, 7, 7], [0, 7, 11]), (1024, [18], [0])],
)
def test_each_sample_is_evaluated_among_as_many(training, eval_batch, batches, begins):
    """Where evaluation is by the batch: the last batch is filled up from the one before, and no sample counts twice."""
    run = training(
        lambda site: ByBatch(site.channels), normbench.Traits(eval_batch_dependent=True), eval_batch=eval_batch
    )

    score = run.module.evaluate(run.data.test)

    assert batches == run.layer.seen
    inputs, targets = run.data.test.inputs, run.data.test.targets
    right = torch.zeros(18)
    for begin, size in reversed(list(zip(begins, batches, strict=True))):
        part = slice(begin, begin + size)
        right[part] = (run.module.network(inputs[part]).argmax(1) == targets[part]).float()
    assert score == pytest.approx(right.mean().item())


def test_running_averages_are_those_of_training_batches(training):
    """For an evaluation they are the plain means over so many of them, with dropout off; then what they were."""
    run = training(lambda site: nn.BatchNorm1d(site.channels), recalibrate=4)
    before = {name: value.clone() for name, value in run.module.network.state_dict().items()}
    linear = run.module.network[0][0]

    with run.module.evaluating():
        means, variances = run.layer.running_mean.clone(), run.layer.running_var.clone()
        run.module._calibrates.go_on(0, 0)
        batches = [*run.module._calibrates, *run.module._calibrates][:4]
        samples = [linear(run.module.batch(parts[0])[0]) for parts in batches]
        assert not any(layer.training for layer in run.module.network.modules())

    torch.testing.assert_close(means, torch.stack([x.mean(0) for x in samples]).mean(0))
    torch.testing.assert_close(variances, torch.stack([x.var(0) for x in samples]).mean(0))
    after = run.module.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert 0.1 == run.layer.momentum


@pytest.mark.parametrize(
    ("norm", "differs"),
    [
        (lambda site: nn.BatchNorm1d(site.channels), True),
        (lambda site: nn.Identity(), False),
    ],
)
def test_recalibration_changes_scores_and_no_training(registry, trial, norm, differs):
    """Losses are the same with and without it; a layer without running averages is evaluated as before."""
    registry.norms["mine"] = Offered(normbench.Norm("mine", norm, summary="M"), Plugin("t", "t"))
    plain, anew = (
        next(fit([trial("mine", recalibrate=batches, epochs=1, task_params={"samples": 400})], registry=registry))
        for batches in (0, 3)
    )

    assert plain.series["loss"] == anew.series["loss"]
    assert differs == (plain.score != anew.score)


class Summing:
    """Gives a checksum of all weights and buffers after each step."""

    def __init__(self, training):
        self.training = training

    def after_step(self, step):
        state = self.training.network.state_dict().values()
        return {"sum": zlib.crc32(b"".join(value.numpy().tobytes() for value in state))}


@pytest.mark.parametrize(("every", "at"), [(2, [2, 4, 6, 8, 9]), (3, [3, 6, 9]), (50, [9])])
@pytest.mark.parametrize("norm", ["before", "drawing"])
def test_validation_within_epochs_changes_no_training(registry, trial, norm, every, at):
    """Each score is the last of a training that ends there; weights are the same after each step, to the bit."""
    registry.probes["summing"] = Offered(normbench.Probe("summing", Summing, summary="S"), Plugin("t", "t"))
    whole = next(fit([trial(norm, epochs=3)], registry=registry, probes=["summing"]))

    found = next(fit([trial(norm, epochs=3, validate_every=every)], registry=registry, probes=["summing"]))

    assert ([], at) == (whole.validated, found.validated)
    ends = [next(fit([trial(norm, epochs=0, steps=steps)], registry=registry)) for steps in at]
    assert [end.validation for end in ends] == found.series["validation"]
    assert whole.traces == found.traces
    assert (whole.score, whole.validation) == (found.score, found.validation)


def test_validation_within_epochs_where_there_is_no_such_split(registry, trial):
    """There is none."""
    found = next(fit([trial("before", hold_out=False, validate_every=1)], registry=registry))

    assert ([], {"loss"}) == (found.validated, found.series.keys())


def test_what_a_lost_network_scores_within_its_last_epoch_is_left_out(registry, trial):
    """As it is where a diverged epoch ends: nothing is measured after the loss that is not finite."""
    found = next(fit([trial("plain", rate=1e30, epochs=5, validate_every=1)], registry=registry))

    assert list(range(1, found.diverged_at)) == found.validated
    assert len(found.validated) == len(found.series["validation"])
