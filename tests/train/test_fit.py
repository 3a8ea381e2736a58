"""A pack of trials becomes outcomes: the training itself, against a plain loop, and everything that can go wrong."""

import logging
import math
import re
import signal

import pytest
import torch
from torch import nn

import normbench
from normbench.errors import UsageError
from normbench.registry import Offered, Plugin
from normbench.train import fit
from normbench.train.assemble import network
from normbench.train.data import Batches, InMemory
from normbench.train.streams import global_stream
from normbench.trials import Trial


def outcome_of(trial, registry, **options):
    return next(fit([trial], registry=registry, **options))


@pytest.mark.parametrize("norm", ["plain", "before", "after", "fused", "weight", "drawing"])
def test_training_is_that_of_a_plain_loop(registry, trial, norm):
    """Losses, scores and outcome equal those of SGD written out, for every placement and for a layer that draws."""
    one = trial(norm, epochs=3, momentum=0.9, weight_decay=0.01)
    data = registry.task("tiny").data(None, one.recipe)
    model = network(one, registry)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    batches, losses, by_step, validation = Batches(InMemory(*data.train), 7, one.seed), [], [], []
    with global_stream(torch.device("cpu"), one.seed, "layer"):
        for _ in range(3):
            epoch = []
            for [(indices, _)] in batches:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(data.train[0][indices]), data.train[1][indices])
                loss.backward()
                optimizer.step()
                epoch.append(loss.item())
            losses.append(sum(epoch) / len(epoch))
            by_step += epoch
            model.eval()
            validation.append((model(data.validation[0]).argmax(1) == data.validation[1]).double().mean().item())
            model.train()
    model.eval()
    score = (model(data.test[0]).argmax(1) == data.test[1]).double().mean().item()

    found = outcome_of(one, registry)

    assert losses == pytest.approx(found.series["loss"], rel=1e-6)
    assert by_step == pytest.approx(found.traces[0].series["loss"].value, rel=1e-6)
    assert validation == found.series["validation"]
    assert (score, validation[-1], 9) == (found.score, found.validation, found.steps)
    assert found.outcome == ("trained" if score >= 0.75 else "not-trained")


def test_a_trial_gives_the_same_bits_twice_whatever_ran_before(registry, trial):
    """On a CPU a trial repeats exactly, also after another trial and from another state of the global generators."""
    first = outcome_of(trial("drawing"), registry)
    torch.manual_seed(123)
    list(fit([trial("before", seed=9)], registry=registry))
    again = outcome_of(trial("drawing"), registry)

    assert (first.series, first.score) == (again.series, again.score)


def test_a_pack_gives_an_outcome_a_trial_in_order(registry, trial):
    """Each trial of a pack ends in one outcome, those that fail included."""
    pack = [trial("plain"), trial("failing"), trial("plain", seed=1)]

    found = list(fit(pack, registry=registry))

    assert pack == [outcome.trial for outcome in found]
    assert "error" == found[1].outcome
    assert {"trained", "not-trained"} >= {found[0].outcome, found[2].outcome}


@pytest.mark.parametrize(
    ("norm", "kind", "reason"),
    [
        ("failing", "error", r"RuntimeError: boom \(conftest.py:\d+\)"),
        ("exiting", "error", "SystemExit: 3"),
        ("out-of-memory", "oom", "OutOfMemoryError: too much"),
        ("no-module", "error", "layer returned 'a string'"),
        ("refusing", "unsupported", "not on a Tuesday"),
        ("convolutions-only", "unsupported", "no form for layout NC"),
    ],
)
def test_whatever_a_layer_does_becomes_the_trials_outcome(registry, trial, norm, kind, reason):
    """An exception, an exit, a lack of memory or a refusal is recorded with its reason, and has no score."""
    found = outcome_of(trial(norm), registry)

    assert (kind, None) == (found.outcome, found.score)
    assert re.search(reason, found.reason)


def test_a_loss_that_is_not_finite_ends_the_training_at_its_step(registry, trial):
    """A diverged trial scores chance; its step is that of the first loss that is not finite; the rest is not run."""
    found = outcome_of(trial("plain", rate=1e30, epochs=5), registry)

    assert ("diverged", 0.5, 0.5) == (found.outcome, found.score, found.validation)
    assert 2 <= found.diverged_at <= 3
    assert 3 == found.steps
    [trace] = found.traces
    assert list(range(found.diverged_at)) == trace.series["loss"].step
    assert [True, False] == [math.isfinite(loss) for loss in trace.series["loss"].value[-2:]]


