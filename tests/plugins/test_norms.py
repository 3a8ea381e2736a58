"""The built-in norms are held to the checks, the fast half of them here, and to what no check of a norm knows."""

import re

import pytest
import torch
from torch import nn

import normbench
from normbench import plugins, testing
from normbench.errors import UsageError
from normbench.testing.kit import checks

#: The fast half, and that of lanes, which counts as slow because some norms of other people take long in it.
CHECKS = [*(check.id for check in checks("norm").values() if not check.slow), "vectorised"]

BUILT_IN = {"import": "not-applicable"}
OF_NORMS = {**BUILT_IN, "identity": "not-applicable"}
WITHOUT_A_CLOCK = {**OF_NORMS, "clock": "not-applicable"}
# torch's parametrizations can't be pickled.
OF_WEIGHTS = {**WITHOUT_A_CLOCK, "copies": "advice"}
# At 1e30 squares overflow, and a NaN stays in running averages.
AVERAGES = {"extremes": "advice", "not finite": "advice"}
OWN_GRADIENT = dict.fromkeys(["gradient", "second derivative", "linear gradient"], "not-applicable")
BATCH_NORM = {**WITHOUT_A_CLOCK, **AVERAGES}

#: What a check of a norm comes to, where the norm does not pass it.
STATUSES = {
    "none": {**BUILT_IN, "wrong shape": "not-applicable", "clock": "not-applicable"},
    "batchnorm": BATCH_NORM,
    "batchnorm-no-affine": BATCH_NORM,
    "batchnorm-after": BATCH_NORM,
    "sync-batchnorm": BATCH_NORM,
    # torch's layer returns it as it computes it, channels first.
    "layer-norm": {**WITHOUT_A_CLOCK, "extremes": "advice", "memory format": "advice"},
    "layer-scaling": WITHOUT_A_CLOCK,
    "batch-renorm": {**OF_NORMS, **AVERAGES, **OWN_GRADIENT, "invariance": "expected"},
    "online-norm": {**WITHOUT_A_CLOCK, **AVERAGES, **OWN_GRADIENT},
    # Forms of batch norm.
    "batchnorm-frozen": {**OF_NORMS, **AVERAGES},
    "lp-batchnorm": BATCH_NORM,
    "ghost-batchnorm": BATCH_NORM,
    # Noise, streaming, switchable.
    "noise": WITHOUT_A_CLOCK,
    "noisy-batchnorm": BATCH_NORM,
    "switchable-norm": {**BATCH_NORM, "causal": "not-applicable"},
    "streaming-norm": {**OF_NORMS, **AVERAGES, **OWN_GRADIENT},
    # Norms of a sample.
    "group-norm": {**WITHOUT_A_CLOCK, "extremes": "advice", "memory format": "advice", "invariance": "advice"},
    "instance-norm": {**WITHOUT_A_CLOCK, "memory format": "advice"},
    "rms-norm": WITHOUT_A_CLOCK,
    "zero-centred-rms-norm": WITHOUT_A_CLOCK,
    "layer-norm-scaling": {**WITHOUT_A_CLOCK, "extremes": "advice", "memory format": "advice"},
    "grn": {**WITHOUT_A_CLOCK, "extremes": "advice"},
    # With an activation in them; without statistics; of weights.
    "frn-tlu": {**WITHOUT_A_CLOCK, "invariance": "advice"},
    "evonorm-b0": {**BATCH_NORM, "causal": "not-applicable"},
    "evonorm-s0": {**WITHOUT_A_CLOCK, "causal": "not-applicable"},
    "dyt": WITHOUT_A_CLOCK,
    "derf": WITHOUT_A_CLOCK,
    # Weights of 0 have no direction.
    "weight-norm": {**OF_WEIGHTS, "extremes": "advice"},
    "weight-standardization": OF_WEIGHTS,
    "scaled-weight-standardization": OF_WEIGHTS,
}

