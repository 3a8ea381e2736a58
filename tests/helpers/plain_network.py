"""A small network, and its loss as a plain function of its weights, which torch differentiates."""

import torch
from torch import nn
from torch.nn.functional import conv2d, cross_entropy

INPUTS = torch.randn(24, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
#: The numbers of parameters before the weight of each linear.
LINEARS = {"none": (0, 2, 4), "batchnorm": (0, 3, 6)}


def network(place):
    """Return two convolutions with norms, and a linear: 54 numbers to learn, or 58 with batch norm."""
    blocks = [place(nn.Conv2d(2, 2, 2), "relu") for _ in range(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(8, 2))


def tensors(step):
    """Return the weights of a step in the network's order."""
    return [torch.from_numpy(weight) for weight in step.weights.values()]


def loss(weights, step):
    """Return the loss of a step's batch at other weights: with batch norm there are three of them in a block."""
    x = torch.from_numpy(step.inputs)
    *blocks, head, bias = weights
    size = len(blocks) // 2
    for weight, *own in (blocks[:size], blocks[size:]):
        if size == 3:
            x = conv2d(x, weight)
            var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
            gamma, beta = (one.view(-1, 1, 1) for one in own)
            x = (x - mean) / (var + 1e-5).sqrt() * gamma + beta
        else:
            x = conv2d(x, weight, *own)
        x = x.relu()
    return cross_entropy(x.flatten(1) @ head.T + bias, torch.from_numpy(step.targets))
