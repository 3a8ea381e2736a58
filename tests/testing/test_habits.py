"""How a layer behaves as a module and in the next batch: for each check layers that break just that, and sound ones."""

from typing import ClassVar

import pytest
import torch
from norms import claiming
from torch import nn
from torch.utils.checkpoint import checkpoint

import normbench


class Sound(nn.Module):
    """Normalizes by a running mean, in a buffer, with a gain, in a parameter: what the broken layers begin from."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, x):
        y = self.normalized(x)
        if self.training:
            self.update(x.detach())
        return y

    def normalized(self, x):
        return (x - self.mean.clone()) * self.weight

    def update(self, x):
        self.mean.lerp_(x.mean(0), 0.1)


class StateInAttribute(Sound):
    """Counts its steps in a number, which no state_dict has."""

    steps = 0

    def update(self, x):
        super().update(x)
        self.steps += 1

    def normalized(self, x):
        return super().normalized(x) / (1 + self.steps)


class NotPersistent(Sound):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("mean", torch.zeros(channels), persistent=False)


class BufferInForward(Sound):
    def update(self, x):
        super().update(x)
        self.register_buffer("square", x.square().mean(0))


class HookOfAnother(Sound):
    """Moves its mean in a function that knows the layer by name: a deep copy moves the mean of the original."""

    def __init__(self, channels):
        super().__init__(channels)
        self.register_forward_hook(lambda module, inputs, output: Sound.update(self, inputs[0].detach()))

    def update(self, x):
        pass


class KeepsOutput(Sound):
    """As torch's old weight_norm, it can't be copied after a forward."""

    def forward(self, x):
        self.output = super().forward(x)
        return self.output


SHARED = torch.zeros(8)


class OneBuffer(Sound):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("mean", SHARED[:channels])


class StateInClass(Sound):
    steps: ClassVar = [0]

    def update(self, x):
        super().update(x)
        self.steps[0] += 1

    def normalized(self, x):
        return super().normalized(x) / (1 + self.steps[0])


class OwnGenerator(Sound):
    """Draws its weights from a generator that nobody seeds."""

    draws = torch.Generator().manual_seed(0)

    def __init__(self, channels):
        super().__init__(channels)
        nn.init.normal_(self.weight, generator=self.draws)


class NotAParameter(Sound):
    """Its weight is a tensor in a list: no optimizer finds it."""

    def __init__(self, channels):
        super().__init__(channels)
        del self.weight
        self.weights = [torch.ones(channels, requires_grad=True)]

    def normalized(self, x):
        return (x - self.mean) * self.weights[0]


class Unused(Sound):
    def __init__(self, channels):
        super().__init__(channels)
        self.bias = nn.Parameter(torch.zeros(channels))


class Late(Sound):
    """Makes its weight in the first forward, when the optimizer has been made."""

    def __init__(self, channels):
        super().__init__(channels)
        self.weight = None

    def normalized(self, x):
        if self.weight is None:
            self.weight = nn.Parameter(torch.ones_like(x[0]))
        return super().normalized(x)


class Alias(Sound):
    """Keeps a second reference to its weight, which another weight does not reach."""

    def __init__(self, channels):
        super().__init__(channels)
        self.own = [self.weight]

    def normalized(self, x):
        return (x - self.mean) * self.own[0].detach() * self.weight


class GainAlone(torch.autograd.Function):
    """Assumes that its weight needs a gradient, and that its input does only then."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return (gradient * weight if ctx.needs_input_grad[1] else None), (gradient * x).sum(0)


class FreezesAll(Sound):
    def normalized(self, x):
        return GainAlone.apply(x - self.mean, self.weight)


class CachesType(Sound):
    """Keeps what it made in the type of its first input."""

    ramp = None

    def normalized(self, x):
        if self.ramp is None:
            self.ramp = torch.linspace(0.3, 0.7, x.shape[1], dtype=x.dtype)
        return super().normalized(x) * self.ramp


class StaysBehind(Sound):
    def __init__(self, channels):
        super().__init__(channels)
        self.ramp = torch.linspace(0.5, 1, channels)

    def normalized(self, x):
        return super().normalized(x) * self.ramp


class MovesEachTime(StaysBehind):
    def normalized(self, x):
        return Sound.normalized(self, x) * self.ramp.to(x)