#: Other forms of them.
FORMS = [
    "batchnorm-after(affine=false)",
    'batchnorm(affine="gamma")',
    'batchnorm(affine="beta",beta_init=1)',
    "batchnorm(gamma_init=0,gamma_std=0.1)",
    'batchnorm(evaluation="batch")',
    "batchnorm(detach=true)",
    "batchnorm-frozen(affine=false)",
    'lp-batchnorm(p="2")',
    'lp-batchnorm(p="max")',
    "lp-batchnorm(centred=false,constant=false)",
    'lp-batchnorm(p="2",centred=false)',
    'lp-batchnorm(p="max",centred=false,affine=false)',
    "ghost-batchnorm(ghost=8)",
    "ghost-batchnorm(affine=false)",
    'noise(per="layer")',
    'noise(form="additive")',
    'noisy-batchnorm(form="additive",gamma_init=0,gamma_std=0.1,evaluation="batch")',
    "group-norm(groups=3)",
    'layer-norm(over="channels")',
    'layer-norm(affine="element")',
    "layer-norm(affine=false)",
    'layer-norm-scaling(of="rms")',
    'rms-norm(over="channels")',
    "layer-scaling(affine=false)",
    "frn-tlu(learned_eps=true)",
    "evonorm-s0(groups=2)",
    "batch-renorm(affine=false)",
    "streaming-norm(p=1,affine=false)",
    "streaming-norm(alpha=0,beta=0,own=1)",
    "streaming-norm(alpha=1,beta=1)",
    "online-norm(affine=false)",
    'online-norm(compensation="clamp")',
    'online-norm(compensation="none")',
    "scaled-weight-standardization(gamma=1.7)",
]


def described(name):
    """Return the description of a built-in norm."""
    return plugins.load().norms[name].thing


@pytest.mark.parametrize("norm", STATUSES)
def test_the_checks_hold(norm):
    """Each is passed, or ends as it is known to: at images and tokens; `tox -e checks` has all layouts."""
    layouts = [layout for layout in ("NCHW", "NLC") if layout in described(norm).layouts]
    results = testing.check(norm, only=CHECKS, layouts=layouts)

    assert {check: STATUSES[norm].get(check, "passed") for check in CHECKS} == {
        result.check: result.status for result in results
    }, [result for result in results if result.status == "failed"]


def test_no_norm_is_left_out():
    """Every norm that is built in is checked."""
    built_in = {name for name, norm in plugins.load().norms.items() if norm.plugin.name == "builtin"}

    assert built_in == set(STATUSES)


@pytest.mark.parametrize("norm", [*STATUSES, *FORMS])
def test_its_numbers_at_every_layout(norm):
    """And what it claims of them; so for each form."""
    results = testing.check(norm, only=["definition", "invariance", "causal"])

    assert [] == [result for result in results if result.status == "failed"]


@pytest.mark.parametrize(
    "norm",
    [
        "batchnorm(eps=0.1)",
        "batchnorm-no-affine(eps=0.1)",
        "batchnorm-after(eps=0.1)",
        "sync-batchnorm(eps=0.1)",
        "batchnorm-frozen(eps=0.1)",
        "lp-batchnorm(eps=0.1)",
        "ghost-batchnorm(eps=0.1,ghost=2)",
        "layer-norm(eps=0.1)",
        "group-norm(eps=0.1)",
        "instance-norm(eps=0.1)",
        "rms-norm(eps=0.1)",
        "zero-centred-rms-norm(eps=0.1)",
        "grn(eps=0.1)",
        "layer-scaling(eps=0.1)",
        "frn-tlu(eps=0.1)",
        "evonorm-b0(eps=0.1,momentum=0.3)",
        "evonorm-s0(eps=0.1)",
        "noise(shift=0.2,scale=2,spread=0.3)",
        'noise(form="additive",mean=2,std=[3,2,1])',
        "noisy-batchnorm(eps=0.1,shift=0.2,scale=2,spread=0.3)",
        "switchable-norm(eps=0.1)",
        "batch-renorm(eps=0.1,momentum=0.3,r_max=1.1,d_max=0.1)",
        "streaming-norm(eps=0.1,alpha=0.8,p=1)",
        'online-norm(eps=0.1,alpha_forward=0.5,compensation="clamp",clamp=0.5)',
        "weight-standardization(eps=0.1)",
        "scaled-weight-standardization(eps=0.1)",
    ],
)
def test_parameters_are_the_definitions(norm):
    """A value that is not the default is what the layer computes with."""
    (result,) = testing.check(norm, only=["definition"])

    assert "passed" == result.status, result


