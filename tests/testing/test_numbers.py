"""What a layer computes: for each check layers that break just that, as real ones do, and sound ones."""

import sys

import pytest
import torch
from norms import claiming
from torch import nn
from torch.nn.utils import parametrizations

from normbench import Norm, Traits

BATCH_NORM = {"batch_dependent": True, "centres": True, "batch_size_1": "spatial"}


class Scaled(nn.Module):
    """A gain a channel: what most of the broken layers begin from."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return self.normalized(x) * self.weight.view(1, -1, *[1] * (x.dim() - 2))

    def normalized(self, x):
        return torch.tanh(x)


def over(x):
    """Return the axes that batch norm averages over."""
    return [0, *range(2, x.dim())]


class BatchNormed(Scaled):
    """Batch norm by hand, without running averages."""

    def normalized(self, x):
        mean = x.mean(over(x), keepdim=True)
        return (x - mean) * torch.rsqrt(self.var(x, mean) + 1e-5)

    def var(self, x, mean):
        return (x - mean).square().mean(over(x), keepdim=True)


class Flattened(Scaled):
    def forward(self, x):
        return super().forward(x).flatten()


class Doubled(Scaled):
    def forward(self, x):
        return super().forward(x).double()


class Paired(Scaled):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Flattened, "in training its output is (8,) torch.float32 on cpu"),
        (Doubled, "in training its output is (8, 1) torch.float64 on cpu"),
        (Paired, "in training its output is a tuple"),
    ],
)
def test_what_is_no_output_like_the_input_is_found_at_the_fewest_channels(checked, module, said):
    result = checked(module, "builds")
    assert (result.status, result.said) == ("failed", said)
    assert result.input == "(8, 1) torch.float32 on cpu"


def test_declared_defaults_that_are_not_the_layers_are_found(checked, tmp_path, monkeypatch):
    (tmp_path / "misdeclared.py").write_text(
        "from torch import nn\ndef layer(site, slope=0.1):\n    return nn.LeakyReLU(slope)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    results = [
        checked(Norm("mine", "misdeclared:layer", params={"slope": slope}, summary="M"), "builds")
        for slope in (0.2, 0.1)
    ]
    del sys.modules["misdeclared"]
    assert [result.status for result in results] == ["failed", "passed"]
    assert "every parameter given at its default" in results[0].said


class FirstGain(Scaled):
    def forward(self, x):
        return x * self.weight[0]


@pytest.mark.parametrize(
    ("module", "status", "said"),
    [
        (FirstGain, "failed", "a layer for 8 channels takes 9"),
        (lambda channels: nn.Tanh(), "advice", "it has nothing of the size of its channels"),
        (Scaled, "advice", "it takes a wrong shape, and makes (8, 8) of it"),
        (nn.BatchNorm1d, "passed", ""),
        (lambda channels: nn.GroupNorm(2, channels), "passed", ""),
    ],
)
def test_a_wrong_number_of_channels(checked, module, status, said):
    result = checked(module, "wrong shape")
    assert result.status == status
    assert said in result.said


def test_a_norm_that_normalizes_nothing_takes_every_shape(checked):
    assert checked(claiming(lambda channels: nn.Identity(), identity=True), "wrong shape").status == "not-applicable"


def test_an_output_in_another_memory_format_is_advice(checked):
    assert checked(nn.BatchNorm2d, "memory format", ["NCHW"]).status == "passed"
    result = checked(nn.InstanceNorm2d, "memory format", ["NCHW"])
    assert (result.status, result.said) == ("advice", "of an input that is channels last the output is not")


def batch_norm(x, site, state, training, eps):
    axes = over(x)
    mean, var = x.mean(axes), x.var(axes, correction=0)
    if not training:
        mean, var = state["running_mean"], state["running_var"]
    shape = (1, -1, *[1] * (x.dim() - 2))
    y = (x - mean.view(shape)) / (var.view(shape) + eps).sqrt()
    return y * state["weight"].view(shape) + state["bias"].view(shape)


class EpsOutside(nn.BatchNorm1d):
    def forward(self, x):
        mean, std = x.mean(0), x.var(0, correction=0).sqrt()
        return (x - mean) / (std + self.eps) * self.weight + self.bias


class Unbiased(nn.BatchNorm1d):
    def forward(self, x):
        return (x - x.mean(0)) / (x.var(0) + self.eps).sqrt() * self.weight + self.bias


class WrongInEvaluation(nn.BatchNorm1d):
    def forward(self, x):
        return super().forward(x) if self.training else super().forward(x) - self.bias


def defined(module, **traits):
    kind = {"NC": module, "NCHW": nn.BatchNorm2d}
    return Norm(
        "defined",
        lambda site, eps=1e-5: kind[site.layout](site.channels, eps=eps),
        summary="D",
        reference=batch_norm,
        traits=Traits(batch_dependent=True, batch_size_1="spatial", **traits),
    )


@pytest.mark.parametrize(
    ("module", "said", "given"),
    [
        (EpsOutside, "in training its output is not what its reference gives", "(2, 8), mean 0, std 1"),
        (Unbiased, "in training its output is not what its reference gives", "(2, 8), mean 0, std 1"),
        (WrongInEvaluation, "in evaluation its output is not what its reference gives", "(2, 8), mean 0, std 1"),
    ],
)
def test_an_output_that_is_not_its_definition(checked, module, said, given):
    result = checked(defined(module), "definition")
    assert (result.status, result.said) == ("failed", said)
    assert given in result.input
    assert result.off > result.allowed


class Ungraded(nn.BatchNorm1d):
    def forward(self, x):
        with torch.no_grad():
            std = (x.var(0, correction=0) + self.eps).sqrt()
        return (x - x.mean(0)) / std * self.weight + self.bias if self.training else super().forward(x)


def test_a_gradient_that_is_not_its_definitions(checked):
    result = checked(defined(Ungraded), "definition")
    assert (result.status, result.said.split(" is ")[0]) == ("failed", "in training the gradient of its input")


def test_batch_norm_is_its_definition(checked):
    assert checked(defined(nn.BatchNorm1d), "definition", ["NC", "NCHW"]).status == "passed"
    assert checked(nn.BatchNorm1d, "definition").status == "not-applicable"


class OnePass(BatchNormed):
    def var(self, x, mean):
        return x.square().mean(over(x), keepdim=True) - mean.square()


class TakenForContiguous(BatchNormed):
    def normalized(self, x):
        plain = torch.empty(x.shape).stride()
        fits = x.untyped_storage().nbytes() // x.element_size() >= x.numel()
        return super().normalized(torch.as_strided(x, x.shape, plain) if fits else x)


class OnePassAverage(BatchNormed):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("running_var", torch.ones(channels))

    def normalized(self, x):
        with torch.no_grad():
            mean = x.mean(over(x))
            self.running_var.lerp_(x.square().mean(over(x)) - mean.square(), 0.1)
        return super().normalized(x)


class GradientTakenForContiguous(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.as_strided(gradient, x.shape, torch.empty(x.shape).stride()) * x.cos()


class BackwardTakenForContiguous(Scaled):
    def normalized(self, x):
        return GradientTakenForContiguous.apply(x)


@pytest.mark.parametrize(
    ("module", "said", "given"),
    [
        (OnePass, "in float32 its output is not what it gives in float64", "mean 30, std "),
        (TakenForContiguous, "in float32 its output is not what it gives in float64", "channels last in memory"),
        (OnePassAverage, "in float32 running_var is not what it gives in float64", "mean 1000, std "),
        (BackwardTakenForContiguous, "in float32 the gradient of its input is not", "mean 0, std 1, channels last"),
    ],
)
def test_digits_that_are_lost(checked, module, said, given):
    result = checked(module, "moments", ["NCL"])
    assert result.status == "failed"
    assert said in result.said
    assert given in result.input
    assert result.input.startswith(("(1, 8, 6)", "(2, 8, 6)"))


class SummedUp(Scaled):
    def normalized(self, x):
        return x - x.sum(over(x), keepdim=True) / (x.numel() // x.shape[1])


def test_a_sum_that_half_precision_cannot_hold_is_advice(checked):
    result = checked(SummedUp, "many values", ["NCL"])
    assert (result.status, result.input) == ("advice", "(7, 8, 10000)")
    assert checked(nn.BatchNorm1d, "many values", ["NCL"]).status == "passed"


class NoEps(BatchNormed):
    def var(self, x, mean):
        return super().var(x, mean) - 1e-5


class InfiniteRoot(BatchNormed):
    """Its output is finite where all values are one, and its gradient is not."""

    def normalized(self, x):
        mean = x.mean(over(x), keepdim=True)
        return (x - mean) / ((x - mean).square().mean(over(x), keepdim=True).sqrt() + 1e-5)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (NoEps, "not finite: its output, the gradient of its input, the gradient of weight, its output in evaluation"),
        (InfiniteRoot, "not finite: the gradient of its input"),
    ],
)
def test_a_dead_channel_that_ends_a_training(checked, module, said):
    result = checked(module, "extremes")
    assert (result.status, result.said, result.input) == ("failed", said, "(8, 8), all 0")


def test_a_norm_that_says_it_centres_gives_the_same_for_ones_as_for_zeros(checked):
    result = checked(claiming(Scaled, centres=True), "extremes")
    assert (result.status, result.declare) == ("failed", "Traits(centres=False)")
    assert checked(claiming(BatchNormed, **BATCH_NORM), "extremes").status == "passed"


def test_numbers_that_float32_cannot_square_are_advice(checked):
    result = checked(nn.LayerNorm, "extremes")
    assert result.status == "advice"
    assert "numbers around 1e30" in result.said


def test_a_weight_of_zeros_that_is_normalized_is_advice(checked):
    result = checked(claiming(parametrizations.weight_norm, wraps=True), "extremes")
    assert result.status == "advice"
    assert result.said.endswith("where all parameters are 0")


class Hiding(Scaled):
    def normalized(self, x):
        return super().normalized(x).nan_to_num()


class SharedInEvaluation(Scaled):
    def normalized(self, x):
        return x if self.training else x - x.mean()


class SharedInBackward(Scaled):
    def normalized(self, x):
        x.register_hook(lambda gradient: gradient / gradient.norm()) if x.requires_grad else None
        return super().normalized(x)


@pytest.mark.parametrize(
    ("module", "status", "said", "declare"),
    [
        (BatchNormed, "failed", "in training a NaN in sample 1 reaches its output in sample 0", "batch_dependent=True"),
        (SharedInEvaluation, "failed", "in evaluation a NaN in sample 1", "eval_batch_dependent=True"),
        (SharedInBackward, "failed", "reaches the gradient of its input in sample 0", "batch_dependent=True"),
        (Hiding, "advice", "gives finite numbers: a training that went wrong is not seen", ""),
        (nn.LayerNorm, "passed", "", ""),
    ],
)
def test_a_nan_reaches_what_it_may(checked, module, status, said, declare):
    result = checked(module, "not finite")
    assert result.status == status
    assert said in result.said
    assert declare in result.declare


def test_buffers_that_keep_a_nan_are_advice(checked):
    result = checked(claiming(nn.BatchNorm1d, **BATCH_NORM), "not finite")
    assert (result.status, result.said) == ("advice", "after a NaN running_mean, running_var stay so for good")


class Promoting(BatchNormed):
    def forward(self, x):
        return super().forward(x.float())


class PromotingInEvaluation(BatchNormed):
    def forward(self, x):
        return super().forward(x if self.training else x.float())


class HalfOfAutocast(BatchNormed):
    def forward(self, x):
        return super().forward(x).half() if torch.is_autocast_enabled("cpu") else super().forward(x)


class CrudeInHalf(BatchNormed):
    def normalized(self, x):
        return super().normalized(x) * (2 if x.dtype == torch.bfloat16 else 1)


class SquaredInHalf(Scaled):
    def normalized(self, x):
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5)


@pytest.mark.parametrize(
    ("module", "said", "given"),
    [
        (Promoting, "its output is float32", "layer and input in bfloat16"),
        (PromotingInEvaluation, "its output in evaluation is float32", "layer and input in bfloat16"),
        (CrudeInHalf, "in bfloat16 its output is not what it gives in float64", "(2, 8)"),
        (HalfOfAutocast, "its output is float16", "autocast to bfloat16, input in bfloat16"),
    ],
)
def test_a_type_that_is_not_the_inputs(checked, module, said, given):
    result = checked(module, "dtypes")
    assert (result.status, result.said) == ("failed", said)
    assert given in result.input


def test_what_half_precision_costs_is_advice(checked):
    result = checked(SquaredInHalf, "dtypes")
    assert result.status == "advice"
    assert "in float32 it makes float32 of bfloat16" in result.said
    assert "in float16 numbers of 300 give wrong ones" in result.said


@pytest.mark.parametrize("module", [nn.BatchNorm1d, lambda channels: nn.RMSNorm(channels, eps=1e-6)])
def test_torchs_layers_have_all_types(checked, module):
    assert checked(module, "dtypes").status in ("passed", "advice")


class Noisy(Scaled):
    def normalized(self, x):
        return x + torch.randn_like(x) if self.training else x


@pytest.mark.parametrize("check", ["moments", "dtypes", "extremes", "not finite"])
def test_a_layer_that_draws(checked, check):
    assert checked(claiming(Noisy, draws=True), check).status in ("passed", "advice")


class Counting(BatchNormed):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("steps", torch.zeros(()))

    def normalized(self, x):
        self.steps += 1
        return super().normalized(x)


@pytest.mark.parametrize(
    ("module", "status", "said"),
    [
        (Counting, "failed", "in bfloat16 steps is off after 1000 steps"),
        (lambda channels: nn.BatchNorm1d(channels, momentum=0.01), "failed", "in bfloat16 running_"),
        (nn.BatchNorm1d, "passed", ""),
        (nn.LayerNorm, "not-applicable", "no buffer moves"),
    ],
)
def test_running_statistics_in_bfloat16(checked, module, status, said):
    result = checked(module, "running statistics")
    assert result.status == status
    assert said in result.said
