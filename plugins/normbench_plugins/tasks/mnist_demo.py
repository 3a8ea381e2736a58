"""The network of a demonstration of batch norm in the browser, trained for 100 steps.

It is that of abaybektursun/why-batchNorm-works (BN_model.js, CNN_model.js): two 5 x 5 convolutions without bias, each
followed by ReLU and 2 x 2 max pooling, and a linear; normal weights, pixels in [0, 1]; SGD without momentum, batches of
20. There the norm stands after ReLU and pooling, and evaluation takes the statistics of its own batch of 1,000 images:
it is `batchnorm(eps=1e-6, gamma_init=0, gamma_std=0.1, evaluation="batch")`.

Two things differ here. Batches are drawn from all training images, where the demonstration holds a few thousand. And
the last 1,000 training images validate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import normbench

if TYPE_CHECKING:
    from torch import nn

CHANNELS = (8, 16)
#: The standard deviation of the convolutions' weights; that of the linear's is 1 / sqrt(fan in).
STD = 0.1


def network(place: normbench.Place, recipe: normbench.Recipe, form: str) -> nn.Module:  # noqa: ARG001
    """Return the two convolutions and the linear, the norm where `form` has it."""
    from torch import nn

    from normbench_plugins.images.standardize import Standardize

    blocks: list[nn.Module] = []
    before = 1
    for channels in CHANNELS:
        convolution = nn.Conv2d(before, channels, kernel_size=5, padding=2, bias=False)
        nn.init.normal_(convolution.weight, std=STD)
        if form == "paper":
            blocks += [place(convolution, "relu"), nn.MaxPool2d(2)]
        else:
            blocks += [convolution, nn.ReLU(), nn.MaxPool2d(2), place.norm(channels, "NCHW")]
        before = channels
    linear = nn.Linear(before * 7 * 7, 10)
    nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
    nn.init.zeros_(linear.bias)
    # Mean 0 and deviation 1 leave the pixels in [0, 1].
    return nn.Sequential(Standardize([0.0], [1.0]), *blocks, nn.Flatten(), linear)


TASKS = [
    normbench.Task(
        "mnist-demo",
        1,
        summary='MNIST, the network of a browser demo, 100 steps. form: the norm after pooling ("demo"), before ReLU '
        '("paper"). samples: training images, 0 for all',
        recipe=normbench.Recipe(rate=0.1, batch_size=20, steps=100, eval_batch=1000, channels_last=True),
        chance=0.1,
        reference=0.95,
        data="normbench_plugins.images.mnist:often_validated",
        network="normbench_plugins.tasks.mnist_demo:network",
        example="normbench_plugins.images.mnist:example",
        params={"form": "demo", "samples": 0},
        types={"form": Literal["demo", "paper"]},
    )
]
