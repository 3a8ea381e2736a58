"""Norms, activations and linears of a network that normbench did not build."""

import torch
from torch import nn
from torchvision.models import resnet18

from normbench.train.finding import found


class Own(nn.Module):
    """A norm that is none of torch's, with one of torch's inside."""

    def __init__(self):
        super().__init__()
        self.inner, self.act = nn.GroupNorm(2, 4), nn.ReLU()

    def forward(self, *, x):
        return self.act(self.inner(x))


class Mixed(nn.Module):
    """Has what is found, in another order than it computes, and what is not."""

    def __init__(self):
        super().__init__()
        self.relu, self.tanh, self.gelu, self.unused = nn.ReLU(inplace=True), nn.Tanh(), nn.GELU(), nn.ReLU()
        self.bn, self.gn, self.ln, self.own = nn.BatchNorm1d(4), nn.GroupNorm(2, 4), nn.LayerNorm(5), Own()
        self.frozen = nn.BatchNorm1d(4).eval()
        convolutions = [nn.Conv1d(2 if i == 0 else 4, 4, 1, bias=False) for i in range(4)]
        self.first, self.second, self.third, self.fourth = convolutions
        self.tokens, self.biased = nn.Linear(4, 5, bias=False), nn.Conv1d(4, 4, 1)

    def forward(self, x):
        x = self.relu(self.bn(self.first(x)))
        y = self.gn(self.second(x))
        y += x
        y = self.relu(y)
        y = self.tanh(self.biased(y))
        y = self.frozen(self.third(y))
        y = self.own(x=self.fourth(y))
        y = torch.relu(y)
        return self.gelu(self.ln(self.tokens(y.transpose(1, 2)))).sum()


def test_sites_are_found_where_they_compute():
    """A norm with the activation that its output goes into, or one alone; the last time counts; layouts and channels.

    A linear is scale-invariant where it has no bias and a norm with moments of its own follows.
    """
    network = Mixed()
    named = {module: name for name, module in network.named_modules()}

    parts = found(network, lambda: network(torch.randn(3, 2, 6)), (Own,))

    sites = [(named.get(module), site.activation, site.layout, site.channels) for site, module in parts.sites]
    assert [
        ("bn", None, "NCL", 4), ("gn", "relu", "NCL", 4), (None, "tanh", "NCL", 4), ("frozen", None, "NCL", 4),
        ("own", None, "NCL", 4), ("ln", "gelu", "NLC", 5),
    ] == sites  # fmt: skip
    assert [("relu", 1), ("tanh", 2), ("gelu", 5)] == [(named[act], site.index) for site, act in parts.activations]
    assert [(6,)] * 6 == [site.spatial for site, _ in parts.sites]
    linears = {linear.name: (linear.site.index, linear.scale_invariant) for linear in parts.linears}
    assert {
        "first.weight": (0, True), "second.weight": (1, True), "biased.weight": (2, False),
        "third.weight": (3, False), "fourth.weight": (4, False), "tokens.weight": (5, True),
    } == linears  # fmt: skip


def test_a_layout_that_normbench_does_not_have_is_left_out():
    """Volumes, and channels last in images, are no site; a table of numbers is."""
    network = nn.ModuleList([nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.LayerNorm(2), nn.Sigmoid()])
    convolution, norm, last, sigmoid = network

    def compute():
        volume = norm(convolution(torch.randn(2, 1, 3, 3, 3)))
        sigmoid(last(volume.movedim(1, -1)[:, 0]).mean((1, 2)))

    parts = found(network, compute)

    assert [("NC", "sigmoid")] == [(site.layout, site.activation) for site, _ in parts.sites]
    assert [(None, False)] == [(linear.site, linear.scale_invariant) for linear in parts.linears]


def test_a_residual_network_of_torchvision():
    """Every norm is a site, in the order of computing; a block's activation is that of its second norm, behind the sum.

    The first activation of a block is the same module, which computes once more.
    """
    network = resnet18(num_classes=10)
    named = {module: name for name, module in network.named_modules()}

    parts = found(network, lambda: network(torch.randn(2, 3, 32, 32)))

    norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    acting = {named[parts.sites[site.index][1]] for site, _ in parts.activations}
    assert norms == [named[module] for _, module in parts.sites]
    assert acting == {"bn1", *(f"layer{stage}.{block}.bn2" for stage in (1, 2, 3, 4) for block in (0, 1))}
    assert ["fc.weight"] == [linear.name for linear in parts.linears if not linear.scale_invariant]
    assert list(range(20)) == [linear.site.index for linear in parts.linears[:-1]]