class NoHooks(Sound):
    def __call__(self, x):
        return self.forward(x)


class DropsHooks(Sound):
    def forward(self, x):
        self._forward_hooks.clear()
        return super().forward(x)


class CallsForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.inner = nn.LayerNorm(channels)

    def forward(self, x):
        return self.inner.forward(x)


class InPlace(Sound):
    def normalized(self, x):
        return x.sub_(self.mean).mul(self.weight)


class InPlaceInEvaluation(Sound):
    def normalized(self, x):
        return super().normalized(x) if self.training else x.sub_(1).mul(self.weight)


class ChangesGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.mul_(0.5)


class GradientInPlace(Sound):
    def normalized(self, x):
        return ChangesGradient.apply(super().normalized(x))


class ReversedView(Sound):
    def forward(self, x):
        return x.as_strided(x.shape, (0, 1))


class OutputAgain(Sound):
    """Writes its output where it wrote the one before."""

    memory = None

    def forward(self, x):
        y = super().forward(x)
        if torch.is_grad_enabled():
            return y
        if self.memory is None or self.memory.shape != y.shape:
            self.memory = torch.empty_like(y)
        return self.memory.copy_(y)


class OfFirstBatch(Sound):
    """Divides by the number of samples that it has seen first."""

    samples = None

    def normalized(self, x):
        self.samples = self.samples or len(x)
        return super().normalized(x) * len(x) / self.samples


class TurnsOff(Sound):
    """Goes on as in evaluation once it has met a number that is none."""

    broken = False

    def update(self, x):
        self.broken = self.broken or bool(x.isnan().any())
        super().update(x)

    def normalized(self, x):
        return x * self.weight if self.broken else super().normalized(x)


class StaysInEvaluation(Sound):
    """Evaluates for once, and does not go back."""

    def update(self, x):
        super().update(x)
        self.eval()


class InputOnSelf(torch.autograd.Function):
    """Computes its backward from what the layer keeps of its last input."""

    @staticmethod
    def forward(ctx, x, layer):
        ctx.layer = layer
        layer.last = x.detach()
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.layer.last * gradient, None


class LastInput(Sound):
    def normalized(self, x):
        return InputOnSelf.apply(super().normalized(x), self)


class InGraph(Sound):
    """Computes with its mean itself, which the next forward moves before the backward needs it."""

    def forward(self, x):
        self.update(x.detach())
        return x * self.weight * self.mean


class OnlyWithGraph(Sound):
    def update(self, x):
        if torch.is_grad_enabled():
            super().update(x)


class Checkpointed(nn.BatchNorm1d):
    """Computes its forward once more in the backward, and moves its statistics with it."""

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


class InChunks(Sound):
    """Normalizes as many parts of a batch as there are threads, each by itself."""

    def normalized(self, x):
        chunks = x.chunk(torch.get_num_threads())
        return super().normalized(torch.cat([chunk - chunk.mean(0) for chunk in chunks]))


class Unrepeatable(Sound):
    def normalized(self, x):
        noise = torch.rand(x.shape, generator=OwnGenerator.draws) if self.training else 0
        return super().normalized(x) + noise