def test_a_trial_that_fails_keeps_the_loss_of_its_epochs(registry, trial):
    """Whatever was raised later; the steps of the epoch in which it was are not there."""

    class Late(nn.Identity):
        def on_step(self, step, steps):
            if step == 4:
                raise ValueError("late")

    registry.norms["late"] = Offered(normbench.Norm("late", lambda site: Late(), summary="L"), Plugin("t", "t"))

    whole, found = (outcome_of(trial(norm, epochs=2), registry) for norm in ("plain", "late"))

    assert "error" == found.outcome
    [loss], [of_all] = ([trace.series["loss"] for trace in outcome.traces] for outcome in (found, whole))
    assert ([0, 1, 2], of_all.value[:3]) == (loss.step, loss.value)


def test_the_loss_of_a_step_is_the_mean_over_its_parts(registry, trial):
    """As that of an epoch is the mean over its steps."""
    found = outcome_of(trial("plain", epochs=2, batch_size=8, accumulate=4), registry)

    [trace] = found.traces
    by_epoch = torch.tensor(trace.series["loss"].value, dtype=torch.float64).view(2, 3).mean(1)
    assert by_epoch.tolist() == pytest.approx(found.series["loss"], rel=1e-6)


def test_a_buffer_that_is_not_finite_at_the_end_is_a_divergence(registry, trial):
    """Finite losses do not hide an infinite running statistic; a mask that began infinite is none."""
    found = outcome_of(trial("poisoned"), registry)

    assert ("diverged", None) == (found.outcome, found.diverged_at)
    assert "running is not finite" in found.reason


def test_without_a_held_out_split_there_is_no_validation_score(registry, trial):
    """The published protocol reports the test score alone."""
    found = outcome_of(trial("plain", hold_out=False), registry)

    assert found.validation is None
    assert "validation" not in found.series
    assert found.score is not None


def test_a_tasks_parameters_reach_its_network(registry, trial):
    """A wider network has more weights."""
    widths = [network(trial(task_params=params), registry)[0][0].out_features for params in ({}, {"width": 9})]

    assert [5, 9] == widths


def test_a_task_may_bring_its_own_loss_score_and_augmentation(registry, trial):
    """The functions a task gives are the ones used; augmentation changes training inputs alone."""
    task = registry.task("tiny")
    seen = []
    own = normbench.Task(
        "own", 1, summary="O", recipe=task.recipe, chance=2.0, reference=0.0, direction="down", measure="loss", unit="",
        data=task.data, network=task.network,
        loss=lambda outputs, targets: nn.functional.cross_entropy(outputs, targets, label_smoothing=0.1),
        score=lambda outputs, targets: nn.functional.cross_entropy(outputs, targets, reduction="none"),
        augment=lambda inputs, draws: seen.append(draws.shape) or inputs + draws[:, :1], augment_draws=3,
    )  # fmt: skip
    registry.tasks["own"] = Offered(own, Plugin("t", "t"))
    plain = trial("plain")

    found = outcome_of(Trial(task="own", task_version=1, norm="plain", recipe=plain.recipe, seed=0), registry)

    survey, *steps = map(tuple, seen)
    assert ((2, 3), [(7, 3)] * 6) == (survey, steps)
    assert found.outcome == "trained"
    assert 0 < found.score < 1
    assert found.series["loss"] != outcome_of(plain, registry).series["loss"]


@pytest.mark.parametrize(
    ("build", "traits", "expected"),
    [
        (lambda site: nn.BatchNorm1d(5, track_running_stats=False), {}, 8),
        (lambda site: nn.BatchNorm1d(5), {}, 0),
        (lambda site: nn.Identity(), {"eval_batch_dependent": True}, 8),
    ],
    ids=["found", "independent", "claimed"],
)
def test_an_evaluation_that_depends_on_the_batch_is_in_the_outcome(registry, trial, build, traits, expected):
    """A norm that takes statistics of the batch in evaluation is found out, whatever it claims."""
    norm = normbench.Norm("mine", build, summary="M", traits=normbench.Traits(**traits))
    registry.norms["mine"] = Offered(norm, Plugin("t", "t"))

    found = outcome_of(trial("mine"), registry)

    assert expected == found.eval_batch


class Saying:
    """A probe's watcher that says the numbers given to it, by epoch."""

    def __init__(self, *epochs):
        self.epochs = epochs

    def on_epoch(self, epoch):
        return dict.fromkeys(self.epochs[epoch - 1], 1.0)


