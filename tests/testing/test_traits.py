"""What a norm claims: for each check layers that break just that, as real ones do, and sound ones that pass."""

import os
import random
import time

import numpy as np
import pytest
import torch
from norms import claiming
from torch import nn
from torch.nn import functional

from normbench import Norm, Traits
from normbench.registry import Offered, Plugin, Registry
from normbench.testing import ranks
from normbench.testing.measured import suggested
from normbench.testing.run import Asked

BATCH_NORM = {
    "batch_dependent": True,
    "rank_dependent": True,
    "state": ("running_mean", "running_var", "num_batches_tracked"),
    "batch_size_1": "spatial",
    "centres": True,
    "scale_invariant": True,
    "eval_differs": True,
}
LAYER_NORM = {"scale_invariant": True}


class Layer(nn.Module):
    """A gain; what the layers below do is in `forward`."""

    def __init__(self, channels):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.setup(channels)

    def setup(self, channels):
        pass

    def forward(self, x):
        return self.gain * x


class Averaging(Layer):
    """Divides by a running scale."""

    def setup(self, channels):
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        if self.training:
            self.scale.lerp_(x.detach().square().mean(), 0.1)
        return self.gain * x / self.scale.clone()


def of_batch(x):
    """Return the input by its standard deviation over the batch."""
    return x / (x.var(0, unbiased=False, keepdim=True) + 1e-5).sqrt()


class OfBatch(Layer):
    def forward(self, x):
        return self.gain * of_batch(x)


class OfGhosts(Layer):
    """Normalizes neighbours in the batch by one another."""

    def forward(self, x):
        return self.gain * torch.cat([of_batch(part) for part in x.split(2)])


class BySize(Layer):
    def forward(self, x):
        return self.gain * x / len(x)


class GradientOfBatch(Layer):
    """Centres the gradient over the batch, and no value."""

    def forward(self, x):
        y = self.gain * x
        if y.requires_grad:
            y.register_hook(lambda gradient: gradient - gradient.mean(0))
        return y


class OneByOne(Layer):
    """Averages one sample after another, so that the next step knows their order."""

    def setup(self, channels):
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, x):
        y = self.gain * (x - self.mean.clone() - x.mean())
        for sample in x.detach():
            self.mean.lerp_(sample, 0.2)
        return y


class Affine(Layer):
    """Claims invariance, and has a bias before the division."""

    def forward(self, x):
        return functional.rms_norm(x + self.gain, x.shape[1:])


class BigEps(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=0.3)

    def forward(self, x):
        return self.norm(x)


class NoGradientOfScale(Layer):
    def forward(self, x):
        return self.gain * x / (x.detach().square().mean(1, keepdim=True) + 1e-5).sqrt()


class CentredByDetached(Layer):
    def forward(self, x):
        return self.gain * (x - x.mean(0).detach())


class OfWeights(nn.Module):
    """Standardizes the weights that it wraps, by what they were as it wrapped them."""

    def __init__(self, linear):
        super().__init__()
        self.linear, self.std = linear, float(linear.weight.std())

    def forward(self, x):
        return functional.linear(x, self.linear.weight / self.divisor(), self.linear.bias)

    def divisor(self):
        return self.std


class WithOwnScale(OfWeights):
    def divisor(self):
        return 1 + self.std


class OverTokens(Layer):
    def forward(self, x):
        return self.gain * x / (x.square().mean((1, 2), keepdim=True) + 1e-5).sqrt()


class BackFromLater(Layer):
    """Leaks in the gradient alone."""

    def forward(self, x):
        later = x.flip(1).cumsum(1).flip(1)
        return self.gain * x + later - later.detach()