BROKEN = [
    ("copies", StateInAttribute, "in the step after load_state_dict into a fresh layer its output is another"),
    ("copies", NotPersistent, "after load_state_dict"),
    ("copies", BufferInForward, "its first forward changed the names in its state_dict: square"),
    ("copies", HookOfAnother, "deep copy"),
    ("copies", KeepsOutput, "deepcopy"),
    ("two layers", OneBuffer, "two layers share memory: its buffer 'mean' of one is its buffer 'mean' of the other"),
    ("two layers", StateInClass, "in a first step that follows those of another layer, its output is another"),
    ("two layers", OwnGenerator, "of two that are built from one seed, its parameter 'weight' is another"),
    ("parameters", NotAParameter, "computes with a weight of shape (8,) that is not among its parameters"),
    ("parameters", Unused, "its parameter 'bias' gets no gradient in a training step"),
    ("parameters", Late, "a weight of shape (8,) that is not among its parameters as it was built"),
    ("parameters", Alias, "after load_state_dict(..., assign=True) its output is another"),
    ("parameters", FreezesAll, "with frozen parameters the gradient of its input is another"),
    ("moves", CachesType, "in a step after double(), which followed one in float32, its output is another"),
    ("moves", StaysBehind, "to('meta') leaves its attribute 'ramp' behind"),
    ("hooks", NoHooks, "a forward hook of the layer was called 0 times"),
    ("hooks", DropsHooks, "a forward hook of the layer was called 0 times"),
    ("input", InPlace, "in training, the input is another"),
    ("input", InPlaceInEvaluation, "in evaluation under no_grad, the input is another"),
    ("input", GradientInPlace, "in its backward, the gradient of its output is another"),
    ("input", ReversedView, "its output lies in the memory of its input"),
    ("next batch", OutputAgain, "the output of the batch before is another"),
    ("next batch", OfFirstBatch, "in the step after a larger batch its output is another"),
    ("next batch", TurnsOff, "in the step after a batch of nan that was skipped"),
    ("next batch", StateInAttribute, "in the step after a larger batch its output is another"),
    ("next batch", StaysInEvaluation, "a forward in training ends in the other mode"),
    ("twice", LastInput, "of two forwards before two backwards, in the first the gradient of its input is another"),
    ("twice", InGraph, "modified by an inplace operation"),
    ("twice", OnlyWithGraph, "in a forward under no_grad in training its buffer 'mean' is another"),
    ("twice", Checkpointed, "its buffer 'running_mean' moves in a forward, and once more in its backward"),
    ("threads", InChunks, "in two threads its output is another"),
    ("repeats", Unrepeatable, "in a second try its output is another"),
]


@pytest.mark.parametrize(("check_id", "layer", "said"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_layer_is_caught(checked, check_id, layer, said):
    """Each classic mistake fails the check of what it breaks, in words that say what was seen."""
    result = checked(layer, check_id)

    assert (result.status, result.check) == ("failed", check_id)
    assert said in result.said


@pytest.mark.parametrize(
    ("check_id", "layer", "said"),
    [
        ("moves", MovesEachTime, "leaves its attribute 'ramp' behind, so that each forward moves it"),
        ("hooks", CallsForward, "it calls the forward of its module 'inner'"),
        ("copies", type("Local", (Sound,), {"__module__": "nowhere"}), "it can't be pickled"),
    ],
)
def test_what_costs_little_is_advice(checked, check_id, layer, said):
    """What works, and serves its user badly, is no failure."""
    result = checked(layer, check_id)

    assert "advice" == result.status
    assert said in result.said


def test_a_failure_says_the_smallest_input_and_how_to_mend_it(checked):
    """Of state that is in no state_dict, the report says where it belongs; of an unused weight, what to declare."""
    lost, unused = checked(StateInAttribute, "copies"), checked(Unused, "parameters")

    assert "(4, 8), normal numbers" == lost.input
    assert lost.off > 0
    assert "something that it computes with is in no state_dict; make it a buffer" in lost.said
    assert 'expected={"parameters": "why"}' in unused.declare


SOUND = {
    "sound": (Sound, "NC"),
    "nothing": (lambda channels: nn.Identity(), "NCHW"),
    "batch": (nn.BatchNorm2d, "NCHW"),
    "group": (lambda channels: nn.GroupNorm(2, channels, affine=False), "NCHW"),
    "weight": (claiming(nn.utils.parametrizations.weight_norm, wraps=True), "NCHW"),
    "spectral": (claiming(nn.utils.parametrizations.spectral_norm, wraps=True), "NCHW"),
    "fused": (normbench.Norm("fused", lambda site: nn.PReLU(site.channels), summary="F", placement="fused"), "NCHW"),
    "dropping": (claiming(lambda channels: nn.Dropout(0.3), draws=True), "NCHW"),
}
HABITS = ["copies", "two layers", "parameters", "moves", "hooks", "input", "next batch", "twice", "repeats"]


@pytest.mark.parametrize(("norm", "layout"), SOUND.values(), ids=SOUND)
def test_sound_layers_pass(checked, norm, layout):
    """Layers of torch's, of every placement and kind of state, have these habits."""
    results = {one: checked(norm, one, [layout]) for one in HABITS}

    assert {} == {one: result.said for one, result in results.items() if result.status not in ("passed", "advice")}
