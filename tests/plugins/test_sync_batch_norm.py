"""Synchronized batch norm on two gloo processes, against torch's batch norm on the whole batch in float64.

Run as a program, this file is one of the two processes.
"""

import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import nn

import normbench
from normbench import plugins

pytestmark = pytest.mark.slow

SHAPES = {"NC": (4,), "NCL": (4, 5), "NCHW": (4, 5, 3), "NLC": (5, 4)}
PARAMS = {"eps": 1e-3, "momentum": 0.3}

#: A case: the layout, how many samples each rank has, a constant added to all of them, and how they lie in memory.
CASES = {
    **{layout: (layout, (3, 3), 0.0, torch.contiguous_format) for layout in SHAPES},
    "unequal": ("NCHW", (1, 4), 0.0, torch.contiguous_format),
    "one sample a rank": ("NC", (1, 1), 0.0, torch.contiguous_format),
    "far from 0": ("NCHW", (3, 3), 1e6, torch.contiguous_format),
    "channels last": ("NCHW", (3, 3), 0.0, torch.channels_last),
}


def batch_of(case):
    """Return a case's whole batch and the gradients of its outputs: two batches, one after another."""
    layout, samples, offset, memory = CASES[case]
    generator = torch.Generator().manual_seed(3)
    shape = (sum(samples), *SHAPES[layout])
    drawn = torch.randn(2, 2, *shape, dtype=torch.float64, generator=generator)
    return [((offset + x).contiguous(memory_format=memory), gradient) for x, gradient in drawn]


def layer_of(case, group):
    site = normbench.Site(4, CASES[case][0], group=group)
    layer = plugins.current().norm("sync-batchnorm").build(site, PARAMS).double()
    for i, parameter in enumerate(layer.parameters()):
        nn.init.uniform_(parameter, 0.5, 1.5, generator=torch.Generator().manual_seed(i))
    return layer


def results_of(layer, batches):
    """Return what a layer gives for batches: outputs and input gradients, parameters' gradients, state, evaluation."""
    outputs, gradients = [], []
    for x, gradient in batches:
        x = x.clone().requires_grad_()
        y = layer(x)
        y.backward(gradient)
        outputs.append(y.detach())
        gradients.append(x.grad)
    with torch.no_grad():
        evaluated = layer.eval()(batches[0][0])
    last = {name.rpartition(".")[2]: value for name, value in layer.state_dict().items()}
    own = {name.rpartition(".")[2]: parameter.grad for name, parameter in layer.named_parameters()}
    return {"outputs": outputs, "gradients": gradients, "parameters": own, "state": last, "evaluated": [evaluated]}


def part(batches, rank, samples):
    begin = sum(samples[:rank])
    return [(x[begin : begin + samples[rank]], gradient[begin : begin + samples[rank]]) for x, gradient in batches]


def main(rank, folder):
    """Compute every case's part on one rank, and write what came of it."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    group = dist.group.WORLD
    found = {
        case: results_of(layer_of(case, group), part(batch_of(case), rank, samples))
        for case, (_, samples, _, _) in CASES.items()
    }
    half = layer_of("NCHW", group).float()(batch_of("NCHW")[0][0][3 * rank : 3 * rank + 3].bfloat16())
    torch.save({**found, "half": half.detach()}, f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what each of two ranks computed, by case."""
    import zygote  # the ranks, which run this file, have no need of it

    folder = tmp_path_factory.mktemp("ranks")
    ranks = [zygote.Popen([sys.executable, __file__, str(rank), str(folder)]) for rank in (0, 1)]
    assert [0, 0] == [rank.wait() for rank in ranks]
    return [torch.load(folder / str(rank)) for rank in (0, 1)]


@pytest.fixture
def expected():
    """Return a function that computes a case with torch's batch norm, on the whole batch."""

    def compute(case):
        layout = CASES[case][0]
        oracle = nn.BatchNorm2d(4, **PARAMS) if layout == "NCHW" else nn.BatchNorm1d(4, **PARAMS)
        oracle = oracle.double()
        for i, parameter in enumerate(oracle.parameters()):
            nn.init.uniform_(parameter, 0.5, 1.5, generator=torch.Generator().manual_seed(i))
        tokens = layout == "NLC"
        batches = [tuple(t.movedim(-1, 1) if tokens else t for t in batch) for batch in batch_of(case)]
        results = results_of(oracle, batches)
        if tokens:
            for name in ("outputs", "gradients", "evaluated"):
                results[name] = [values.movedim(1, -1) for values in results[name]]
        return results

    return compute


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_compute_as_one_batch(found, expected, case):
    """Outputs, input gradients and evaluation are those of batch norm on both ranks' samples together."""
    whole = expected(case)
    # Around 1e6 a double has ten digits behind the point.
    tolerance = 1e-8 if case == "far from 0" else 1e-11

    for name in ("outputs", "gradients", "evaluated"):
        together = [torch.cat(parts) for parts in zip(found[0][case][name], found[1][case][name], strict=True)]
        torch.testing.assert_close(together, whole[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_gamma_and_beta_add_up(found, expected, case):
    """Each rank has those of its own samples; DDP averages them, as it does those of every weight."""
    whole = expected(case)["parameters"]

    for name, gradient in whole.items():
        added = found[0][case]["parameters"][name] + found[1][case]["parameters"][name]
        torch.testing.assert_close(added, gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [0, 1])
def test_running_averages_are_those_of_the_whole_batch(found, expected, case, rank):
    """Both ranks keep the mean and the unbiased variance over all samples, and count batches."""
    whole = expected(case)["state"]

    torch.testing.assert_close(found[rank][case]["state"], whole, rtol=1e-9, atol=1e-9)


def test_half_precision_comes_out_as_it_went_in(found):
    """Under autocast a layer is given bfloat16; statistics are taken in float32."""
    whole = nn.BatchNorm2d(4, **PARAMS)
    for i, parameter in enumerate(whole.parameters()):
        values = torch.empty(4, dtype=torch.float64).uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(i))
        parameter.data = values.float()

    together = torch.cat([found[0]["half"], found[1]["half"]])

    assert torch.bfloat16 == together.dtype
    expected = whole(batch_of("NCHW")[0][0].bfloat16().float())
    torch.testing.assert_close(together.float(), expected.detach(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("layout", SHAPES)
def test_alone_it_is_batchnorm(layout):
    """Without a group it gives the bits of the built-in batchnorm, with the same parameters."""
    norms = plugins.current()
    x = torch.randn(6, *SHAPES[layout], generator=torch.Generator().manual_seed(3))
    own, plain = (norms.norm(name).build(normbench.Site(4, layout), PARAMS) for name in ("sync-batchnorm", "batchnorm"))

    assert norms.norm("sync-batchnorm").params.items() <= norms.norm("batchnorm").params.items()
    assert torch.equal(plain(x), own(x))
    assert torch.equal(plain.eval()(x), own.eval()(x))


def test_one_value_a_channel_is_refused():
    """All ranks together have one value: every gradient would be 0."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        layer = layer_of("NC", dist.group.WORLD)

        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            layer(torch.zeros(1, 4, dtype=torch.float64))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
