"""What a layer gives back: for each check of gradients layers that break just that, as real ones do, and sound ones."""

import pytest
import torch
from norms import claiming
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrizations

from normbench import Norm


class Normed(nn.Module):
    """RMS norm with a gain a channel, by a function whose backward is written by hand, in the ways that follow."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return self.function.apply(x, self.weight)


def normalized(x):
    scale = torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5)
    return x * scale, scale


class ByHand(torch.autograd.Function):
    """Right, and its backward can be differentiated."""

    @staticmethod
    def forward(x, weight):
        return normalized(x)[0] * weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        y, scale = normalized(x)
        toward = gradient * weight
        return scale * (toward - y * (toward * y).mean(1, keepdim=True)), (gradient * y).sum(0)


class MeanOverTheBatch(ByHand):
    @staticmethod
    def backward(ctx, gradient):
        toward, _ = ByHand.backward(ctx, gradient)
        x, _ = ctx.saved_tensors
        return toward, (gradient * normalized(x)[0]).mean(0)


class GainForgotten(ByHand):
    @staticmethod
    def backward(ctx, gradient):
        _, weight = ctx.saved_tensors
        toward, of_weight = ByHand.backward(ctx, gradient)
        return toward / weight, of_weight


class OnceOnly(ByHand):
    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return ByHand.backward(ctx, gradient)


class KeptWithoutGraph(ByHand):
    """Keeps what it computed in the forward, where nothing is recorded."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.kept = normalized(inputs[0].detach())

    @staticmethod
    def backward(ctx, gradient):
        _, weight = ctx.saved_tensors
        y, scale = ctx.kept
        toward = gradient * weight
        return scale * (toward - y * (toward * y).mean(1, keepdim=True)), (gradient * y).sum(0)


class Clipped(ByHand):
    @staticmethod
    def backward(ctx, gradient):
        toward, of_weight = ByHand.backward(ctx, gradient)
        return toward.clamp(-100, 100), of_weight


class AllOrNone(ByHand):
    """Computes no gradient where the first is not wanted."""

    @staticmethod
    def backward(ctx, gradient):
        return ByHand.backward(ctx, gradient) if ctx.needs_input_grad[0] else (None, None)


def by(function):
    return type(function.__name__, (Normed,), {"function": function})


class Detached(nn.BatchNorm1d):
    def forward(self, x):
        mean, var = x.mean(0).detach(), x.var(0, correction=0).detach()
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias if self.training else super().forward(x)


class BatchStatisticsInEvaluation(torch.autograd.Function):
    """Batch norm whose backward takes it that it is training."""

    @staticmethod
    def forward(x, mean, var):
        return (x - mean) / var.sqrt()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output, inputs[2])

    @staticmethod
    def backward(ctx, gradient):
        y, var = ctx.saved_tensors
        return (gradient - gradient.mean(0) - y * (gradient * y).mean(0)) / var.sqrt(), None, None


class WrongInEvaluation(nn.BatchNorm1d):
    def forward(self, x):
        if self.training:
            return super().forward(x)
        return BatchStatisticsInEvaluation.apply(x, self.running_mean, self.running_var)


class Rounded(nn.Module):
    """Rounds, and has the gradient of what it did not do."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x + (torch.round(x) - x).detach()


class WrongWithoutAffine(nn.Module):
    def __init__(self, affine):
        super().__init__()
        self.affine = affine

    def forward(self, x):
        scale = torch.rsqrt(x.square().mean(1, keepdim=True))
        return x * (scale if self.affine else scale.detach())


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (by(MeanOverTheBatch), "in training the gradient of weight is not that of what it computes"),
        (by(GainForgotten), "in training the gradient of its input is not that of what it computes"),
        (Detached, "in training the gradient of its input is not that of what it computes"),
        (WrongInEvaluation, "in evaluation the gradient of its input is not that of what it computes"),
        (Rounded, "in training the gradient of its input is not that of what it computes"),
    ],
)
def test_a_gradient_of_something_else(checked, module, said):
    result = checked(module, "gradient")
    assert result.status == "failed"
    assert said in result.said
    assert result.input in ("(1, 8)", "(2, 8)")
    assert result.off > result.allowed
    assert result.declare == 'Traits(gradient="own")'


def test_a_switch_is_tried_both_ways(checked):
    switched = Norm("mine", lambda site, affine=True: WrongWithoutAffine(affine), summary="M")
    assert checked(switched, "gradient").status == "failed"


@pytest.mark.parametrize(
    ("norm", "status", "said"),
    [
        (claiming(Rounded, gradient="own"), "not-applicable", "those of its parameters are exact"),
        (claiming(nn.LayerNorm, gradient="own"), "advice", "that of its input is exact"),
        (claiming(by(MeanOverTheBatch), gradient="own"), "advice", "the gradient of weight is not that"),
        (claiming(nn.LayerNorm, gradient="none"), "failed", "a gradient reaches its input"),
        (claiming(by(MeanOverTheBatch), gradient="none"), "failed", "a gradient reaches its input"),
    ],
)
def test_what_a_norm_says_of_its_gradient(checked, norm, status, said):
    result = checked(norm, "gradient")
    assert result.status == status
    assert said in result.said


class Counted(nn.Module):
    """Has no gradient to its input, and one to its gain."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return x.detach().tanh() * self.weight


