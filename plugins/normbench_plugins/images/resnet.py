"""The residual network for small images of He et al. (2015, arXiv 1512.03385, section 4.2), with 1 x 1 projections."""

from __future__ import annotations

from torch import Tensor, nn

import normbench

WIDTHS = (16, 32, 64)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions whose output is added to the input, projected where the shape changes."""

    def __init__(self, place: normbench.Place, before: int, channels: int, stride: int) -> None:
        super().__init__()
        with place.block():
            self.first = place(convolution(before, channels, 3, stride), "relu")
            projection = place(convolution(before, channels, 1, stride)) if before != channels else None
            self.sum = place.sum(convolution(channels, channels, 3), projection, "relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) to (N, channels, H / stride, W / stride)."""
        result: Tensor = self.sum(self.first(x), x)
        return result


def resnet(place: normbench.Place, *, blocks: int, classes: int, dropout: float) -> nn.Sequential:
    """Return a network of 6 `blocks` + 2 layers: three stages of 16, 32 and 64 channels, the later ones of stride 2."""
    layers: list[nn.Module] = [place(convolution(3, WIDTHS[0], 3), "relu")]
    before = WIDTHS[0]
    for channels in WIDTHS:
        for _ in range(blocks):
            layers.append(ResidualBlock(place, before, channels, stride=1 if before == channels else 2))
            before = channels
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, *head, nn.Linear(before, classes))


def convolution(before: int, channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias whose weights are normal with the variance 2 / fan out (He et al. 2015)."""
    made = nn.Conv2d(before, channels, size, stride=stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made