@pytest.mark.parametrize("name", ["batchnorm", "batchnorm-no-affine", "batchnorm-after"])
def test_batch_norms_running_averages(name):
    """They are of the mean and the unbiased variance, and momentum weighs the new batch."""
    layer = normbench.layer(name, channels=4, layout="NCHW", momentum=0.3).double()
    x = torch.randn(6, 4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    layer(x)

    values = x.movedim(1, 0).flatten(1)
    mean = values.sum(1) / 90
    torch.testing.assert_close(layer.running_mean, 0.3 * mean)
    torch.testing.assert_close(layer.running_var, 0.7 + 0.3 * (values - mean[:, None]).square().sum(1) / 89)


@pytest.mark.parametrize(
    ("name", "params", "affine"),
    [
        ("batchnorm", {}, True),
        ("batchnorm-no-affine", {}, False),
        ("batchnorm-after", {}, True),
        ("batchnorm-after", {"affine": False}, False),
        ("sync-batchnorm", {}, True),
        ("batch-renorm", {}, True),
        ("batch-renorm", {"affine": False}, False),
        ("online-norm", {}, True),
        ("online-norm", {"affine": False}, False),
        ("layer-scaling", {}, True),
        ("layer-scaling", {"affine": False}, False),
        ("layer-norm", {}, True),
        ("layer-norm", {"affine": False}, False),
        ("batchnorm", {"affine": False}, False),
        ("group-norm", {}, True),
        ("instance-norm", {"affine": False}, False),
        ("none", {}, False),
    ],
)
def test_gamma_and_beta_are_one_a_channel_where_there_are_any(name, params, affine):
    """They start at 1 and 0."""
    layer = normbench.layer(name, channels=4, layout="NCHW", **params)

    expected = {"weight": [1.0] * 4, "bias": [0.0] * 4} if affine else {}
    assert expected == {name: parameter.tolist() for name, parameter in layer.named_parameters()}


def test_batch_norm_has_gamma_or_beta_alone_and_begins_where_it_is_told():
    """Of 2,000 channels, so that the standard deviation of gamma is seen."""
    layer = normbench.layer("batchnorm", channels=2000, affine="gamma", gamma_init=2.0, gamma_std=0.5)
    beta = normbench.layer("batchnorm", channels=3, affine="beta", beta_init=-1.0)

    assert ["weight"] == [name for name, _ in layer.named_parameters()]
    assert 2.0 == pytest.approx(layer.weight.mean().item(), abs=0.1)
    assert 0.5 == pytest.approx(layer.weight.std().item(), abs=0.1)
    assert {"bias": [-1.0] * 3} == {name: value.tolist() for name, value in beta.named_parameters()}


def test_batch_norm_with_statistics_outside_the_graph():
    """The output is batch norm's; the gradient takes the statistics for constants: gamma / sqrt(var + eps) of it."""
    layer = normbench.layer("batchnorm", channels=4, layout="NC", detach=True).double()
    x = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gradient = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    output = layer(x)
    output.backward(gradient)

    torch.testing.assert_close(output, nn.functional.batch_norm(x, None, None, training=True))
    torch.testing.assert_close(x.grad, gradient / (x.detach().var(0, correction=0) + 1e-5).sqrt())
    assert layer.norm.running_mean.any()


@pytest.mark.parametrize("cast", [nn.Module.half, nn.Module.bfloat16])
@pytest.mark.parametrize("name", ["batch-renorm", "online-norm"])
def test_a_module_in_half_precision_keeps_its_state_in_float32(name, cast):
    """Statistics that move by a thousandth of a step would stand still in half precision."""
    layer = cast(normbench.layer(name, channels=4, layout="NC"))

    assert {torch.float32} == {buffer.dtype for buffer in layer.buffers()}


@pytest.mark.parametrize(
    ("norm", "params", "refused"),
    [
        ("layer-scaling", {"eps": 0.0}, "eps is 0.0; it takes a number above 0"),
        ("batchnorm", {"momentum": 1.5}, "momentum is 1.5; it takes a number above 0 and up to 1"),
        ("batchnorm-frozen", {"after": 1.5}, "after is 1.5; it takes a number from 0 and up to 1"),
        ("ghost-batchnorm", {"ghost": 0}, "ghost is 0; it takes a whole number from 1"),
        ("batch-renorm", {"r_max": 0.5}, "r_max is 0.5; it takes a number from 1"),
        ("batch-renorm", {"warmup": 1.5}, "warmup is 1.5; it takes a number from 0 and up to 1"),
        ("online-norm", {"alpha_forward": 1.0}, "alpha_forward is 1.0; it takes a number from 0 and below 1"),
    ],
)
def test_a_value_out_of_range_is_refused(norm, params, refused):
    """The line has the parameter, its value and what is allowed."""
    with pytest.raises(UsageError, match=f"^layer: {norm}: {re.escape(refused)}$"):
        normbench.layer(norm, channels=4, **params)