@pytest.mark.parametrize(
    ("probes", "reason"),
    [
        ({"one": Saying("v", "v"), "two": Saying("w", "w")}, ""),
        ({"one": Saying(["validation"])}, "ValueError: probe 'one' returns 'validation', which is normbench's own"),
        ({"one": Saying(["loss"])}, "ValueError: probe 'one' returns 'loss', which is normbench's own"),
        ({"one": Saying("v"), "two": Saying("v")}, "ValueError: probe 'two' returns 'v', which is another probe's"),
        ({"one": Saying("v", "vw")}, "ValueError: probes return 'w' after some epochs only (epoch 2)"),
        ({"one": Saying("vw", "v")}, "ValueError: probes return 'w' after some epochs only (epoch 2)"),
    ],
)
def test_a_probe_has_series_of_its_own_and_a_number_an_epoch(registry, trial, probes, reason):
    """What rates are chosen by is no probe's to write, nor what another probe writes; each series is whole."""
    registry.probes.update(
        {
            name: Offered(normbench.Probe(name, lambda network, saying=saying: saying, summary="P"), Plugin("t", "t"))
            for name, saying in probes.items()
        }
    )

    without = outcome_of(trial("drawing"), registry)

    found = outcome_of(trial("drawing"), registry, probes=list(probes))

    assert found.reason.startswith(reason)
    if reason:
        assert "error" == found.outcome
    else:
        assert {**without.series, "v": [1.0, 1.0], "w": [1.0, 1.0]} == found.series


def test_missing_data_is_the_users_mistake_not_an_outcome(registry, trial):
    """A data folder that lacks the data ends the run: every other trial would meet the same."""

    def data(folder, recipe):
        raise UsageError(f"{folder}: no images there")

    task = registry.task("tiny")
    registry.tasks["tiny"] = Offered(
        normbench.Task("tiny", 1, summary="T", recipe=task.recipe, chance=0.5, reference=1.0, data=data,
                       network=task.network), Plugin("t", "t")
    )  # fmt: skip

    with pytest.raises(UsageError, match="nowhere: no images there"):
        outcome_of(trial("plain", seed=77), registry, data_dir="nowhere")


@pytest.mark.parametrize("method", ["forward", "on_step"])
def test_a_usage_error_of_a_layer_is_its_trials_error(registry, trial, method):
    """A layer that raises UsageError after a few steps is in error, like one that raises anything else."""

    class Late(nn.Module):
        calls = 0

        def forward(self, x):
            return x

        def on_step(self, step, steps):
            pass

    def late(self, *args):
        self.calls += 1
        if self.calls > 2:
            raise UsageError("no luck")
        return args[0]

    setattr(Late, method, late)
    registry.norms["late"] = Offered(normbench.Norm("late", lambda site: Late(), summary="L"), Plugin("t", "t"))

    outcome = outcome_of(trial("late"), registry)

    assert "error" == outcome.outcome
    assert outcome.reason.startswith("UsageError: no luck (test_fit.py:")


def test_ctrl_c_goes_through_and_keeps_its_handler(registry, trial):
    """Lightning's own handling of an interruption is undone: KeyboardInterrupt comes out, and Ctrl-C still works."""

    class Stopping(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    registry.norms["stopping"] = Offered(
        normbench.Norm("stopping", lambda site: Stopping(), summary="S"), Plugin("t", "t")
    )

    with pytest.raises(KeyboardInterrupt):
        outcome_of(trial("stopping"), registry)

    assert handler is signal.getsignal(signal.SIGINT)


def test_lightning_keeps_quiet(registry, trial, capfd, caplog, recwarn):
    """No device lines, advertisements, tips or warnings of Lightning's reach the user."""
    with caplog.at_level(logging.INFO):
        outcome_of(trial("plain"), registry)

    assert ("", "") == capfd.readouterr()
    assert [] == [record for record in caplog.records if "lightning" in record.name]
    assert [] == [warning for warning in recwarn if "lightning" in warning.filename]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_starts_at_the_same_weights_and_trains_alike(registry, trial):
    """On a GPU the first epoch's losses are the CPU's to single precision."""
    cpu = outcome_of(trial("before"), registry)

    cuda = outcome_of(trial("before"), registry, device="cuda")

    assert cpu.series["loss"][0] == pytest.approx(cuda.series["loss"][0], rel=1e-4)
