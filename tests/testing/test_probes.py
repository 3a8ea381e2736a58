"""What a probe is held to: for each check a probe that breaks this, and sound ones that pass all."""

import random
import time

import pytest
import torch

import normbench
from normbench import plugins
from normbench.registry import Offered, Plugin, Registry
from normbench.testing.probes import NORMS
from normbench.testing.run import Asked, chosen, run_check


class Sound:
    """Looks in every way, and keeps a sum."""

    def __init__(self, training, every=4, reach=(0.5, 1.0)):
        self.training, self.reach, self.total = training, reach, 0.0

    def on_step(self, step):
        training = self.training
        with training.untouched():
            loss = training.loss()
            training.network.eval()(training.batch[0])
        moved = []
        for eta in self.reach:
            with training.moved(eta * training.rate):
                moved.append(training.loss().detach())
        self.total += loss.item()
        return {"loss": loss, "moved": torch.stack(moved), "total": self.total}

    def on_epoch(self, epoch):
        return {"epoch": epoch}

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


class Forgetful(Sound):
    def load_state_dict(self, state):
        pass


class Raising(Sound):
    def after_step(self, step):
        if step == 12:
            raise ValueError("lost")


class Shifty(Sound):
    """Writes past torch's counters to a buffer that is no floating-point number, which nothing shows but its bits."""

    def after_step(self, step):
        self.training.sites[0][1].num_batches_tracked.data.add_(1)


class Moving(Sound):
    def after_step(self, step):
        self.training.network(self.training.batch[0])


class Erratic(Sound):
    def after_step(self, step):
        return {"time": time.perf_counter()}


class Sometimes(Sound):
    def after_step(self, step):
        return {"even": 0.0} if step % 8 == 0 else {"odd": 0.0}


class Ragged(Sound):
    def after_step(self, step):
        return {"ragged": [0.0] * (step + 1)}


class Rigid(Sound):
    def __init__(self, training, every=4, reach=(0.5, 1.0)):
        if every != 4:
            raise ValueError("every is 4")
        super().__init__(training, every, reach)


class Choosy(Sound):
    def __init__(self, training, every=4):
        if not any(isinstance(module, torch.nn.BatchNorm2d) for _, module in training.sites):
            raise normbench.Unsupported("it is about batch norm")
        super().__init__(training, every)


class Length:
    def __init__(self, network):
        self.network = network

    def on_epoch(self, epoch):
        return {"length": sum(weight.detach().norm() for weight in self.network.parameters())}


class Drawing(Length):
    def on_epoch(self, epoch):
        return {"drawn": random.random()}


@pytest.fixture
def found():
    """Return a function that checks a probe on some norms, and gives what ended otherwise than `passed`."""

    def results(watch, *norms, only=()):
        registry = plugins.current()
        probe = normbench.Probe("mine", watch, summary="M")
        offered = {name: registry.norms[name] for name in norms or ("batchnorm",)}
        mine = Registry(norms=offered, probes={"mine": Offered(probe, Plugin("mine", "tests"))})
        asked = Asked(kind="probe", name="mine", only=only)
        every = [run_check(one, asked, mine) for one in chosen(asked)]
        return {result.check: (result.status, result.said) for result in every if result.status != "passed"}

    return results


@pytest.mark.parametrize(
    ("watch", "check", "text"),
    [
        (Raising, "watches", "after_step raised ValueError: lost"),
        (
            Shifty,
            "moves nothing",
            "after 20 steps the buffer '0.1.0.num_batches_tracked' is off by 5",
        ),
        (Moving, "moves nothing", "probe 'mine' moved the buffer"),
        (Drawing, "moves nothing", "after 20 steps the generator of python is another"),
        (Erratic, "watched again", "watched again it gives other numbers of 'time'"),
        (Sometimes, "names", "after_step gives 'even' some of the times only"),
        (Ragged, "names", "ValueError: 'ragged' has 5 numbers at step 4, and 1 before"),
        (Forgetful, "resumes", "resumed after 7 steps it gives other numbers of 'total'"),
        (Rigid, "settings", "given another value(every=3): watch raised ValueError: every is 4"),
    ],
    ids=lambda given: given.__name__ if isinstance(given, type) else "",
)
def test_a_probe_that_breaks_a_property_is_found_out(found, watch, check, text):
    """The check of this property fails, and says what is wrong."""
    status, said = found(watch, only=(check,))[check]

    assert "failed" == status
    assert said.startswith(text)


@pytest.mark.parametrize(("watch", "norms", "none"), [(Sound, NORMS[:2], set()), (Length, NORMS[:1], {"settings"})])
def test_a_sound_probe_passes(found, watch, norms, none):
    """All that may be left is what it costs, and what it has none of."""
    assert none == set(found(watch, *norms)) - {"cost"}


def test_a_probe_that_applies_to_some_networks_passes(found):
    """Where it does not apply, it says so; one that applies nowhere has nothing to check."""

    class Nowhere:
        def __init__(self, training):
            raise normbench.Unsupported("nowhere")

    assert {} == found(Choosy, "layer-norm", "batchnorm", only=("watches", "moves nothing", "watched again"))
    reasons = found(Nowhere, "none")
    assert ("not-applicable", "nowhere") == reasons["watched again"]
    assert {"not-applicable"} == {status for status, _ in reasons.values()}