class InFloat32(nn.LayerNorm):
    """Computes in float32 whatever it is given, and has kinks."""

    def forward(self, x):
        return super().forward(x.float()).relu().to(x.dtype) if x.dtype == torch.float32 else self.cast(x)

    def cast(self, x):
        y = nn.functional.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return y.relu().to(x.dtype)


class Initialized(nn.Module):
    """Takes its first gain from its first batch."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("begun", torch.tensor(False))

    def forward(self, x):
        if not self.begun:
            with torch.no_grad():
                self.weight.copy_(1 / x.std(0))
            self.begun.fill_(True)
        return x * self.weight


class Rough(nn.Module):
    """Computes in steps, between which no differences settle, and has a gain whose gradient is wrong."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        steps = 1e-6 * torch.round(x * 1e6)
        return (x + (steps - x).detach()) * self.weight.detach()


def test_differences_that_do_not_settle_hide_no_wrong_gradient(checked):
    result = checked(Rough, "gradient")
    assert result.status == "failed"
    assert "the gradient of weight is not that" in result.said


SOUND = [
    nn.BatchNorm1d,
    nn.LayerNorm,
    lambda channels: nn.GroupNorm(4, channels),
    lambda channels: nn.Sequential(nn.BatchNorm1d(channels), nn.ReLU()),
    lambda channels: nn.Dropout(0.3),
    by(ByHand),
    InFloat32,
    Initialized,
]


@pytest.mark.parametrize("module", SOUND)
@pytest.mark.parametrize("check", ["gradient", "second derivative", "linear gradient"])
def test_sound_gradients(checked, check, module):
    assert checked(module, check).status == "passed"


def test_a_wrapped_weight_has_its_gradients(checked):
    wrapped = claiming(parametrizations.weight_norm, wraps=True)
    assert checked(wrapped, "gradient").status == checked(wrapped, "second derivative").status == "passed"


def test_a_norm_without_a_gradient_to_its_input(checked):
    assert checked(claiming(Counted, gradient="none"), "gradient").status == "passed"
    assert checked(claiming(Counted, gradient="none"), "second derivative").status == "not-applicable"
    assert checked(Counted, "gradient").declare == 'Traits(gradient="own")'


def test_a_second_derivative_is_right_or_raises(checked):
    assert checked(by(OnceOnly), "second derivative").status == "passed"
    assert checked(by(KeptWithoutGraph), "gradient").status == "passed"
    result = checked(by(KeptWithoutGraph), "second derivative")
    assert (result.status, result.input) == ("failed", "(1, 8)")
    assert result.said.startswith("the derivative by its input of the gradient of its input is wrong")


def test_a_gradient_that_is_clipped(checked):
    assert checked(by(Clipped), "gradient").status == "passed"
    result = checked(by(Clipped), "linear gradient")
    assert result.status == "failed"
    assert result.said == "where the gradient of the output is a thousand times another, that of its input is not"
    assert checked(claiming(by(Clipped), gradient="own"), "linear gradient").status == "not-applicable"


def test_each_gradient_alone(checked):
    result = checked(by(AllOrNone), "each gradient alone")
    assert (result.status, result.said) == ("failed", "where its input needs none, the gradient of weight is another")
    assert checked(by(ByHand), "each gradient alone").status == "passed"


class Clearing(nn.LayerNorm):
    def forward(self, x):
        self.weight.grad = None
        return super().forward(x)


def test_gradients_that_are_not_added_up(checked):
    result = checked(Clearing, "accumulated gradients")
    assert (result.status, result.said) == ("failed", "the gradient of weight after two backwards is no sum")
    assert checked(nn.BatchNorm1d, "accumulated gradients").status == "passed"
