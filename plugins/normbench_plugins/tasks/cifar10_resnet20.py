"""CIFAR-10 with a residual network of 20 layers, by the published recipe of Online Normalization.

The recipe is that of Chiley et al., "Online Normalization for Training Neural Networks" (NeurIPS 2019, arXiv
1905.05894), as their code runs it (Cerebras/online-normalization at fe08b9f, experiments/resnet): ResNet20 of He et al.
with 16, 32 and 64 channels and 1 x 1 projections, which have a norm of their own; convolutions without bias, He-normal
by fan out; 272,474 parameters with batch norm. Images are padded by 4, cropped and mirrored, and standardized channel
by channel. SGD at rate 0.1, times 0.1 after 100, 150 and 200 of 250 epochs; momentum 0.9; weight decay 2e-4 on all
parameters; batches of 128, the last incomplete one dropped. They report the median test accuracy of 5 runs
(experiments/ExpReproducibility.md): batch norm 92.2 (standard deviation 0.22), online norm 92.3; and of one run each
instance norm 90.4, group norm with 8 groups 90.3, layer norm 87.4.

Three things differ here. The score is that after the last epoch, not the best one of the median curve. Unless the
suite's protocol is "published", the last 5,000 of the 50,000 training images validate instead of training. And where
the batch size is changed, their code rescales rate and momentum, which is left to the suite here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import normbench

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Mean and standard deviation of the training images' pixels, between 0 and 1: red, green, blue.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
#: Blocks a stage.
BLOCKS = 3


def data(folder: Path, recipe: normbench.Recipe, samples: int) -> normbench.Splits:  # noqa: ARG001 - data takes both
    """Return CIFAR-10, images as bytes: see `normbench_plugins.images.cifar10.splits`."""
    from normbench_plugins.images import cifar10

    return cifar10.splits(folder, samples)


def example(recipe: normbench.Recipe) -> Tensor:  # noqa: ARG001 - as all of a task's functions
    """Return images of noise, as bytes."""
    from normbench_plugins.images.splits import noise

    return noise(3, 32)


def network(place: normbench.Place, recipe: normbench.Recipe) -> nn.Module:
    """Return ResNet20, behind the standardization of its input."""
    from torch import nn

    from normbench_plugins.images.resnet import resnet
    from normbench_plugins.images.standardize import Standardize

    return nn.Sequential(Standardize(MEAN, STD), resnet(place, blocks=BLOCKS, classes=10, dropout=recipe.dropout))


TASKS = [
    normbench.Task(
        "cifar10-resnet20",
        1,
        summary="CIFAR-10, ResNet20 by a published recipe (2019), for a GPU. samples: training images, 0 for all",
        recipe=normbench.Recipe(
            rate=0.1,
            batch_size=128,
            epochs=250,
            momentum=0.9,
            weight_decay=2e-4,
            schedule="steps",
            milestones=(0.4, 0.6, 0.8),
            milestone_factor=0.1,
        ),
        chance=0.1,
        reference=0.922,
        data="normbench_plugins.tasks.cifar10_resnet20:data",
        network="normbench_plugins.tasks.cifar10_resnet20:network",
        example="normbench_plugins.tasks.cifar10_resnet20:example",
        augment="normbench_plugins.images.augmentation:crop_and_flip",
        augment_draws=3,
        params={"samples": 0},
    )
]