class Silent(Layer):
    """A batch norm by hand: of one sample it makes 0."""

    def forward(self, x):
        return self.gain * (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()


class Unbiased(Silent):
    """Divides by n - 1."""

    def forward(self, x):
        return self.gain * (x - x.mean(0)) / x.std(0)


class Speechless(Silent):
    def forward(self, x):
        if len(x) == 1:
            raise ValueError("too few")
        return super().forward(x)


class AverageOfNothing(Averaging):
    """Averages over the batch, and so of an empty one what is not a number."""


class Doubling(Layer):
    def forward(self, x):
        return 2 * x


class EvaluationMoves(Averaging):
    def forward(self, x):
        self.scale.lerp_(x.detach().square().mean(), 0.1)
        return self.gain * x / self.scale.clone()


class EvaluationLeaks(Layer):
    """Takes what it saw in evaluation into training."""

    seen = 1.0

    def forward(self, x):
        if not self.training:
            self.seen = float(x.abs().mean())
            return self.gain * x
        return self.gain * x * self.seen


class LeavesTraining(Layer):
    def forward(self, x):
        self.training = True
        return self.gain * x


class OfBatchAnyway(Layer):
    """Uses the batch in evaluation, too."""

    def forward(self, x):
        return self.gain * of_batch(x)


class Halved(Layer):
    def forward(self, x):
        return self.gain * (x if self.training else x / 2)


class InAttribute(Layer):
    """Keeps its average in an attribute, which no checkpoint has."""

    scale = 1.0

    def forward(self, x):
        y = self.gain * x / self.scale
        if self.training:
            self.scale = 0.9 * self.scale + 0.1 * float(x.detach().square().mean())
        return y


class DataInitialized(Layer):
    """Takes its scale from the first batch, as a Python flag says."""

    ready = False

    def setup(self, channels):
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        if not self.ready:
            self.scale.copy_(x.detach().std())
            self.ready = True
        return self.gain * x / self.scale


class Counting(Layer):
    """Counts its calls, for nobody."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.gain * x


class MovesParameter(Layer):
    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.gain.clamp_(max=0.1)
        return self.gain * x


class Noisy(Layer):
    def forward(self, x):
        return self.gain * x * (1 + 0.1 * torch.randn(len(x), *[1] * (x.dim() - 1))) if self.training else self.gain * x


class NoisyByNumpy(Layer):
    def forward(self, x):
        return self.gain * x * (1 + 0.1 * float(np.random.rand())) if self.training else self.gain * x


class NoisyEvaluation(Layer):
    def forward(self, x):
        return self.gain * x + (0 if self.training else random.random())


class SeedsInBuilding(Layer):
    def setup(self, channels):
        torch.manual_seed(0)


class SeedsInTraining(Layer):
    def forward(self, x):
        if self.training:
            random.seed(0)
        return self.gain * x


class DrawsFromElsewhere(Layer):
    def forward(self, x):
        return self.gain * x * (1 + int.from_bytes(os.urandom(2), "big"))


class Clocked(Layer):
    """Goes from 0 to 1 in the course of training."""

    def setup(self, channels):
        self.register_buffer("share", torch.zeros(()))

    def on_step(self, step, steps):
        self.share.fill_(step / steps)

    def forward(self, x):
        return self.gain * x * (1 + self.share)


class ReplacesBuffer(Clocked):
    def on_step(self, step, steps):
        self.share = torch.tensor(step / steps)


class NoBuffer(Clocked):
    rate = 0.0

    def on_step(self, step, steps):
        self.rate = step / steps

    def forward(self, x):
        return self.gain * x * (1 + self.rate)


class CountsCalls(Clocked):
    def on_step(self, step, steps):
        self.share += 1 / steps


class LastStepIsOne(Clocked):
    def on_step(self, step, steps):
        self.share.fill_(step / (steps - 1))


class AfterCounted(Clocked):
    """Counts steps in an attribute, for its buffer."""

    done = 0

    def on_step(self, step, steps):
        pass

    def after_step(self, step, steps):
        self.done += 1
        self.share.fill_(self.done / steps)


class MovesWeights(Clocked):
    def on_step(self, step, steps):
        with torch.no_grad():
            self.gain.mul_(0.5)


class LosesScaleInvariance(Clocked):
    """Blends its input in, late in the training."""

    def forward(self, x):
        return self.share * x + functional.rms_norm(x, x.shape[1:])


class LeavesTrainingBefore(Layer):
    def before_evaluation(self):
        self.eval()


class ProjectsAfter(Clocked):
    """Sound: what moves parameters does so after the optimizer."""

    def after_step(self, step, steps):
        self.gain.clamp_(max=2.0)


class SquaredForRoot(Layer):
    """Averages standard deviations, and in evaluation takes them for variances."""

    def setup(self, channels):
        self.register_buffer("scale", torch.ones(channels))

    def forward(self, x):
        if not self.training:
            return self.gain * x / self.scale.sqrt()
        self.scale.lerp_(x.detach().std(0), 0.1)
        return self.gain * of_batch(x)


ROOTED = {"state": ("scale",), "batch_dependent": True, "eval_differs": True}
AVERAGED = {"state": ("scale",), "eval_differs": True, "batch_dependent": True}

#: Layers that break one check, with what the result says: in words, at which input, and what to declare.
BROKEN = [
    ("batch", claiming(OfBatch), ("NC",), "one sample changed", "(2, 8)", "batch_dependent=True"),
    ("batch", claiming(BySize), ("NC",), "without the other half", "(2, 8)", "batch_dependent=True"),
    ("batch", claiming(GradientOfBatch), ("NC",), "another's gradient moved", "(2, 8)", "batch_dependent=True"),
    ("batch", claiming(OfGhosts, batch_dependent=True), ("NC",), "permuted", "(8, 8)", "order_dependent=True"),
    ("batch", claiming(OneByOne, batch_dependent=True), ("NC",), "in the next step", "(4, 8)", "order_dependent=True"),
    ("invariance", claiming(Affine, **LAYER_NORM), ("NC",), "times 4", "std 1", "scale_invariant=False"),
    ("invariance", claiming(Doubling, **LAYER_NORM), ("NCL",), "times 4", "std 1000", "scale_invariant=False"),
    ("invariance", claiming(NoGradientOfScale, **LAYER_NORM), ("NC",), "not orthogonal", "(8, 8)", 'gradient="own"'),
    ("invariance", claiming(nn.LayerNorm, centres=True), ("NC",), "added to a channel", "(8, 8)", "centres=False"),
    ("invariance", claiming(CentredByDetached, centres=True), ("NC",), "a bias before it", "(8, 8)", "centres=False"),
    ("invariance", claiming(WithOwnScale, True, **LAYER_NORM), ("NC",), "wrapped weights", "", "scale_invariant=False"),
    ("invariance", claiming(LosesScaleInvariance, **LAYER_NORM), ("NC",), "times 4", "", "scale_invariant=False"),
    ("causal", claiming(OverTokens), ("NLC",), "earlier one's output", "(2, 5, 8)", "mixes_positions=True"),
    ("causal", claiming(BackFromLater), ("NLC",), "reaches a later token", "(2, 5, 8)", "mixes_positions=True"),
    ("few values", claiming(Silent), ("NC",), "gradient of its input is 0", "(1, 8)", 'batch_size_1="no"'),
    ("few values", claiming(Silent, batch_size_1="no"), ("NC",), "raise a ValueError", "(1, 8)", ""),
    ("few values", claiming(Unbiased), ("NC",), "not finite", "(1, 8)", 'batch_size_1="no"'),
    ("few values", claiming(Layer, batch_size_1="no"), ("NC",), "it trains", "(1, 8)", 'batch_size_1="yes"'),
    ("few values", claiming(nn.BatchNorm2d), ("NCHW",), "Expected more", "(1, 8, 1, 1)", 'batch_size_1="spatial"'),
    ("few values", claiming(AverageOfNothing), ("NC",), "an empty batch moves the buffer scale", "(0, 8)", ""),
    ("identity", claiming(Doubling, identity=True), ("NC",), "not its input", "(8, 8)", "identity=False"),
    ("modes", claiming(EvaluationMoves), ("NC",), "before", "(8, 8)", ""),
    ("modes", claiming(EvaluationLeaks, eval_differs=True), ("NC",), "after an evaluation", "(8, 8)", ""),
    ("modes", claiming(LeavesTraining), ("NC",), "whether a module is in training", "(8, 8)", ""),
    ("modes", claiming(OfBatchAnyway), ("NC",), "in evaluation another's", "(2, 8)", "eval_batch_dependent=True"),
    ("modes", claiming(Halved), ("NC",), "another output than training", "(2, 8)", "eval_differs=True"),
    ("state", claiming(Averaging), ("NC",), "moves the buffer scale", "", "state=('scale',)"),
    ("state", claiming(InAttribute), ("NC",), "self.scale", "(8, 8)", ""),
    ("state", claiming(DataInitialized, state=("scale",)), ("NC",), "self.ready", "(8, 8)", ""),
    ("state", claiming(AfterCounted, state=("share",)), ("NC",), "self.done", "(8, 8)", ""),
    ("state", claiming(MovesParameter), ("NC",), "the parameter gain", "(8, 8)", ""),
    ("randomness", claiming(Noisy), ("NC",), "draws from torch's generator", "(2, 8)", "draws=True"),
    ("randomness", claiming(NoisyByNumpy), ("NC",), "draws from NumPy's generator", "(2, 8)", "draws=True"),
    ("randomness", claiming(NoisyEvaluation), ("NC",), "evaluation draws from Python's", "(8, 8)", ""),
    ("randomness", claiming(SeedsInBuilding), ("NC",), "building it seeds torch's generator", "", ""),
    ("randomness", claiming(SeedsInTraining), ("NC",), "a step of training seeds Python's", "", ""),
    ("randomness", claiming(DrawsFromElsewhere), ("NC",), "built and called alike", "(8, 8)", ""),
    ("clock", claiming(ReplacesBuffer), ("NC",), "on_step replaces share", "", ""),
    ("clock", claiming(NoBuffer), ("NC",), "on_step changes self.rate", "(8, 8)", ""),
    ("clock", claiming(CountsCalls), ("NC",), "leaves share at another value", "", ""),
    ("clock", claiming(LastStepIsOne), ("NC",), "ZeroDivisionError", "on_step(0, 1)", ""),
    ("clock", claiming(MovesWeights), ("NC",), "on_step changes a parameter", "", ""),
    ("clock", claiming(LeavesTrainingBefore), ("NC",), "before_evaluation changes whether", "", ""),
]


@pytest.mark.parametrize(("check", "norm", "layouts", "said", "smallest", "declare"), BROKEN)
def test_a_claim_that_does_not_hold_fails_with_what_shows_it_and_what_to_declare(
    checked, check, norm, layouts, said, smallest, declare
):
    result = checked(norm, check, layouts)
    assert result.status == "failed", result
    assert said in result.said
    assert smallest in result.input
    assert declare in result.declare


#: Claims that are no mistakes, but of which an author should know.
ADVISED = [
    ("batch", claiming(Layer, batch_dependent=True), ("NC",), "not seen in 20 steps at batch size 256"),
    ("causal", claiming(Layer, mixes_positions=True), ("NLC",), "not seen"),
    ("randomness", claiming(Layer, draws=True), ("NC",), "not seen"),
    ("modes", claiming(Layer, eval_differs=True), ("NC",), "not seen"),
    ("invariance", claiming(nn.LayerNorm), ("NC",), "scale_invariant does not hold"),
    ("invariance", claiming(lambda channels: nn.RMSNorm(channels, eps=1e-3), **LAYER_NORM), ("NC",), "eps"),
    ("identity", claiming(lambda channels: nn.Identity()), ("NC",), "does not claim to be the identity"),
    ("state", claiming(Counting), ("NC",), "self.calls"),
    ("state", claiming(Layer, state=("scale",)), ("NC",), "did not move scale"),
    ("few values", claiming(Speechless, batch_size_1="no"), ("NC",), "does not say the shape"),
    ("few values", claiming(lambda channels: nn.GroupNorm(channels, channels)), ("NC",), "raise normbench.Unsupported"),
    ("converges", claiming(SquaredForRoot, **ROOTED), ("NC",), "does not follow the data"),
]


@pytest.mark.parametrize(("check", "norm", "layouts", "said"), ADVISED)
def test_what_an_author_should_know_is_advice(checked, check, norm, layouts, said):
    result = checked(norm, check, layouts)
    assert (result.status, said in result.said) == ("advice", True), result


SOUND = {
    "batch norm": (claiming(nn.BatchNorm2d, **BATCH_NORM), ("NCHW",)),
    "layer norm": (claiming(nn.LayerNorm, **LAYER_NORM), ("NLC",)),
    "instance norm": (claiming(nn.InstanceNorm1d, centres=True, **LAYER_NORM), ("NCL",)),
    "identity": (claiming(lambda channels: nn.Identity(), identity=True), ("NC",)),
    "dropout": (claiming(lambda channels: nn.Dropout(0.3), draws=True, eval_differs=True), ("NC",)),
    "clocked": (claiming(ProjectsAfter, state=("share",)), ("NC",)),
    "weights": (claiming(OfWeights, True, **LAYER_NORM), ("NC",)),
}
CHECKS = (
    "batch",
    "invariance",
    "identity",
    "causal",
    "few values",
    "modes",
    "state",
    "randomness",
    "clock",
    "converges",
)


@pytest.mark.parametrize("name", SOUND)
def test_sound_layers_hold_what_they_claim(checked, name):
    norm, layouts = SOUND[name]
    results = {check: checked(norm, check, layouts) for check in CHECKS}
    wrong = [one for one in results.values() if one.status not in ("passed", "not-applicable")]
    assert not wrong
    assert results["batch"].status == "passed"


class MeanOfMeans(nn.Module):
    """Shares a mean over the ranks that it has, and passes it no gradient."""

    def __init__(self, site):
        super().__init__()
        self.group = site.group

    def forward(self, x):
        mean = x.mean(0).detach()
        if self.group is not None:
            torch.distributed.all_reduce(mean, group=self.group)
            mean /= torch.distributed.get_world_size(self.group)
        return x - mean


class Stopping(MeanOfMeans):
    """Raises on one rank, while the other waits for it."""

    def forward(self, x):
        if self.group is not None and torch.distributed.get_rank(self.group):
            raise RuntimeError("only here")
        return super().forward(x)


class NeverThere(MeanOfMeans):
    """Stays away on one rank, while the other waits for it."""

    def forward(self, x):
        if self.group is not None and torch.distributed.get_rank(self.group):
            time.sleep(60)
        return super().forward(x)


def on_ranks(layer, **claims):
    return Norm("mine", lambda site: layer(site), summary="Mine", traits=Traits(batch_dependent=True, **claims))


@pytest.mark.parametrize(
    ("layer", "claims", "status", "said"),
    [
        (MeanOfMeans, {}, "passed", ""),
        (MeanOfMeans, {"rank_dependent": True}, "advice", "what one process does"),
        (lambda site: Silent(site.channels), {"rank_dependent": True}, "passed", ""),
        (lambda site: Silent(site.channels), {}, "failed", "two ranks give another output than one process"),
        (Stopping, {}, "failed", "RuntimeError: only here"),
    ],
)
def test_ranks_compute_what_one_process_does_or_say_so(checked, layer, claims, status, said):
    result = checked(on_ranks(layer, **claims), "ranks")
    assert (result.status, said in result.said) == (status, True), result


def test_a_fused_layer_is_measured_with_its_activation(checked):
    def fused(site):
        return nn.Sequential(nn.BatchNorm1d(site.channels), nn.ReLU()) if site.activation else Layer(site.channels)

    norm = Norm("mine", fused, summary="Mine", placement="fused", traits=Traits(**BATCH_NORM))
    assert [checked(norm, check).status for check in ("batch", "invariance", "state")] == ["passed"] * 3


def test_ranks_that_wait_for_each_other_are_given_up(checked, monkeypatch):
    monkeypatch.setattr(ranks, "PATIENCE", 0.7)
    result = checked(on_ranks(NeverThere), "ranks")
    assert (result.status, "did not end in 0.7 s" in result.said) == ("failed", True), result


class NoEvaluation(Layer):
    def forward(self, x):
        if not self.training:
            raise RuntimeError("not now")
        return super().forward(x)


@pytest.fixture
def suggestion():
    """Return a function that returns the traits that are suggested for a norm, and the lines that follow."""

    def suggest(norm):
        registry = Registry(norms={"mine": Offered(norm, Plugin("mine", "mine"))})
        asked = Asked(kind="norm", name="mine", layouts=("NC",))
        written, *lines = suggested(asked, registry=registry)
        return eval(written), lines

    return suggest


def test_suggested_traits_are_those_of_the_layer_and_say_where_claims_differ(suggestion):
    norm = claiming(nn.BatchNorm1d, **{**BATCH_NORM, "eval_differs": False, "scale_invariant": False})
    assert suggestion(norm) == (
        Traits(**BATCH_NORM),
        [
            "declared scale_invariant=False, measured True",
            "declared eval_differs=False, measured True: evaluation gives another output than training, from the same "
            "state (NC at (2, 8))",
        ],
    )


def test_what_can_not_be_measured_is_said_and_suggested_as_it_is_declared(suggestion):
    assert suggestion(claiming(NoEvaluation, eval_differs=True)) == (
        Traits(eval_differs=True),
        ["eval_differs, eval_batch_dependent could not be measured (NC): RuntimeError: not now"],
    )


def test_a_weight_norm_that_begins_as_the_weights_that_it_wraps_is_not_suggested_to_be_the_identity(suggestion):
    assert suggestion(claiming(nn.utils.parametrizations.weight_norm, wraps=True)) == (Traits(), [])
